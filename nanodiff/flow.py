"""Flow matching: a straight line from noise to data, and the velocity along it.

    y = (1 - tau) x_0 + tau eps             dy / dtau = eps - x_0

A network that learns eps - x_0 learns the mean velocity of all lines through y. The
paths that follow it from noise (tau = 1) end in data (tau = 0). Liu, Gong, Liu 2022,
arXiv 2209.03003, Eq. 1; Lipman et al. 2022, arXiv 2210.02747. With a = sqrt(alpha_bar),
b = sqrt(1 - alpha_bar) these are the x_t of any schedule, in other coordinates:

    tau_t = b / (a + b)                     y = x_t / (a + b)
    y_s = y_t + (tau_s - tau_t) (eps_hat - x0_hat)

Euler's step, the last line, is DDIM's with eta = 0. So a model of eps, x0 or v can be
followed along the line, and a model of flow be sampled by DDIM. To train as in flow
matching is to predict "flow" on the schedule `straight`, where tau rises evenly.

Heun's method takes the mean of the velocities at both ends of a step: two calls, and an
error that falls as the inverse square of the number of steps. The last step is Euler's,
to x0_hat, since no network is trained at tau = 0. At tau = 1, where alpha_bar is 0,
nothing is infinite, as sigma is in `heun.py`.

Shapes: xt (N, ...). `model(xt, t)` is any callable.
"""

from itertools import pairwise

import numpy as np

from nanodiff import check
from nanodiff.ddim import falling
from nanodiff.prediction import ask, begin
from nanodiff.schedule import times


def coordinates(schedule):
    """Return (tau, scale), two tables of T + 1: x_t / scale_t is on the line at tau_t.

    tau = b / (a + b), from 0 at t = 0, and scale = a + b. Raises ValueError if schedule
    is none.

    >>> from nanodiff.schedule import straight
    >>> tau, scale = coordinates(straight(99))
    >>> tau[[0, 25, 50, 99]].round(6).tolist(), scale[[0, 50]].round(4).tolist()
    ([0.0, 0.25, 0.5, 0.99], [1.0, 1.4142])
    """
    alpha_bar = check.schedule(schedule).alpha_bar
    noise = np.sqrt(1 - alpha_bar)
    scale = np.sqrt(alpha_bar) + noise
    return noise / scale, scale


def sample(model, schedule, xT, steps=25, predicts="eps", clip=None, order=2):
    """Yield (s, xs) after each step, the last of them (0, x_0).

    xT: standard normal, of the shape and dtype wanted. steps: how many, 1..T, or a
    strictly falling list of times that ends in 0. predicts: what the model says, one of
    `prediction.KINDS`. clip: if given, each x0_hat is limited to [-clip, clip], and
    eps_hat computed from it anew. order: 1 is Euler's method, one call a step; 2 is
    Heun's, two calls but in the last one. Raises ValueError, at once, if one of them
    does not fit; warns as `prediction.begin` says.

    >>> from nanodiff.schedule import straight
    >>> still = lambda xt, t: 0 * xt
    >>> run = sample(still, straight(100), np.ones((1, 2)), [100, 17, 5, 0], "flow")
    >>> [s for s, xs in run]
    [17, 5, 0]
    """
    times_ = falling(steps, check.schedule(schedule).T)
    order = check.choice("order", order, (1, 2))
    xT = begin(model, schedule, xT, times_, predicts, clip)
    return _sample(model, schedule, xT, times_, predicts, clip, order)


def _sample(model, schedule, xt, times_, predicts, clip, order):
    tau, scale = coordinates(schedule)

    def velocity(y, t):
        xt = times(scale[t], y)
        x0_hat, eps_hat = ask(model, schedule, xt, t, predicts, clip)
        return eps_hat - x0_hat

    y = times(1 / scale[times_[0]], xt)
    for t, s in pairwise(times_):
        h, u = tau[s] - tau[t], velocity(y, t)
        if order == 2 and s > 0:
            u = (u + velocity(y + times(h, u), s)) / 2
        y = y + times(h, u)
        yield s, times(scale[s], y)
