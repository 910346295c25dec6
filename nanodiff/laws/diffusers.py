"""Any scheduler of the package diffusers, by its name and its configuration."""

import warnings

import numpy as np

from nanodiff.laws.impulse import as_numpy
from nanodiff.laws.report import Report
from nanodiff.laws.samplers import check_sampler

SAYS = {"v_prediction": "v", "sample": "x0", "flow_prediction": "flow"}


def check_scheduler(name, steps=50, step_options=None, allow=(), **config):
    """Check a scheduler in the loop that diffusers documents; return its `Report`.

    name: such as "DDIMScheduler". config: what its constructor takes. steps: handed to
    set_timesteps. step_options: what its step takes besides, such as dict(eta=1.0).
    allow: laws that may be broken. Raises ImportError where diffusers is absent,
    ValueError for a name it does not have or whose levels are not known.
    """
    try:
        import diffusers
        import torch
    except ImportError as error:
        message = "diffusers is not installed: pip install 'nanodiff[diffusers]'"
        raise ImportError(message) from error
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
        scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
        x = torch.randn(shape) * getattr(scheduler, "init_noise_sigma", 1.0)
        for t in scheduler.timesteps:
            said = model(scale(x, t), t)
            x = scheduler.step(said, t, x, **(step_options or {})).prev_sample
        return x

    try:
        scheduler = make()
    except (ImportError, TypeError):  # an extra that is absent, a config it has not
        raise
    except Exception as error:
        report = Report(allow=tuple(allow))
        report.add("runs", "crash", f"set_timesteps({steps}): {error}")
    else:
        options = _levels(name, scheduler, steps)
        report = check_sampler(sample, allow=allow, **options)
    report.title = f"{name}:"
    return report


def _levels(name, scheduler, steps):
    """The options of `check_sampler` that tell what a scheduler's times are."""
    says = SAYS.get(getattr(scheduler.config, "prediction_type", None), "eps")
    if says == "flow" or "FlowMatch" in name:
        T = scheduler.config.num_train_timesteps
        return {"alpha_bar": lambda t: (1 - t / T, t / T), "predicts": "flow"}
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(
            f"name is {name!r}, which has no alphas_cumprod: expected another, or use "
            "check_sampler with a function from t to (a, b)"
        )
    table = as_numpy(scheduler.alphas_cumprod)
    if all(float(t) == int(t) for t in scheduler.timesteps):
        return {"alpha_bar": table, "predicts": says, "steps": steps}
    sigma = np.sqrt(1 / np.maximum(table, 1e-30) - 1)

    def between(t):  # schedulers of sigmas ask at times between the table's
        s = np.interp(t, np.arange(len(table)), sigma)
        return 1 / np.hypot(1, s), s / np.hypot(1, s)

    return {"alpha_bar": between, "predicts": says}
