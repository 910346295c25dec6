"""DDPM on a schedule with fewer times is DDIM's eta = 1, to rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, ddpm, exact
from nanodiff.respace import respace
from nanodiff.schedule import linear
from tests.strategies import falling_times, quiet, schedules, seeds


@given(schedules, st.data())
def test_the_tables_are_those_of_the_times_that_are_kept(schedule, draw):
    times = draw.draw(falling_times(schedule.T))
    _, short = quiet(respace, None, schedule, times)
    assert short.T == len(times) - 1
    np.testing.assert_allclose(
        short.alpha_bar, schedule.alpha_bar[times[::-1]], rtol=1e-9
    )


@given(schedules, st.data())
def test_the_model_is_asked_at_the_times_of_old(schedule, draw):
    times = draw.draw(falling_times(schedule.T))
    model, short = quiet(respace, lambda xt, t: int(t), schedule, times)
    assert [model(0, i) for i in range(short.T, 0, -1)] == times[:-1]


@given(st.integers(21, 300).map(linear), st.data(), seeds, st.sampled_from([None, 0.5]))
def test_ddpm_with_beta_tilde_is_ddim_with_eta_1(schedule, draw, seed, clip):
    times = draw.draw(falling_times(schedule.T))
    xT = np.random.default_rng(seed).standard_normal((3, 2))
    best = exact.gaussian(schedule, mean=0.3, std=0.5)
    model, short = quiet(respace, best, schedule, times)
    pairs = zip(
        quiet(ddpm.sample, model, short, xT, np.random.default_rng(1), clip=clip),
        quiet(
            ddim.sample, best, schedule, xT, times, 1.0, np.random.default_rng(1), clip
        ),
        strict=True,
    )
    for (_, by_ddpm), (_, by_ddim) in pairs:
        np.testing.assert_allclose(by_ddpm, by_ddim, rtol=0, atol=1e-9)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="steps is 0, expected 1..T = 1.."):
        respace(None, linear(100), 0)
