"""Numba loops of group normalisation and SiLU: one pass over memory each way.

Shapes: x, y, dy, dx (N, C, H, W); scale, shift, their gradients (N, C); mean, rstd
(N, groups). Bare arrays, no classes, no allocation.
"""

import math

import numba
import numpy as np
from numba.extending import overload

# fastmath without "nnan" and "ninf": a NaN must stay visible to the training loop.
FAST = {"reassoc", "contract", "nsz"}
parallel = numba.njit(fastmath=FAST, parallel=True, cache=True, error_model="numpy")


def sigmoid(u):
    """1 / (1 + exp(-u)); compiled for float32 in plain arithmetic, which vectorises."""
    return 1 / (1 + np.exp(-u))


@overload(sigmoid, jit_options={"fastmath": FAST})
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


@parallel
def group_norm(x, scale, shift, groups, tiny, least, y, mean, rstd):
    """u = scale * (x - mean) * rstd + shift a group, y = u * max(sigmoid(u), least).

    scale, shift (N, C): one for each image and channel. mean, rstd (N, groups). least:
    0 for SiLU, or 1, which makes y = u: the gate is held open. (A loop for each would
    make a cold start a quarter of a second longer.)
    """
    N, C = scale.shape
    width = C // groups
    zero = x.dtype.type(0)
    pixels = x.reshape(N, C, -1)
    out = y.reshape(N, C, -1)
    count = x.dtype.type(width * pixels.shape[2])
    for i in numba.prange(N * groups):
        n, g = i // groups, i % groups
        block = pixels[n, g * width : (g + 1) * width].reshape(-1)
        total = zero
        for p in range(block.size):
            total += block[p]
        m = total / count
        total = zero
        for p in range(block.size):
            total += (block[p] - m) * (block[p] - m)
        r = x.dtype.type(1) / np.sqrt(total / count + tiny)
        mean[n, g], rstd[n, g] = m, r
        for c in range(g * width, (g + 1) * width):
            a = scale[n, c] * r
            b = shift[n, c] - m * a
            row, target = pixels[n, c], out[n, c]
            for p in range(row.size):
                u = a * row[p] + b
                target[p] = u * max(sigmoid(u), least)


@numba.njit(fastmath=FAST, cache=True, error_model="numpy")
def silu_slope(u, least):
    """The derivative of u * s, s = sigmoid(u) or 1: s (1 + u (1 - s))."""
    s = max(sigmoid(u), least)
    return s + u * (s - s * s)


@parallel
def group_norm_backward(
    x, scale, shift, groups, least, mean, rstd, dy, plus, dx, dscale, dshift
):
    """Write the gradients of `group_norm`, recomputing u and its sigmoid from x.

    plus has dx's shape and is added to it, or size 0 for none.
    """
    N, C = scale.shape
    width, zero = C // groups, x.dtype.type(0)
    pixels, out = x.reshape(N, C, -1), dx.reshape(N, C, -1)
    gradient, more = dy.reshape(N, C, -1), plus.reshape(-1)
    count = x.dtype.type(width * pixels.shape[2])
    for i in numba.prange(N * groups):
        n, g = i // groups, i % groups
        m, r = mean[n, g], rstd[n, g]
        mean_d, mean_dx = zero, zero  # of d = dL/dxhat, and of d * xhat
        for c in range(g * width, (g + 1) * width):
            a = scale[n, c] * r
            b = shift[n, c] - m * a
            row, du, d = pixels[n, c], out[n, c], gradient[n, c]
            total, moment = zero, zero
            for p in range(row.size):
                du[p] = d[p] * silu_slope(a * row[p] + b, least)
            for p in range(row.size):
                total += du[p]
                moment += du[p] * (row[p] - m)
            dshift[n, c], dscale[n, c] = total, moment * r
            mean_d += scale[n, c] * total / count
            mean_dx += scale[n, c] * moment * r / count
        for c in range(g * width, (g + 1) * width):
            row, du = pixels[n, c], out[n, c]
            a = scale[n, c] * r
            # dx = r (d - mean(d) - xhat mean(d xhat)), and du holds dL/du = d / scale
            slope, level = r * r * mean_dx, r * mean_d
            for p in range(row.size):
                du[p] = a * du[p] - level - (row[p] - m) * slope
            if plus.size:
                skip = more[(n * C + c) * row.size :]
                for p in range(row.size):
                    du[p] += skip[p]
