"""What Hypothesis draws: every kind of schedule, times, seeds."""

import warnings
from statistics import NormalDist

import numpy as np
from hypothesis import strategies as st

from nanodiff import exact
from nanodiff.schedule import (
    Schedule,
    cosine,
    linear,
    quadratic,
    sigmoid,
    straight,
    zero_terminal,
)

seeds = st.integers(0, 2**32 - 1)


def quiet(make, *args, **kwargs):
    """A schedule, or a sampler, whose warning is no news to the test.

    That x_T still shows the image, say, or what errors of eps_hat would do: here the
    model is exact.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*args, **kwargs)


betas = st.lists(st.floats(1e-5, 0.99), min_size=1, max_size=40).map(
    lambda beta: quiet(Schedule, beta)
)
named = st.one_of(
    st.integers(21, 1000).map(linear),
    st.integers(1, 1000).map(cosine),
    st.integers(1, 1000).map(sigmoid),
    st.integers(13, 1000).map(lambda T: quiet(quadratic, T)),
    st.integers(1, 1000).map(lambda T: quiet(straight, T)),
)
schedules = st.one_of(betas, named)
terminal = st.integers(21, 1000).map(lambda T: zero_terminal(linear(T)))


QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 101) for i in range(101)])
MEANS, STDS = np.array([-1.0, 1.0]), np.array([0.3, 0.5])  # of a mixture


def mixture_error(run, schedule):
    """The root mean square error of x_0 on the mixture, from 101 quantiles of noise.

    run(model, xT) returns a sampler, whose model says v.
    """
    model = exact.mixture(schedule, MEANS[:, None], STDS, predicts="v")
    *_, (_, x0) = run(model, QUANTILES[:, None])
    right = exact.carried(schedule, MEANS, STDS, QUANTILES, schedule.T, 0)
    return np.sqrt(np.mean((x0[:, 0] - right) ** 2))


@st.composite
def falling_times(draw, T):
    """A strictly falling list of times from at most T to 0."""
    times = draw(st.sets(st.integers(1, T), min_size=1, max_size=12))
    return [*sorted(times)[::-1], 0]
