"""The exact world: conditional means by quadrature, samplers by their recursions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, ddpm, exact, flow
from nanodiff.prediction import KINDS
from nanodiff.schedule import Schedule, linear, straight, zero_terminal
from tests.strategies import falling_times, quiet, schedules, seeds, terminal

spreads = st.floats(0.05, 2)
COURSE = quiet(Schedule, np.linspace(1e-4, 0.02, 500))


class Impulses:
    """In place of a Generator: the k-th draw is 1 in row first + k and 0 elsewhere."""

    def __init__(self, first):
        self.row = first

    def standard_normal(self, shape):
        z = np.zeros(shape)
        z[self.row] = 1
        self.row += 1
        return z


def moments(sampler, draws):
    """Mean and variance of what an affine sampler makes of x_T ~ N(0, 1), exactly."""
    # rows: x_T = 0; x_T = 1; and x_T = 0 with one unit of noise at each draw
    xT = np.zeros((2 + draws, 1))
    xT[1] = 1
    *_, (t, x0) = sampler(xT, Impulses(2))
    assert t == 0
    response = x0[1:, 0] - x0[0, 0]
    return x0[0, 0], np.sum(response**2)


@given(schedules, st.floats(-2, 2), spreads, st.sampled_from(["beta", "beta_tilde"]))
def test_ddpm_makes_the_mean_and_variance_of_its_recursion(schedule, mean, std, kind):
    if schedule.T > 60:
        schedule = quiet(Schedule, schedule.beta[1:41])
    model = exact.gaussian(schedule, mean, std)
    found = moments(
        lambda xT, rng: quiet(ddpm.sample, model, schedule, xT, rng, kind), schedule.T
    )
    expected = exact.ddpm_moments(schedule, mean, std, kind)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@given(schedules, st.data(), st.floats(-2, 2), spreads, st.floats(0, 1))
def test_ddim_makes_the_mean_and_variance_of_its_recursion(
    schedule, data, mean, std, eta
):
    times = data.draw(falling_times(schedule.T))
    model = exact.gaussian(schedule, mean, std)
    found = moments(
        lambda xT, rng: quiet(ddim.sample, model, schedule, xT, times, eta, rng),
        len(times),
    )
    expected = exact.ddim_moments(schedule, mean, std, times, eta)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@given(schedules, st.data(), seeds)
def test_the_exact_prediction_is_the_conditional_mean_of_the_noise(
    schedule, data, seed
):
    # E[eps | xt] by a sum over x0 on a fine grid, for a mixture on the line
    t, rng = data.draw(st.integers(1, schedule.T)), np.random.default_rng(seed)
    means, stds = rng.uniform(-2, 2, (3, 1)), rng.uniform(0.3, 1, 3)
    weights = rng.uniform(0.2, 1, 3)
    a, b = np.sqrt([schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]])
    xt = a * means[:1] + b * rng.standard_normal((1, 1))
    # where the likelihood of xt is not nothing: xt / a -+ 9 b / a, and the data's range
    low, high = max(-9, (xt.item() - 9 * b) / a), min(9, (xt.item() + 9 * b) / a)
    x0 = np.linspace(low, high, 20_001)
    prior = weights / stds * np.exp(-((x0[:, None] - means.T) ** 2) / 2 / stds**2)
    posterior = prior.sum(1) * np.exp(-((xt.item() - a * x0) ** 2) / 2 / b**2)
    expected = np.sum(posterior * (xt.item() - a * x0) / b) / np.sum(posterior)
    found = exact.mixture(schedule, means, stds, weights)(xt, t)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    expected = np.sum(posterior * x0) / np.sum(posterior)
    found = exact.mixture(schedule, means, stds, weights, "x0")(xt, t)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@given(st.one_of(schedules, terminal), st.data(), st.floats(-2, 2), spreads, seeds)
def test_exact_predictors_of_every_kind_say_the_same(schedule, data, mean, std, seed):
    t = data.draw(st.integers(1, schedule.T))
    xt = np.random.default_rng(seed).standard_normal((3, 2))
    a, b = np.sqrt([schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]])
    makes = (
        lambda kind: exact.gaussian(schedule, mean, std, kind),
        lambda kind: exact.mixture(
            schedule, [[mean, 0.0], [0.0, 1.0]], std, None, kind
        ),
        lambda kind: exact.points(schedule, np.array([[mean, 0.0], [0.0, 1.0]]), kind),
    )
    for make in makes:
        said = {kind: make(kind)(xt, t) for kind in KINDS}
        x0, eps = said["x0"], said["eps"]
        np.testing.assert_allclose(a * x0 + b * eps, xt, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(said["v"], a * eps - b * x0, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(said["flow"], eps - x0, rtol=1e-9, atol=1e-9)


@given(st.one_of(schedules, terminal), st.data(), st.floats(-2, 2), spreads)
def test_a_gaussian_is_carried_by_its_deviations(schedule, data, mean, std):
    t = data.draw(st.integers(1, schedule.T))
    s = data.draw(st.integers(0, t))
    ab, k = schedule.alpha_bar, np.array([-2.0, 0.0, 0.7])
    x, expected = (np.sqrt(ab[time]) * mean
                   + k * np.sqrt(ab[time] * std**2 + 1 - ab[time])
                   for time in (t, s))  # fmt: skip
    found = exact.carried(schedule, [mean, mean], [std, std], x, t, s)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    back = exact.carried(schedule, [mean], [std], found, s, t)
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9)


@given(st.integers(2, 998), st.floats(-2, 2), st.floats(0.3, 1))
def test_the_exact_velocity_of_a_mixture_is_that_of_what_it_carries(t, mean, std):
    # over two steps of 1/1000: the error of a difference is below 1e-4
    schedule, x = zero_terminal(straight(1000)), np.array([-1.2, 0.1, 0.8])
    means, stds = np.array([mean, 1.0]), np.array([std, 0.5])
    tau, scale = flow.coordinates(schedule)
    before, after = (
        exact.carried(schedule, means, stds, x, t, s) / scale[s] for s in (t - 1, t + 1)
    )
    model = exact.mixture(schedule, means[:, None], stds, predicts="flow")
    slope = (after - before) / (tau[t + 1] - tau[t - 1])
    np.testing.assert_allclose(model(x[:, None], t)[:, 0], slope, atol=2e-4)


@given(schedules, st.data(), seeds)
def test_the_exact_prediction_is_minus_b_times_the_score(schedule, data, seed):
    # by central differences of log p_t, in three dimensions
    t, rng = data.draw(st.integers(1, schedule.T)), np.random.default_rng(seed)
    means, stds = rng.standard_normal((4, 3)), rng.uniform(0.5, 1, 4)
    alpha_bar = schedule.alpha_bar[t]
    variance = alpha_bar * stds**2 + 1 - alpha_bar

    def log_density(x):
        away = ((x - np.sqrt(alpha_bar) * means) ** 2).sum(1)
        return np.logaddexp.reduce(-away / 2 / variance - 1.5 * np.log(variance))

    x, v, h = *rng.standard_normal((2, 3)), 1e-5
    slope = (log_density(x + h * v) - log_density(x - h * v)) / (2 * h)
    found = exact.mixture(schedule, means, stds)(x[None], t) @ v
    np.testing.assert_allclose(found, -np.sqrt(1 - alpha_bar) * slope, atol=1e-6)


@given(schedules, st.data(), st.floats(-2, 2), spreads, seeds)
def test_a_mixture_of_one_or_of_equals_is_the_gaussian(schedule, data, mean, std, seed):
    t = np.array(
        data.draw(st.lists(st.integers(1, schedule.T), min_size=1, max_size=5))
    )
    xt = 3 * np.random.default_rng(seed).standard_normal((len(t), 1, 2, 2))
    expected = exact.gaussian(schedule, mean, std)(xt, t)
    for M in (1, 3):
        model = exact.mixture(schedule, np.full((M, 1, 2, 2), mean), std)
        np.testing.assert_allclose(model(xt, t), expected, rtol=1e-9, atol=1e-9)


@given(schedules, seeds)
def test_nothing_overflows_however_far_away_and_however_late(schedule, seed):
    rng = np.random.default_rng(seed)
    x0 = 100 * rng.standard_normal((20, 1, 3, 3))
    model = exact.points(schedule, x0)
    for t in {1, schedule.T // 2 + 1, schedule.T}:
        eps_hat = model(1e3 * rng.standard_normal((2, 1, 3, 3)), t)
        assert np.isfinite(eps_hat).all()


def test_sampling_with_the_exact_model_of_a_data_set_returns_the_data():
    schedule, rng = linear(200), np.random.default_rng(0)
    x0 = rng.standard_normal((7, 1, 2, 2))
    xT = rng.standard_normal((40, 1, 2, 2))
    *_, (_, found) = ddim.sample(exact.points(schedule, x0), schedule, xT, 200)
    away = np.abs(found[:, None] - x0).max((2, 3, 4))  # from each sample to each point
    assert away.min(1).max() < 1e-6
    assert len(set(away.argmin(1))) == 7


def test_without_the_added_noise_samples_collapse():
    model = exact.gaussian(COURSE, 0.0, 0.5)
    xt = np.ones((1, 1))
    for t in range(COURSE.T, 0, -1):
        xt = ddpm.step(COURSE, xt, t, model(xt, t), np.zeros((1, 1)))
    np.testing.assert_allclose(xt, 0.020, atol=5e-4)  # the std of x_0; data: 0.5
    with_noise = np.sqrt(exact.ddpm_moments(COURSE, 0.0, 0.5)[1])
    np.testing.assert_allclose(with_noise, 0.5, atol=0.01)


@given(st.integers(21, 1000), st.floats(0.05, 0.95))
def test_beta_tilde_and_beta_bracket_the_exact_spread(T, std):
    low = exact.ddpm_moments(linear(T), 0.0, std, "beta_tilde")[1]
    high = exact.ddpm_moments(linear(T), 0.0, std, "beta")[1]
    assert low < std**2 < high


def test_the_bracket_has_the_figures_computed_for_50_steps():
    found = [
        np.sqrt(exact.ddpm_moments(linear(50), 0.0, 0.5, kind)[1])
        for kind in ("beta", "beta_tilde")
    ]
    np.testing.assert_allclose(found, [0.516, 0.443], atol=5e-4)


@given(schedules)
def test_beta_is_exact_for_unit_data_and_beta_tilde_for_a_point(schedule):
    mean, variance = exact.ddpm_moments(schedule, 0.0, 1.0, "beta")
    first = schedule.beta[1]  # the last step adds no noise: its beta_1 is missing
    np.testing.assert_allclose(variance, 1 - first, rtol=1e-9)
    mean, variance = exact.ddpm_moments(schedule, 0.7, 0.0, "beta_tilde")
    np.testing.assert_allclose([mean, variance], [0.7, 0.0], atol=1e-9)


def test_the_loss_floor_has_its_closed_form():
    floor = exact.loss_floor(linear(1000), 0.5)
    np.testing.assert_allclose(floor[[1, 500]], [0.9996, 0.0209], atol=1e-4)
    np.testing.assert_allclose(floor[1:].mean(), 0.173, atol=5e-4)


def test_the_empirical_floor_of_gaussian_data_is_the_exact_one(rng):
    schedule = linear(100)
    x0 = 1.5 + 0.5 * rng.standard_normal((20_000, 1))
    model = exact.gaussian(schedule, 1.5, 0.5)
    found, error = exact.empirical_floor(schedule, model, x0, rng)
    assert abs(found - exact.loss_floor(schedule, 0.5)[1:].mean()) < 4 * error < 0.03
    worse = exact.gaussian(schedule, 1.0, 0.5)
    assert exact.empirical_floor(schedule, worse, x0, rng)[0] > found + 4 * error


def test_samples_of_a_mixture_have_its_shares_and_spread(rng):
    # Monte Carlo, so that the loops and not only the algebra are covered
    schedule, weights = linear(100), np.array([1.0, 3.0])
    model = exact.mixture(schedule, np.array([[-2.0], [2.0]]), 0.3, weights)
    n = 4000
    *_, (_, x0) = ddpm.sample(model, schedule, rng.standard_normal((n, 1)), rng, "beta")
    right = x0[:, 0] > 0
    assert abs(right.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / n)
    for side, mean in ((x0[right], 2.0), (x0[~right], -2.0)):
        error = 0.3 / np.sqrt(len(side))
        assert abs(side.mean() - mean) < 4 * error
        assert abs(side.std() - 0.3) < 4 * error / np.sqrt(2) + 0.01  # 0.01: T is 100


def test_bad_input_is_named():
    schedule = linear(50)
    with pytest.raises(ValueError, match="variance is 'best', expected one of"):
        exact.ddpm_moments(schedule, 0.0, 1.0, "best")
    with pytest.raises(ValueError, match=r"std is -1, expected 0..1e\+100"):
        exact.gaussian(schedule, 0.0, -1)
    with pytest.raises(ValueError, match="weights is .*, expected 2 values above 0"):
        exact.mixture(schedule, np.zeros((2, 1)), 1.0, [1.0, 0.0])
    with pytest.raises(ValueError, match="stds is .*, expected 2 values"):
        exact.mixture(schedule, np.zeros((2, 1)), [1.0, -0.5])
    with pytest.raises(ValueError, match="predicts is 'score', expected one of"):
        exact.points(schedule, np.zeros((2, 1)), "score")
    with pytest.raises(ValueError, match="stds is .*, expected values above 0"):
        exact.carried(schedule, [0.0, 1.0], [0.5, 0.0], [0.3], 50, 0)
    with pytest.raises(ValueError, match="t is 0, expected 1..50"):
        exact.points(schedule, np.zeros((2, 1)))(np.zeros((2, 1)), 0)


def test_ddim_takes_fifty_steps_without_noise_unless_told():
    want = exact.ddim_moments(linear(100), 0.3, 0.5, 50, 0.0)
    assert exact.ddim_moments(linear(100), 0.3, 0.5) == want


def test_a_gaussian_without_spread_is_a_point():
    schedule, xt = linear(100), np.array([[-1.0], [2.0]])
    point = exact.points(schedule, np.array([[0.3]]))
    found = exact.gaussian(schedule, 0.3, 0)(xt, 40)
    np.testing.assert_allclose(found, point(xt, 40), rtol=1e-12)


def test_the_empirical_floor_draws_all_times_and_has_the_error_of_a_mean(rng):
    calls, schedule, x0 = [], linear(21), np.zeros((500, 3))

    def model(xt, t):  # errs by eps alone, which it does not know
        calls.append((t, xt / np.sqrt(1 - schedule.alpha_bar[t][:, None])))
        return 0 * xt

    floor, error = exact.empirical_floor(schedule, model, x0, rng)
    ((t, eps),) = calls
    assert set(t) == set(range(1, 22)) and len(t) == 500
    each = (eps**2).sum(1) / 3
    np.testing.assert_allclose(floor, each.sum() / 500, rtol=1e-9)
    variance = ((each - floor) ** 2).sum() / 499
    np.testing.assert_allclose(error, np.sqrt(variance / 500), rtol=1e-9)
