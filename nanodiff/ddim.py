"""The DDIM sampler: the same network in fewer steps, with added noise or without.

    x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps_hat + sigma z
    sigma = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
                sqrt(1 - alpha_bar_t / alpha_bar_s)

A step may jump from t to any s < t. With eta = 0 nothing is random: the picture is a
function of x_T. With eta = 1 and s = t - 1 it is DDPM with beta_tilde. Song, Meng,
Ermon 2020, arXiv 2010.02502, Eq. 12 and 16; their alpha is DDPM's alpha_bar.

Shapes: xt, eps_hat, z are equal, (N, ...). `model(xt, t)` is any callable.
"""

from itertools import pairwise

import numpy as np

from nanodiff import check
from nanodiff.prediction import KINDS, ask, begin, limited
from nanodiff.schedule import at, predict_x0, times


def timesteps(T, steps):
    """Return the times of `steps` equal jumps from T to 0, both ends included.

    Where T / steps is no integer, jumps differ by 1. Raises ValueError unless steps
    is an integer in 1..T.

    >>> timesteps(1000, 4)
    [1000, 750, 500, 250, 0]
    >>> timesteps(10, 4)  # any number from 1 to T, divisor or not
    [10, 8, 5, 3, 0]
    """
    T = check.integer("T", T, 1)
    steps = check.integer("steps", steps, 1, T, "T")
    return [T - i * T // steps for i in range(steps)] + [0]


def falling(steps, T):
    """Return the falling list of times for `steps`: a number of jumps, or the list.

    Raises ValueError unless it is of integers and falls strictly from at most T to 0.

    >>> falling(3, 9), falling([9, 1, 0], 9)
    ([9, 6, 3, 0], [9, 1, 0])
    """
    T, found = check.integer("T", T, 1), check.as_array("steps", steps, "times")
    if found.ndim == 0:
        return timesteps(T, steps)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        check.refuse("steps", found.tolist(), "an integer or a list of integers")
    found = found.tolist()
    ends = len(found) >= 2 and found[-1] == 0 and found[0] <= T
    if not ends or any(t <= s for t, s in pairwise(found)):
        raise ValueError(
            f"steps is {found}, expected a strictly falling list from at most "
            f"T = {T} to 0"
        )
    return found


def step(schedule, xt, t, s, eps_hat, eta=0.0, z=None, clip=None):
    """Return x_s from x_t, for any s in 0..t-1 (DDIM Eq. 12).

    eta: 0 is deterministic, 1 adds DDPM's noise; z, standard normal, is needed if
    eta > 0. clip: if given, x0_hat is limited to [-clip, clip], and eps_hat is computed
    from it anew. Raises ValueError for an eta outside 0..1, an eta above 0 without z,
    an s that is not below t, times outside 0..T, a t where alpha_bar_t is 0, shapes
    that differ, or arrays that are not of floats.

    >>> from nanodiff.schedule import linear
    >>> x = np.ones((1, 2))
    >>> step(linear(100), x, 60, 0, 0 * x).round(3).tolist()  # x / sqrt(alpha_bar_60)
    [[6.595, 6.595]]
    """
    eta, clip = check.number("eta", eta, 0, 1), check.clip(clip)
    if eta > 0 and z is None:
        raise ValueError(f"z is None, expected standard normal noise, as eta is {eta}")
    xt, eps_hat = check.alike(xt=xt, eps_hat=eps_hat)
    for name, time, first in (("t", t, 1), ("s", s, 0)):
        at(check.schedule(schedule).alpha_bar, time, xt, first, name)
    if np.any(np.asarray(s) >= t):
        raise ValueError(f"s is {s}, expected below t, which is {t}")
    if z is not None:
        xt, z = check.alike(xt=xt, z=z)
    x0_hat = predict_x0(schedule, xt, t, eps_hat)
    x0_hat, eps_hat = limited(schedule, xt, t, x0_hat, eps_hat, clip)
    return _step(schedule, xt, t, s, x0_hat, eps_hat, eta, z)


def _step(schedule, xt, t, s, x0_hat, eps_hat, eta, z):
    alpha_bar_t = at(schedule.alpha_bar, t, xt)
    alpha_bar_s = at(schedule.alpha_bar, s, xt)
    sigma = eta * np.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t))
    sigma = sigma * np.sqrt(1 - alpha_bar_t / alpha_bar_s)  # Eq. 16
    # 0 at s = 0, where rounding may make it negative
    direction = np.sqrt(np.maximum(1 - alpha_bar_s - sigma**2, 0))
    xs = times(np.sqrt(alpha_bar_s), x0_hat) + times(direction, eps_hat)
    return xs if z is None else xs + times(sigma, z)


def sample(model, schedule, xT, steps=50, eta=0.0, rng=None, clip=None, predicts="eps"):
    """Yield (s, xs) after each step, the last of them (0, x_0).

    xT: standard normal, of the shape and dtype wanted. steps: how many, 1..T, or the
    times themselves, a strictly falling list that ends in 0. eta, clip: see `step`.
    rng: a `np.random.Generator`, needed if eta > 0. predicts: what the model says,
    one of `prediction.KINDS`. Raises ValueError, at once, if any of these does not fit;
    warns as `prediction.begin` says.

    >>> from nanodiff.schedule import linear
    >>> zero = lambda xt, t: 0 * xt
    >>> [s for s, xs in sample(zero, linear(100), np.ones((1, 2)), [100, 17, 5, 0])]
    [17, 5, 0]
    """
    times_ = falling(steps, check.schedule(schedule).T)
    eta = check.number("eta", eta, 0, 1)
    if eta > 0 and rng is None:
        raise ValueError(f"rng is None, expected a Generator, as eta is {eta}")
    if rng is not None:
        check.generator("rng", rng)
    xT = begin(model, schedule, xT, times_, predicts, clip)
    return _sample(model, schedule, xT, times_, eta, rng, clip, predicts)


def _sample(model, schedule, xt, times_, eta, rng, clip, predicts):
    for t, s in pairwise(times_):
        z = rng.standard_normal(xt.shape).astype(xt.dtype) if eta > 0 else None
        x0_hat, eps_hat = ask(model, schedule, xt, t, predicts, clip)
        xt = _step(schedule, xt, t, s, x0_hat, eps_hat, eta, z)
        yield s, xt.copy()  # the caller may write to it


def invert(model, schedule, x0, steps=50, predicts="eps"):
    """Yield (t, xt) upwards, the last of them the noise x_T that DDIM turns into x0.

    It takes the deterministic step (eta = 0) from s up to t: x0_hat and eps_hat are
    those at x_s, and x_t is made of them as in `q_sample` (DDIM section 5.4). At s = 0,
    where no network has been trained, the model is called with t = 1. steps, predicts:
    as in `sample`. Raises ValueError, at once, if one of these does not fit.

    >>> from nanodiff.schedule import linear
    >>> zero = lambda xt, t: 0 * xt
    >>> [t for t, xt in invert(zero, linear(100), np.ones((1, 2)), steps=4)]
    [25, 50, 75, 100]
    """
    times_ = falling(steps, check.schedule(schedule).T)[::-1]
    check.function("model", model, takes=2)
    check.choice("predicts", predicts, KINDS)
    x0 = check.array("x0", x0, ("N", ...)).copy()
    return _invert(model, schedule, x0, times_, predicts)


def _invert(model, schedule, xs, times_, predicts):
    for s, t in pairwise(times_):
        _, eps_hat = ask(model, schedule, xs, max(s, 1), predicts)
        x0_hat = predict_x0(schedule, xs, s, eps_hat)
        alpha_bar = at(schedule.alpha_bar, t, xs)
        xs = times(np.sqrt(alpha_bar), x0_hat) + times(np.sqrt(1 - alpha_bar), eps_hat)
        yield t, xs.copy()
