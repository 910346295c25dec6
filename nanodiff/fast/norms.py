"""Group normalisation and SiLU, an image at a time, so that it stays in a cache.

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

from nanodiff.fast.compiled import OPTIONS, compiled, full_vectors, in_threads
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


@overload(sigmoid, jit_options=OPTIONS)
def _compile_sigmoid(u):
    f = np.float32
    log2_e, ln2_high, ln2_low = f(1.44269504), f(0.693359375), f(-2.12194440e-4)

    def single(u):
        # exp(v) = 2^k exp(r) with |r| <= ln(2)/2, where the Taylor series to r^7 is
        # exact to 1e-8; 2^k is made by its bits. No library call, so it vectorises.
        v = min(max(-u, f(-87)), f(87))
        k = np.floor(v * log2_e + f(0.5))
        r = (v - k * ln2_high) - k * ln2_low
        series = f(1 / 24) + r * (f(1 / 120) + r * (f(1 / 720) + r * f(1 / 5040)))
        series = f(1) + r * (f(1) + r * (f(1 / 2) + r * (f(1 / 6) + r * series)))
        power = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
        return f(1) / (f(1) + series * power)

    return single if u == numba.float32 else lambda u: 1 / (1 + math.exp(-u))


@compiled
def add_pixels(row, C):
    """Add up the pixels of a row, in the first."""
    full_vectors()
    for p in range(uint64(C), uint64(row.size), uint64(C)):
        for c in range(uint64(C)):
            row[c] += row[p + c]


@compiled
def share(row, C, width):
    """Write to each number the first pixel's sum over its group, of `width` channels.

    With a width of 1 all pixels become the first.
    """
    full_vectors()
    for first in range(0, C, width):
        for c in range(first + 1, first + width):
            row[first] += row[c]
        for c in range(first + 1, first + width):
            row[c] = row[first]
    for i in range(uint64(C), uint64(row.size)):
        row[i] = row[i - uint64(C)]


@compiled
def scales(n, scale, shift, mean, rstd, a, b, m):
    """Write for every number of a row: u = a x + b, and the mean m."""
    C, groups = scale.shape[1], mean.shape[1]
    width = C // groups
    for g in range(groups):
        for c in range(g * width, (g + 1) * width):
            m[c] = mean[n, g]
            a[c] = scale[n, c] * rstd[n, g]
            b[c] = shift[n, c] - m[c] * a[c]
    for row in (a, b, m):
        share(row, C, 1)


@in_threads
def normalise(x, scale, shift, tiny, silu, y, mean, rstd):
    """Write y, mean and rstd."""
    (N, H, W, C), width = x.shape, x.shape[3] // mean.shape[1]
    L, count = uint64(W * C), x.dtype.type(width * H * W)
    # without silu max(sigmoid, 1) is 1: a loop for each would compile for longer
    least = x.dtype.type(0 if silu else 1)
    for n in numba.prange(N):
        full_vectors()
        pixels, out = x[n].reshape(-1), y[n].reshape(-1)
        a, b, m = np.empty(L, x.dtype), np.zeros(L, x.dtype), np.zeros(L, x.dtype)
        for h in range(uint64(H)):
            for i in range(L):
                m[i] += pixels[h * L + i]
        add_pixels(m, C)
        share(m, C, width)
        for i in range(L):
            m[i] /= count
        for h in range(uint64(H)):
            for i in range(L):
                b[i] += (pixels[h * L + i] - m[i]) * (pixels[h * L + i] - m[i])
        add_pixels(b, C)
        share(b, C, width)
        for g in range(mean.shape[1]):
            mean[n, g] = m[g * width]
            rstd[n, g] = x.dtype.type(1) / np.sqrt(b[g * width] / count + tiny)
        scales(n, scale, shift, mean, rstd, a, b, m)
        for h in range(uint64(H)):
            for i in range(L):
                u = a[i] * pixels[h * L + i] + b[i]
                out[h * L + i] = u * max(sigmoid(u), least)


@in_threads
def normalise_backward(dy, x, scale, shift, mean, rstd, silu, add, dx, dscale, dshift):
    """Write dx (with `add`: like dx, or of size 0), dscale and dshift."""
    (N, H, W, C), width = x.shape, x.shape[3] // mean.shape[1]
    L, count = uint64(W * C), x.dtype.type(width * H * W)
    least = x.dtype.type(0 if silu else 1)  # as in the forward pass
    for n in numba.prange(N):
        full_vectors()
        pixels, d, out = x[n].reshape(-1), dy[n].reshape(-1), dx[n].reshape(-1)
        a, b, m = np.empty(L, x.dtype), np.empty(L, x.dtype), np.empty(L, x.dtype)
        level, slope = np.zeros(L, x.dtype), np.zeros(L, x.dtype)
        scales(n, scale, shift, mean, rstd, a, b, m)
        for h in range(uint64(H)):
            for i in range(L):  # du = dy times the derivative of u s: s + u (s - s^2)
                u = a[i] * pixels[h * L + i] + b[i]
                s = max(sigmoid(u), least)
                out[h * L + i] = d[h * L + i] * (s + u * (s - s * s))
            for i in range(L):
                level[i] += out[h * L + i]
            for i in range(L):
                slope[i] += out[h * L + i] * (pixels[h * L + i] - m[i])
        add_pixels(level, C)
        add_pixels(slope, C)
        # dx = r (d - mean(d) - xhat mean(d xhat)), d = scale du and xhat = r (x - m)
        for c in range(C):
            r = rstd[n, c // width]
            dshift[n, c], dscale[n, c] = level[c], slope[c] * r
            level[c] *= a[c] / count
            slope[c] *= a[c] * r * r / count
        share(level, C, width)
        share(slope, C, width)
        more = add[n].reshape(-1) if add.size else out[:0]
        for h in range(uint64(H)):
            for i in range(L):
                du, x_m = out[h * L + i], pixels[h * L + i] - m[i]
                out[h * L + i] = a[i] * du - level[i] - slope[i] * x_m
            if more.size:
                for i in range(L):
                    out[h * L + i] += more[h * L + i]
