"""DPM-Solver++(2M) against its paper, and against what it should be exact for."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, dpm, exact, heun
from nanodiff.prediction import KINDS
from nanodiff.schedule import linear, predict_eps, straight, zero_terminal
from tests.strategies import (
    falling_times,
    mixture_error,
    quiet,
    schedules,
    seeds,
    terminal,
)


def tables(schedule):
    """alpha, sigma and lambda in the letters of the paper."""
    alpha, sigma = np.sqrt(schedule.alpha_bar), np.sqrt(1 - schedule.alpha_bar)
    with np.errstate(divide="ignore"):
        return alpha, sigma, np.log(alpha) - np.log(sigma)


@given(schedules, st.data(), seeds)
def test_its_states_are_those_of_algorithm_2(schedule, data, seed):
    x = np.random.default_rng(seed).standard_normal((2, 3))
    times = data.draw(falling_times(schedule.T))
    alpha, sigma, lam = tables(schedule)

    def model(xt, t):
        return np.tanh(xt + lam[t])

    run, Q = dpm.sample(model, schedule, x, times, "x0"), []
    for i, (s, found) in enumerate(run, start=1):
        t = times[i - 1]
        Q.append(model(x, t))
        if s == 0:  # h = inf: exp(-h) = 0
            x = Q[-1]
        else:
            h, D = lam[s] - lam[t], Q[-1]
            if i > 1:
                r = (lam[t] - lam[times[i - 2]]) / h
                D = (1 + 1 / (2 * r)) * Q[-1] - 1 / (2 * r) * Q[-2]
            x = sigma[s] / sigma[t] * x - alpha[s] * np.expm1(-h) * D
        np.testing.assert_allclose(found, x, rtol=1e-8, atol=1e-8)


@given(schedules, st.data(), seeds)
def test_an_x0_hat_that_is_linear_in_lambda_is_taken_at_the_middle_of_the_step(
    schedule, data, seed
):
    p, q, xT = np.random.default_rng(seed).standard_normal((3, 2, 3))
    times, (a, b, lam) = data.draw(falling_times(schedule.T)), tables(schedule)
    run = dpm.sample(lambda xt, t: p + q * lam[t], schedule, xT, times, "x0")
    before = xT
    for i, ((t, s), (_, found)) in enumerate(zip(pairwise(times), run, strict=True)):
        at = lam[t] if i == 0 or s == 0 else (lam[t] + lam[s]) / 2
        x0_hat = p + q * at
        expected = a[s] * x0_hat + b[s] / b[t] * (before - a[t] * x0_hat)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
        before = found


@given(st.one_of(schedules, terminal), st.data(), seeds)
def test_the_first_step_and_the_last_are_those_of_ddim(schedule, data, seed):
    xT = np.random.default_rng(seed).standard_normal((2, 3))
    times = data.draw(falling_times(schedule.T))
    model = exact.gaussian(schedule, 0.3, 0.5, "x0")
    states = [(times[0], xT), *dpm.sample(model, schedule, xT, times, "x0")]
    _, first = next(ddim.sample(model, schedule, xT, times, predicts="x0"))
    np.testing.assert_allclose(states[1][1], first, rtol=1e-9, atol=1e-9)
    (t, xt), (s, x0) = states[-2:]
    assert s == 0
    np.testing.assert_array_equal(x0, model(xt, t))


@given(st.one_of(schedules, terminal), st.data(), seeds)
def test_the_exact_predictor_of_a_point_lands_on_it(schedule, data, seed):
    point, xT = np.random.default_rng(seed).standard_normal((2, 3, 2))
    times, (a, b, _) = data.draw(falling_times(schedule.T)), tables(schedule)
    eps = (xT - a[times[0]] * point) / b[times[0]]
    for s, xs in dpm.sample(lambda xt, t: point, schedule, xT, times, "x0"):
        np.testing.assert_allclose(xs, a[s] * point + b[s] * eps, atol=1e-9)
    assert s == 0


@given(st.one_of(st.integers(21, 200).map(linear), terminal), st.data(),
       st.sampled_from([None, 0.3]))  # fmt: skip
def test_any_kind_of_prediction_makes_the_same(schedule, data, clip):
    xT, times = np.array([[0.3, -1.2]]), data.draw(falling_times(schedule.T))
    means, made = np.array([[0.4, 0.1], [-0.6, 0.2]]), []
    for kind in KINDS:
        if kind != "eps" or schedule.alpha_bar[times[0]] > 0:
            model = exact.mixture(schedule, means, 0.5, predicts=kind)
            run = quiet(dpm.sample, model, schedule, xT, times, kind, clip)
            made.append([xs for _, xs in run])
    for other in made[1:]:
        np.testing.assert_allclose(other, made[0], rtol=1e-8, atol=1e-8)


def spread(sampler, steps, end, **how):
    """The error of the deviation at `end` for data N(0, 0.25), from x_T on."""
    schedule, std = linear(1000), 0.5
    v = schedule.alpha_bar * std**2 + 1 - schedule.alpha_bar
    times = [1000 - i * (1000 - end) // steps for i in range(steps)] + [end, 0]
    model, xT = exact.gaussian(schedule, 0.0, std), np.ones((1, 1))
    found = dict(sampler.sample(model, schedule, xT, times, **how))[end]
    return abs(found.item() - np.sqrt(v[end] / v[1000]))


def test_the_error_of_the_deviation_falls_as_the_inverse_square_of_the_steps():
    steps = [10, 15, 25, 50, 75, 150]
    found = [spread(dpm, n, 250) for n in steps]
    assert -2.05 < np.polyfit(np.log(steps), np.log(found), 1)[0] < -1.95
    assert found[-1] < 3e-5
    first_order = [spread(ddim, n, 250) for n in steps]
    assert (np.divide(first_order, found) > 3).all()


def errors(sampler, schedule, counts):
    """For a mixture, of x_0, by so many steps."""
    return np.array([
        mixture_error(lambda m, x, n=n: sampler.sample(m, schedule, x, n, predicts="v"),
                      schedule)
        for n in counts
    ])  # fmt: skip


def test_at_equal_calls_it_errs_less_than_ddim_and_if_few_than_heun():
    calls, schedule = np.array([9, 19, 49]), linear(1000)
    by_dpm = errors(dpm, schedule, calls)
    assert (by_dpm < 0.7 * errors(ddim, schedule, calls)).all()
    by_heun = errors(heun, schedule, (calls + 1) // 2)
    assert (by_dpm[:2] < 0.7 * by_heun[:2]).all() and by_dpm[2] < 1.1 * by_heun[2]


@pytest.mark.parametrize("make", [linear, straight])
def test_from_pure_noise_the_error_on_a_mixture_falls_to_nothing(make):
    found = errors(dpm, zero_terminal(make(1000)), [10, 50, 250])
    assert (found < [0.1, 0.01, 1e-3]).all()


def test_each_step_costs_one_call():
    seen = []

    def model(xt, t):
        seen.append(t)
        return 0 * xt

    times = ddim.timesteps(50, 7)
    run = dpm.sample(model, linear(50), np.ones((1, 1)), 7)
    assert [s for s, _ in run] == times[1:] and seen == times[:-1]


def test_clip_limits_x0_hat_and_float32_stays(rng):
    xT = 3 * rng.standard_normal((2, 3), dtype=np.float32)
    schedule, seen = linear(50), []

    def model(xt, t):
        seen.append(xt)
        return 2 * xt

    states = list(dpm.sample(model, schedule, xT, [50, 20, 0], "x0", 0.5))
    assert all(xt.dtype == np.float32 for _, xt in states)
    assert abs(states[-1][1]).max() <= 0.5
    x0_hat = np.clip(2 * xT, -0.5, 0.5)
    eps_hat = predict_eps(schedule, xT, 50, x0_hat)
    a, b, _ = tables(schedule)
    np.testing.assert_allclose(seen[1], a[20] * x0_hat + b[20] * eps_hat, rtol=1e-5)


def test_twenty_five_steps_unless_told():
    assert (
        len(list(dpm.sample(lambda xt, t: 0 * xt, linear(100), np.ones((1, 1))))) == 25
    )


def test_bad_input_is_named():
    x, model = np.zeros((1, 2)), lambda xt, t: xt
    with pytest.raises(ValueError, match="alpha_bar is 0 at t = 50: expected a model"):
        dpm.sample(model, zero_terminal(linear(50)), x, 5)
    with pytest.raises(ValueError, match="steps is 51"):
        dpm.sample(model, linear(50), x, 51)
    with pytest.raises(ValueError, match="predicts is 'score', expected one of"):
        dpm.sample(model, linear(50), x, 5, "score")
