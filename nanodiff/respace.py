"""A schedule with fewer times, so that any sampler takes longer steps.

    alpha_bar'_i = alpha_bar_{t_i},  beta'_i = 1 - alpha_bar_{t_i} / alpha_bar_{t_{i-1}}

The times t_1 < ... < t_S that are kept become 1..S. Every law of a schedule holds for
it, so DDPM runs on it as it is; with beta_tilde it is then DDIM with eta = 1. Nichol,
Dhariwal 2021, arXiv 2102.09672, section 4.
"""

import numpy as np

from nanodiff import check
from nanodiff.ddim import falling
from nanodiff.schedule import Schedule


def respace(model, schedule, steps):
    """Return (model, schedule) in which 1..S stand for the times that `steps` visits.

    model: any callable (xt, t). steps: how many, or the times themselves, as for
    `ddim.sample`. Raises ValueError if they do not fall strictly from at most T to 0,
    and the model for an i outside 1..S.

    >>> from nanodiff.schedule import linear
    >>> told = lambda xt, t: t
    >>> model, short = respace(told, linear(1000), 4)
    >>> [int(model(0, i)) for i in (4, 3, 2, 1)], short.T
    ([1000, 750, 500, 250], 4)
    >>> bool(np.isclose(short.alpha_bar[3], linear(1000).alpha_bar[750]))
    True
    """
    times = np.array(falling(steps, check.schedule(schedule).T)[::-1])
    alpha_bar = schedule.alpha_bar[times]
    short = Schedule(1 - alpha_bar[1:] / alpha_bar[:-1])

    def respaced(xt, i):
        check.function("model", model)
        return model(xt, times[check.integers("i", i, 1, short.T, np.shape(i))])

    return respaced, short
