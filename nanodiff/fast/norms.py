"""Group normalisation and SiLU: one pass over memory each way, rows of pixels at a time.

Formulas: `plain.group_norm` and its backward pass. Shapes: x, y, dy, dx (N, H, W, C)
inside; scale, shift, their gradients (N, C); mean, rstd (N, groups). Of an image a row
of W C numbers is worked on at a time, beside a row of what its channels are scaled by:
so the loops are long, whatever C.
"""

import math

import numba
import numpy as np
from numba.extending import overload
from numpy import uint64

from nanodiff.fast.compiled import ORDERED, compiled, full_vectors
from nanodiff.fast.memory import aligned, channels_last


def group_norm(x, scale, shift, groups, tiny, silu):
    """As `plain.group_norm`."""
    x = channels_last(x)
    y, (mean, rstd) = aligned(x.shape, x.dtype), np.empty((2, len(x), groups), x.dtype)
    normalise(x, scale, shift, x.dtype.type(tiny), silu, y, mean, rstd)
    return y.transpose(0, 3, 1, 2), mean, rstd


def group_norm_backward(dy, x, scale, shift, mean, rstd, silu, add=None):
    """As `plain.group_norm_backward`."""
    x, dy = channels_last(x), channels_last(dy)
    dx = aligned(x.shape, x.dtype)
    dscale, dshift = np.empty_like(scale), np.empty_like(shift)
    add = dx[:0] if add is None else channels_last(add)
    normalise_backward(dy, x, scale, shift, mean, rstd, silu, add, dx, dscale, dshift)
    return dx.transpose(0, 3, 1, 2), dscale, dshift


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


@compiled
def add_to(sums, row):
    """sums += row."""
    full_vectors()
    for i in range(uint64(sums.size)):
        sums[i] += row[i]


@compiled
def add_moment(sums, a, b, m):
    """sums += a (b - m)."""
    full_vectors()
    for i in range(uint64(sums.size)):
        sums[i] += a[i] * (b[i] - m[i])


@compiled
def add_square(sums, a, m):
    """sums += (a - m)^2."""
    full_vectors()
    for i in range(uint64(sums.size)):
        sums[i] += (a[i] - m[i]) * (a[i] - m[i])


@compiled
def by_channel(row, C):
    """Add up the pixels of a row, in its first C numbers."""
    full_vectors()
    first = row[:C]
    for at in range(C, row.size, C):
        add_to(first, row[at : at + C])
    return first


@compiled
def repeat(row, C):
    """Copy the first C numbers of a row to every pixel of it."""
    full_vectors()
    for i in range(uint64(C), uint64(row.size)):
        row[i] = row[i - uint64(C)]


@compiled
def scales(n, scale, shift, mean, rstd, a, b, m):
    """Write rows a, b, m: of each pixel u = a x + b, and the mean."""
    C, groups = scale.shape[1], mean.shape[1]
    for c in range(C):
        g = c * groups // C
        m[c] = mean[n, g]
        a[c] = scale[n, c] * rstd[n, g]
        b[c] = shift[n, c] - m[c] * a[c]
    for row in (a, b, m):
        repeat(row, C)


@compiled(parallel=True)
def normalise(x, scale, shift, tiny, silu, y, mean, rstd):
    """Write y, mean and rstd."""
    full_vectors()
    N, H, W, C = x.shape
    groups, zero, one = mean.shape[1], x.dtype.type(0), x.dtype.type(1)
    width, count = C // groups, x.dtype.type(C // groups * H * W)
    # without silu max(sigmoid, 1) is 1: a loop for each would compile for longer
    least = zero if silu else one
    for n in numba.prange(N):
        full_vectors()
        rows, out = x[n].reshape(H, W * C), y[n].reshape(H, W * C)
        a, b = np.zeros(W * C, x.dtype), np.zeros(W * C, x.dtype)
        m = np.zeros(W * C, x.dtype)
        for h in range(H):
            add_to(a, rows[h])
        sums = by_channel(a, C)
        for g in range(groups):
            mean[n, g] = sums[g * width : (g + 1) * width].sum() / count
            m[g * width : (g + 1) * width] = mean[n, g]
        repeat(m, C)
        for h in range(H):
            add_square(b, rows[h], m)
        sums = by_channel(b, C)
        for g in range(groups):
            variance = sums[g * width : (g + 1) * width].sum() / count
            rstd[n, g] = one / np.sqrt(variance + tiny)
        scales(n, scale, shift, mean, rstd, a, b, m)
        for h in range(H):
            activate(rows[h], a, b, least, out[h])


@compiled
def activate(x, a, b, least, y):
    """y = u max(sigmoid(u), least), u = a x + b."""
    full_vectors()
    for i in range(uint64(x.size)):
        u = a[i] * x[i] + b[i]
        y[i] = u * max(sigmoid(u), least)


@compiled
def slope(x, a, b, least, dy, du):
    """du = dy times the derivative of u s, s = sigmoid(u) or 1: s (1 + u (1 - s))."""
    full_vectors()
    for i in range(uint64(x.size)):
        u = a[i] * x[i] + b[i]
        s = max(sigmoid(u), least)
        du[i] = dy[i] * (s + u * (s - s * s))


@compiled
def add_rest(x, a, q, r, dx):
    """dx = a dx - q x - r."""
    full_vectors()
    for i in range(uint64(x.size)):
        dx[i] = a[i] * dx[i] - q[i] * x[i] - r[i]


@compiled(parallel=True)
def normalise_backward(dy, x, scale, shift, mean, rstd, silu, add, dx, dscale, dshift):
    """Write dx, dscale and dshift, recomputing u and its sigmoid from x.

    add has dx's shape and is added to it, or size 0 for none.
    """
    full_vectors()
    N, H, W, C = x.shape
    groups, zero, one = mean.shape[1], x.dtype.type(0), x.dtype.type(1)
    width, count = C // groups, x.dtype.type(C // groups * H * W)
    least = zero if silu else one  # as in the forward pass
    for n in numba.prange(N):
        full_vectors()
        rows, gradient = x[n].reshape(H, W * C), dy[n].reshape(H, W * C)
        out = dx[n].reshape(H, W * C)
        a, b = np.zeros(W * C, x.dtype), np.zeros(W * C, x.dtype)
        m, d = np.zeros(W * C, x.dtype), np.zeros(W * C, x.dtype)
        d_x = np.zeros(W * C, x.dtype)
        scales(n, scale, shift, mean, rstd, a, b, m)
        for h in range(H):
            slope(rows[h], a, b, least, gradient[h], out[h])  # dL/du, to begin with
            add_to(d, out[h])
            add_moment(d_x, out[h], rows[h], m)
        dshift[n] = by_channel(d, C)
        dscale[n] = by_channel(d_x, C)
        for g in range(groups):
            r, mean_d, mean_dx = rstd[n, g], zero, zero  # d = dL/dxhat, and d xhat
            for c in range(g * width, (g + 1) * width):
                dscale[n, c] *= r
                mean_d += scale[n, c] * dshift[n, c] / count
                mean_dx += scale[n, c] * dscale[n, c] / count
            # dx = r (d - mean(d) - xhat mean(d xhat)), d = scale du, xhat = r (x - m)
            for c in range(g * width, (g + 1) * width):
                d_x[c] = r * r * mean_dx
                d[c] = r * mean_d - d_x[c] * m[c]
        repeat(d, C)
        repeat(d_x, C)
        for h in range(H):
            add_rest(rows[h], a, d_x, d, out[h])
            if add.size:
                add_to(out[h], add[n, h].reshape(-1))
