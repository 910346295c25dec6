"""Adam, the moving average and the learning rate, against their papers."""

import numpy as np

from nanodiff.optim import EMA, Adam, clip_gradients, learning_rate


def test_adam_equals_its_paper_and_keeps_float32(rng):
    w = {"w": np.zeros(3, np.float32)}
    adam, m, v, expected = Adam(w, b1=0.8, b2=0.95), 0, 0, np.zeros(3)
    for k in range(1, 6):
        g = rng.standard_normal(3).astype(np.float32)
        adam.step({"w": g}, lr=0.1)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2.0
        m_hat, v_hat = m / (1 - 0.8**k), v / (1 - 0.95**k)
        expected = expected - 0.1 * m_hat / (np.sqrt(v_hat) + 1e-8)
        np.testing.assert_allclose(w["w"], expected, rtol=1e-4)
    assert w["w"].dtype == adam.v["w"].dtype == np.float32


def test_ema_of_a_constant_is_the_constant_and_weights_sum_to_one():
    w = {"w": np.full(2, 3.0)}
    assert EMA(w).decay == 0.999
    ema = EMA(w, decay=0.9)
    for _ in range(50):
        ema.update()
    np.testing.assert_allclose(ema.average["w"], 3.0)
    w["w"][...] = 0
    ema.update()  # by now the decay is at its limit, (1 + 50) / (10 + 50) < 0.9
    np.testing.assert_allclose(ema.average["w"], 3.0 * 51 / 60)


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [learning_rate(step, 100, 2.0, 10) for step in range(100)]
    assert max(rates) == rates[10] == rates[9] == 2.0
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all()
    assert 0 < rates[-1] < 0.01


def test_the_first_step_of_adam_is_lr_times_the_sign_of_the_gradient(rng):
    w, g = {"w": np.zeros(9)}, rng.standard_normal(9)
    Adam(w).step({"w": g}, lr=0.1)
    np.testing.assert_allclose(w["w"], -0.1 * np.sign(g), rtol=1e-6)
    w = {"w": np.zeros(1)}
    Adam(w, tiny=1e-3).step({"w": np.array([1e-3])}, lr=0.1)
    np.testing.assert_allclose(w["w"], -0.05)  # lr g / (|g| + tiny)


def test_gradients_are_shortened_together_and_only_if_too_long(rng):
    g = {"a": rng.standard_normal(5), "b": rng.standard_normal((2, 3))}
    whole = np.concatenate([v.ravel() for v in g.values()])
    before = {name: v.copy() for name, v in g.items()}
    norm = clip_gradients(g, 100.0)
    np.testing.assert_allclose(norm, np.linalg.norm(whole))
    for name in g:
        np.testing.assert_array_equal(g[name], before[name])
    clip_gradients(g, norm / 2)
    for name in g:
        np.testing.assert_allclose(g[name], before[name] / 2)
