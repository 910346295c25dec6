"""What Hypothesis draws: every kind of schedule, times, seeds."""

import warnings

from hypothesis import strategies as st

from nanodiff.schedule import (
    Schedule,
    cosine,
    linear,
    quadratic,
    sigmoid,
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
)
schedules = st.one_of(betas, named)
terminal = st.integers(21, 1000).map(lambda T: zero_terminal(linear(T)))


@st.composite
def falling_times(draw, T):
    """A strictly falling list of times from at most T to 0."""
    times = draw(st.sets(st.integers(1, T), min_size=1, max_size=12))
    return [*sorted(times)[::-1], 0]
