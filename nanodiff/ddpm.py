"""The DDPM sampler: from noise to data one step at a time, adding a little noise back.

    x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) + sigma_t z

Without the added noise the samples collapse towards the mean: p(x_{t-1} | x_t) is a
distribution, and each step must draw from it. Ho, Jain, Abbeel 2020, arXiv 2006.11239,
Algorithm 2.

Shapes: xt, eps_hat, z are equal, (N, ...). `model(xt, t)` is any callable: a network
with its context bound, or an exact formula.
"""

import numpy as np

from nanodiff import check
from nanodiff.prediction import ask, begin
from nanodiff.schedule import at, posterior, predict_x0, times

VARIANCES = ("beta_tilde", "beta")


def step(schedule, xt, t, eps_hat, z, variance="beta_tilde", clip=None):
    """Return x_{t-1}, drawn from p(x_{t-1} | x_t) with the standard normal z.

    mean: the posterior's mu_tilde at x0_hat, which is Algorithm 2's mean (DDPM Eq. 11).
    variance: "beta_tilde", exact if the data are one point, or "beta", exact if they
    are standard normal (DDPM section 3.2). At t = 1 neither adds noise: beta_tilde_1 is
    0, and beta_1 is left out, as in Algorithm 2: the mean is then x0_hat itself, and no
    later step would remove the noise. clip: if given, x0_hat is limited to [-clip,
    clip] first. Raises ValueError for an unknown variance, a t outside 1..T or where
    alpha_bar_t is 0, shapes that differ, or arrays that are not of floats.

    >>> from nanodiff.schedule import linear
    >>> x, z = np.ones((1, 2)), np.full((1, 2), 9.0)
    >>> step(linear(100), x, 1, 0 * x, z).round(4).tolist()  # x / sqrt(alpha_1)
    [[1.0005, 1.0005]]
    """
    check.choice("variance", variance, VARIANCES)
    xt, z = check.alike(xt=xt, z=z)
    clip, x0_hat = check.clip(clip), predict_x0(schedule, xt, t, eps_hat)
    if clip is not None:
        x0_hat = np.clip(x0_hat, -clip, clip)
    return _step(schedule, xt, t, x0_hat, z, variance)


def _step(schedule, xt, t, x0_hat, z, variance):
    mean, beta_tilde = posterior(schedule, x0_hat, xt, t)
    if variance == "beta_tilde":
        sigma = np.sqrt(beta_tilde)
    else:
        sigma = np.sqrt(at(schedule.beta, t, xt)) * (beta_tilde > 0)
    return mean + times(sigma, z)


def sample(model, schedule, xT, rng, variance="beta_tilde", clip=None, predicts="eps"):
    """Yield (t, xt) after each of the T steps, from (T - 1, x_{T-1}) to (0, x_0).

    xT: standard normal, of the shape and dtype wanted. rng: a `np.random.Generator` for
    the added noise. variance, clip: see `step`. predicts: what the model says, one of
    `prediction.KINDS`. Raises ValueError, at once, if one of them does not fit; warns
    as `prediction.begin` says.

    >>> from nanodiff.schedule import linear
    >>> rng = np.random.default_rng(0)
    >>> zero = lambda xt, t: 0 * xt
    >>> [t for t, xt in sample(zero, linear(25), np.ones((1, 2)), rng)][-3:]
    [2, 1, 0]
    """
    times_ = np.arange(check.schedule(schedule).T, -1, -1)
    check.choice("variance", variance, VARIANCES)
    check.generator("rng", rng)
    xT = begin(model, schedule, xT, times_, predicts, clip)
    return _sample(model, schedule, xT, rng, variance, clip, predicts)


def _sample(model, schedule, xt, rng, variance, clip, predicts):
    for t in range(schedule.T, 0, -1):
        z = rng.standard_normal(xt.shape).astype(xt.dtype)
        x0_hat, _ = ask(model, schedule, xt, t, predicts, clip)
        xt = _step(schedule, xt, t, x0_hat, z, variance)
        yield t - 1, xt.copy()  # the caller may write to it
