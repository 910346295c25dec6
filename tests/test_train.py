"""The loop and its optimiser: they learn, they stop in time, they go on exactly."""

import numpy as np
import pytest

from nanodiff import checkpoint
from nanodiff.optim import EMA, OPTIMIZERS, Adam, Muon
from nanodiff.prediction import KINDS, split, target
from nanodiff.schedule import linear, q_sample, zero_terminal
from nanodiff.self_conditioning import WithFirstGuess
from nanodiff.train import Recipe, loss_of, train
from nanodiff.unet import UNet


def run(seed=0, optimizer=Adam):
    rng = np.random.default_rng(seed)
    unet = UNet(1, 2, channels=(8, 8), features=8, groups=4, rng=rng)
    params = unet.named_params()
    parts = {"optimizer": optimizer(params), "ema": EMA(params), "rng": rng}
    return {"model": unet} | parts


def images(n):
    rng = np.random.default_rng(1)
    context = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    return np.sign(rng.standard_normal((n, 1, 4, 4))).astype(np.float32), context


def losses(parts, recipe, first=0, stop=None, n=8):
    x0, context = images(n)
    model, rest = parts["model"], {k: parts[k] for k in ("optimizer", "ema", "rng")}
    found = []
    for step, loss in train(
        model, linear(50), x0, context, recipe, first=first, **rest
    ):
        found.append(loss)
        if step + 1 == stop:
            break
    return found


@pytest.mark.parametrize("predicts", KINDS)
def test_the_first_loss_is_the_mean_square_of_the_target(predicts):
    schedule, (x0, _) = linear(50), images(8)
    found = losses(run(), Recipe(1, 8, warmup=0, predicts=predicts))
    rng = run()["rng"]  # the same state as before training: repeat its draws
    i, t = rng.integers(8, size=8), rng.integers(1, 51, size=8)
    want = target(schedule, x0[i], t, rng.standard_normal((8, 1, 4, 4)), predicts)
    np.testing.assert_allclose(found[0], np.mean(want**2), rtol=1e-6)


class Recorder:
    """In place of a network: it gives a fixed answer and keeps what it is told."""

    def __init__(self, output):
        self.output, self.w = output, np.zeros(1, np.float32)

    def named_grads(self):
        return {"w": self.w}

    def forward(self, *inputs):
        self.inputs = inputs
        return self.output

    def backward(self, d):
        self.d = d


@pytest.mark.parametrize("predicts", KINDS)
@pytest.mark.parametrize("given", [True, False])
def test_a_step_is_algorithm_1(predicts, given):
    schedule, (x0, context) = linear(50), images(9)
    rng, again = np.random.default_rng(4), np.random.default_rng(4)
    model = Recorder(again.standard_normal((6, 1, 4, 4), dtype=np.float32))
    again = np.random.default_rng(4)
    params = {"w": np.zeros(1, np.float32)}
    loop = train(
        model, schedule, x0, context if given else None,
        Recipe(3, 6, warmup=0, drop=0.5, predicts=predicts),
        rng=rng, optimizer=Adam(params), ema=EMA(params),
    )  # fmt: skip
    step, loss = next(loop)
    assert step == 0
    i, t = again.integers(9, size=6), again.integers(1, 51, size=6)
    eps = again.standard_normal((6, 1, 4, 4)).astype(np.float32)
    a, b = np.sqrt([schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]])
    a, b = a.reshape(6, 1, 1, 1), b.reshape(6, 1, 1, 1)
    np.testing.assert_allclose(model.inputs[0], a * x0[i] + b * eps, atol=1e-6)
    np.testing.assert_array_equal(model.inputs[1], t)
    if given:
        keep = again.random(6) >= 0.5
        assert 0 < keep.sum() < 6  # with this seed some are dropped, some are not
        np.testing.assert_array_equal(model.inputs[2], context[i] * keep[:, None])
    else:
        assert model.inputs[2] is None
    says = {"eps": eps, "x0": x0[i], "v": a * eps - b * x0[i], "flow": eps - x0[i]}
    want = says[predicts]
    error = model.output - want
    np.testing.assert_allclose(loss, np.mean(error**2), rtol=1e-5)
    np.testing.assert_allclose(model.d, 2 * error / error.size, atol=1e-6)


@pytest.mark.parametrize("predicts", KINDS)
def test_by_min_snr_the_gradient_is_that_of_the_error_of_x0(predicts):
    schedule, (x0, _), gamma = linear(50), images(9), 0.7
    params, seen = {"w": np.zeros(1, np.float32)}, []
    for recipe in (Recipe(2, 6, warmup=0, predicts=predicts, min_snr=gamma),
                   Recipe(2, 6, warmup=0, predicts=predicts)):  # fmt: skip
        again, rng = np.random.default_rng(4), np.random.default_rng(4)
        model = Recorder(np.random.default_rng(5).standard_normal((6, 1, 4, 4), "f"))
        parts = {"optimizer": Adam(params), "ema": EMA(params), "rng": rng}
        seen.append((next(train(model, schedule, x0, None, recipe, **parts)), model.d))
    (_, found), (_, bare) = seen
    i, t = again.integers(9, size=6), again.integers(1, 51, size=6)
    assert min(schedule.snr[t]) < gamma < max(schedule.snr[t])

    def loss(output):  # of the error of x0_hat, in float64
        x0_hat, _ = split(schedule, model.inputs[0].astype(float), t, output, predicts)
        each = np.mean((x0_hat - x0[i]) ** 2, axis=(1, 2, 3))
        return np.mean(np.minimum(schedule.snr[t], gamma) * each)

    v, h = again.standard_normal((6, 1, 4, 4)), 1e-4  # the loss is a parabola
    output = model.output.astype(float)
    slope = (loss(output + h * v) - loss(output - h * v)) / (2 * h)
    np.testing.assert_allclose(np.vdot(found, v), slope, rtol=1e-4)
    assert found.dtype == np.float32 and abs(found - bare).max() > 1e-3
    assert seen[0][0] == seen[1][0]  # the loss that is told has no weight


def test_min_snr_of_eps_without_any_signal_is_refused_at_once():
    schedule, (x0, context) = zero_terminal(linear(50)), images(4)
    parts = run()
    model, recipe = parts.pop("model"), Recipe(2, 4, warmup=0, min_snr=5)
    with pytest.raises(ValueError, match="alpha_bar is 0 at t = 50: expected a model"):
        train(model, schedule, x0, context, recipe, **parts)
    recipe = Recipe(2, 4, warmup=0, min_snr=5, predicts="v")
    assert len(list(train(model, schedule, x0, context, recipe, **parts))) == 2


@pytest.mark.parametrize("predicts", KINDS)
def test_in_half_of_the_steps_the_network_is_shown_its_first_guess(predicts):
    schedule, (x0, context) = linear(50), images(9)
    rng, asked = np.random.default_rng(4), []
    model = Recorder(rng.standard_normal((6, 1, 4, 4), dtype=np.float32))
    model.forward = lambda *inputs: asked.append(inputs) or model.output
    wrapped, params = WithFirstGuess(model, schedule, predicts, rng), {"w": model.w}
    steps = []
    for _ in train(
        wrapped, schedule, x0, context, Recipe(400, 6, warmup=0, predicts=predicts),
        rng=rng, optimizer=Adam(params), ema=EMA(params),
    ):  # fmt: skip
        steps.append(asked[:])
        asked.clear()
    twice = [calls for calls in steps if len(calls) == 2]
    assert abs(len(twice) - 200) < 5 * 10  # five standard errors
    for first, (xt, t, given, x0_hat) in twice:
        for a, b in zip(first, (xt, t, given), strict=True):
            np.testing.assert_array_equal(a, b)
        want, _ = split(schedule, xt, t, model.output, predicts)
        np.testing.assert_array_equal(x0_hat, want)
        assert x0_hat.dtype == np.float32


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    for optimizer in OPTIMIZERS.values():
        stop_and_go_on(tmp_path / "run.npz", optimizer)


def stop_and_go_on(path, optimizer):
    recipe = Recipe(12, 4, warmup=3)
    whole = run(optimizer=optimizer)
    expected = losses(whole, recipe)
    half = run(optimizer=optimizer)
    found = losses(half, recipe, stop=6)
    checkpoint.save(path, step=6, config={"any": [1]}, **half)
    other = run(9, optimizer)
    stored = checkpoint.load(path)
    checkpoint.restore(stored, **other)
    found += losses(other, recipe, first=stored.step)
    assert found == expected and stored.config == {"any": [1]}
    for name, w in whole["model"].named_params().items():
        np.testing.assert_array_equal(other["model"].named_params()[name], w)
        np.testing.assert_array_equal(
            other["ema"].average[name], whole["ema"].average[name]
        )


@pytest.mark.parametrize("ours, other", [(Adam, Muon), (Muon, Adam)])
def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path, ours, other):
    path, parts = tmp_path / "run.npz", run(9, other)
    checkpoint.save(path, step=0, config={}, **run(0, ours))
    with pytest.raises(ValueError, match=f"optimizer is {other.__name__}, expected"):
        checkpoint.restore(checkpoint.load(path), **parts)
    assert np.array_equal(parts["model"].conv_in.w, run(9)["model"].conv_in.w)


def test_a_loss_that_is_not_finite_stops_before_any_weight_changes():
    parts = run()
    parts["model"].conv_out.b[...] = np.nan
    before = {k: w.copy() for k, w in parts["model"].named_params().items()}
    with pytest.raises(FloatingPointError, match="at step 0 the loss is nan"):
        losses(parts, Recipe(1, 4, warmup=0))
    for name, w in parts["model"].named_params().items():
        np.testing.assert_array_equal(w, before[name])


def test_a_gradient_that_is_not_finite_stops_although_the_loss_is():
    model = Recorder(np.zeros((6, 1, 4, 4), np.float32))
    model.w[...] = np.inf
    params = {"w": np.ones(1, np.float32)}
    parts = {"optimizer": Adam(params), "ema": EMA(params)}
    parts["rng"] = np.random.default_rng(0)
    loop = train(model, linear(50), images(9)[0], None, Recipe(3, 6, warmup=0), **parts)
    with pytest.raises(FloatingPointError, match="gradient's norm inf"):
        next(loop)
    assert params["w"] == 1


def times(**recipe):
    """How often each of the times 1..50 comes in 2,000 draws."""
    parts, seen = run(), []
    forward = parts["model"].forward

    def watch(xt, t, context):
        seen.extend(t)
        return forward(xt, t, context)

    parts["model"].forward = watch
    losses(parts, Recipe(40, 50, warmup=0, **recipe))
    assert min(seen) >= 1
    return np.bincount(seen, minlength=51)[1:]


def test_times_are_uniform_from_1_to_T():
    counts = times()
    assert len(counts) == 50 and abs(counts - 40).max() < 5 * np.sqrt(40)
    assert counts[0] and counts[-1]


def test_a_focus_draws_its_share_from_its_times_and_the_rest_from_all():
    counts = times(focus=(0.6, 11, 20))
    # 0.6 of 2,000 on ten times, and 0.4 of them on all fifty
    expected = np.full(50, 16)
    expected[10:20] += 120
    assert np.all(abs(counts - expected) < 5 * np.sqrt(expected))
    assert times(focus=(1, 7, 7)).tolist() == [0] * 6 + [2000] + [0] * 43
    assert times(focus=(0, 7, 7)).all()


def test_contexts_are_dropped_at_the_rate_asked_for():
    from nanodiff.train import _drop

    context = np.ones((20_000, 3), np.float32)
    kept = _drop(context, 0.1, np.random.default_rng(0))
    assert set(kept.sum(1)) == {0.0, 3.0} and kept.dtype == np.float32
    error = 5 * np.sqrt(0.1 * 0.9 / 20_000)  # five standard errors
    assert abs((kept.sum(1) == 0).mean() - 0.1) < error


def test_bad_input_is_named():
    for name, value in {
        "steps": 0, "batch": 0, "lr": -1.0, "warmup": 2000, "drop": 1.5, "max_norm": 0,
        "min_snr": 0,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} is {value}, expected"):
            Recipe(**{name: value})
    for kind in ({"warmup": 4}, {"warmup": 0, "drop": 0}, {"warmup": 0, "drop": 1}):
        Recipe(5, **kind)  # the limits themselves are allowed
    with pytest.raises(ValueError, match="warmup is 5, expected 0..steps - 1 = 0..4"):
        Recipe(5, warmup=5)
    with pytest.raises(ValueError, match="predicts is 'score', expected one of"):
        Recipe(predicts="score")
    with pytest.raises(ValueError, match="optimizer is 'sgd', expected one of"):
        Recipe(optimizer="sgd")
    for focus in (
        (1.1, 1, 2), (-0.1, 1, 2), (0.5, 0, 2), (0.5, 3, 2), (0.5, 1), (0.5, 1.5, 2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"focus is \(.*, expected \(share, first"):
            Recipe(focus=focus)
    x0, context = images(4)
    parts = run()
    recipe, model = Recipe(focus=(0.5, 1, 51)), parts["model"]
    spare = {"optimizer": 0, "ema": 0, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=r"focus is .*, expected times in 1\.\.50"):
        next(train(model, linear(50), x0, context, recipe, **spare))
    with pytest.raises(ValueError, match="context has 3 rows, expected 4"):
        next(train(parts.pop("model"), linear(50), x0, context[:3], Recipe(), **parts))


@pytest.mark.parametrize("change, words", [
    (lambda x: (x + 1) / 2, "images go from .*, expected about -1..1: pix"),
    (lambda x: (x + 1) * 127.5, "images go from .*, expected about -1..1"),
    (lambda x: np.where(x > 0, np.nan, x), "images has .* that are NaN or infinite"),
    (lambda x: x.astype(np.float64), "images has dtype float64, expected"),
    (lambda x: x[:0], r"images has shape \(0, 1, 4, 4\), expected \(n, "),
    (lambda x: [*x, x[0, 0]], "(?s)images is .*, expected an array"),
])  # fmt: skip
def test_data_that_cannot_be_learned_are_named_before_a_step(change, words):
    x0, context = images(4)
    x0[0, 0, 0, :2] = -1, 1
    parts = run()
    model = parts.pop("model")
    next(train(model, linear(50), x0, context, Recipe(), **parts))
    with pytest.raises(ValueError, match=words):
        next(train(model, linear(50), change(x0), context, Recipe(), **parts))


def test_contexts_that_are_none_and_an_rng_that_is_none_are_named():
    x0, context = images(4)
    parts = run()
    model, labels = parts.pop("model"), np.arange(4)
    for given, words in (
        (labels, r"context has shape \(4,\), expected \(4, features\): labels\? see"),
        (context * np.nan, "context has .* values that are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=words):
            next(train(model, linear(50), x0, given, Recipe(), **parts))
    with pytest.raises(ValueError, match="rng is 0, expected a Generator"):
        next(train(model, linear(50), x0, context, Recipe(), **parts | {"rng": 0}))


def test_the_loss_of_images_is_its_formula_in_parts_of_any_size(rng):
    schedule, x0 = linear(30), rng.standard_normal((7, 1, 2, 2)).astype(np.float32)

    def model(xt, t, context):
        return 0.5 * xt

    found = loss_of(model, schedule, x0, None, "v", np.random.default_rng(1), batch=7)
    draws = np.random.default_rng(1)
    t, eps = draws.integers(1, 31, size=7), draws.standard_normal(x0.shape)
    eps = eps.astype(np.float32)
    v = target(schedule, x0, t, eps, "v")
    want = np.mean((0.5 * q_sample(schedule, x0, t, eps) - v) ** 2)
    assert found == pytest.approx(want, rel=1e-6)
    parts = [loss_of(model, schedule, x0, None, "v", np.random.default_rng(1), batch=b)
             for b in (2, 3)]  # fmt: skip
    assert all(0.3 * want < part < 3 * want for part in parts)


def test_it_overfits_one_image():
    found = losses(run(), Recipe(400, 16, lr=1e-2, warmup=10), n=1)
    assert np.mean(found[-50:]) < 0.1 * found[0]
