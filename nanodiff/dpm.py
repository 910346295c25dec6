"""DPM-Solver++(2M): DDIM's step with a better x0_hat, from the step before.

    D = x0_hat_t + h / (2 h') (x0_hat_t - x0_hat_u)       u -> t, the step before, h'
    x_s = a_s D + b_s (x_t - a_t D) / b_t                 t -> s, this step, h

with a = sqrt(alpha_bar), b = sqrt(1 - alpha_bar), lambda = log(a / b), and h, h' the
rise of lambda in a step. On the way from t to s x0_hat changes, while DDIM (eta = 0)
takes it as constant. D is the line through the last two x0_hat over lambda, taken at
the middle of the step. So an error that falls as the inverse square of the number of
steps costs one call a step. Lu et al. 2022, arXiv 2211.01095, Algorithm 2, whose
b_s / b_t x_t - a_s (exp(-h) - 1) D is the x_s above.

The first step has no step before, and the last, to x_0, has h = inf: there D is x0_hat,
so that the run ends in x0_hat itself. From alpha_bar = 0, where lambda = -inf, h' = inf
makes the second step DDIM's, too.

Shapes: xt (N, ...). `model(xt, t)` is any callable.
"""

from itertools import pairwise

import numpy as np

from nanodiff import check
from nanodiff.ddim import falling
from nanodiff.prediction import ask, begin
from nanodiff.schedule import predict_eps, q_sample, times


def sample(model, schedule, xT, steps=25, predicts="eps", clip=None):
    """Yield (s, xs) after each step, the last of them (0, x_0).

    xT: standard normal, of the shape and dtype wanted. steps: how many, 1..T, or a
    strictly falling list of times that ends in 0; each costs one network call.
    predicts: what the model says, one of `prediction.KINDS`. clip: if given, each
    x0_hat is limited to [-clip, clip], and so is x_0; D may exceed it. Raises
    ValueError, at once, if one of them does not fit; warns as `prediction.begin` says.

    >>> from nanodiff.schedule import linear
    >>> zero = lambda xt, t: 0 * xt
    >>> [s for s, xs in sample(zero, linear(100), np.ones((1, 2)), [100, 17, 5, 0])]
    [17, 5, 0]
    """
    times_ = falling(steps, check.schedule(schedule).T)
    xT = begin(model, schedule, xT, times_, predicts, clip)
    return _sample(model, schedule, xT, times_, predicts, clip)


def _sample(model, schedule, xt, times_, predicts, clip):
    with np.errstate(divide="ignore"):  # lambda is inf at t = 0, -inf for pure noise
        half_log_snr = np.log(schedule.alpha_bar / (1 - schedule.alpha_bar)) / 2
    before = h_before = None
    for t, s in pairwise(times_):
        x0_hat, _ = ask(model, schedule, xt, t, predicts, clip)
        h, D = half_log_snr[s] - half_log_snr[t], x0_hat
        if before is not None and s > 0:
            D = x0_hat + times(h / (2 * h_before), x0_hat - before)
        xt = q_sample(schedule, D, s, predict_eps(schedule, xt, t, D))
        before, h_before = x0_hat, h
        yield s, xt.copy()  # the caller may write to it
