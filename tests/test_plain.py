"""The plain sums are their definitions, and each gradient is that of its sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import plain
from tests.strategies import seeds

sizes = st.integers(1, 5)
hows = st.sampled_from([(1, 1, False), (1, 2, False), (3, 1, False), (3, 2, False),
                        (3, 1, True), (1, 1, True)])  # kernel, stride, up  # fmt: skip


@st.composite
def problems(draw):
    """x, w, b, (stride, up) and a dy of a convolution."""
    N, C, K, H, W = (draw(sizes) for _ in range(5))
    (kernel, stride, up), rng = draw(hows), np.random.default_rng(draw(seeds))
    x, w = (rng.standard_normal(s) for s in ((N, C, H, W), (K, C, kernel, kernel)))
    b = rng.standard_normal(K)
    y = plain.conv2d(x, w, b, stride, up)
    return x, w, b, (stride, up), rng.standard_normal(y.shape)


@given(problems())
def test_a_convolution_is_its_sum_pixel_by_pixel(problem):
    x, w, b, (stride, up), dy = problem
    x_up = np.kron(x, np.ones((2, 2))) if up else x
    (_, C, kernel, _), (H, W), m = w.shape, x_up.shape[2:], w.shape[2] // 2
    assert dy.shape[2:] == (-(-H // stride), -(-W // stride))
    y = np.zeros(dy.shape)
    for n, k, i, j in np.ndindex(y.shape):
        y[n, k, i, j] = b[k]
        for c, r, s in np.ndindex(C, kernel, kernel):
            h, v = stride * i + r - m, stride * j + s - m
            if 0 <= h < H and 0 <= v < W:
                y[n, k, i, j] += w[k, c, r, s] * x_up[n, c, h, v]
    np.testing.assert_allclose(plain.conv2d(x, w, b, stride, up), y, atol=1e-12)


@given(problems())
def test_the_gradients_of_a_convolution_are_its_adjoints(problem):
    # y is linear in x and in w: <y, dy> = <x, dx> = <w, dw>, exactly
    x, w, b, how, dy = problem
    y = plain.conv2d(x, w, 0 * b, *how)
    dx = plain.conv2d_dx(dy, w, x.shape[2:], *how)
    dw, db = plain.conv2d_dw(x, dy, w, *how)
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(y, dy), atol=1e-10)
    np.testing.assert_allclose(np.vdot(w, dw), np.vdot(y, dy), atol=1e-10)
    np.testing.assert_allclose(db, dy.sum((0, 2, 3)), atol=1e-12)


@given(problems())
def test_a_gradient_of_one_pixel_or_weight_is_what_the_output_moves_by(problem):
    # in every entry, where an adjoint alone could mix them up
    x, w, b, how, dy = problem
    dx = plain.conv2d_dx(dy, w, x.shape[2:], *how)
    dw, _ = plain.conv2d_dw(x, dy, w, *how)
    for at in [tuple(np.array(x.shape) - 1), tuple(np.array(x.shape) // 2), (0,) * 4]:
        one = np.zeros_like(x)
        one[at] = 1
        moved = np.vdot(plain.conv2d(one, w, 0 * b, *how), dy)
        np.testing.assert_allclose(dx[at], moved, atol=1e-10)
    for at in [tuple(np.array(w.shape) - 1), tuple(np.array(w.shape) // 2), (0,) * 4]:
        one = np.zeros_like(w)
        one[at] = 1
        moved = np.vdot(plain.conv2d(x, one, 0 * b, *how), dy)
        np.testing.assert_allclose(dw[at], moved, atol=1e-10)


@given(problems(), seeds)
def test_add_is_added(problem, seed):
    x, w, b, how, dy = problem
    rng = np.random.default_rng(seed)
    add, dadd = rng.standard_normal(dy.shape), rng.standard_normal(x.shape)
    found = plain.conv2d(x, w, b, *how, add)
    np.testing.assert_array_equal(found, plain.conv2d(x, w, b, *how) + add)
    size = x.shape[2:]
    found = plain.conv2d_dx(dy, w, size, *how, dadd)
    np.testing.assert_array_equal(found, plain.conv2d_dx(dy, w, size, *how) + dadd)


def test_add_is_added_to_the_gradient_of_a_norm(rng):
    dy, x, add = rng.standard_normal((3, 2, 4, 3, 3))
    scale, mean, rstd = np.ones((2, 4)), np.zeros((2, 2)), np.ones((2, 2))
    given = dy, x, scale, scale, mean, rstd, True
    want = plain.group_norm_backward(*given)[0] + add
    np.testing.assert_array_equal(plain.group_norm_backward(*given, add)[0], want)


@st.composite
def norms(draw):
    """x, scale, shift, groups and a dy of a group norm."""
    N, width, groups, H, W = (draw(sizes) for _ in range(5))
    rng, C = np.random.default_rng(draw(seeds)), width * groups
    x, dy = rng.standard_normal((2, N, C, H + 1, W))
    return x, *(1 + rng.standard_normal((2, N, C))), groups, dy


@given(norms(), st.booleans())
def test_a_group_norm_has_mean_0_and_variance_1_before_it_is_scaled(problem, silu):
    x, scale, shift, groups, _ = problem
    y, mean, rstd = plain.group_norm(x, scale, shift, groups, 1e-5, silu)
    each = x.reshape(len(x), groups, -1)
    np.testing.assert_allclose(mean, each.mean(2), atol=1e-12)
    np.testing.assert_allclose(rstd, (each.var(2) + 1e-5) ** -0.5, rtol=1e-9)
    xhat = (each - mean[..., None]) * rstd[..., None]
    u = scale[..., None, None] * xhat.reshape(x.shape) + shift[..., None, None]
    want = u / (1 + np.exp(-u)) if silu else u
    np.testing.assert_allclose(y, want, atol=1e-10)


@given(norms(), st.booleans(), seeds)
def test_the_gradients_of_a_group_norm_are_differences(problem, silu, seed):
    x, scale, shift, groups, dy = problem

    def loss(x, scale, shift):
        return np.vdot(plain.group_norm(x, scale, shift, groups, 0.1, silu)[0], dy)

    _, mean, rstd = plain.group_norm(x, scale, shift, groups, 0.1, silu)
    found = plain.group_norm_backward(dy, x, scale, shift, mean, rstd, silu)
    rng, h = np.random.default_rng(seed), 1e-6
    for i, (point, gradient) in enumerate(zip((x, scale, shift), found, strict=True)):
        v = rng.standard_normal(point.shape)
        ends = [loss(*(p + sign * h * v * (j == i) if j == i else p
                       for j, p in enumerate((x, scale, shift))))
                for sign in (1, -1)]  # fmt: skip
        want = (ends[0] - ends[1]) / (2 * h)
        assert abs(want - np.vdot(gradient, v)) < 1e-5 * (1 + abs(want))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
def test_every_float_dtype_stays_what_it_is(dtype, rng):
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((2, 4, 4, 4), (4, 4, 3, 3)))
    scale, none = np.ones((2, 4), dtype), np.zeros(4, dtype)
    y = plain.conv2d(x, w, none)
    results = [y, plain.conv2d_dx(y, w, (4, 4)), *plain.conv2d_dw(x, y, w)]
    normed = plain.group_norm(x, scale, scale, 2, 1e-5, True)
    results += [
        *normed,
        *plain.group_norm_backward(y, x, scale, scale, *normed[1:], True),
    ]
    assert {r.dtype for r in results} == {np.dtype(dtype)}


def test_by_default_the_stride_is_1_and_nothing_is_repeated(rng):
    x, w = rng.standard_normal((2, 2, 4, 4)), rng.standard_normal((2, 2, 3, 3))
    b = np.ones(2)
    for found, want in (
        (plain.conv2d(x, w, b), plain.conv2d(x, w, b, 1, False)),
        (plain.conv2d_dx(x, w, (4, 4)), plain.conv2d_dx(x, w, (4, 4), 1, False)),
        (plain.conv2d_dw(x, x, w)[0], plain.conv2d_dw(x, x, w, 1, False)[0]),
    ):  # fmt: skip
        np.testing.assert_array_equal(found, want)
