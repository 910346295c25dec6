"""Any scheduler of the package diffusers, by its name and its configuration."""

import warnings

import numpy as np

from nanodiff.laws.impulse import as_numpy
from nanodiff.laws.report import Report
from nanodiff.laws.samplers import check_sampler

SAYS = {
    "epsilon": "eps",
    "v_prediction": "v",
    "sample": "x0",
    "flow_prediction": "flow",
}


def check_scheduler(name, steps=50, step_options=None, allow=(), **config):
    """Check a scheduler in the loop that diffusers documents; return its `Report`.

    name: such as "DDIMScheduler". config: what its constructor takes. steps: handed to
    set_timesteps. step_options: what its step takes besides, such as dict(eta=1.0).
    Raises ImportError where diffusers is absent, ValueError for a name it does not have
    or whose levels are not known.
    """
    try:
        import diffusers
        import torch
    except ImportError as error:
        raise ImportError(
            "diffusers is not installed: pip install 'nanodiff[diffusers]'"
        ) from error
    if not hasattr(diffusers, name):
        raise ValueError(f"name is {name!r}, expected a scheduler of diffusers")

    def make():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = getattr(diffusers, name)(**config)
            scheduler.set_timesteps(steps)
        return scheduler

    def sample(model, shape):
        scheduler = make()
        x = torch.randn(shape) * getattr(scheduler, "init_noise_sigma", 1.0)
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t) if scales else x
            said = model(scaled, t)
            x = scheduler.step(said, t, x, **(step_options or {})).prev_sample
        return x

    try:
        scheduler = make()
    except (ImportError, TypeError):  # an extra that is absent, a config it has not
        raise
    except Exception as error:
        report = Report(f"{name}:", allow=tuple(allow))
        report.add("runs", "crash", f"set_timesteps({steps}): {error}")
        return report
    scales = hasattr(scheduler, "scale_model_input")
    says = SAYS.get(getattr(scheduler.config, "prediction_type", "epsilon"), "eps")
    alpha_bar = getattr(scheduler, "alphas_cumprod", None)
    if says == "flow" or "FlowMatch" in name:
        T = scheduler.config.num_train_timesteps
        return check_sampler(
            sample,
            lambda t: (1 - t / T, t / T),
            predicts="flow",
            allow=allow,
            title=f"{name}:",
        )
    if alpha_bar is None:
        raise ValueError(
            f"name is {name!r}, which has no alphas_cumprod: expected another, or use "
            "check_sampler with a function from t to (a, b)"
        )
    table = as_numpy(alpha_bar)
    sigma = np.sqrt(1 / np.maximum(table, 1e-30) - 1)

    def between(t):  # schedulers of sigmas ask at times between the table's
        s = np.interp(t, np.arange(len(table)), sigma)
        return 1 / np.sqrt(1 + s**2), s / np.sqrt(1 + s**2)

    whole = all(float(t) == int(t) for t in scheduler.timesteps)
    return check_sampler(
        sample,
        table if whole else between,
        predicts=says,
        allow=allow,
        steps=steps if whole else None,
        title=f"{name}:",
    )
