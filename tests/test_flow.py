"""The straight line: DDIM in other coordinates, and what is exact along it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, exact, flow
from nanodiff.prediction import KINDS
from nanodiff.run import Run
from nanodiff.schedule import linear, predict_x0, q_sample, straight, zero_terminal
from nanodiff.toy import MLP
from nanodiff.train import Recipe
from tests.strategies import (
    falling_times,
    mixture_error,
    quiet,
    schedules,
    seeds,
    terminal,
)

PURE = zero_terminal(straight(1000))  # from tau = 1 on: x_T is noise alone


def last(steps):
    return list(steps)[-1]


@given(st.one_of(schedules, terminal), seeds)
def test_x_t_over_its_scale_is_on_the_straight_line(schedule, seed):
    tau, scale = flow.coordinates(schedule)
    assert tau[0] == 0 and (np.diff(tau) > 0).all() and tau[-1] <= 1
    assert (tau[-1] == 1) == (schedule.alpha_bar[-1] == 0)
    x0, eps = np.random.default_rng(seed).standard_normal((2, schedule.T + 1, 3))
    xt = q_sample(schedule, x0, np.arange(schedule.T + 1), eps)
    expected = (1 - tau[:, None]) * x0 + tau[:, None] * eps
    np.testing.assert_allclose(xt / scale[:, None], expected, rtol=0, atol=1e-14)


@given(st.integers(1, 300))
def test_on_the_straight_schedule_tau_rises_evenly(T):
    tau, _ = flow.coordinates(quiet(straight, T))
    np.testing.assert_allclose(tau, np.arange(T + 1) / (T + 1), rtol=1e-9)


@given(schedules, st.data(), seeds)
def test_ddim_with_eta_0_is_eulers_step_on_the_straight_line(schedule, data, seed):
    xt, eps_hat = np.random.default_rng(seed).standard_normal((2, 2, 5))
    t = data.draw(st.integers(1, schedule.T))
    s = data.draw(st.integers(0, t - 1))
    tau, scale = flow.coordinates(schedule)
    x0_hat = predict_x0(schedule, xt, t, eps_hat)
    expected = xt / scale[t] + (tau[s] - tau[t]) * (eps_hat - x0_hat)
    found = ddim.step(schedule, xt, t, s, eps_hat) / scale[s]
    size = max(1, abs(x0_hat).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * size)


@given(st.one_of(st.integers(21, 200).map(linear), st.integers(23, 200).map(straight),
                 terminal), st.data(), st.sampled_from([None, 0.3]))  # fmt: skip
def test_any_kind_of_prediction_makes_the_same_by_ddim_and_along_the_line(
    schedule, data, clip
):
    xT, times = np.array([[0.3, -1.2]]), data.draw(falling_times(schedule.T))
    means = np.array([[0.4, 0.1], [-0.6, 0.2]])
    kinds = [k for k in KINDS if k != "eps" or schedule.alpha_bar[times[0]] > 0]
    runs = {1: [], 2: []}
    for kind in kinds:
        model = exact.mixture(schedule, means, 0.5, predicts=kind)
        how = {"clip": clip, "predicts": kind}
        runs[1].append(quiet(ddim.sample, model, schedule, xT, times, **how))
        for order, found in runs.items():
            run = quiet(flow.sample, model, schedule, xT, times, **how, order=order)
            found.append(run)
    for first, *others in runs.values():
        first = list(first)
        for other in others:
            for (t, xt), (s, xs) in zip(first, other, strict=True):
                assert t == s
                np.testing.assert_allclose(xs, xt, rtol=1e-8, atol=1e-8)


@given(st.one_of(schedules, terminal), st.data(), st.floats(-2, 2), st.floats(0.1, 2))
def test_the_exact_flow_of_a_gaussian_is_the_derivative_of_its_path(
    schedule, data, mean, std
):
    # y = (1 - tau) mean + k sqrt((1 - tau)^2 std^2 + tau^2), as deviations are carried
    t, k = data.draw(st.integers(1, schedule.T)), np.array([[-1.3], [0.0], [0.8]])
    tau, scale = (table[t] for table in flow.coordinates(schedule))
    spread = np.sqrt((1 - tau) ** 2 * std**2 + tau**2)
    y = (1 - tau) * mean + k * spread
    expected = -mean + k * (tau - (1 - tau) * std**2) / spread
    for model in (
        exact.gaussian(schedule, mean, std, "flow"),
        exact.mixture(schedule, [[mean], [mean]], std, predicts="flow"),
    ):
        np.testing.assert_allclose(model(scale * y, t), expected, rtol=1e-9, atol=1e-9)


@given(st.data(), seeds)
def test_the_exact_flow_of_a_data_set_is_a_mean_of_the_lines_to_its_points(data, seed):
    # each point weighs as likely as it is that its line leads through y
    rng, schedule = np.random.default_rng(seed), zero_terminal(straight(50))
    t, x0 = data.draw(st.integers(1, 50)), rng.standard_normal((4, 3))
    tau, scale = (table[t] for table in flow.coordinates(schedule))
    y = rng.standard_normal(3)
    eps = (y - (1 - tau) * x0) / tau
    share = np.exp(-0.5 * (eps**2).sum(1) + 0.5 * (eps**2).sum(1).min())
    expected = share @ (eps - x0) / share.sum()
    found = exact.points(schedule, x0, predicts="flow")(scale * y[None], t)
    np.testing.assert_allclose(found[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order, slope, at_200", [(1, -1, 5e-3), (2, -2, 9e-5)])
def test_the_error_on_a_mixture_falls_by_the_order_of_the_method(order, slope, at_200):
    counts = [40, 50, 100, 200]
    found = [
        mixture_error(
            lambda m, x, n=n: flow.sample(m, PURE, x, n, "v", order=order), PURE
        )
        for n in counts
    ]
    assert abs(np.polyfit(np.log(counts), np.log(found), 1)[0] - slope) < 0.08
    assert found[-1] < at_200


def test_a_line_to_one_point_is_straight_so_that_one_step_is_enough():
    point, xT = np.array([0.3, -0.7]), np.random.default_rng(0).normal(size=(4, 2))
    tau, scale = flow.coordinates(PURE)
    for order in (1, 2):
        model = exact.points(PURE, point[None], predicts="flow")
        ((_, x0),) = flow.sample(model, PURE, xT, 1, "flow", order=order)
        np.testing.assert_allclose(x0, np.tile(point, (4, 1)), atol=1e-12)
        for s, xs in flow.sample(model, PURE, xT, 7, "flow", order=order):
            expected = (1 - tau[s]) * point + tau[s] * xT
            np.testing.assert_allclose(xs / scale[s], expected, atol=1e-12)


@given(st.one_of(schedules, terminal), st.data(), seeds)
def test_a_velocity_that_changes_evenly_is_followed_exactly_to_the_last_step(
    schedule, data, seed
):
    # u = p + q tau, whatever y: the mean of both ends is the mean of the step
    p, q, xT = np.random.default_rng(seed).standard_normal((3, 2, 3))
    tau, scale = flow.coordinates(schedule)
    times = data.draw(falling_times(schedule.T))
    start = xT / scale[times[0]] - p * tau[times[0]] - q * tau[times[0]] ** 2 / 2
    *states, (_, x0) = flow.sample(
        lambda xt, t: p + q * tau[t], schedule, xT, times, "flow"
    )
    for s, xs in states:
        expected = start + p * tau[s] + q * tau[s] ** 2 / 2
        np.testing.assert_allclose(xs / scale[s], expected, rtol=1e-9, atol=1e-9)
    t = times[-2]  # from here Euler's step, as no network is trained at 0
    np.testing.assert_allclose(x0, start - q * tau[t] ** 2 / 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order, calls", [(1, 7), (2, 13)])
def test_each_step_costs_one_call_or_two_but_the_last(order, calls):
    seen = []

    def model(xt, t):
        seen.append(t)
        return 0 * xt

    times = ddim.timesteps(50, 7)
    run = flow.sample(model, straight(50), np.ones((1, 1)), 7, order=order)
    assert [s for s, _ in run] == times[1:]
    assert len(seen) == calls and seen[0] == 50 and set(seen) == set(times[:-1])


def test_clip_limits_x0_hat_and_float32_stays(rng):
    xT = 3 * rng.standard_normal((2, 3), dtype=np.float32)
    for order in (1, 2):
        states = list(flow.sample(lambda xt, t: xt, PURE, xT, 9, "x0", 0.5, order))
        assert all(xt.dtype == np.float32 for _, xt in states)
        assert abs(states[-1][1]).max() <= 0.5 + 1e-6


def test_twenty_five_steps_of_heun_unless_told():
    model, x = exact.gaussian(linear(100), 0.3, 0.5), np.ones((1, 1))
    found = list(flow.sample(model, linear(100), x))
    told = list(flow.sample(model, linear(100), x, 25, "eps", None, 2))
    assert found == told and len(found) == 25


def test_a_run_that_learns_flow_is_resumed_and_sampled_by_any_sampler(tmp_path, rng):
    recipe = Recipe(3, 8, warmup=0, predicts="flow")
    run = Run(recipe, 50, "straight", seed=0, network=MLP, shape=(2,))
    path = tmp_path / "run.npz"
    run.learn(rng.standard_normal((9, 2), dtype=np.float32), None, path, every=9)
    found = Run.resume(path, predicts="flow", schedule="straight").trained()
    xT, noise = rng.standard_normal((4, 2), dtype=np.float32), found.schedule
    mlp = found.network.network
    want = last(flow.sample(mlp, noise, xT, 9, "flow", order=1))[1]
    assert abs(want - xT).max() > 0.01
    for x0 in (
        last(flow.sample(found.model, noise, xT, 9, order=1))[1],
        last(ddim.sample(mlp, noise, xT, 9, predicts="flow"))[1],
        last(ddim.sample(found.model, noise, xT, 9))[1],
    ):
        np.testing.assert_allclose(x0, want, atol=1e-4)


def test_bad_input_is_named():
    x = np.zeros((1, 2))
    for order in (0, 3, 1.5, None):
        with pytest.raises(ValueError, match="order is .*, expected one of"):
            flow.sample(lambda xt, t: xt, linear(50), x, 5, order=order)
    with pytest.raises(ValueError, match="alpha_bar is 0 at t = 1000: expected a mod"):
        flow.sample(lambda xt, t: xt, PURE, x, 5)
