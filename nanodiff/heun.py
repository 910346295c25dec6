"""A second-order sampler: DDIM's differential equation, solved by Heun's method.

With y = x / sqrt(alpha_bar) and sigma = sqrt(1 / alpha_bar - 1), DDIM (eta = 0) is
Euler's method on dy / dsigma = eps_hat (Song, Meng, Ermon 2020, arXiv 2010.02502,
section 4.3, Eq. 14). Heun's method takes the mean of the slopes at both ends of a step
(Karras et al. 2022, arXiv 2206.00364, Algorithm 1): two network calls, an error that
falls as the inverse square of the number of steps.

    y_s = y_t + (sigma_s - sigma_t) (slope_t + slope_s) / 2

slope_t is eps_hat at y_t, slope_s at Euler's y_s. At s = 0 no network has been trained.
Karras takes Euler's step there; here slope_s is extrapolated from the step before, over
which the slope changed at a rate of (slope_s - slope_t) / (sigma_s - sigma_t). If it is
the only step, it is Euler's.

Shapes: xt (N, ...). `model(xt, t)` is any callable.
"""

from itertools import pairwise

import numpy as np

from nanodiff import check
from nanodiff.ddim import falling
from nanodiff.prediction import ask, begin
from nanodiff.schedule import times


def sample(model, schedule, xT, steps=25, predicts="eps", clip=None):
    """Yield (s, xs) after each step, the last of them (0, x_0).

    xT: standard normal, of the shape and dtype wanted. steps: how many, 1..T, or a
    strictly falling list of times that ends in 0; each costs two network calls but the
    last one. predicts: what the model says, one of `prediction.KINDS`. clip: if given,
    each x0_hat is limited to [-clip, clip] and eps_hat, the slope, computed from it
    anew; x_0, which is made of several slopes, may exceed it a little. Raises
    ValueError, at once, if one of them does not fit, or where alpha_bar is 0 at the
    first time: sigma is infinite there. Warns as `prediction.begin` says.

    >>> from nanodiff.schedule import linear
    >>> zero = lambda xt, t: 0 * xt
    >>> [s for s, xs in sample(zero, linear(100), np.ones((1, 2)), [100, 17, 5, 0])]
    [17, 5, 0]
    """
    times_ = falling(steps, check.schedule(schedule).T)
    if schedule.alpha_bar[times_[0]] == 0:
        raise ValueError(
            f"alpha_bar is 0 at t = {times_[0]}: expected a first time that has a "
            f"finite sigma, or another sampler"
        )
    xT = begin(model, schedule, xT, times_, predicts, clip)
    return _sample(model, schedule, xT, times_, predicts, clip)


def _sample(model, schedule, xt, times_, predicts, clip):
    sigma = np.sqrt(1 / schedule.alpha_bar - 1)

    def slope(y, t):
        xt = times(np.sqrt(schedule.alpha_bar[t]), y)
        return ask(model, schedule, xt, t, predicts, clip)[1]

    y, rate = times(1 / np.sqrt(schedule.alpha_bar[times_[0]]), xt), 0 * xt
    for t, s in pairwise(times_):
        h, slope_t = sigma[s] - sigma[t], slope(y, t)
        if s > 0:
            slope_s = slope(y + times(h, slope_t), s)
        else:
            slope_s = slope_t + times(h, rate)
        y = y + times(h / 2, slope_t + slope_s)
        rate = times(1 / h, slope_s - slope_t)
        yield s, times(np.sqrt(schedule.alpha_bar[s]), y)
