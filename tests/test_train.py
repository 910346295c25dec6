"""The loop and its optimiser: they learn, they stop in time, they go on exactly."""

import numpy as np
import pytest

from nanodiff import checkpoint
from nanodiff.optim import EMA, Adam, learning_rate
from nanodiff.schedule import linear
from nanodiff.train import Recipe, train
from nanodiff.unet import UNet


def run(seed=0):
    rng = np.random.default_rng(seed)
    unet = UNet(1, 2, channels=(8, 8), features=8, groups=4, rng=rng)
    params = unet.named_params()
    return {"model": unet, "adam": Adam(params), "ema": EMA(params), "rng": rng}


def images(n):
    rng = np.random.default_rng(1)
    context = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    return np.sign(rng.standard_normal((n, 1, 4, 4))).astype(np.float32), context


def losses(parts, recipe, first=0, stop=None, n=8):
    x0, context = images(n)
    model, rest = parts["model"], {k: parts[k] for k in ("adam", "ema", "rng")}
    found = []
    for step, loss in train(
        model, linear(50), x0, context, recipe, first=first, **rest
    ):
        found.append(loss)
        if step + 1 == stop:
            break
    return found


def test_the_first_loss_is_the_mean_square_of_eps():
    parts = run()
    found = losses(parts, Recipe(1, 8, warmup=0))
    rng = run()["rng"]  # the same state as before training: repeat its draws
    rng.integers(8, size=8), rng.integers(1, 51, size=8)
    eps = rng.standard_normal((8, 1, 4, 4))
    np.testing.assert_allclose(found[0], np.mean(eps**2), rtol=1e-6)


def test_it_overfits_one_image():
    found = losses(run(), Recipe(400, 16, lr=1e-2, warmup=10), n=1)
    assert np.mean(found[-50:]) < 0.1 * found[0]


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    recipe, path = Recipe(12, 4, warmup=3), tmp_path / "run.npz"
    whole = run()
    expected = losses(whole, recipe)
    half = run()
    found = losses(half, recipe, stop=6)
    checkpoint.save(path, step=6, config={"any": [1]}, **half)
    other = run(seed=9)
    stored = checkpoint.load(path)
    checkpoint.restore(stored, **other)
    found += losses(other, recipe, first=stored.step)
    assert found == expected and stored.config == {"any": [1]}
    for name, w in whole["model"].named_params().items():
        np.testing.assert_array_equal(other["model"].named_params()[name], w)
        np.testing.assert_array_equal(
            other["ema"].average[name], whole["ema"].average[name]
        )


def test_a_loss_that_is_not_finite_stops_before_any_weight_changes():
    parts = run()
    parts["model"].conv_out.b[...] = np.nan
    before = {k: w.copy() for k, w in parts["model"].named_params().items()}
    with pytest.raises(FloatingPointError, match="at step 0 the loss is nan"):
        losses(parts, Recipe(1, 4, warmup=0))
    for name, w in parts["model"].named_params().items():
        np.testing.assert_array_equal(w, before[name])


def test_contexts_are_dropped_at_the_rate_asked_for():
    from nanodiff.train import _drop

    context = np.ones((20_000, 3), np.float32)
    kept = _drop(context, 0.1, np.random.default_rng(0))
    assert set(kept.sum(1)) == {0.0, 3.0} and kept.dtype == np.float32
    error = 5 * np.sqrt(0.1 * 0.9 / 20_000)  # five standard errors
    assert abs((kept.sum(1) == 0).mean() - 0.1) < error


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


def test_bad_input_is_named():
    for name, value in {
        "steps": 0, "batch": 0, "lr": -1.0, "warmup": 2000, "drop": 1.5, "max_norm": 0,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} is {value}, expected"):
            Recipe(**{name: value})
    x0, context = images(4)
    parts = run()
    with pytest.raises(ValueError, match="context has 3 rows, expected 4"):
        next(train(parts.pop("model"), linear(50), x0, context[:3], Recipe(), **parts))
