"""The bound on the likelihood, against what Gaussian data cost in closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import exact, likelihood
from nanodiff.prediction import KINDS
from nanodiff.schedule import linear, posterior, q_sample
from tests.strategies import schedules, seeds

spreads = st.floats(0.1, 2)


class Signs:
    """In place of a Generator: eps = +1, -1, +1, -1, as good as any for a mean square.

    With x0 = mean + std (1, 1, -1, -1), the mean of any quadratic form of (x0, eps) is
    its expectation over the Gaussians, with nothing left to chance.
    """

    def standard_normal(self, shape):
        return np.array([1.0, -1.0, 1.0, -1.0]).reshape(shape)


def data(mean, std):
    return mean + std * np.array([1.0, 1.0, -1.0, -1.0]).reshape(4, 1)


@given(schedules, st.floats(-1, 1), spreads, st.sampled_from(KINDS))
def test_on_gaussian_data_the_whole_gap_is_the_prior_term(schedule, mean, std, kind):
    # with the exact mean and the exact variance of q(x_{t-1} | x_t)
    x0, model = data(mean, std), exact.gaussian(schedule, mean, std, kind)
    table = likelihood.exact_variance(schedule, std)
    found = likelihood.terms(model, schedule, x0, Signs(), table, predicts=kind)
    entropy = 0.5 * np.log(2 * np.pi * np.e * std**2)
    # x_T is N(a mean, a^2 std^2 + b^2); the bound's last term compares it with N(0, 1)
    ab = schedule.alpha_bar[-1]
    variance = ab * std**2 + 1 - ab
    gap = 0.5 * (variance + ab * mean**2 - 1 - np.log(variance))
    bits, _ = likelihood.bits_per_dimension(found, x0)
    np.testing.assert_allclose(bits, (entropy + gap) / np.log(2), rtol=0, atol=1e-7)


@given(schedules, spreads, st.sampled_from(["beta", "beta_tilde"]))
def test_no_other_variance_costs_less(schedule, std, kind):
    x0, model = data(0.0, std), exact.gaussian(schedule, 0.0, std)
    best = likelihood.terms(
        model, schedule, x0, Signs(), likelihood.exact_variance(schedule, std)
    )
    other = likelihood.terms(model, schedule, x0, Signs(), kind)
    assert best.sum() <= other.sum() + 1e-9


@given(schedules, st.data(), seeds)
def test_a_term_is_the_loss_of_snr_times_the_error_of_x0(schedule, draw, seed):
    if schedule.T < 2:
        return
    rng = np.random.default_rng(seed)
    x0, guess = rng.standard_normal((2, 3, 4))
    found = likelihood.terms(
        lambda xt, t: guess, schedule, x0, rng, predicts="x0", variance="beta_tilde"
    )
    t = draw.draw(st.integers(2, schedule.T))
    lost = schedule.snr[t - 1] - schedule.snr[t]
    expected = 0.5 * lost * ((x0 - guess) ** 2).sum(1)
    np.testing.assert_allclose(found[t - 1], expected, rtol=1e-6)


@given(schedules)
def test_the_prior_term_is_the_kl_of_two_gaussians(schedule):
    ab, x0 = schedule.alpha_bar[-1], np.array([[0.3, -1.0]])
    mean, variance = np.sqrt(ab) * x0, 1 - ab
    expected = 0.5 * (variance + mean**2 - 1 - np.log(variance))
    np.testing.assert_allclose(likelihood.prior(schedule, x0), expected, atol=1e-12)


@given(st.floats(-1.5, 1.5), st.floats(0.01, 1))
def test_the_chances_of_all_bins_sum_to_one(mean, std):
    levels = np.linspace(-1, 1, 256)[:, None]
    cost = likelihood._reconstruction(levels, np.full((256, 1), mean), std**2, 256)
    np.testing.assert_allclose(np.exp(-cost).sum(), 1, rtol=1e-9)


def test_a_bin_costs_its_density_times_its_width_and_far_tails_stay_finite():
    x0, mean = np.array([[0.5 + 1 / 255, -1 / 255]]), np.array([[0.3, 0.2]])
    by_bin = likelihood._reconstruction(x0, mean, 0.04, 256)
    density = likelihood._reconstruction(x0, mean, 0.04, None)
    np.testing.assert_allclose(by_bin, density - np.log(2 / 255), atol=1e-3)
    far = likelihood._reconstruction(np.ones((1, 1)), -np.ones((1, 1)), 1e-4, 256)
    assert np.isfinite(far).all()


def test_bits_are_the_mean_over_images_with_its_standard_error():
    found = np.log(2) * np.array([[3.0, 0.0, 6.0, 9.0], [3.0, 6.0, 0.0, 3.0]])
    x0 = np.zeros((4, 1, 3))  # of three dimensions: 2, 2, 2 and 4 bits each
    bits, error = likelihood.bits_per_dimension(found, x0)
    np.testing.assert_allclose((bits, error), (2.5, 1 / np.sqrt(4)), rtol=1e-12)


@given(st.integers(1, 254), st.floats(2, 30), st.sampled_from([-1, 1]))
def test_a_bin_far_out_costs_the_difference_of_two_tails(level, away, side):
    std, half = 0.05, 1 / 255
    x0 = np.array([[2 * level / 255 - 1]])
    cost = likelihood._reconstruction(x0, x0 - side * away * std, std**2, 256)
    near, far = (
        math.erfc((away + sign * half / std) / math.sqrt(2)) for sign in (-1, 1)
    )
    np.testing.assert_allclose(cost, -math.log((near - far) / 2), rtol=1e-6)


def test_the_exact_variance_is_that_of_the_previous_image_given_this_one(rng):
    # Monte Carlo over q(x0) q(x_t | x0) q(x_{t-1} | x_t, x0)
    schedule, std, n = linear(50), 0.5, 200_000
    x0, eps, z = rng.standard_normal((3, n, 1)) * [[[std]], [[1]], [[1]]]
    for t in (2, 25, 50):
        xt = q_sample(schedule, x0, t, eps)
        mean, variance = posterior(schedule, x0, xt, t)
        previous = mean + np.sqrt(variance) * z
        slope = np.mean(previous * xt) / np.mean(xt * xt)
        left = np.var(previous - slope * xt)
        expected = likelihood.exact_variance(schedule, std)[t]
        assert abs(left / expected - 1) < 4 * np.sqrt(2 / n)


def test_bad_input_is_named():
    schedule, x0 = linear(50), np.zeros((2, 1))
    for variance in ("large", np.ones(50)):
        with pytest.raises(ValueError, match="(?s)variance is .*, expected"):
            likelihood.terms(lambda xt, t: xt, schedule, x0, Signs(), variance)
