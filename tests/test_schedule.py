"""The schedule against the closed forms of the papers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff.schedule import (
    Schedule,
    cosine,
    linear,
    named,
    posterior,
    predict_eps,
    predict_x0,
    q_sample,
    quadratic,
    sigmoid,
    zero_terminal,
)
from tests.strategies import quiet, schedules, seeds


@given(schedules)
def test_tables_start_at_data_and_lose_signal_at_every_step(schedule):
    assert len(schedule.beta) == len(schedule.beta_tilde) == schedule.T + 1
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1
    assert ((schedule.beta[1:] > 0) & (schedule.beta[1:] < 1)).all()
    assert (np.diff(schedule.alpha_bar) < 0).all() and (np.diff(schedule.snr) < 0).all()


def test_tables_are_float64_whatever_beta_is():
    for beta in ([0.5, 0.9, 0.999], [0, 0.5, 0.9, 0.999]):
        schedule = Schedule(np.array(beta, np.float32))
        for table in (schedule.beta, schedule.alpha_bar, schedule.beta_tilde):
            assert table.dtype == np.float64


@given(schedules)
def test_alpha_bar_is_the_product_of_alpha_from_the_first_step(schedule):
    ratio = schedule.alpha_bar[1:] / schedule.alpha_bar[:-1]
    np.testing.assert_allclose(ratio, 1 - schedule.beta[1:], rtol=1e-12)


@given(schedules, st.data())
def test_steps_compose_to_the_jump_of_q_sample(schedule, data):
    # q(x_t | x_u), step by step: mean factor and variance from u to t
    t = data.draw(st.integers(1, schedule.T))
    u = data.draw(st.integers(0, t - 1))
    mean, variance = 1.0, 0.0
    for beta in schedule.beta[u + 1 : t + 1]:
        mean, variance = np.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    ratio = schedule.alpha_bar[t] / schedule.alpha_bar[u]
    np.testing.assert_allclose([mean, variance], [np.sqrt(ratio), 1 - ratio], rtol=1e-9)


@given(schedules, st.data(), seeds)
def test_q_sample_is_its_formula_and_predict_x0_and_eps_undo_it(schedule, data, seed):
    rng = np.random.default_rng(seed)
    x0, eps = rng.standard_normal((2, 3, 1, 2, 2))
    t = rng.integers(1, schedule.T + 1, 3)
    xt = q_sample(schedule, x0, t, eps)
    for n in range(3):
        alpha_bar = np.prod(1 - schedule.beta[1 : t[n] + 1])
        expected = np.sqrt(alpha_bar) * x0[n] + np.sqrt(1 - alpha_bar) * eps[n]
        np.testing.assert_allclose(xt[n], expected, rtol=0, atol=1e-9)
    signal = np.sqrt(schedule.alpha_bar[t]).min()
    found = predict_x0(schedule, xt, t, eps)
    np.testing.assert_allclose(found, x0, rtol=0, atol=1e-13 / signal)
    noise = np.sqrt(1 - schedule.alpha_bar[t]).min()
    found = predict_eps(schedule, xt, t, x0)
    np.testing.assert_allclose(found, eps, rtol=0, atol=1e-13 / noise)


@given(schedules, st.data())
def test_posterior_is_bayes_rule_in_precisions(schedule, data):
    # prior N(sqrt(ab_prev) x0, 1 - ab_prev), likelihood of xt: N(sqrt(alpha) x, beta)
    t = data.draw(st.integers(2, schedule.T)) if schedule.T > 1 else None
    if t is None:
        return
    beta, alpha_bar_prev = schedule.beta[t], schedule.alpha_bar[t - 1]
    precision = (1 - beta) / beta + 1 / (1 - alpha_bar_prev)
    x0, xt = np.array([[0.7]]), np.array([[-1.3]])
    mean, variance = posterior(schedule, x0, xt, t)
    expected = np.sqrt(1 - beta) / beta * xt
    expected = expected + np.sqrt(alpha_bar_prev) / (1 - alpha_bar_prev) * x0
    np.testing.assert_allclose(variance, 1 / precision, rtol=1e-9)
    np.testing.assert_allclose(mean, expected / precision, rtol=0, atol=1e-9)


@given(schedules)
def test_posterior_at_the_first_step_is_x0_without_variance(schedule):
    x0, xt = np.array([[0.7]]), np.array([[-1.3]])
    mean, variance = posterior(schedule, x0, xt, 1)
    # 1 - (1 - beta) has lost 5 of its 16 digits at beta = 1e-5
    np.testing.assert_allclose(mean, x0, rtol=1e-10)
    assert variance == 0


@given(st.integers(21, 1000))
def test_linear_ends_in_noise_whatever_T(T):
    schedule = linear(T)
    assert schedule.alpha_bar[T] < 1e-4
    np.testing.assert_allclose(schedule.beta[[1, T]], [0.1 / T, 20 / T], rtol=1e-12)


@given(st.integers(2, 1000), st.floats(0, 1))
def test_cosine_is_its_formula_where_beta_is_not_clipped(T, offset):
    time = np.arange(T + 1) / T
    expected = np.cos((time + offset) / (1 + offset) * np.pi / 2) ** 2
    expected /= expected[0]
    schedule = cosine(T, offset)
    free = schedule.beta < 0.999
    assert free[: T - 1].all() or T < 3
    np.testing.assert_allclose(schedule.alpha_bar[free], expected[free], rtol=1e-9)
    np.testing.assert_array_equal(cosine(T).beta, cosine(T, 0.008).beta)


@given(st.integers(21, 1000), st.floats(0, 1), st.floats(-5, 0), st.floats(1, 5))
def test_a_schedule_by_name_is_the_one_with_these_parameters(T, offset, start, end):
    for found, want in (
        (named("linear", T), linear(T)),
        (named("cosine", T, offset=offset), cosine(T, offset)),
        (named("sigmoid", T, end=end, start=start), sigmoid(T, start, end)),
    ):
        np.testing.assert_array_equal(found.beta, want.beta)


@given(st.integers(1, 1000), st.floats(-5, 0), st.floats(1, 5))
def test_sigmoid_is_its_formula_where_beta_is_not_clipped(T, start, end):
    schedule, time = sigmoid(T, start, end), np.arange(T + 1) / T
    curve = np.tanh((start + (end - start) * time) / 2)  # 2 s(u) - 1 = tanh(u / 2)
    expected = (curve[-1] - curve) / (curve[-1] - curve[0])
    assert schedule.T == T
    np.testing.assert_array_equal(sigmoid(T).beta, sigmoid(T, -3.0, 3.0).beta)
    free = schedule.beta < 0.999
    np.testing.assert_allclose(schedule.alpha_bar[free], expected[free], rtol=1e-9)


@given(st.integers(13, 1000))
def test_quadratic_is_linear_in_the_root_of_beta(T):
    root = np.sqrt(quiet(quadratic, T).beta[1:] * T / 1000)
    assert len(root) == T
    np.testing.assert_allclose(root[[0, -1]], np.sqrt([0.00085, 0.012]), rtol=1e-12)
    np.testing.assert_allclose(np.diff(root, 2), 0, atol=1e-12)


@given(st.integers(21, 1000))
def test_zero_terminal_ends_in_noise_alone_and_starts_where_it_did(T):
    before, after = linear(T), zero_terminal(linear(T))
    assert after.alpha_bar[T] == after.snr[T] == 0 and after.beta[T] == 1
    np.testing.assert_allclose(after.alpha_bar[1], before.alpha_bar[1], rtol=1e-9)
    root = np.sqrt(before.alpha_bar[1:]) - np.sqrt(before.alpha_bar[T])
    ratio = np.sqrt(after.alpha_bar[1:T]) / root[:-1]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)  # one shift, one stretch


def test_where_no_signal_is_left_x0_cannot_be_predicted_from_eps():
    schedule, xt = zero_terminal(linear(100)), np.ones((2, 3))
    with pytest.raises(ValueError, match="alpha_bar is 0 at t = 100: expected a model"):
        predict_x0(schedule, xt, 100, xt)
    mean, variance = posterior(schedule, xt, xt, 100)  # Bayes needs no signal
    assert np.isfinite(mean).all() and variance > 0


def test_float32_images_stay_float32_and_keep_small_noise_exact(rng):
    schedule = linear(1000)
    x0, eps = np.zeros((4, 1), np.float32), np.ones((4, 1), np.float32)
    xt = q_sample(schedule, x0, 1, eps)
    assert xt.dtype == np.float32  # 1 - alpha_bar in float32 would be 4 digits
    np.testing.assert_allclose(xt, 0.01, rtol=1e-7)


def test_a_schedule_that_leaves_signal_says_so():
    with pytest.warns(UserWarning, match=r"alpha_bar\[50\] is 0.6, so x_T still shows"):
        Schedule(np.linspace(1e-4, 0.02, 50))


@pytest.mark.parametrize("make", [
    lambda: Schedule([0.1]),
    lambda: quadratic(100),
    lambda: named("quadratic", 100),
])  # fmt: skip
def test_the_warning_points_at_the_line_that_made_the_schedule(make):
    with pytest.warns(UserWarning) as caught:
        make()
    assert caught[0].filename == __file__
    assert caught[0].lineno == make.__code__.co_firstlineno


def test_a_schedule_is_shown_in_one_line():
    assert repr(linear(100)) == ("Schedule(T=100, beta 0.001..0.2, alpha_bar[T]=2e-05)")


def test_tables_cannot_be_written_to():
    schedule = linear(50)
    for table in (schedule.beta, schedule.alpha, schedule.alpha_bar, schedule.snr):
        with pytest.raises(ValueError, match="read-only"):
            table[1] = 0.5


def test_the_noise_of_the_course_still_shows_the_image():
    with pytest.warns(UserWarning, match=r"alpha_bar\[500\] is 0.0064"):
        Schedule(np.linspace(1e-4, 0.02, 500))


def test_bad_input_is_named():
    for beta in ([1.0, 0.1], [0.1, np.nan], [0.1, -0.1], [0.0]):
        with pytest.raises(ValueError, match="beta holds .* expected values inside"):
            Schedule(beta)
    for beta, first in (
        ([0.1, 0.0, 0.2, 0.0], r"\[0\.\]"), ([0.5, -0.1, 1.0], r"\[-0\.1\]"),
        ([-0.1, 1.0], r"\[-0\.1\]"), ([0.5, 1.0, 0.5], r"\[1\.\]"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"beta holds {first}, expected values"):
            Schedule(beta)
    for beta in ([], [[0.1]]):
        with pytest.raises(ValueError, match="beta has shape"):
            Schedule(beta)
    with pytest.raises(ValueError, match="T is 20, expected more than 20"):
        linear(20)
    with pytest.raises(ValueError, match="T is 12, expected more than 12"):
        quadratic(12)
    for end in (2, 3):
        with pytest.raises(
            ValueError, match="start is 3, expected below end, which is"
        ):
            sigmoid(10, 3, end)
    for start, end in ((-1000, 3), (1000, 1001)):
        with pytest.raises(ValueError, match=f"start and end are {start} and {end}, "):
            sigmoid(10, start, end)
    for value in (np.nan, np.inf, "0.1", None):
        with pytest.raises(ValueError, match="offset is .*, expected a finite number"):
            named("cosine", 10, offset=value)
        with pytest.raises(ValueError, match="end is .*, expected a finite number"):
            named("sigmoid", 10, end=value)
    for offset in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"offset is {offset}, expected 0..1"):
            cosine(10, offset)
    with pytest.raises(ValueError, match=r"'cosine' has no 'start', .*\['offset'\]"):
        named("cosine", 10, start=1.0)
    with pytest.raises(ValueError, match="'linear' has no 'offset', expected"):
        named("linear", 50, offset=0.1)
    with pytest.raises(ValueError, match="schedule is 'steep', expected one of"):
        named("steep", 50)
    for T in (0, -1, 2.5):
        with pytest.raises(ValueError, match="expected an integer of at least 1"):
            cosine(T)
    schedule, x = linear(50), np.zeros((2, 3))
    for t in (-1, 51, np.array([3, 51])):
        with pytest.raises(ValueError, match="t is .*, expected 0..50"):
            q_sample(schedule, x, t, x)
    with pytest.raises(ValueError, match="t has dtype float64, expected integers"):
        q_sample(schedule, x, 1.0, x)
    with pytest.raises(ValueError, match="t is 51, expected 0..50"):
        q_sample(schedule, x, np.array([0, 51]), x)
    with pytest.raises(ValueError, match="t is -1, expected 0..50"):
        q_sample(schedule, x, np.array([50, -1]), x)
    with pytest.raises(
        ValueError, match=r"t has shape \(3,\), expected \(\) or \(2,\)"
    ):
        q_sample(schedule, x, np.array([1, 2, 3]), x)
    with pytest.raises(
        ValueError, match=r"eps has shape \(3,\), expected x0's \(2, 3\)"
    ):
        q_sample(schedule, x, 1, np.zeros(3))
    with pytest.raises(ValueError, match="x0 has dtype int64, expected floats"):
        q_sample(schedule, np.ones((2, 3), np.int64), 1, x)
    for function in (posterior, predict_eps):
        with pytest.raises(ValueError, match="t is 0, expected 1..50"):
            function(schedule, x, *((x, 0) if function is posterior else (0, x)))
