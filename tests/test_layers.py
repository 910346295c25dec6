"""Every layer against a plain oracle, and every backward pass against differences."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import strings
from nanodiff.gradcheck import gradcheck
from nanodiff.layers import (
    Conv2d,
    Downsample,
    GroupNorm,
    Layer,
    Linear,
    SiLU,
    Upsample,
)
from tests import oracles

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)
few = st.sampled_from([0, Conv2d.plain_up_to])  # tiles always; plain for few pixels
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-12}


@given(
    st.sampled_from([np.float32, np.float64]), st.sampled_from([1, 3]),
    st.sampled_from([1, 2]), few, sizes, sizes, sizes, sizes, sizes, seeds,
)  # fmt: skip
def test_convolution_equals_einsum(dtype, kernel, stride, few, N, C, K, H, W, seed):
    rng = np.random.default_rng(seed)
    conv = Conv2d(C, K, kernel, stride, rng=rng).cast(dtype)
    conv.plain_up_to = few
    conv.b[...] = rng.standard_normal(K)
    x = rng.standard_normal((N, C, H, W)).astype(dtype)
    expected = oracles.convolve(x, conv.w, conv.b, stride)
    y = conv(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=TOLERANCE[dtype])


def test_convolution_of_many_images_equals_einsum(rng):
    # 23 images of 28x28 fill several strings, the last of them not whole
    conv = Conv2d(5, 6, rng=rng)
    x = rng.standard_normal((23, 5, 28, 28), dtype=np.float32)
    expected = oracles.convolve(x, conv.w, conv.b, 1)
    np.testing.assert_allclose(conv(x), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("make", [Conv2d, Downsample, Upsample])
def test_gradients_of_many_images_leave_none_out(make, rng):
    # at least eight strings, one for each partial sum of the weight gradient
    layer = make(3, 4, rng=rng).cast(np.float64)
    x = rng.standard_normal((45, 3, 14, 28))
    y = layer(x)
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy)
    np.testing.assert_allclose(layer.db, dy.sum((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(np.vdot(layer.w, layer.dw), np.vdot(y, dy), rtol=1e-9)
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(y, dy), rtol=1e-9)


@given(st.integers(1, 300), sizes, st.integers(1, 40), st.sampled_from([0, 1]))
def test_a_row_of_sums_may_be_read_in_eights_to_its_end(N, rows, columns, gap):
    (group, lead, pitch, span), length, sums = strings._frame(N, rows, columns, gap)
    last = (group - 1) * span + (rows - 1) * pitch
    assert last + -(-columns // 8) * 8 <= sums
    assert lead + group * span + lead <= length and pitch + 1 <= lead


@given(sizes, sizes, sizes, sizes, sizes, seeds)
def test_upsample_is_nearest_neighbours_and_a_convolution(N, C, K, H, W, seed):
    rng = np.random.default_rng(seed)
    up = Upsample(C, K, rng=rng).cast(np.float64)
    x = rng.standard_normal((N, C, H, W))
    expected = oracles.convolve(x.repeat(2, 2).repeat(2, 3), up.w, up.b, 1)
    np.testing.assert_allclose(up(x), expected, rtol=0, atol=1e-12)


@given(sizes, st.sampled_from([1, 2, 4]), sizes, seeds)
def test_group_norm_equals_numpy(N, groups, H, seed):
    rng = np.random.default_rng(seed)
    norm = GroupNorm(8, groups).cast(np.float64)
    norm.gamma[...], norm.beta[...] = rng.standard_normal((2, 8))
    x = rng.standard_normal((N, 8, H, 3))
    expected = oracles.group_norm(x, norm.gamma, norm.beta, groups)
    np.testing.assert_allclose(norm(x), expected, rtol=0, atol=1e-12)


def test_float32_sigmoid_is_exact_to_rounding(rng):
    # one channel a value: with gamma = 0 the norm's output is beta, then silu(beta)
    u = np.linspace(-100, 100, 4001)
    norm = GroupNorm(len(u), 1, silu=True)
    norm.gamma[...], norm.beta[...] = 0, u
    found = norm(np.zeros((1, len(u), 1, 1), np.float32)).ravel()
    u = norm.beta.astype(np.float64)
    np.testing.assert_allclose(found, u / (1 + np.exp(-u)), rtol=5e-7, atol=1e-35)


@given(seeds)
def test_silu_is_u_times_its_sigmoid(seed):
    u = 9 * np.random.default_rng(seed).standard_normal((5, 3))
    found = SiLU()(u)
    np.testing.assert_allclose(found, u / (1 + np.exp(-u)), rtol=1e-12)
    np.testing.assert_allclose(found - SiLU()(-u), u, rtol=1e-12)


@given(sizes, sizes, sizes, st.sampled_from([Conv2d, Downsample, Upsample]), seeds)
def test_plus_is_added_to_what_would_be_without_it(N, C, H, make, seed):
    rng = np.random.default_rng(seed)
    layer, x = make(C, 4, rng=rng), rng.standard_normal((N, C, H, 5), dtype=np.float32)
    y = layer(x)
    plus = rng.standard_normal(y.shape, dtype=np.float32)
    np.testing.assert_array_equal(layer(x, plus), y + plus)
    dx = layer.backward(y)
    more = rng.standard_normal(x.shape, dtype=np.float32)
    np.testing.assert_array_equal(layer.backward(y, more), dx + more)
    norm = GroupNorm(4, 2, silu=True)
    dx = norm.backward(norm(plus))
    np.testing.assert_allclose(norm.backward(norm(plus), y), dx + y, atol=1e-6)


def layers():
    rng = np.random.default_rng(1)
    yield Linear(3, 4, rng=rng), (5, 3)
    yield Linear(3, 4, rng=rng, bias=False), (5, 3)
    yield SiLU(), (5, 3)
    for kernel in (1, 3):
        for stride in (1, 2):
            yield Conv2d(5, 6, kernel, stride, rng=rng), (3, 5, 5, 7)
    yield Conv2d(1, 1, rng=rng), (1, 1, 1, 1)
    yield Downsample(3, 5, rng=rng), (2, 3, 6, 4)
    yield Upsample(3, 5, rng=rng), (2, 3, 3, 4)
    yield GroupNorm(8, 4), (3, 8, 4, 3)
    yield GroupNorm(8, 2, silu=True), (3, 8, 4, 3)


@st.composite
def any_layer(draw):
    """A layer of any kind and size, and an input for it."""
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(["linear", "silu", "conv", "down", "up", "norm"]))
    N, C, K, H, W = (draw(sizes) for _ in range(5))
    if kind == "linear":
        return Linear(C, K, rng=rng), rng.standard_normal((N, C))
    if kind == "norm":
        groups = draw(st.sampled_from([1, 2, 4]))
        norm = GroupNorm(4 * C, groups, silu=draw(st.booleans()))
        return norm, rng.standard_normal((N, 4 * C, H + 1, W + 1))
    make = {
        "silu": lambda C, K, rng: SiLU(), "down": Downsample, "up": Upsample,
        "conv": lambda C, K, rng: Conv2d(
            C, K, draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2])), rng=rng
        ),
    }[kind]  # fmt: skip
    layer = make(C, K, rng=rng)
    layer.plain_up_to = draw(few)
    return layer, rng.standard_normal((N, C, H, W))


@given(any_layer(), seeds)
def test_backward_is_the_derivative(pair, seed):
    layer, x = pair
    checked = gradcheck(layer, x, rng=np.random.default_rng(seed))
    assert checked == ["x0", *layer.named_params()]


@given(any_layer(), seeds)
def test_a_linear_layer_and_its_input_gradient_are_adjoint(pair, seed):
    # <A x, dy> = <x, A' dy>: exact, where differences would only be close
    layer, x = pair
    if isinstance(layer, GroupNorm | SiLU):
        return
    layer.cast(np.float64)
    layer.b[...] = 0
    y = layer(x)
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    dx = layer.backward(dy)
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(x, dx), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(layer.w, layer.dw), atol=1e-9)


@given(any_layer(), seeds)
def test_backward_is_linear_in_dy_and_keeps_the_dtype(pair, seed):
    layer, x = pair
    rng = np.random.default_rng(seed)
    shape = layer(x.astype(np.float32)).shape
    assert layer.backward(np.ones(shape, np.float32)).dtype == np.float32
    layer.cast(np.float64)
    layer(x)
    a, b = rng.standard_normal((2, *shape))
    both = layer.backward(2 * a - 3 * b)
    apart = 2 * layer.backward(a) - 3 * layer.backward(b)
    np.testing.assert_allclose(both, apart, rtol=1e-9, atol=1e-9)


@given(sizes, st.sampled_from([1, 2, 4]), sizes, st.floats(0.1, 9), seeds)
def test_group_norm_ignores_the_scale_and_level_of_a_group(N, groups, H, scale, seed):
    rng = np.random.default_rng(seed)
    norm = GroupNorm(8, groups).cast(np.float64)
    norm.tiny = 0.0
    x = rng.standard_normal((N, 8, H + 1, 3))
    level = np.repeat(rng.standard_normal((N, groups)), 8 // groups, axis=1)
    found = norm(scale * x + level[:, :, None, None])
    np.testing.assert_allclose(found, norm(x), rtol=0, atol=1e-9)
    dx = norm.backward(
        rng.standard_normal(x.shape)
    )  # so dx has neither mean nor x in it
    dx, x = dx.reshape(N, groups, -1), x.reshape(N, groups, -1)
    np.testing.assert_allclose(dx.sum(2), 0, atol=1e-9)
    np.testing.assert_allclose((dx * x).sum(2), 0, atol=1e-9)


def test_backward_of_a_modulated_norm_is_the_derivative(rng):
    x, modulation = rng.standard_normal((3, 8, 4, 3)), rng.standard_normal((3, 16))
    norm = GroupNorm(8, 2, silu=True)
    assert gradcheck(norm, x, modulation, rng=rng) == ["x0", "x1", "gamma", "beta"]


def test_gradcheck_notices_a_backward_of_zero_and_one_off_by_a_factor(rng):
    for factor in (0, 1.001):

        class Wrong(SiLU):
            def backward(self, dy, factor=factor):
                return factor * super().backward(dy)

        with pytest.raises(AssertionError, match="Wrong: the derivative by x0"):
            gradcheck(Wrong(), rng.standard_normal((4, 3)), rng=rng)


@pytest.mark.parametrize("layer, shape", list(layers()))
def test_inputs_are_unchanged_and_backward_is_linear_and_repeatable(layer, shape, rng):
    layer.cast(np.float64)
    x = rng.standard_normal(shape)
    before = x.copy()
    dy = rng.standard_normal(layer(x).shape)
    dy_before, first = dy.copy(), layer.backward(dy)
    np.testing.assert_array_equal(layer.backward(dy), first)
    np.testing.assert_allclose(layer.backward(-2 * dy), -2 * first, atol=1e-10)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dy, dy_before)


def test_the_bits_do_not_depend_on_the_number_of_threads(rng):
    x = rng.standard_normal((40, 8, 14, 14), dtype=np.float32)
    threads = numba.get_num_threads()
    kinds = Conv2d(8, 8, rng=rng), Downsample(8, 8, rng=rng), Upsample(8, 8, rng=rng)
    for layer in (*kinds, GroupNorm(8, 2, silu=True)):
        results = []
        try:
            for n in {1, threads}:
                numba.set_num_threads(n)
                y = layer(x)
                dx, grads = layer.backward(y), layer.named_grads().values()
                results.append([y, dx, *(g.copy() for g in grads)])
        finally:
            numba.set_num_threads(threads)
        for a, b in zip(results[0], results[-1], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [
    lambda rng: Conv2d(3, 5, rng=rng), lambda rng: Downsample(3, 5, rng=rng),
    lambda rng: Upsample(3, 5, rng=rng), lambda rng: Conv2d(3, 5, kernel=1, rng=rng),
])  # fmt: skip
def test_scratch_that_is_used_again_leaves_no_trace(make, rng):
    layer, sizes = make(rng), [(29, 6, 7), (30, 6, 7), (30, 6, 8), (29, 5, 7)]
    inputs = [rng.standard_normal((N, 3, H, W), dtype=np.float32) for N, H, W in sizes]

    def results(x):
        y = layer(x)
        dx = layer.backward(np.cos(y))
        return [y, dx, layer.dw.copy(), layer.db.copy()]

    want = []
    for x in inputs:
        strings._scratch.cache_clear()
        want.append(results(x))
    nothing = [np.full_like(x, np.nan) for x in inputs]
    for x, wanted in zip(inputs, want, strict=True):
        for other in (*inputs, *nothing):
            results(other)
            again = results(x)
            for a, b in zip(again, wanted, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_weight_that_changed_in_place_is_seen(rng):
    conv, x = Conv2d(4, 4, rng=rng), rng.standard_normal((2, 4, 5, 5), dtype=np.float32)
    before = conv(x)
    conv.w *= 2
    np.testing.assert_array_equal(conv(x), 2 * before)


def test_blocks_of_a_weight_are_those_of_the_plan(rng):
    conv = Conv2d(4, 4, rng=rng).cast(np.float64)
    # tiles of 7 rows, of 4, of 7 again, then plain
    for conv.plain_up_to, H in ((0, 7), (0, 8), (0, 7), (200, 7)):
        x = rng.standard_normal((2, 4, H, 5))
        expected = oracles.convolve(x, conv.w, conv.b, 1)
        np.testing.assert_allclose(conv(x), expected, rtol=0, atol=1e-12)


class Stack(Layer):
    """Layers in a list, a tuple in it, and what is no layer beside them."""

    def __init__(self, rng):
        self.first = Linear(2, 2, rng=rng)
        self.rest = [Linear(2, 3, rng=rng), (SiLU(), Linear(3, 2, rng=rng)), "text"]
        self.last = Linear(2, 1, rng=rng, bias=False)


def test_layers_in_lists_are_found_in_the_order_in_which_they_were_made(rng):
    stack = Stack(rng)
    names = "first.w first.b rest.0.w rest.0.b rest.1.1.w rest.1.1.b last.w"
    assert list(stack.named_params()) == list(stack.named_grads()) == names.split()
    assert stack.named_params()["rest.1.1.w"] is stack.rest[1][1].w
    assert stack.cast(np.float64).rest[0].w.dtype == np.float64


def test_a_nan_stays_visible(rng):
    x = np.full((1, 8, 4, 4), np.nan, np.float32)
    conv = Conv2d(8, 4, rng=rng)
    for conv.plain_up_to in (0, 200):
        assert np.isnan(conv(x)).all()
    assert np.isnan(GroupNorm(8, silu=True)(x)).all()


def test_a_nan_stays_in_its_image(rng):
    for make in (Conv2d, Downsample, Upsample):
        layer, x = make(4, 4, rng=rng), np.ones((9, 4, 8, 8), np.float32)
        x[3] = np.nan
        y = layer(x)
        assert np.isnan(y[3]).all() and np.isfinite(np.delete(y, 3, 0)).all()
        dx = layer.backward(y)
        assert np.isnan(dx[3]).all() and np.isfinite(np.delete(dx, 3, 0)).all()


def test_bad_input_is_named(rng):
    conv = Conv2d(3, 4, rng=rng)
    with pytest.raises(
        ValueError, match=r"x has shape \(1, 2, 4, 4\), expected \(N, 3"
    ):
        conv(np.zeros((1, 2, 4, 4), np.float32))
    for empty in ((0, 3, 4, 4), (1, 3, 0, 4)):
        with pytest.raises(ValueError, match=r"x has shape .*, none of them 0"):
            conv(np.zeros(empty, np.float32))
    with pytest.raises(ValueError, match="x has dtype float64, expected float32"):
        conv(np.zeros((1, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"plus has shape \(1, 4, 4, 5\), expected"):
        conv(np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 4, 4, 5), np.float32))
    x = np.zeros((1, 3, 4, 4), np.float32)
    for layer in (Conv2d(3, 3, rng=rng), Downsample(3, 3, rng=rng), GroupNorm(3, 1)):
        y = layer(x)
        with pytest.raises(ValueError, match=r"dy has shape \(1, 3, 8, 8\), expected"):
            layer.backward(np.zeros((1, 3, 8, 8), np.float32))
        with pytest.raises(ValueError, match="dy has dtype float64, expected float32"):
            layer.backward(y.astype(np.float64))
        with pytest.raises(
            ValueError, match=r"plus has shape \(1, 3, 4, 3\), expected"
        ):
            layer.backward(y, x[..., :3])
    with pytest.raises(ValueError, match="stride is 3, expected one of"):
        Conv2d(3, 4, stride=3, rng=rng)
    with pytest.raises(ValueError, match="groups is 3, expected a divisor of 8"):
        GroupNorm(8, 3)
    with pytest.raises(ValueError, match="'b' is missing"):
        conv.load({"w": conv.w})
    with pytest.raises(NotImplementedError):
        Layer().forward(0)
