"""Every layer's backward pass is the derivative of its forward pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("make", [Conv2d, Downsample, Upsample])
def test_gradients_of_many_images_leave_none_out(make, rng):
    # at least eight images, one for each partial sum of the weight gradient
    layer = make(3, 4, rng=rng).cast(np.float64)
    x = rng.standard_normal((45, 3, 14, 28))
    y = layer(x)
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy)
    np.testing.assert_allclose(layer.db, dy.sum((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(np.vdot(layer.w, layer.dw), np.vdot(y, dy), rtol=1e-9)
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(y, dy), rtol=1e-9)


@given(seeds)
def test_silu_is_u_times_its_sigmoid(seed):
    u = 9 * np.random.default_rng(seed).standard_normal((5, 3))
    found = SiLU()(u)
    np.testing.assert_allclose(found, u / (1 + np.exp(-u)), rtol=1e-12)
    np.testing.assert_allclose(found - SiLU()(-u), u, rtol=1e-12)


@given(
    st.integers(1, 70), st.integers(1, 140), st.integers(1, 140),
    st.sampled_from([np.float32, np.float64]), seeds,
)  # fmt: skip
def test_a_row_of_a_linear_layer_has_the_same_bits_in_any_batch(
    N, n_in, n_out, dtype, seed
):
    rng = np.random.default_rng(seed)
    layer = Linear(n_in, n_out, rng=rng).cast(dtype)
    x = rng.standard_normal((N, n_in)).astype(dtype)
    y, some = layer(x), slice(N // 3, N // 3 + max(1, N // 2))
    np.testing.assert_array_equal(layer(x[some].copy()), y[some])
    np.testing.assert_array_equal(layer(x[-1:].copy()), y[-1:])


@given(sizes, sizes, st.sampled_from([1, 3]), st.sampled_from([1, 2]), seeds)
def test_without_a_bias_a_convolution_is_one_whose_bias_is_zero(N, H, k, stride, seed):
    rng = np.random.default_rng(seed)
    bare = Conv2d(3, 4, k, stride, rng=rng, bias=False).cast(np.float64)
    whole = Conv2d(3, 4, k, stride, rng=rng).cast(np.float64)
    whole.w[...] = bare.w
    assert list(bare.named_params()) == ["w"]
    x = rng.standard_normal((N, 3, H, 5))
    y = bare(x)
    np.testing.assert_array_equal(y, whole(x))
    np.testing.assert_array_equal(bare.backward(y), whole.backward(y))
    np.testing.assert_array_equal(bare.dw, whole.dw)


@given(sizes, sizes, sizes, st.sampled_from([Conv2d, Downsample, Upsample]), seeds)
def test_a_skip_is_added_to_what_would_be_without_it(N, C, H, make, seed):
    rng = np.random.default_rng(seed)
    layer, x = make(C, 4, rng=rng), rng.standard_normal((N, C, H, 5), dtype=np.float32)
    y = layer(x)
    skip = rng.standard_normal(y.shape, dtype=np.float32)
    np.testing.assert_allclose(layer(x, skip), y + skip, atol=1e-5)
    dx = layer.backward(y)
    more = rng.standard_normal(x.shape, dtype=np.float32)
    np.testing.assert_allclose(layer.backward(y, more), dx + more, atol=1e-5)
    norm = GroupNorm(4, 2, silu=True)
    dx = norm.backward(norm(skip))
    np.testing.assert_allclose(norm.backward(norm(skip), y), dx + y, atol=1e-6)


def layers():
    rng = np.random.default_rng(1)
    yield Linear(3, 4, rng=rng), (5, 3)
    yield Linear(3, 4, rng=rng, bias=False), (5, 3)
    yield SiLU(), (5, 3)
    for kernel in (1, 3):
        for stride in (1, 2):
            yield Conv2d(5, 6, kernel, stride, rng=rng), (3, 5, 5, 7)
    yield Conv2d(1, 1, rng=rng), (1, 1, 1, 1)
    yield Conv2d(5, 6, rng=rng, bias=False), (3, 5, 5, 7)
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
    with pytest.raises(ValueError, match=r"skip has shape \(1, 4, 4, 5\), expected"):
        conv(np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 4, 4, 5), np.float32))
    x = np.zeros((1, 3, 4, 4), np.float32)
    for layer in (Conv2d(3, 3, rng=rng), Downsample(3, 3, rng=rng), GroupNorm(3, 1)):
        y = layer(x)
        with pytest.raises(ValueError, match=r"dy has shape \(1, 3, 8, 8\), expected"):
            layer.backward(np.zeros((1, 3, 8, 8), np.float32))
        with pytest.raises(ValueError, match="dy has dtype float64, expected float32"):
            layer.backward(y.astype(np.float64))
        with pytest.raises(
            ValueError, match=r"dskip has shape \(1, 3, 4, 3\), expected"
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


@pytest.mark.parametrize("make", [
    lambda rng: (Conv2d(3, 4, rng=rng), (2, 3, 8, 8), (2, 4, 8, 8)),
    lambda rng: (Linear(3, 4, rng=rng), (2, 3), (2, 4)),
    lambda rng: (GroupNorm(8, silu=True), (2, 8, 4, 4), (2, 8, 4, 4)),
])  # fmt: skip
def test_a_cast_forgets_the_forward_pass_of_the_other_dtype(make, rng):
    layer, x, dy = make(rng)
    layer(rng.standard_normal(x, dtype=np.float32))
    layer.cast(np.float64)
    with pytest.raises(ValueError, match="expected a forward pass before"):
        layer.backward(rng.standard_normal(dy))
