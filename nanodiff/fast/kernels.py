"""The loops of every convolution, on images whose channels lie together.

    correlate          y from x                correlate_weight   dw and db

An image is worked on in strips of units: rows, or tiles of rows (`plans`). A strip of x
goes to scratch, with zeros where the image ends. Sums go to the image at the end.

Shapes: x (N, H, W, C); y, dy and what is added to y (N, H', W', K). In scratch a row of
x has `pitch` numbers, `lead` pixels of zeros first; a row of y has `across`: pixels of
`width` channels, whole blocks. bias: such a row. phases: rows (down, right, top, left,
R, M, w) for each kind of pixel of y, or sum of rows: where its sums begin, in rows and
pixels, its pixels of x too, how many rows of taps, of how many numbers, where its
weights begin, (K / lanes, R, M, lanes). strip: group, its units; units, those that
scratch has room for; slots, those for one image; high, those of an image; m, rows of y
of each; up, pixels from one of a phase to the next; stride, those of x; tall, rows of
x; lead, pitch, across; depth, weights of a lane. B, A: the matrices of tiles, or empty,
each with its block. scratch (threads, 3, n).
"""

import numba
from numpy import int64, uint64

from nanodiff.fast.compiled import compiled, full_vectors, in_threads
from nanodiff.fast.products import sum_products

# Indices are unsigned inside the hot loops: an index that may be negative makes Numba
# handle wrap-around, which stops the compiler from using vector instructions. Constants
# are int64(0), since Numba compiles a function anew for a plain 0.


@compiled
def frame(image, top, tall, lead, width, rows, to, pitch):
    """Rows top, top + 1, .. of (H, W, C), zeros around, `width` numbers a pixel."""
    full_vectors()
    (H, W, C), zero, numbers = image.shape, image.dtype.type(0), image.reshape(-1)
    for q in range(tall):
        h, s, t = top + q, (top + q) * W * C, uint64(to + q * pitch)
        for i in range(uint64(pitch)):
            rows[t + i] = zero
        t += uint64(lead * width)
        if 0 <= h < H and C == width:
            for i in range(uint64(W * C)):
                rows[t + i] = numbers[uint64(s) + i]
        elif 0 <= h < H:
            for p in range(W):
                for c in range(C):
                    rows[t + uint64(p * width + c)] = numbers[uint64(s + p * C + c)]


@compiled
def gather(rows, at, width, bias, add, y, to, W, K):
    """The way back of a row, to y, plus bias, plus `add`: like y, or of size 0."""
    full_vectors()
    y, add, s, t = y.reshape(-1), add.reshape(-1), uint64(at), uint64(to)
    if K == width:
        for i in range(uint64(W * K)):
            y[t + i] = rows[s + i] + bias[i]
    else:
        for p in range(W):
            for k in range(K):
                i = uint64(p * width + k)
                y[t + uint64(p * K + k)] = rows[s + i] + bias[i]
    if add.size:
        for i in range(uint64(W * K)):
            y[t + i] += add[t + i]


@compiled
def sum_blocks(
    block, add, out, o, oj, op, a, at, aj, ap, ar, am, b, bt, bj, br, bm, J, R, M
):
    """`sum_products` for J blocks, oj apart in out, aj in a and bj in b."""
    full_vectors()
    for j in range(J):
        sum_products(
            block, add, out, o + j * oj, op,
            a, at + j * aj, ap, ar, am, b, bt + j * bj, br, bm, R, M,
        )  # fmt: skip


@compiled
def sum_rows(matrix, block, source, s, pitch, n, rows, to, step):
    """Rows of n numbers, `step` apart, are the matrix times rows of the source."""
    (_, Q), lanes, zero, one = matrix.shape, block[2], int64(0), int64(1)
    sum_blocks(
        block, zero, rows, to, lanes, step, matrix.reshape(-1), zero, zero, Q, zero,
        one, source, s, lanes, zero, pitch, n // lanes, one, Q,
    )  # fmt: skip


@compiled
def lay_out(
    image, top, tall, lead, width, pitch, matrix, block, m, step, rows, to, room
):
    """`frame`, or sums of rows in `room`: all first ones, `step` further all second."""
    into, at = (room, 0) if matrix.size else (rows, to)
    frame(image, top, tall, lead, width, into, at, pitch)
    if matrix.size:
        for u in range(tall // m):
            s, t = u * m * pitch, to + u * pitch
            sum_rows(matrix, block, room, s, pitch, pitch, rows, t, step)


@in_threads
def correlate(
    x, weights, bias, add, y, phases, strip, block, B, of_B, A, of_A, scratch
):
    """y = bias + add + the correlation of x with weights. add: like y, or of size 0."""
    (_, H, W, K), C, (_, P, lanes) = y.shape, x.shape[3], block
    group, units, _, high, m, up, stride, tall, lead, pitch, across, depth = strip
    width, columns = (K + lanes - 1) // lanes * lanes, (W + up - 1) // up
    strips, blocks = (high + group - 1) // group, (columns + P - 1) // P
    for item in numba.prange(len(x) * strips):
        full_vectors()
        thread, zero, one = numba.get_thread_id(), int64(0), int64(1)
        rows, sums = scratch[thread, 0], scratch[thread, 1]
        n, start = item // strips, item % strips * group
        count = min(group, high - start)
        lay_out(
            x[n], m // up * stride * start - lead, tall, lead, C, pitch,
            B, of_B, m, units * pitch, rows, zero, sums,
        )  # fmt: skip
        for down, right, top, left, R, M, w in phases:
            for k in range(0, K, lanes):
                for i in range(count):
                    sum_blocks(
                        block, zero, sums, (down + up * i) * across + right * width + k,
                        up * P * width, up * width, rows,
                        (top + stride * i) * pitch + left * C,
                        stride * P * C, stride * C, pitch, one, weights,
                        k * depth + w * lanes, zero, M * lanes, lanes, blocks, R, M,
                    )  # fmt: skip
        if A.size:
            for u in range(count):
                s, t = u * across, u * m * across
                sum_rows(A, of_A, sums, s, units * across, across, rows, t, across)
            sums = rows
        for i in range(min(count * m, H - start * m)):
            to = (n * H + start * m + i) * W * K
            gather(sums, i * across, width, bias, add, y, to, W, K)


@in_threads
def correlate_weight(
    x, dy, dweights, dbias, phases, strip, block, B, of_B, A, of_A, scratch
):
    """Add the gradients of `correlate`'s weights and bias, in partial sums.

    Each partial sum is one thread's, as two that added to one would lose updates. Their
    number and the order within each are fixed, so the bits do not depend on threads.
    dweights (partial sums, n), M filled up to whole blocks: the gradients beyond mean
    nothing. dbias (partial sums, across). Small images are one strip, with slots for
    each: sums are added up for all before they are written.
    """
    (N, H, W, K), C, (_, P, lanes) = dy.shape, x.shape[3], block
    group, units, slots, high, m, up, stride, tall, lead, pitch, across, depth = strip
    width, parts = (K + lanes - 1) // lanes * lanes, len(dweights)
    for part in numba.prange(parts):
        full_vectors()
        thread, zero, one = numba.get_thread_id(), int64(0), int64(1)
        rows, dys, room = scratch[thread, 0], scratch[thread, 1], scratch[thread, 2]
        dw, db, end = dweights[part], dbias[part], (part + 1) * N // parts
        for first in range(part * N // parts, end, units // slots):
            for start in range(0, high, group):
                used = 0
                for n in range(first, min(first + units // slots, end)):
                    lay_out(
                        x[n], m // up * stride * start - lead, tall, lead, C, pitch,
                        B, of_B, m, units * pitch, rows, used * stride * pitch, room,
                    )  # fmt: skip
                    lay_out(
                        dy[n], start * m, slots * m, zero, width, across,
                        A, of_A, m, units * across, dys, used * up * across, room,
                    )  # fmt: skip
                    laid, at = (room, 0) if A.size else (dys, used * up * across)
                    for i in range(min(slots * m, H - start * m)):
                        for j in range(uint64(across)):
                            db[j] += laid[uint64(at + i * across) + j]
                    used += slots
                used -= max(0, slots - (high - start))  # spare: dy is 0
                for down, right, top, left, R, M, w in phases:
                    blocks = (M + P - 1) // P
                    for k in range(0, K, lanes):
                        for r in range(R):
                            sum_blocks(
                                block, one, dw,
                                k * depth + (w + r * blocks * P) * lanes,
                                P * lanes, lanes, rows, (top + r) * pitch + left * C,
                                P, one, stride * pitch, stride * C, dys,
                                down * across + right * width + k, zero,
                                up * across, up * width,
                                blocks, used, (W - right + up - 1) // up,
                            )  # fmt: skip
