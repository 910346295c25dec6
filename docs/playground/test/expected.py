"""Print what the library computes, as JSON, for the page's JavaScript to agree with.

python docs/playground/test/expected.py
"""

import json
import warnings

import numpy as np

from nanodiff import ddim, ddpm, exact, guide, latent, schedule
from nanodiff.respace import respace

TABLES = "beta", "alpha", "alpha_bar", "beta_tilde"
MEANS = [[-1.5, 0.0], [1.0, 0.5], [0.0, -1.0]]
STDS, WEIGHTS = [0.1, 0.3, 0.0], [1.0, 2.0, 3.0]
T, N, STEPS = 60, 5, 7


def plain(value):
    """Of arrays and tuples, for JSON."""
    return value.tolist() if isinstance(value, np.ndarray) else list(value)


def steps():
    """One step of each kind, at the ends and in between, clipped or not."""
    rng, of = np.random.default_rng(0), schedule.cosine(T)
    xt, eps_hat, z = rng.standard_normal((3, N, 2))
    made = {"xt": xt.ravel(), "eps_hat": eps_hat.ravel(), "z": z.ravel()}
    made["ddpm"] = [
        (t, variance, clip, ddpm.step(of, xt, t, eps_hat, z, variance, clip).ravel())
        for t in (1, 2, 30, T) for variance in ddpm.VARIANCES for clip in (None, 1.0)
    ]  # fmt: skip
    made["ddim"] = [
        (t, s, eta, clip, ddim.step(of, xt, t, s, eps_hat, eta, z, clip).ravel())
        for t, s in ((1, 0), (T, 0), (30, 11)) for eta in (0.0, 0.4, 1.0)
        for clip in (None, 1.0)
    ]  # fmt: skip
    return made


def runs():
    """Whole runs with the exact predictor, and the z that they drew."""
    rng, of = np.random.default_rng(1), schedule.linear(T)
    xT, model = rng.standard_normal((N, 2)), exact.mixture(of, MEANS, STDS, WEIGHTS)
    short, few = respace(model, of, STEPS)
    variance = ddpm.VARIANCES

    def run(sampler, model, of, *options, **named):
        drawn = np.random.default_rng(2)
        steps = sampler(model, of, xT, *options, rng=drawn, **named)
        return [[t, xt.ravel()] for t, xt in steps]

    return {
        "T": T, "steps": STEPS, "xT": xT.ravel(),
        "means": MEANS, "stds": STDS, "weights": WEIGHTS,
        "z": np.random.default_rng(2).standard_normal((T, 2 * N)),
        "eps_hat": [[t, model(xT, t).ravel()] for t in (1, 20, T)],
        "ddpm": [[v, run(ddpm.sample, model, of, variance=v)] for v in variance],
        "respaced": [[v, run(ddpm.sample, short, few, variance=v)] for v in variance],
        "ddim": [[e, run(ddim.sample, model, of, STEPS, eta=e)] for e in (0.0, 0.5)],
    }  # fmt: skip


def others():
    """Guidance of a network that is a formula, and an arc."""
    rng = np.random.default_rng(3)
    a, b, context = *rng.standard_normal((2, 2, 3)), np.array([[1.0, 0], [0, 0.5]])
    model = guide(lambda xt, t, context: xt * t + context[:, :1], context, w=1.5)
    arc = [latent.slerp(a[:1], b[:1], f).ravel() for f in (0.0, 0.3, 1.0)]
    same = latent.slerp(a[:1], a[:1], 0.3).ravel()
    guided = model(a, 3).ravel()
    return {"a": a.ravel(), "b": b[0], "context": context, "guided": guided,
            "arc": arc, "same": same}  # fmt: skip


def expected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of schedules that leave a signal
        tables = [
            [name, length, {of: getattr(make(length), of) for of in TABLES}]
            for name, make in schedule.NAMED.items() for length in (25, 1000)
        ]  # fmt: skip
        return {"tables": tables, "steps": steps(), "runs": runs(), "others": others()}


if __name__ == "__main__":
    print(json.dumps(expected(), default=plain))
