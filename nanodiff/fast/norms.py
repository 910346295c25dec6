"""Numba loops of group normalisation and SiLU: one pass over memory each way.

Formulas: `plain.group_norm` and its backward pass. Shapes: x, y, dy, dx (N, C, H, W);
scale, shift, their gradients (N, C); mean, rstd (N, groups).
"""

import math

import numba
import numpy as np
from numba.extending import overload

from nanodiff.fast.compiled import ORDERED, SUMS, compiled, full_vectors


def group_norm(x, scale, shift, groups, tiny, silu):
    """As `plain.group_norm`."""
    x, y = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    mean, rstd = np.empty((2, len(x), groups), x.dtype)
    normalise(x, scale, shift, x.dtype.type(tiny), silu, y, mean, rstd)
    return y, mean, rstd


def group_norm_backward(dy, x, scale, shift, mean, rstd, silu, add=None):
    """As `plain.group_norm_backward`."""
    x, dy = np.ascontiguousarray(x), np.ascontiguousarray(dy)
    dx, dscale, dshift = np.empty_like(x), np.empty_like(scale), np.empty_like(shift)
    add = dx[:0] if add is None else np.ascontiguousarray(add)
    normalise_backward(dy, x, scale, shift, mean, rstd, silu, add, dx, dscale, dshift)
    return dx, dscale, dshift


def sigmoid(u):
    """1 / (1 + exp(-u)); compiled for float32 in plain arithmetic, which vectorises."""
    return 1 / (1 + np.exp(-u))


@overload(sigmoid, jit_options={"fastmath": ORDERED})
def _compile_sigmoid(u):
    f = np.float32
    log2_e, ln2_high, ln2_low = f(1.44269504), f(0.693359375), f(-2.12194440e-4)
    c2, c3, c4, c5 = f(1 / 2), f(1 / 6), f(1 / 24), f(1 / 120)
    c6, c7 = f(1 / 720), f(1 / 5040)

    def single(u):
        # exp(v) = 2^k exp(r) with |r| <= ln(2)/2, where the Taylor series to r^7 is
        # exact to 1e-8; 2^k is made by its bits. No library call, so it vectorises.
        v = min(max(-u, f(-87)), f(87))
        k = np.floor(v * log2_e + f(0.5))
        r = (v - k * ln2_high) - k * ln2_low
        series = c4 + r * (c5 + r * (c6 + r * c7))
        series = f(1) + r * (f(1) + r * (c2 + r * (c3 + r * series)))
        power = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
        return f(1) / (f(1) + series * power)

    def double(u):
        return 1 / (1 + math.exp(-u))

    return single if u == numba.float32 else double


@compiled(fastmath=SUMS)
def total(row):
    """The sum of a row."""
    full_vectors()
    found = row.dtype.type(0)
    for p in range(row.size):
        found += row[p]
    return found


@compiled(fastmath=SUMS)
def moment(a, m, b, n):
    """The sum of (a - m) (b - n), of two rows."""
    full_vectors()
    found = a.dtype.type(0)
    for p in range(a.size):
        found += (a[p] - m) * (b[p] - n)
    return found


@compiled(parallel=True)
def normalise(x, scale, shift, tiny, silu, y, mean, rstd):
    """Write y, mean and rstd."""
    full_vectors()
    (N, C), groups, zero = scale.shape, mean.shape[1], x.dtype.type(0)
    width = C // groups
    pixels, out = x.reshape(N, C, -1), y.reshape(N, C, -1)
    count = x.dtype.type(width * pixels.shape[2])
    # without silu max(sigmoid, 1) is 1: a loop for each would compile for longer
    least = zero if silu else x.dtype.type(1)
    for i in numba.prange(N * groups):
        full_vectors()
        n, g = i // groups, i % groups
        block = pixels[n, g * width : (g + 1) * width].reshape(-1)
        m = total(block) / count
        r = x.dtype.type(1) / np.sqrt(moment(block, m, block, m) / count + tiny)
        mean[n, g], rstd[n, g] = m, r
        for c in range(g * width, (g + 1) * width):
            a = scale[n, c] * r
            b = shift[n, c] - m * a
            row, target = pixels[n, c], out[n, c]
            for p in range(row.size):
                u = a * row[p] + b
                target[p] = u * max(sigmoid(u), least)


@compiled
def silu_slope(u, least):
    """The derivative of u * s, s = sigmoid(u) or 1: s (1 + u (1 - s))."""
    full_vectors()
    s = max(sigmoid(u), least)
    return s + u * (s - s * s)


@compiled(parallel=True)
def normalise_backward(dy, x, scale, shift, mean, rstd, silu, add, dx, dscale, dshift):
    """Write dx, dscale and dshift, recomputing u and its sigmoid from x.

    add has dx's shape and is added to it, or size 0 for none.
    """
    full_vectors()
    (N, C), groups, zero = scale.shape, mean.shape[1], x.dtype.type(0)
    width = C // groups
    pixels, out = x.reshape(N, C, -1), dx.reshape(N, C, -1)
    gradient, added = dy.reshape(N, C, -1), add.reshape(-1)
    count = x.dtype.type(width * pixels.shape[2])
    least = zero if silu else x.dtype.type(1)  # as in the forward pass
    for i in numba.prange(N * groups):
        full_vectors()
        n, g = i // groups, i % groups
        m, r = mean[n, g], rstd[n, g]
        mean_d, mean_dx = zero, zero  # of d = dL/dxhat, and of d * xhat
        for c in range(g * width, (g + 1) * width):
            a = scale[n, c] * r
            b = shift[n, c] - m * a
            row, du, d = pixels[n, c], out[n, c], gradient[n, c]
            for p in range(row.size):
                du[p] = d[p] * silu_slope(a * row[p] + b, least)
            dshift[n, c], dscale[n, c] = total(du), moment(du, zero, row, m) * r
            mean_d += scale[n, c] * dshift[n, c] / count
            mean_dx += scale[n, c] * dscale[n, c] / count
        for c in range(g * width, (g + 1) * width):
            row, du = pixels[n, c], out[n, c]
            a = scale[n, c] * r
            # dx = r (d - mean(d) - xhat mean(d xhat)), and du holds dL/du = d / scale
            slope, level = r * r * mean_dx, r * mean_d
            for p in range(row.size):
                du[p] = a * du[p] - level - (row[p] - m) * slope
            if added.size:
                more = added[(n * C + c) * row.size :]
                for p in range(row.size):
                    du[p] += more[p]
