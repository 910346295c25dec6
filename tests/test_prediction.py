"""What a network is asked for, and what its loss weighs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nanodiff.data import mnist
from nanodiff.prediction import split, target
from nanodiff.schedule import linear
from tests.strategies import schedules, seeds


@given(schedules, st.data(), seeds)
def test_the_loss_of_eps_weighs_the_error_of_x0_by_snr_and_that_of_v_by_snr_plus_1(
    schedule, data, seed
):
    rng = np.random.default_rng(seed)
    x0, eps, error = rng.standard_normal((3, 2, 5))
    t = data.draw(st.integers(1, schedule.T))
    a, b = np.sqrt([schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]])
    snr = schedule.snr[t]
    for kind, weight in {
        "eps": snr,
        "x0": 1,
        "v": snr + 1,
        "flow": (np.sqrt(snr) + 1) ** 2,
    }.items():
        output = target(schedule, x0, t, eps, kind) + error
        x0_hat, _ = split(schedule, a * x0 + b * eps, t, output, kind)
        np.testing.assert_allclose(weight * (x0_hat - x0) ** 2, error**2, rtol=1e-7)
    np.testing.assert_allclose(snr + 1, 1 / b**2, rtol=1e-9)


@given(schedules, st.data(), seeds)
def test_the_mean_square_of_v_is_between_those_of_eps_and_x0(schedule, data, seed):
    # over the signs of eps, which are as likely: eps x0 drops out
    x0, eps = np.random.default_rng(seed).standard_normal((2, 2, 5))
    t = data.draw(st.integers(0, schedule.T))
    alpha_bar = schedule.alpha_bar[t]
    v = [target(schedule, x0, t, sign * eps, "v") for sign in (1, -1)]
    expected = alpha_bar * eps**2 + (1 - alpha_bar) * x0**2
    np.testing.assert_allclose(np.mean(np.square(v), axis=0), expected, atol=1e-12)


def test_on_digits_the_mean_square_of_v_is_0_946():
    x0, _ = mnist("train")
    alpha_bar = linear(500).alpha_bar[1:].mean()
    found = alpha_bar + (1 - alpha_bar) * np.mean(np.square(x0, dtype=np.float64))
    np.testing.assert_allclose(found, 0.946, atol=5e-4)
