"""The loops of every convolution, on images whose channels lie together.

    correlate          y from x                correlate_weight   dw and db

An image is worked on in strips of units: rows, or tiles of rows (`plans`). A strip of x
goes to scratch, with zeros where the image ends. There the pixels under a row of taps
are contiguous numbers, and those under the next pixel of y the same ones, a few further
on: nothing is copied for each. Sums go to the image when all terms are in.

Shapes: x (N, H, W, C); y, dy (N, H', W', K) and what is added to y are flat, size is
(H', W', K). In scratch a row of x has `pitch` numbers, `lead` pixels of zeros first; a
row of y has `across`: pixels of `width` channels, whole blocks. bias: such a row.
phases: rows (down, right, top, left, R, M, w) for each kind of pixel of y, or sum of
rows: where its sums begin, in rows and pixels, its pixels of x too, how many rows of
taps, of how many numbers, where its weights begin, (K / lanes, R, M, lanes). strip:
(units, units of an image, rows of y for each, up: pixels from one of a phase to the
next, stride: those of x, rows of x, lead, pitch, across). matrices: B and A of tiles,
or empty. scratch: for each thread.
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


@compiled
def lay_out(image, start, count, B, strip, nine, rows):
    """The rows of x of a strip, or its sums of them."""
    (H, W, C), (group, _, m, _, stride, tall, lead, pitch, _, _) = image.shape, strip
    if len(B):
        for u in range(count):
            tile(
                image.reshape(-1), (start + u) * m - 1, H, W * C, B, nine,
                rows, u * pitch, group * pitch, lead * C, pitch,
            )  # fmt: skip
    else:
        frame(image, stride * start - lead, tall, rows, lead * C, pitch)


@compiled(parallel=True)
def correlate(x, weights, bias, add, y, size, phases, strip, matrices, block, scratch):
    """y = bias + add + the correlation of x with weights. add: like y, or of size 0."""
    full_vectors()
    (H, W, K), (_, P, lanes), (B, A) = size, block, matrices
    group, high, m, up, stride, _, _, pitch, across, of_block = strip
    C, columns, width = x.shape[3], (W + up - 1) // up, (K + lanes - 1) // lanes * lanes
    strips = (high + group - 1) // group
    for item in numba.prange(len(x) * strips):
        full_vectors()
        thread = numba.get_thread_id()
        rows, sums, row = scratch[0][thread], scratch[1][thread], scratch[2][thread]
        nine = np.empty(9, x.dtype), np.empty(9, np.int64)
        n, start = item // strips, item % strips * group
        count = min(group, high - start)
        lay_out(x[n], start, count, B, strip, nine, rows)
        clear(sums, 0, sums.size)
        for down, right, top, left, R, M, w in phases:
            for k in range(0, K, lanes):
                for i in range(count):
                    to = (down + up * i) * across + right * width + k
                    at = (top + stride * i) * pitch + left * C
                    for j in range(0, columns, P):
                        add_products(
                            block, sums, to + up * j * width, up * width,
                            rows, at + stride * j * C, stride * C, pitch, 1,
                            weights, k * of_block + w * lanes, M * lanes, lanes, R, M,
                        )  # fmt: skip
        for q in range(9):
            nine[1][q] = min(q, len(B) - 1) * group * across
        for i in range(min(count * m, H - start * m)):
            at = (n * H + start * m + i) * W * K
            if len(B):
                sum_rows(A[i % m], nine[1], sums, i // m * across, row, 0, W * width)
                gather(row, 0, width, bias, y, add, at, K, W)
            else:
                gather(sums, i * across, width, bias, y, add, at, K, W)


@compiled(parallel=True)
def correlate_weight(
    x, dy, dweights, dbias, size, phases, strip, matrices, block, scratch
):
    """Add the gradients of `correlate`'s weights and bias, in partial sums.

    Each partial sum is one thread's, as two that added to one would lose updates. Their
    number and the order within each are fixed, so the bits do not depend on threads.
    dweights (partial sums, n), M filled up to whole blocks: the gradients beyond mean
    nothing. dbias (partial sums, across).
    """
    full_vectors()
    (H, W, K), (_, P, lanes), (B, A) = size, block, matrices
    group, high, m, up, stride, _, _, pitch, across, of_block = strip
    C, width, parts = x.shape[3], (K + lanes - 1) // lanes * lanes, len(dweights)
    strips = (high + group - 1) // group
    items = len(x) * strips
    for part in numba.prange(parts):
        full_vectors()
        thread = numba.get_thread_id()
        rows, dy_rows, row = scratch[0][thread], scratch[1][thread], scratch[2][thread]
        nine = np.empty(9, x.dtype), np.empty(9, np.int64)
        dw = dweights[part]
        db = dbias[part]
        for item in range(part * items // parts, (part + 1) * items // parts):
            n, start = item // strips, item % strips * group
            count = min(group, high - start)
            inside = min(count * m, H - start * m)
            lay_out(x[n], start, count, B, strip, nine, rows)
            into = row if len(B) else dy_rows
            for i in range(inside):
                at = (n * H + start * m + i) * W * K
                spread(dy, at, K, into, i * across, width, W)
                add_row(into, i * across, db, W * width)
            if len(B):
                for u in range(count):
                    tile(
                        row, u * m, inside, across, A, nine,
                        dy_rows, u * across, group * across, 0, across,
                    )  # fmt: skip
            for down, right, top, left, R, M, w in phases:
                whole = (M + P - 1) // P * P
                high_dy = count if len(B) else (inside - down + up - 1) // up
                for k in range(0, K, lanes):
                    for r in range(R):
                        for c in range(0, M, P):
                            add_products(
                                block, dw, k * of_block + (w + r * whole + c) * lanes,
                                lanes, rows, (top + r) * pitch + left * C + c, 1,
                                stride * pitch, stride * C,
                                dy_rows, down * across + right * width + k,
                                up * across, up * width,
                                high_dy, (W - right + up - 1) // up,
                            )  # fmt: skip
