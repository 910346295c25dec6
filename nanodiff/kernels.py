"""Numba loops on bare arrays: no classes, no allocation, no NumPy calls inside.

Every convolution here, its input gradient included, is one matrix product whose
right-hand rows are overlapping slices of a string of pixels. A channel of a few
images is laid out with one zero after every row and one zero row after every image
(and above the first), so that a neighbouring pixel is a constant shift away:

    two 2x2 images        their string, cut into rows of pitch R = W + 1
                          0 0 0
       a b    e f         a b 0      the pixel below a is R further on: c
       c d    g h         c d 0      the pixel left of c is 1 back: a zero
                          0 0 0      the pixel below d is R further on: a zero
                          e f 0
                          g h 0
                          0 0 0

    y[k, p] = b[k] + sum_m w[k, m] * string[offset[m] + p]      m = (channel, tap)

No edge cases, no im2col, and the innermost loop runs over hundreds of neighbouring
pixels whatever the image size. What is computed in the zeros' places is dropped.

A stride, and the nearest-neighbour upsampling before a convolution, only change the
bookkeeping: a fine image of pitch 2 is split into its four phases (even and odd rows
and columns), each of which is a string on the coarse grid. So `phases_in` is 2 for a
strided convolution, `phases_out` is 2 for its input gradient and for an upsampling one.

Shapes: x (N, C, H, W), y (N, K, H', W'), grid (rows, columns) of the coarse grid,
offset (phases_out**2, M), weight (phases_out**2, K/4, M/3, 12): blocks of 4 output
channels by 3 taps, zero where K or M is no multiple. Scratch has one row per thread.
"""

import math

import numba
import numpy as np
from numba.extending import overload
from numpy import uint64

# fastmath without "nnan" and "ninf": a NaN must stay visible to the training loop.
# Reassociation lets sums run in vector lanes; contraction makes multiply-adds.
OPTIONS = {"cache": True, "error_model": "numpy"}
FAST = {"reassoc", "contract", "nsz"}
jit = numba.njit(fastmath=FAST, **OPTIONS)
inline = numba.njit(fastmath=FAST, inline="always", **OPTIONS)  # hot: 10 % of a product
parallel = numba.njit(fastmath=FAST, parallel=True, **OPTIONS)

ROWS, TAPS = 4, 3  # the block of output channels and taps that fits the registers


# Indices are unsigned inside the hot loops: an index that may be negative makes Numba
# handle wrap-around, which stops the compiler from using vector instructions.


@jit
def pack(images, strings, phases, pitch, span):
    """Lay (g, C, H, W) images out as strings (C * phases**2, length)."""
    g, C, H, W = images.shape
    for c in range(C):
        for i in range(phases):
            for j in range(phases):
                row = strings[(c * phases + i) * phases + j]
                for n in range(g):
                    for p in range(i, H, phases):
                        pixels = images[n, c, p]
                        start = uint64(pitch + 1 + n * span + (p // phases) * pitch)
                        step, first = uint64(phases), uint64(j)
                        for q in range(uint64((W - j + phases - 1) // phases)):
                            row[start + q] = pixels[first + step * q]


@jit
def unpack(sums, images, k, phases, phase, pitch, span):
    """Write one string of sums to channel k, one phase, of (g, K, H, W) images."""
    g, _, H, W = images.shape
    i, j = phase // phases, phase % phases
    for n in range(g):
        for p in range(i, H, phases):
            pixels = images[n, k, p]
            start = uint64(n * span + (p // phases) * pitch)
            step, first = uint64(phases), uint64(j)
            for q in range(uint64((W - j + phases - 1) // phases)):
                pixels[first + step * q] = sums[start + q]


@inline
def add_products(sums, length, string, offset, m, w):
    """Add to four rows of sums the 4 x 3 weights w times three slices of the string."""
    # Scalars, not w[i]: the compiler must not fear that the sums overwrite them.
    w00, w01, w02, w10, w11, w12 = w[0], w[1], w[2], w[3], w[4], w[5]
    w20, w21, w22, w30, w31, w32 = w[6], w[7], w[8], w[9], w[10], w[11]
    o0, o1, o2 = uint64(offset[m]), uint64(offset[m + 1]), uint64(offset[m + 2])
    for p in range(uint64(length)):
        x0, x1, x2 = string[o0 + p], string[o1 + p], string[o2 + p]
        sums[uint64(0), p] += w00 * x0 + w01 * x1 + w02 * x2
        sums[uint64(1), p] += w10 * x0 + w11 * x1 + w12 * x2
        sums[uint64(2), p] += w20 * x0 + w21 * x1 + w22 * x2
        sums[uint64(3), p] += w30 * x0 + w31 * x1 + w32 * x2


@inline
def add_inner_products(out, length, string, offset, m, dy, r0, r1, r2, r3):
    """Add to out the 4 x 3 inner products of dy from r0.. with three slices."""
    s00 = s01 = s02 = s10 = s11 = s12 = out.dtype.type(0)
    s20 = s21 = s22 = s30 = s31 = s32 = out.dtype.type(0)
    o0, o1, o2 = uint64(offset[m]), uint64(offset[m + 1]), uint64(offset[m + 2])
    r0, r1, r2, r3 = uint64(r0), uint64(r1), uint64(r2), uint64(r3)
    for p in range(uint64(length)):
        x0, x1, x2 = string[o0 + p], string[o1 + p], string[o2 + p]
        d0, d1, d2, d3 = dy[r0 + p], dy[r1 + p], dy[r2 + p], dy[r3 + p]
        s00 += d0 * x0
        s01 += d0 * x1
        s02 += d0 * x2
        s10 += d1 * x0
        s11 += d1 * x1
        s12 += d1 * x2
        s20 += d2 * x0
        s21 += d2 * x1
        s22 += d2 * x2
        s30 += d3 * x0
        s31 += d3 * x1
        s32 += d3 * x2
    for i, s in enumerate((s00, s01, s02, s10, s11, s12, s20, s21, s22, s30, s31, s32)):
        out[i] += s


@parallel
def correlate(
    x, weight, offset, bias, y, grid, phases_in, phases_out, group, x_s, sums
):
    """y = bias + the correlation of x with weight, on strings of `group` images."""
    N, K = x.shape[0], y.shape[1]
    pitch = grid[1] + 1
    span = (grid[0] + 1) * pitch
    for block in numba.prange((N + group - 1) // group):
        thread = numba.get_thread_id()
        strings, rows = x_s[thread], sums[thread]
        first, last = block * group, min(N, (block + 1) * group)
        pack(x[first:last], strings, phases_in, pitch, span)
        string = strings.reshape(-1)
        length = (last - first) * span
        for phase in range(phases_out * phases_out):
            for k in range(0, K, ROWS):
                for i in range(ROWS):
                    rows[i, :length] = bias[min(k + i, K - 1)]
                for m in range(0, offset.shape[1], TAPS):
                    w = weight[phase, k // ROWS, m // TAPS]
                    add_products(rows, length, string, offset[phase], m, w)
                for i in range(min(ROWS, K - k)):
                    unpack(
                        rows[i], y[first:last], k + i, phases_out, phase, pitch, span
                    )


@parallel
def correlate_weight(
    x, dy, offset, dweight, dbias, grid, phases_in, phases_out, group, x_s, dy_s
):
    """Add the gradients of `correlate`'s weight and bias, in partial sums."""
    # A fixed number of parts, each in a fixed order: the bits do not depend on threads.
    N, K, parts = x.shape[0], dy.shape[1], dweight.shape[0]
    pitch = grid[1] + 1
    span = (grid[0] + 1) * pitch
    for part in numba.prange(parts):
        thread = numba.get_thread_id()
        x_strings, dy_strings = x_s[thread], dy_s[thread]
        string, dy_string = x_strings.reshape(-1), dy_strings.reshape(-1)
        row = phases_out * phases_out * dy_strings.shape[1]  # from channel to channel
        for first in range(part * group, N, parts * group):
            last = min(N, first + group)
            pack(x[first:last], x_strings, phases_in, pitch, span)
            pack(dy[first:last], dy_strings, phases_out, pitch, span)
            length = (last - first) * span
            for k in range(K):
                dbias[part, k] += dy_string[k * row : (k + 1) * row].sum()
            for phase in range(phases_out * phases_out):
                start = phase * dy_strings.shape[1] + pitch + 1
                for k in range(0, K, ROWS):
                    # rows beyond K repeat the last one; their products are dropped
                    r0 = start + k * row
                    r1 = start + min(k + 1, K - 1) * row
                    r2 = start + min(k + 2, K - 1) * row
                    r3 = start + min(k + 3, K - 1) * row
                    for m in range(0, offset.shape[1], TAPS):
                        out = dweight[part, phase, k // ROWS, m // TAPS]
                        add_inner_products(
                            out, length, string, offset[phase], m, dy_string,
                            r0, r1, r2, r3,
                        )  # fmt: skip


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
def group_norm(x, scale, shift, groups, tiny, silu, y, mean, rstd):
    """y = scale * (x - mean) * rstd + shift a group, then y * sigmoid(y) if silu.

    scale, shift (N, C): one for each image and channel. mean, rstd (N, groups).
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
            if silu:
                for p in range(row.size):
                    u = a * row[p] + b
                    target[p] = u * sigmoid(u)
            else:
                for p in range(row.size):
                    target[p] = a * row[p] + b


@parallel
def group_norm_backward(
    x, scale, shift, groups, silu, mean, rstd, dy, dx, dscale, dshift
):
    """Write the gradients of `group_norm`, recomputing u and its sigmoid from x."""
    N, C = scale.shape
    width = C // groups
    zero, one = x.dtype.type(0), x.dtype.type(1)
    pixels, out = x.reshape(N, C, -1), dx.reshape(N, C, -1)
    gradient = dy.reshape(N, C, -1)
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
            if silu:
                for p in range(row.size):
                    u = a * row[p] + b
                    s = sigmoid(u)
                    du[p] = d[p] * s * (one + u * (one - s))
            else:
                for p in range(row.size):
                    du[p] = d[p]
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
