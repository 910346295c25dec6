"""DDPM and DDIM against each other and against exact predictors: no Monte Carlo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, ddpm, heun
from nanodiff.exact import gaussian
from nanodiff.prediction import KINDS, split, target
from nanodiff.schedule import cosine, linear, predict_eps, zero_terminal
from tests.strategies import falling_times, quiet, schedules, seeds, terminal


def last(steps):
    return list(steps)[-1]


@given(schedules, st.data(), seeds)
def test_ddim_with_eta_1_is_ddpm_with_beta_tilde(schedule, data, seed):
    rng = np.random.default_rng(seed)
    xt, eps_hat, z = rng.standard_normal((3, 2, 5))
    t = data.draw(st.integers(1, schedule.T))
    a = ddim.step(schedule, xt, t, t - 1, eps_hat, eta=1.0, z=z)
    b = ddpm.step(schedule, xt, t, eps_hat, z)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1, abs(b).max()))


def test_the_two_loops_agree_from_the_same_rng():
    schedule, xT = linear(40), np.random.default_rng(0).standard_normal((3, 2))
    model = gaussian(schedule, 0.3, 0.5)
    a = ddpm.sample(model, schedule, xT, np.random.default_rng(7))
    b = ddim.sample(model, schedule, xT, 40, 1.0, np.random.default_rng(7))
    for (t, xt), (s, xs) in zip(a, b, strict=True):
        assert t == s
        np.testing.assert_allclose(xt, xs, rtol=0, atol=1e-12)


@given(schedules, st.data(), seeds)
def test_ddpm_mean_is_algorithm_2(schedule, data, seed):
    xt, eps_hat, z = np.random.default_rng(seed).standard_normal((3, 2, 5))
    t = data.draw(st.integers(1, schedule.T))
    beta, alpha_bar = schedule.beta[t], schedule.alpha_bar[t]
    expected = (xt - beta / np.sqrt(1 - alpha_bar) * eps_hat) / np.sqrt(1 - beta)
    sigma = np.sqrt(beta) if t > 1 else 0.0
    found = ddpm.step(schedule, xt, t, eps_hat, z, variance="beta")
    np.testing.assert_allclose(found, expected + sigma * z, rtol=1e-9, atol=1e-9)


@given(schedules, st.floats(0, 1), seeds)
def test_the_last_step_adds_no_noise(schedule, eta, seed):
    xt, eps_hat, z = np.random.default_rng(seed).standard_normal((3, 2, 5))
    silent = ddim.step(schedule, xt, schedule.T, 0, eps_hat)
    noisy = ddim.step(schedule, xt, schedule.T, 0, eps_hat, eta, z)
    np.testing.assert_array_equal(noisy, silent)
    for variance in ("beta", "beta_tilde"):
        a = ddpm.step(schedule, xt, 1, eps_hat, z, variance)
        np.testing.assert_array_equal(
            a, ddpm.step(schedule, xt, 1, eps_hat, -z, variance)
        )


@given(st.integers(21, 300).map(linear), st.data(), seeds)
def test_ddim_with_eta_0_is_eulers_method(schedule, data, seed):
    # on x / sqrt(alpha_bar), in the variable sqrt(1 / alpha_bar - 1)
    xt, eps_hat = np.random.default_rng(seed).standard_normal((2, 2, 5))
    t = data.draw(st.integers(1, schedule.T))
    s = data.draw(st.integers(0, t - 1))
    time = np.sqrt(1 / schedule.alpha_bar - 1)
    expected = xt / np.sqrt(schedule.alpha_bar[t]) + (time[s] - time[t]) * eps_hat
    found = ddim.step(schedule, xt, t, s, eps_hat) / np.sqrt(schedule.alpha_bar[s])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@given(st.integers(21, 300).map(linear), st.data(), st.floats(0, 1), seeds)
def test_the_exact_predictor_of_a_point_lands_on_it(schedule, data, eta, seed):
    rng = np.random.default_rng(seed)
    point, xT = rng.standard_normal((2, 3, 2))
    times = sorted(data.draw(st.sets(st.integers(1, schedule.T), min_size=1)))[::-1]

    def model(xt, t):
        return predict_eps(schedule, xt, t, point)

    t, x0 = last(quiet(ddim.sample, model, schedule, xT, [*times, 0], eta, rng))
    assert t == 0
    np.testing.assert_allclose(x0, point, atol=1e-9)
    for variance in ("beta", "beta_tilde"):
        _, x0 = last(quiet(ddpm.sample, model, schedule, xT, rng, variance))
        np.testing.assert_allclose(x0, point, atol=1e-9)


@given(st.integers(1, 1000), st.data())
def test_timesteps_fall_from_T_to_0_and_steps_join(T, data):
    steps = data.draw(st.integers(1, T))
    times = ddim.timesteps(T, steps)
    assert times[0] == T and times[-1] == 0 and len(times) == steps + 1
    assert (np.diff(times) < 0).all() and np.ptp(np.diff(times)) <= 1
    seen = []

    def model(xt, t):
        seen.append(t)
        return 0 * xt

    run = quiet(ddim.sample, model, cosine(T), np.ones((1, 1)), steps)
    landed = [s for s, _ in run]
    assert seen == times[:-1] and landed == times[1:]


def test_ddim_error_falls_as_one_over_steps():
    # data N(0, 0.25): the exact flow scales x_T by a known factor
    schedule, std, xT = linear(1000), 0.5, np.ones((1, 1))
    alpha_bar = schedule.alpha_bar[1000]
    exact = std / np.sqrt(alpha_bar * std**2 + 1 - alpha_bar)
    model = gaussian(schedule, 0.0, std)
    steps = np.array([20, 50, 100, 200])
    found = [last(ddim.sample(model, schedule, xT, int(n)))[1].item() for n in steps]
    errors = exact - np.array(found)
    np.testing.assert_allclose(errors / exact * std, [0.0686, 0.0286, 0.0146, 0.0074],
                               rtol=0.03)  # fmt: skip
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert -1.1 < slope < -0.9


def test_ddim_errors_are_those_computed_for_every_number_of_steps():
    schedule, std = linear(1000), 0.5
    alpha_bar = schedule.alpha_bar[1000]
    exact = std / np.sqrt(alpha_bar * std**2 + 1 - alpha_bar)
    model, xT = gaussian(schedule, 0.0, std), np.ones((1, 1))
    errors = [
        exact - last(ddim.sample(model, schedule, xT, S))[1].item()
        for S in (10, 20, 50, 100, 200, 500, 1000)
    ]
    expected = [0.130, 0.0686, 0.0286, 0.0146, 0.0074, 0.0030, 0.0015]
    np.testing.assert_allclose(np.divide(errors, exact) * std, expected, rtol=0.03)


def test_heun_error_falls_as_one_over_the_square_of_steps():
    schedule, std, xT = linear(1000), 0.5, np.ones((1, 1))
    alpha_bar = schedule.alpha_bar[1000]
    exact = std / np.sqrt(alpha_bar * std**2 + 1 - alpha_bar)
    model, steps = gaussian(schedule, 0.0, std), np.array([100, 125, 200, 250, 500])
    errors = [
        abs(exact - last(heun.sample(model, schedule, xT, int(n)))[1].item())
        for n in steps
    ]
    assert -2.1 < np.polyfit(np.log(steps), np.log(errors), 1)[0] < -1.9
    assert errors[-1] < 1e-4


@given(st.integers(21, 300).map(linear), st.data(), st.floats(-1, 1), st.floats(0.1, 2))
def test_heun_makes_the_states_of_its_recursion(schedule, data, mean, std):
    # data N(mean, std^2): dy / dsigma = g(sigma) (y - mean), so u = y - mean is scaled
    times, xT = data.draw(falling_times(schedule.T)), np.array([[0.3, -1.2]])
    sigma = [float(np.sqrt(1 / schedule.alpha_bar[t] - 1)) for t in times]
    g = [a / (std**2 + a**2) for a in sigma]
    u, rate = xT / np.sqrt(schedule.alpha_bar[times[0]]) - mean, 0.0
    states = quiet(heun.sample, gaussian(schedule, mean, std), schedule, xT, times)
    for i, (s, xs) in enumerate(states):
        h = sigma[i + 1] - sigma[i]
        end = g[i] * u + h * rate if s == 0 else g[i + 1] * (1 + h * g[i]) * u
        rate = (end - g[i] * u) / h
        u = u + h * (g[i] * u + end) / 2
        expected = np.sqrt(schedule.alpha_bar[s]) * (u + mean)
        assert s == times[i + 1]
        np.testing.assert_allclose(xs, expected, rtol=1e-9, atol=1e-9)


@given(schedules, st.data(), seeds)
def test_a_single_step_of_heun_is_eulers_method(schedule, data, seed):
    xT = np.random.default_rng(seed).standard_normal((2, 3))
    t = data.draw(st.integers(1, schedule.T))
    model = gaussian(schedule, 0.3, 0.5)
    ((s, x0),) = quiet(heun.sample, model, schedule, xT, [t, 0])
    expected = ddim.step(schedule, xT, t, 0, model(xT, t))
    assert s == 0
    np.testing.assert_allclose(x0, expected, rtol=1e-9, atol=1e-9 * abs(expected).max())


@given(schedules, st.data(), seeds)
def test_a_constant_eps_is_integrated_exactly_in_any_steps(schedule, data, seed):
    # y = x / a moves in a line in sigma = sqrt(1 / alpha_bar - 1), whatever the steps
    eps_hat, xT = np.random.default_rng(seed).standard_normal((2, 3, 2))
    times = data.draw(falling_times(schedule.T))
    alpha_bar = schedule.alpha_bar[times[0]]
    expected = xT / np.sqrt(alpha_bar) - np.sqrt(1 / alpha_bar - 1) * eps_hat
    for sampler in (ddim, heun):
        t, x0 = last(quiet(sampler.sample, lambda xt, t: eps_hat, schedule, xT, times))
        assert t == 0
        np.testing.assert_allclose(x0, expected, rtol=1e-9, atol=1e-9 / alpha_bar)


@given(schedules, st.data(), seeds)
def test_eps_x0_and_v_give_each_other_and_v_is_a_rotation(schedule, data, seed):
    x0, eps = np.random.default_rng(seed).standard_normal((2, 3, 4))
    t = data.draw(st.integers(1, schedule.T))
    a, b = np.sqrt([schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]])
    xt, v = a * x0 + b * eps, target(schedule, x0, t, eps, "v")
    np.testing.assert_allclose(xt**2 + v**2, x0**2 + eps**2, rtol=1e-9)
    for kind in KINDS:
        output = target(schedule, x0, t, eps, kind)
        found = split(schedule, xt, t, output, kind)
        np.testing.assert_allclose(found[0], x0, atol=1e-13 / a)
        np.testing.assert_allclose(found[1], eps, atol=1e-13 / b)


@given(
    st.integers(21, 200).map(linear), st.data(), st.sampled_from(["x0", "v", "flow"])
)
def test_samplers_take_a_model_of_any_kind_and_make_the_same(schedule, data, kind):
    xT, eta = np.array([[0.3, -1.2]]), data.draw(st.floats(0, 1))
    times, model = data.draw(falling_times(schedule.T)), gaussian(schedule, 0.4, 0.5)

    def other(xt, t):
        x0_hat, eps_hat = split(schedule, xt, t, model(xt, t))
        return target(schedule, x0_hat, t, eps_hat, kind)

    def runs(model, kind):
        rng = np.random.default_rng(3)
        kw = {"predicts": kind}
        yield quiet(ddim.sample, model, schedule, xT, times, eta, rng, **kw)
        yield ddpm.sample(model, schedule, xT, rng, clip=1.0, **kw)
        yield quiet(heun.sample, model, schedule, xT, times, **kw)
        yield ddim.invert(model, schedule, xT, times, **kw)

    for a, b in zip(runs(model, "eps"), runs(other, kind), strict=True):
        np.testing.assert_allclose(last(a)[1], last(b)[1], rtol=1e-7, atol=1e-7)


@given(terminal, st.floats(0, 1))
def test_a_model_of_v_samples_from_pure_noise(schedule, eta):
    # data N(0.4, 0.25), known to a model that says v, even where x_T holds no signal
    def model(xt, t):
        a, b = np.sqrt([schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]])
        eps_hat = b * (xt - a * 0.4) / (a**2 * 0.25 + b**2)
        x0_hat = 0.4 + a * 0.25 * (xt - a * 0.4) / (a**2 * 0.25 + b**2)
        return a * eps_hat - b * x0_hat

    xT, rng = np.zeros((2, 1)), np.random.default_rng(0)
    xT[1] = 2.0
    steps = ddim.sample(model, schedule, xT, schedule.T, eta, rng, predicts="v")
    assert np.isfinite(last(steps)[1]).all()
    steps = ddpm.sample(model, schedule, xT, rng, predicts="v")
    assert np.isfinite(last(steps)[1]).all()
    mean, other = last(ddim.sample(model, schedule, xT, schedule.T, predicts="v"))[1]
    np.testing.assert_allclose([mean[0], other[0]], [0.4, 1.4], atol=4 / schedule.T)


def test_fifty_steps_unless_told():
    schedule, x = linear(100), np.ones((1, 1))
    for run in (ddim.sample, ddim.invert):
        assert len(list(run(lambda xt, t: 0 * xt, schedule, x))) == 50
    assert len(list(heun.sample(lambda xt, t: 0 * xt, schedule, x))) == 25


def test_clip_limits_x0_hat(rng):
    schedule, far = linear(100), np.array([[9.0, -9.0, 0.1]])

    def model(xt, t):
        return 0 * xt

    for x0 in (
        ddim.step(schedule, far, 60, 0, 0 * far, clip=0.5),
        ddpm.step(schedule, far, 1, 0 * far, far, clip=0.5),
    ):
        np.testing.assert_allclose(x0[0, :2], [0.5, -0.5])
    for steps in (
        ddim.sample(model, schedule, far, 9, clip=0.5),
        ddpm.sample(model, schedule, far, rng, clip=0.5),
    ):
        assert abs(last(steps)[1]).max() <= 0.5


@given(schedules, st.data(), seeds)
def test_a_clipped_x0_hat_changes_eps_hat_to_match(schedule, data, seed):
    # else x_s would not lie on the line from x0_hat through x_t
    xt, eps_hat = np.random.default_rng(seed).standard_normal((2, 2, 5))
    t = data.draw(st.integers(1, schedule.T))
    s = data.draw(st.integers(0, t - 1))
    a, b = np.sqrt(schedule.alpha_bar), np.sqrt(1 - schedule.alpha_bar)
    x0_hat = np.clip((xt - b[t] * eps_hat) / a[t], -0.5, 0.5)
    expected = a[s] * x0_hat + b[s] * (xt - a[t] * x0_hat) / b[t]
    found = ddim.step(schedule, xt, t, s, eps_hat, clip=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_float32_stays_float32(rng):
    schedule, xT = linear(30), rng.standard_normal((2, 3), dtype=np.float32)
    for steps in (
        ddpm.sample(lambda xt, t: xt, schedule, xT, rng, clip=1.0),
        ddim.sample(lambda xt, t: xt, schedule, xT, 7, 0.5, rng, clip=1.0),
        ddim.invert(lambda xt, t: xt, schedule, xT, 7),
    ):
        assert all(xt.dtype == np.float32 for _, xt in steps)


def test_bad_input_is_named():
    schedule, x = linear(50), np.zeros((1, 2))

    def model(xt, t):
        raise AssertionError("the model must not be asked")

    for steps in (0, 51, 2.5, [50, 50, 0], [20, 30, 0], [50, 10], [60, 0], [0]):
        with pytest.raises(ValueError, match="steps is"):
            ddim.sample(model, schedule, x, steps)
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match="eta is .*, expected 0..1"):
            ddim.sample(model, schedule, x, 5, eta)
        with pytest.raises(ValueError, match="eta is .*, expected 0..1"):
            ddim.step(schedule, x, 5, 0, x, eta, x)
    with pytest.raises(ValueError, match="rng is None, expected a Generator"):
        ddim.sample(model, schedule, x, 5, 0.5)
    with pytest.raises(ValueError, match="z is None, expected"):
        ddim.step(schedule, x, 5, 0, x, 0.5)
    with pytest.raises(ValueError, match="s is 5, expected below t"):
        ddim.step(schedule, x, 5, 5, x)
    for sample in (ddim.sample, ddim.invert, heun.sample):
        with pytest.raises(ValueError, match="predicts is 'score', expected one of"):
            sample(model, schedule, x, 5, predicts="score")
    with pytest.raises(ValueError, match="alpha_bar is 0 at t = 50: expected a first"):
        heun.sample(model, zero_terminal(schedule), x, 5)
    for z in (np.zeros((1, 1)), np.zeros((1, 2), int)):
        with pytest.raises(ValueError, match="z has .* expected"):
            ddpm.step(schedule, x, 5, x, z)
        with pytest.raises(ValueError, match="z has .* expected"):
            ddim.step(schedule, x, 5, 0, x, 0.5, z)
    with pytest.raises(ValueError, match="variance is 'small', expected"):
        ddpm.step(schedule, x, 5, x, x, variance="small")


def test_zeros_are_noise_like_any_other_for_heun():
    x = np.array([[0.0, 1.0]])
    *_, (_, x0) = heun.sample(lambda xt, t: 0 * xt, linear(100), x, 1)
    np.testing.assert_allclose(x0 * np.sqrt(linear(100).alpha_bar[100]), x, atol=1e-12)
