"""The loops of every convolution, on images whose channels lie together.

    correlate         y from x, in one phase of `plans`     correlate_weight   dw, db
    correlate_tiles   y from x, in `plans.Tiles`            tiles_weight       dw, db

Each takes a strip of rows into scratch, with zeros where the image ends. There the
pixels under a row of taps are contiguous numbers, and those under the next pixel of y
are the same ones, a few further on: nothing is copied for each. The sums of a strip go
to the image when all terms are in.

Shapes: x (N, H, W, C), dy (N, H', W', K); y and what is added to it, flat. weights
(blocks, R, M, lanes): for as many channels of y as a block has lanes, of R rows of taps
M = taps * C numbers. In scratch a pixel of y has `width` channels: whole blocks; a row
of y has `across` numbers, one of x `pitch`. bias: a row of y.
"""

import numba
import numpy as np
from numpy import uint64

from nanodiff.fast.compiled import compiled, full_vectors
from nanodiff.fast.products import add_products

# Indices are unsigned inside the hot loops: an index that may be negative makes Numba
# handle wrap-around, which stops the compiler from using vector instructions.


@compiled
def copy(source, s, target, t, n):
    """target[t : t + n] = source[s : s + n]."""
    full_vectors()
    s, t = uint64(s), uint64(t)
    for i in range(uint64(n)):
        target[t + i] = source[s + i]


@compiled
def clear(target, t, n):
    """target[t : t + n] = 0."""
    full_vectors()
    t, zero = uint64(t), target.dtype.type(0)
    for i in range(uint64(n)):
        target[t + i] = zero


@compiled
def add_row(source, s, target, n):
    """target[:n] += source[s : s + n]."""
    full_vectors()
    s = uint64(s)
    for i in range(uint64(n)):
        target[i] += source[s + i]


@compiled
def frame(image, top, count, rows, lead, pitch):
    """Rows top, top + 1, .. of (H, W, C), with zeros around, `lead` of them before."""
    H, W, C = image.shape
    for q in range(count):
        at, h = q * pitch, top + q
        if 0 <= h < H:
            clear(rows, at, lead)
            copy(image.reshape(-1), h * W * C, rows, at + lead, W * C)
            clear(rows, at + lead + W * C, pitch - lead - W * C)
        else:
            clear(rows, at, pitch)


@compiled
def spread(dy, start, K, rows, at, width, columns):
    """Write pixels of flat dy, of K numbers, to those of `rows`, of `width`."""
    if K == width:
        copy(dy, start, rows, at, columns * K)
    else:
        for p in range(columns):
            for k in range(K):
                rows[at + p * width + k] = dy[start + p * K + k]


@compiled
def gather(rows, at, width, bias, y, add, start, K, columns):
    """The way back, to flat y, plus bias, plus `add`, which is like y or of size 0."""
    full_vectors()
    if K == width:
        at, start = uint64(at), uint64(start)
        for i in range(uint64(columns * K)):
            y[start + i] = rows[at + i] + bias[i]
    else:
        for p in range(columns):
            for k in range(K):
                i = p * width + k
                y[start + p * K + k] = rows[at + i] + bias[i]
    if add.size:
        start = uint64(start)
        for i in range(uint64(columns * K)):
            y[start + i] += add[start + i]


@compiled(parallel=True)
def correlate(x, weights, bias, add, y, size, phases, strip, block, scratch):
    """y = bias + add + the correlation of x with weights.

    size: (H', W', K). phases: rows (a, b, first row and column of x, R, M, where its
    weights begin), for y[.., up i + a, up j + b, ..]. strip: (up, stride, rows of y /
    up, rows of x, zeros before a row of x, pitch, across).
    """
    full_vectors()
    (N, _, _, C), (H, W, K), (_, P, lanes) = x.shape, size, block
    up, stride, rows, tall, lead, pitch, across = strip
    high, columns = (H + up - 1) // up, (W + up - 1) // up
    strips, width = (high + rows - 1) // rows, (K + lanes - 1) // lanes * lanes
    for item in numba.prange(N * strips):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, sums = scratch[0][thread], scratch[1][thread]
        n, start = item // strips, item % strips * rows
        count = min(rows, high - start)
        frame(x[n], stride * start - lead, tall, x_rows, lead * C, pitch)
        clear(sums, 0, count * up * across)
        for a, b, top, left, R, M, w in phases:
            for k in range(0, K, lanes):
                for i in range(count):
                    row = (stride * i + top + lead) * pitch + (left + lead) * C
                    for j in range(0, columns, P):
                        add_products(
                            block, sums,
                            (up * i + a) * across + (up * j + b) * width + k, up * width,
                            x_rows, row + stride * j * C, stride * C, pitch, 1,
                            weights, w + k * R * M, M * lanes, lanes, R, M,
                        )  # fmt: skip
        for i in range(min(count * up, H - start * up)):
            at = (n * H + start * up + i) * W * K
            gather(sums, i * across, width, bias, y, add, at, K, W)


@compiled(parallel=True)
def correlate_weight(x, dy, dweights, dbias, size, phases, strip, block, scratch):
    """Add the gradients of `correlate`'s weights and bias, in partial sums.

    Each partial sum is one thread's, as two that added to one would lose updates. Their
    number and the order within each are fixed, so the bits do not depend on threads.
    dy: flat. dweights (partial sums, n), M filled up to whole blocks: the gradients
    beyond mean nothing. dbias (partial sums, across).
    """
    full_vectors()
    (N, _, _, C), (H, W, K), (_, P, lanes) = x.shape, size, block
    up, stride, rows, tall, lead, pitch, across = strip
    high, parts = (H + up - 1) // up, len(dweights)
    strips, width = (high + rows - 1) // rows, (K + lanes - 1) // lanes * lanes
    for part in numba.prange(parts):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, dy_rows = scratch[0][thread], scratch[1][thread]
        dw = dweights[part]
        db = dbias[part]
        for item in range(part * N * strips // parts, (part + 1) * N * strips // parts):
            n, start = item // strips, item % strips * rows
            count = min(rows * up, H - start * up)
            frame(x[n], stride * start - lead, tall, x_rows, lead * C, pitch)
            for i in range(count):
                at = (n * H + start * up + i) * W * K
                spread(dy, at, K, dy_rows, i * across, width, W)
                add_row(dy_rows, i * across, db, W * width)
            for a, b, top, left, R, M, w in phases:
                whole = (M + P - 1) // P * P
                for k in range(0, K, lanes):
                    for r in range(R):
                        for m in range(0, M, P):
                            add_products(
                                block, dw, w + k * R * whole + (r * whole + m) * lanes,
                                lanes, x_rows,
                                (top + lead + r) * pitch + (left + lead) * C + m, 1,
                                stride * pitch, stride * C, dy_rows,
                                a * across + b * width + k, up * across, up * width,
                                (count - a + up - 1) // up, (W - b + up - 1) // up,
                            )  # fmt: skip


@compiled
def sum_rows(weights, starts, source, at, target, t, n):
    """target[t : t + n] = the sum of weights[q] times source[at + starts[q] :], q < 9.

    Nine rows, the most that `plans.Tiles` has, so that one loop over pixels does it.
    """
    full_vectors()
    w0, w1, w2, w3, w4 = weights[0], weights[1], weights[2], weights[3], weights[4]
    w5, w6, w7, w8 = weights[5], weights[6], weights[7], weights[8]
    s0, s1, s2 = uint64(at + starts[0]), uint64(at + starts[1]), uint64(at + starts[2])
    s3, s4, s5 = uint64(at + starts[3]), uint64(at + starts[4]), uint64(at + starts[5])
    s6, s7, s8 = uint64(at + starts[6]), uint64(at + starts[7]), uint64(at + starts[8])
    t = uint64(t)
    for i in range(uint64(n)):
        near = w0 * source[s0 + i] + w1 * source[s1 + i] + w2 * source[s2 + i]
        near += w3 * source[s3 + i] + w4 * source[s4 + i]
        near += w5 * source[s5 + i] + w6 * source[s6 + i]
        target[t + i] = near + w7 * source[s7 + i] + w8 * source[s8 + i]


@compiled
def tile(pixels, top, high, across, matrix, nine, rows, at, step, lead, pitch):
    """The sums of rows top, top + 1, .. of `high`, `step` apart, zeros around each.

    A row that is not there is any, times 0. nine: (weights, starts), to write to.
    """
    weights, starts = nine
    for i in range(len(matrix)):
        for q in range(9):
            h = top + q
            starts[q] = min(max(h, 0), high - 1) * across
            weights[q] = matrix[i, q] if 0 <= h < high else pixels.dtype.type(0)
        row = at + i * step
        clear(rows, row, lead)
        sum_rows(weights, starts, pixels, 0, rows, row + lead, across)
        clear(rows, row + lead + across, pitch - lead - across)


@compiled(parallel=True)
def correlate_tiles(x, weights, bias, add, y, size, matrices, strip, block, scratch):
    """As `correlate`, for a 3x3 of stride 1, by `plans.Tiles`.

    matrices: B (n, 9), transposed, and A (m, 9), too. strip: (tiles, pitch, across).
    """
    full_vectors()
    (B, A), (group, pitch, across) = matrices, strip
    (N, _, _, C), (H, W, K), (_, P, lanes), n, m = x.shape, size, block, len(B), len(A)
    width, high, M = (K + lanes - 1) // lanes * lanes, (H + m - 1) // m, 3 * C
    for item in numba.prange((N * high + group - 1) // group):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, sums, row = scratch[0][thread], scratch[1][thread], scratch[2][thread]
        nine, start = (np.empty(9, x.dtype), np.empty(9, np.int64)), item * group
        count = min(group, N * high - start)
        for u in range(count):
            pixels, top = x[(start + u) // high].reshape(-1), (start + u) % high * m - 1
            tile(
                pixels,
                top,
                H,
                W * C,
                B,
                nine,
                x_rows,
                u * pitch,
                group * pitch,
                C,
                pitch,
            )
        clear(sums, 0, n * group * across)
        for k in range(0, K, lanes):
            for i in range(n):
                for u in range(i * group, i * group + count):
                    for j in range(0, W, P):
                        add_products(
                            block, sums, u * across + j * width + k, width,
                            x_rows, u * pitch + j * C, C, 0, 1,
                            weights, (k * n + i * lanes) * M, 0, lanes, 1, M,
                        )  # fmt: skip
        for q in range(9):
            nine[1][q] = min(q, n - 1) * group * across
        for u in range(count):
            image, top = (start + u) // high, (start + u) % high * m
            for q in range(min(m, H - top)):
                sum_rows(A[q], nine[1], sums, u * across, row, 0, W * width)
                at = (image * H + top + q) * W * K
                gather(row, 0, width, bias, y, add, at, K, W)


@compiled(parallel=True)
def tiles_weight(x, dy, dweights, dbias, size, matrices, strip, block, scratch):
    """As `correlate_weight`, for `correlate_tiles`. matrices: B, and A (n, 9)."""
    full_vectors()
    (B, A, m), (group, pitch, across) = matrices, strip
    (N, _, _, C), (H, W, K), (_, P, lanes) = x.shape, size, block
    width, high, n = (K + lanes - 1) // lanes * lanes, (H + m - 1) // m, len(B)
    whole, strips, parts = (
        (3 * C + P - 1) // P * P,
        (N * high + group - 1) // group,
        len(dweights),
    )
    for part in numba.prange(parts):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, dy_rows, row = (
            scratch[0][thread],
            scratch[1][thread],
            scratch[2][thread],
        )
        nine = np.empty(9, x.dtype), np.empty(9, np.int64)
        dw = dweights[part]
        db = dbias[part]
        for item in range(part * strips // parts, (part + 1) * strips // parts):
            start, count = item * group, min(group, N * high - item * group)
            for u in range(count):
                image, top = (start + u) // high, (start + u) % high * m
                tile(
                    x[image].reshape(-1), top - 1, H, W * C, B, nine,
                    x_rows, u * pitch, group * pitch, C, pitch,
                )  # fmt: skip
                inside = min(m, H - top)
                for q in range(inside):
                    at = (image * H + top + q) * W * K
                    spread(dy, at, K, row, q * across, width, W)
                    add_row(row, q * across, db, across)
                tile(
                    row, 0, inside, across, A, nine,
                    dy_rows, u * across, group * across, 0, across,
                )  # fmt: skip
            for k in range(0, K, lanes):
                for i in range(n):
                    for c in range(0, 3 * C, P):
                        add_products(
                            block, dw, (k * n + i * lanes) * whole + c * lanes, lanes,
                            x_rows, i * group * pitch + c, 1, pitch, C,
                            dy_rows, i * group * across + k, across, width, count, W,
                        )  # fmt: skip
