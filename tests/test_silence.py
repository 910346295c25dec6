"""What used to be wrong without a word: it is right now, or refused by name."""

import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest

from nanodiff import (
    data,
    ddim,
    ddpm,
    dpm,
    evaluate,
    exact,
    flow,
    heun,
    likelihood,
    sprites,
    viz,
)
from nanodiff.gradcheck import gradcheck
from nanodiff.guidance import guide
from nanodiff.layers import Conv2d, Linear, SiLU
from nanodiff.optim import EMA, Adam, Muon, orthogonal
from nanodiff.prediction import KINDS, split, target
from nanodiff.schedule import Schedule, cosine, linear, zero_terminal
from nanodiff.self_conditioning import WithFirstGuess, WithLastGuess
from nanodiff.toy import MLP
from nanodiff.train import Recipe, train
from nanodiff.unet import UNet, time_features

SCHEDULE = linear(50)
SAMPLERS = {
    "ddpm": lambda model, x, **kw: ddpm.sample(
        model, SCHEDULE, x, np.random.default_rng(1), **kw
    ),
    "ddim": lambda model, x, **kw: ddim.sample(model, SCHEDULE, x, 7, **kw),
    "heun": lambda model, x, **kw: heun.sample(model, SCHEDULE, x, 7, **kw),
    "flow": lambda model, x, **kw: flow.sample(model, SCHEDULE, x, 7, **kw),
    "dpm": lambda model, x, **kw: dpm.sample(model, SCHEDULE, x, 7, **kw),
    "invert": lambda model, x, **kw: ddim.invert(model, SCHEDULE, x, 7, **kw),
}
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
kinds = pytest.mark.parametrize("predicts", KINDS)


def says(xt, t):
    return 0.3 * xt - 0.1


def states(run):
    return [xt.copy() for _, xt in run]


@samplers
@kinds
def test_a_model_may_use_one_buffer_and_write_to_its_input(sampler, predicts, rng):
    x, buffer = rng.standard_normal((2, 3)), np.empty((2, 3))

    def reuses(xt, t):
        buffer[...] = says(xt, t)
        xt[...] = np.nan
        return buffer

    expected = states(sampler(says, x, predicts=predicts))
    np.testing.assert_array_equal(
        states(sampler(reuses, x, predicts=predicts)), expected
    )


@samplers
def test_a_caller_may_write_to_what_a_sampler_yields_and_to_xT(sampler, rng):
    x = rng.standard_normal((2, 3))
    expected, found, run = states(sampler(says, x)), [], sampler(says, x)
    x[...] = np.nan
    for _, xt in run:
        found.append(xt.copy())
        xt[...] = np.nan
    np.testing.assert_array_equal(found, expected)


@samplers
@pytest.mark.parametrize("cut", [
    lambda xt: xt[:1], lambda xt: xt[..., :1], lambda xt: xt[None],
    lambda xt: xt.astype(int), lambda xt: None, lambda xt: xt.sum(),
])  # fmt: skip
def test_an_output_of_another_shape_or_dtype_is_refused(sampler, cut):
    with pytest.raises(ValueError, match="output (has|is) .*, expected"):
        states(sampler(lambda xt, t: cut(xt), np.ones((2, 3))))


def test_guided_and_batched_results_are_copied_and_whole(rng):
    x, context, buffer = rng.standard_normal((2, 3)), np.eye(2), np.empty((4, 3))
    for half in (lambda xt, t, c: xt[:2], lambda xt, t, c: xt[:, :1]):
        with pytest.raises(ValueError, match="output has shape"):
            guide(half, context, 1.0)(x, 3)
    model = guide(lambda xt, t, c: xt + c[:, :1], context, 1.0)
    expected = model(x, 3)
    context[...] = 9
    np.testing.assert_array_equal(model(x, 3), expected)

    def make(rows):
        buffer[: len(rows)] = rows
        return buffer[: len(rows)]

    rows = rng.standard_normal((9, 3))
    np.testing.assert_array_equal(evaluate.in_batches(make, rows, batch=4), rows)


@kinds
def test_a_guess_is_a_copy(predicts, rng):
    buffer, shown = np.empty((2, 3)), []

    class Network:
        def forward(self, xt, t, context=None, x0_hat=None):
            shown.append(x0_hat)
            buffer[...] = len(shown)
            shown[-1] = None if x0_hat is None else x0_hat.copy()
            return buffer

        __call__ = forward

    xt = rng.standard_normal((2, 3))
    ones, _ = split(SCHEDULE, xt, 40, np.ones((2, 3)), predicts)
    model = WithLastGuess(Network(), SCHEDULE, predicts)
    model(xt, 40)[...] = 99  # the caller writes to the output
    model(xt, 30)
    np.testing.assert_array_equal(shown[1], ones)
    shown.clear()

    class Always:
        def random(self):
            return 0.0

    class Late(Network):
        def forward(self, xt, t, context=None, x0_hat=None):
            buffer[...] = 1.0 if x0_hat is None else 7.0  # over its first guess
            shown.append(None if x0_hat is None else x0_hat.copy())
            return buffer

    WithFirstGuess(Late(), SCHEDULE, predicts, Always()).forward(xt, 40)
    np.testing.assert_array_equal(shown[1], ones)


def test_integers_and_other_shapes_of_what_is_predicted_are_refused():
    x, whole = np.ones((2, 3)), np.ones((2, 3), int)
    for kind in KINDS:
        for a, b in ((x, whole), (whole, x), (x, x[:1]), (x[:1], x)):
            with pytest.raises(ValueError, match="has (dtype|shape) .*, expected"):
                target(SCHEDULE, a, 9, b, kind)
            with pytest.raises(ValueError, match="has (dtype|shape) .*, expected"):
                split(SCHEDULE, a, 9, b, kind)


@pytest.mark.parametrize("clip", [-1, 0, np.nan, np.inf, True, "1"])
@pytest.mark.parametrize("name", ["ddpm", "ddim", "heun"])
def test_a_clip_is_above_0(clip, name):
    with pytest.raises(ValueError, match="clip is .*, expected"):
        SAMPLERS[name](says, np.ones((2, 3)), clip=clip)


def test_steps_and_times_are_integers():
    x = np.ones((1, 2))
    for steps in (
        np.linspace(1000, 0, 7),
        [50.5, 0],
        [50.0, 0.0],
        7.0,
        True,
        [True, False],
    ):
        with pytest.raises(ValueError, match="steps is .*, expected"):
            ddim.sample(says, linear(1000), x, steps)
    whole = np.linspace(1000, 0, 5).astype(int)
    assert ddim.falling(whole, 1000) == [1000, 750, 500, 250, 0]
    assert ddim.falling(np.int8(3), 9) == [9, 6, 3, 0]
    with pytest.raises(ValueError, match="s is -1, expected 0..50"):
        ddim.step(SCHEDULE, x, 9, -1, x)
    with pytest.raises(ValueError, match="t is 0, expected 1..50"):
        ddim.step(SCHEDULE, x, 0, 0, x)


def test_a_schedule_keeps_within_the_range_of_float64():
    for beta in ([1e-17, 0.5], [0.1, 1e-17], [0.999] * 120, [0.999] * 103 + [1.0]):
        with pytest.raises(ValueError, match="beta (holds|makes) .*, expected"):
            Schedule(beta)
    tables = Schedule([0.999] * 100 + [1.0])
    assert all(np.isfinite(t[1:]).all() for t in (tables.snr, tables.beta_tilde))
    with pytest.raises(ValueError, match="schedule has T = 1"):
        zero_terminal(cosine(1))


def test_the_floor_of_points_is_0_but_for_x0_itself():
    floor = exact.loss_floor(SCHEDULE, 0)
    assert floor[0] == 1 and not floor[1:].any()


def test_eps_without_a_clip_is_warned_of_where_its_errors_grow(rng):
    x = rng.standard_normal((2, 3))
    schedule = cosine(1000)
    runs = (
        lambda **kw: ddim.sample(says, schedule, x, **kw),
        lambda **kw: ddpm.sample(says, schedule, x, rng, **kw),
        lambda **kw: heun.sample(says, schedule, x, **kw),
        lambda **kw: flow.sample(says, schedule, x, **kw),
        lambda **kw: dpm.sample(says, schedule, x, **kw),
    )
    for run in runs:
        with pytest.warns(
            UserWarning, match="is 20291 times.*clip=1.0, or use"
        ) as said:
            run()
        assert len(said) == 1 and said[0].filename == __file__
        run(clip=1.0), run(predicts="v"), run(predicts="x0")  # and none here
    growth = np.sqrt(schedule.alpha_bar[980] / schedule.alpha_bar[1000])
    with pytest.warns(UserWarning, match=f"{growth:.0f} times in x_t at t = 980"):
        runs[0]()
    for steps in (1, 2, 50, 1000):
        ddim.sample(says, linear(1000), x, steps)


@pytest.mark.parametrize("predicts", KINDS)
def test_heun_clips_as_ddim_does(predicts, rng):
    # by the same rule: a single step, which is Euler's, is DDIM's, and every slope is
    # of an x0_hat within the limits
    x = 3 * rng.standard_normal((2, 3))
    for clip in (0.2, 1.0, 100.0):
        ((_, a),) = heun.sample(says, SCHEDULE, x, [40, 0], predicts, clip)
        ((_, b),) = ddim.sample(
            says, SCHEDULE, x, [40, 0], clip=clip, predicts=predicts
        )
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    times, sigma = [40, 20, 5, 0], np.sqrt(1 / SCHEDULE.alpha_bar - 1)
    a, b = np.sqrt(SCHEDULE.alpha_bar), np.sqrt(1 - SCHEDULE.alpha_bar)

    def slope(y, t):
        x0_hat, _ = split(SCHEDULE, a[t] * y, t, says(a[t] * y, t), predicts)
        return (a[t] * y - a[t] * np.clip(x0_hat, -0.2, 0.2)) / b[t]

    y, rate = x / a[40], 0.0
    run = heun.sample(says, SCHEDULE, x, times, predicts, 0.2)
    for (t, s), (_, found) in zip(pairwise(times), run, strict=True):
        h, here = sigma[s] - sigma[t], slope(y, t)
        there = slope(y + h * here, s) if s else here + h * rate
        y, rate = y + h * (here + there) / 2, (there - here) / h
        np.testing.assert_allclose(found, a[s] * y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-25, 1e-18, 1e18, 1e25])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orthogonal_is_the_same_at_any_scale(scale, dtype, rng):
    G = rng.standard_normal((4, 6)).astype(dtype)
    found = orthogonal((G * scale).astype(dtype))
    np.testing.assert_allclose(found, orthogonal(G), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, 2), 1, atol=1e-4)
    with pytest.raises(ValueError, match="G has 1 of 4 values that are NaN"):
        orthogonal(np.array([[1.0, 2.0], [np.nan, 3.0]]))


@pytest.mark.parametrize("make", [Adam, Muon])
@pytest.mark.parametrize("kinds", [[np.float64], [np.float64, np.float32]])
def test_an_optimiser_and_an_average_notice_a_cast(make, kinds, rng):
    layer = Conv2d(6, 6, rng=rng)
    optimizer, ema = make(layer.named_params()), EMA(layer.named_params())
    layer.cast(np.float32)  # the same: nothing happens
    optimizer.step(layer.named_grads(), 0.1)
    ema.update()
    for kind in kinds:
        layer.cast(kind)
    for late in (lambda: optimizer.step(layer.named_grads(), 0.1), ema.update):
        with pytest.raises(ValueError, match=r"params\['.'\] is no longer .* `cast`"):
            late()
    own = rng.standard_normal(3).astype(np.float32)
    layer.add_param("extra", own)
    layer.cast(np.float64)
    own[...] = 0  # a caller's array is not the layer's


def test_gradients_that_do_not_fit_are_refused_before_a_step():
    w = {"a": np.ones((2, 3)), "b": np.ones(2)}
    for bad in (
        {"a": w["a"]},
        w | {"b": np.ones(3)},
        w | {"b": np.ones(2, np.float32)},
    ):
        adam = Adam({name: x.copy() for name, x in w.items()})
        with pytest.raises(ValueError, match="grads.*'b'.*expected"):
            adam.step(bad, 0.1)
        assert adam.k == 0 and (adam.params["a"] == 1).all()


def test_gradcheck_does_its_work_without_asserts_and_refuses_what_hides_mistakes(rng):
    class Wrong(SiLU):
        def backward(self, dy):
            return 0 * dy

    code = (
        "import numpy as np; from nanodiff.gradcheck import gradcheck\n"
        "from nanodiff.layers import SiLU\n"
        "class Wrong(SiLU):\n    def backward(self, dy): return 0 * dy\n"
        "rng = np.random.default_rng(0)\n"
        "gradcheck(Wrong(), rng.standard_normal((2, 3)), rng=rng)"
    )
    run = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True
    )
    assert "AssertionError: Wrong: the derivative by x0" in run.stderr
    x = rng.standard_normal((2, 3))
    for bad in (
        {"h": 1e-300},
        {"h": 1.0},
        {"rtol": np.inf},
        {"rtol": 0},
        {"h": np.nan},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is .*, expected"):
            gradcheck(Wrong(), x, rng=rng, **bad)
    for far in (1e20 * x, np.nan * x, np.inf * x):
        with pytest.raises(ValueError, match="inputs is .*, expected values within"):
            gradcheck(Wrong(), far, rng=rng)

    class Huge(SiLU):
        def forward(self, x):
            return super().forward(x) + 1e20

    with pytest.raises(ValueError, match="layer: the derivative by x0 .* expected a"):
        gradcheck(Huge(), x, rng=rng)


def trained_on(output, **changes):
    class Network:
        def forward(self, xt, t, context):
            return output(xt)

        def backward(self, d):
            raise AssertionError("no step with an output that does not fit")

        def named_grads(self):
            return {}

    given = {"images": np.ones((4, 3)), "context": None} | changes
    return train(
        Network(), SCHEDULE, given["images"], given["context"],
        Recipe(2, 2, warmup=0), rng=np.random.default_rng(0), optimizer=Adam({}),
        ema=EMA({}),
    )  # fmt: skip


@pytest.mark.parametrize("cut", [
    lambda xt: xt[:1], lambda xt: xt[:, :1], lambda xt: xt.sum(), lambda xt: xt[None],
])  # fmt: skip
def test_training_does_not_broadcast_an_output(cut):
    with pytest.raises(ValueError, match="output has shape .*, expected"):
        next(trained_on(cut))


def test_training_refuses_data_at_once():
    images = np.ones((4, 3))
    for name, bad in (
        ("images", images.astype(int)), ("images", np.full((4, 3), np.nan)),
        ("images", np.ones((0, 3))), ("context", np.ones(4)), ("context", "a"),
        ("context", np.full((4, 2), np.inf)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} (has|is) .*, expected"):
            trained_on(None, **{name: bad})
    assert type(Recipe(np.int8(9), warmup=np.int8(0), lr=np.float32(0.5)).lr) is float
    for odd in ({"steps": 2.5}, {"steps": True}, {"lr": np.nan}, {"batch": "4"}):
        with pytest.raises(ValueError, match=f"{next(iter(odd))} is .*, expected"):
            Recipe(**odd)


def test_labels_that_make_no_sense_are_refused():
    for labels in ([0.0, 1.0], [True, False], [-1, 0], [0, 2], [], [[0, 1]], None):
        for call in (
            lambda labels: data.one_hot(labels, 2),
            lambda labels: evaluate.cross_entropy(np.zeros((2, 2)), labels),
            lambda labels: evaluate.confusion([0, 1], labels, 2),
        ):
            with pytest.raises(
                ValueError, match="(labels|read) (has|is|go) .*expected"
            ):
                call(labels)
    with pytest.raises(ValueError, match=r"arrays is \[\(3,\), \(2,\)\], expected"):
        evaluate.in_batches(np.add, np.ones(3), np.ones(2))


def test_a_bound_of_nonsense_is_refused(rng):
    x0, model = np.zeros((3, 1)), exact.gaussian(SCHEDULE, 0.0, 1.0)
    table = np.ones(51)
    for name, bad in (
        ("bins", 1), ("bins", 2.5), ("variance", 0 * table), ("variance", -table),
        ("variance", np.nan * table), ("x0", np.nan * x0), ("x0", x0.astype(int)),
        ("rng", 0), ("predicts", "score"), ("model", None),
    ):  # fmt: skip
        given = {"model": model, "schedule": SCHEDULE, "x0": x0, "rng": rng} | {
            name: bad
        }
        with pytest.raises(ValueError, match=f"(?s){name} (has|is) .*, expected"):
            likelihood.terms(**given)
    for eta in (-1, 2, np.nan):
        with pytest.raises(ValueError, match="eta is"):
            exact.ddim_moments(SCHEDULE, 0.0, 1.0, 5, eta)
    for moments in (exact.ddim_moments, exact.ddpm_moments):
        with pytest.raises(ValueError, match=r"alpha_bar\[T\] = 0"):
            moments(zero_terminal(SCHEDULE), 0.0, 1.0)


def test_nan_is_counted_wherever_it_would_vanish(tmp_path):
    images = np.zeros((2, 1, 28, 28), np.float32)
    images[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    judge = evaluate.Judge(rng=np.random.default_rng(0))
    rgb = np.zeros((1, 3, 16, 16))
    rgb[0, :, 0, 0] = np.nan
    for call in (
        lambda: viz.sheet(images, 2), lambda: evaluate.look(judge, images),
        lambda: viz.save_film(tmp_path / "a.gif", [images], 2),
        lambda: viz.save_sheet(tmp_path / "a.png", images, 2),
        lambda: viz.save_grid(tmp_path / "a.png", {"a": {"b": images}}, 2),
        lambda: sprites.read(rgb),
        lambda: viz.save_loss(tmp_path / "a.png", [1.0, np.nan, np.nan, np.inf]),
        lambda: evaluate.frechet(images[:, 0, 0, :9], np.ones((2, 9))),
        lambda: evaluate.spread(images[:, 0, 0, :9], [0, 0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="has 3 of .* that are NaN or infinite"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_backward_pass_needs_a_forward_pass(rng):
    dy = np.ones((2, 3), np.float32)
    unet = UNet(1, channels=(4,), features=4, groups=2, rng=rng)
    for layer in (Linear(3, 3, rng=rng), SiLU(), Conv2d(3, 3, rng=rng), unet,
                  MLP(4, 4, rng=rng), evaluate.Judge(rng=rng)):  # fmt: skip
        with pytest.raises(ValueError, match="dy is given .*, expected a forward pass"):
            layer.backward(dy)
    with pytest.raises(AttributeError, match="Linear has no 'weight'"):
        Linear(3, 3, rng=rng).weight  # noqa: B018


def test_networks_refuse_odd_features_float16_and_contexts_they_cannot_have(rng):
    for odd in (lambda: UNet(features=5, rng=rng), lambda: MLP(time_size=5, rng=rng),
                lambda: time_features(np.ones(2), 5)):  # fmt: skip
        with pytest.raises(ValueError, match="is 5, expected an even number"):
            odd()
    with pytest.raises(ValueError, match="dtype is .*, expected float32 or float64"):
        Linear(3, 3, rng=rng).cast(np.float16)
    unet, x = UNet(channels=(4,), features=4, groups=2, rng=rng), np.ones((2, 1, 4, 4))
    unet.cast(np.float64)
    with pytest.raises(
        ValueError, match="context is .* of shape .*, expected None: context_f"
    ):
        unet(x, 1, np.zeros((2, 0)))
    for t in (1.5, np.nan, -1, "a", [1.0, 2.0]):
        with pytest.raises(ValueError, match="t (is|has|go) .*, expected"):
            unet(x, t)
    with pytest.raises(ValueError, match="rng is 0, expected a Generator"):
        UNet(rng=0)


def test_warnings_are_for_no_default_of_ours():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = np.ones((1, 2))
        ddim.sample(says, linear(1000), x, clip=1.0)
        ddpm.sample(says, linear(1000), x, np.random.default_rng(0))
