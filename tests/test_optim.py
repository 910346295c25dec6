"""Adam, Muon, the moving average and the learning rate, against their papers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nanodiff.optim import (
    EMA,
    Adam,
    Muon,
    clip_gradients,
    is_hidden,
    learning_rate,
    orthogonal,
)
from nanodiff.unet import UNet
from tests.strategies import seeds


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


def a_matrix(rows, columns, seed):
    return np.random.default_rng(seed).standard_normal((rows, columns))


sizes = st.tuples(st.integers(1, 12), st.integers(1, 40))


@given(sizes, seeds, st.floats(-6, 6))
def test_orthogonal_keeps_singular_vectors_and_makes_the_values_one(size, seed, power):
    G = a_matrix(*size, seed) * 10.0**power
    U, s, V = np.linalg.svd(G, full_matrices=False)
    damped = s / np.sqrt(s**2 + 1e-5 * s[0] ** 2)
    np.testing.assert_allclose(orthogonal(G), (U * damped) @ V, atol=1e-7)
    np.testing.assert_allclose(orthogonal(G.T), orthogonal(G).T, atol=1e-7)
    np.testing.assert_allclose(orthogonal(0 * G), 0)


@given(sizes, seeds)
def test_no_step_of_that_spectral_norm_goes_further_down(size, seed):
    G, other = a_matrix(*size, seed), a_matrix(*size, seed + 1)
    other /= np.linalg.norm(other, 2)
    down = np.sum(G * orthogonal(G))  # the nuclear norm of G, but for the damping
    nuclear = np.linalg.norm(G, "nuc")
    assert (1 - 3e-3 * min(size)) * nuclear <= down <= nuclear * (1 + 1e-9)
    assert np.sum(G * other) <= down + 3e-3 * min(size) * nuclear


@given(seeds)
def test_muon_equals_its_formula_and_is_adam_for_what_is_not_hidden(seed):
    rng = np.random.default_rng(seed)
    shapes = {"conv": (6, 8, 3, 3), "first": (8, 1, 3, 3), "b": (6,), "linear": (9, 9)}
    start = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    w, v = ({n: array.copy() for n, array in start.items()} for _ in "wv")
    muon, adam, m = Muon(w, momentum=0.8), Adam(v), 0
    expected = start["conv"].astype(np.float64).reshape(6, 72)
    for _ in range(3):
        g = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        muon.step(g, lr=0.1)
        adam.step(g, lr=0.1)
        G = g["conv"].reshape(6, 72)
        m = 0.8 * m + 0.2 * G
        U, _, V = np.linalg.svd(0.8 * m + 0.2 * G, full_matrices=False)
        expected = expected - 0.1 * 0.2 * np.sqrt(72) * U @ V
    found = w.pop("conv")
    assert found.dtype == np.float32 and "conv" not in muon.v
    np.testing.assert_allclose(found.reshape(6, 72), expected, atol=1e-4)
    for name in w:
        np.testing.assert_array_equal(w[name], v[name])


def test_a_step_of_muon_has_the_root_mean_square_of_its_factor(rng):
    w = {"w": np.zeros((16, 16, 3, 3))}
    Muon(w).step({"w": rng.standard_normal((16, 16, 3, 3))}, lr=0.1)
    np.testing.assert_allclose(np.sqrt(np.mean(w["w"] ** 2)), 0.1 * 0.2, rtol=1e-3)


def test_hidden_are_the_convolutions_between_the_first_and_the_last(rng):
    params = UNet(3, 10, (8, 8), features=8, rng=rng).named_params()
    hidden = {name for name, w in params.items() if is_hidden(w)}
    convolutions = {name for name, w in params.items() if w.ndim == 4}
    assert is_hidden(np.zeros((5, 5, 1, 1))) and not is_hidden(np.zeros((4, 9, 3, 3)))
    assert hidden == convolutions - {"conv_in.w", "conv_out.w"} and len(hidden) > 6


def test_ema_of_a_constant_is_the_constant_and_weights_sum_to_one():
    w = {"w": np.full(2, 3.0)}
    assert EMA(w).decay == 0.999
    ema = EMA(w, decay=0.9)
    for _ in range(50):
        ema.update()
    np.testing.assert_allclose(ema.average["w"], 3.0)
    w["w"][...] = 0
    ema.update()  # not yet at its limit: (1 + 50) / (10 + 50) < 0.9
    np.testing.assert_allclose(ema.average["w"], 3.0 * 51 / 60)
    for _ in range(40):
        ema.update()
    before = ema.average["w"].copy()
    ema.update()  # now it is: (1 + 91) / (10 + 91) > 0.9
    np.testing.assert_allclose(ema.average["w"], 0.9 * before)


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
