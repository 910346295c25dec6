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
def gather(rows, at, width, add, y, to, W, K):
    """The way back of a row, to y, plus `add`: like y, or of size 0."""
    full_vectors()
    y, add, s, t = y.reshape(-1), add.reshape(-1), uint64(at), uint64(to)
    for p in range(W):
        for k in range(K):
            y[t + uint64(p * K + k)] = rows[s + uint64(p * width + k)]
    if add.size:
        for i in range(uint64(W * K)):
            y[t + i] += add[t + i]


@compiled
def sum_blocks(block, bias, at_bias, more, out, at_out, a, at_a, b, at_b, J, R, M):
    """`sum_products` for J blocks. The last of each place: from one block to the next."""
    full_vectors()
    (s, sj), (o, op, oj), (at, ap, ar, am, aj) = at_bias, at_out, at_a
    bt, br, bm, bj = at_b
    for j in range(J):
        sum_products(
            block, bias, s + j * sj, more, out, (o + j * oj, op),
            a, (at + j * aj, ap, ar, am), b, (bt + j * bj, br, bm), R, M,
        )  # fmt: skip


@compiled
def sum_rows(matrix, first, Q, block, bias, more, source, s, pitch, n, out, o, step):
    """Rows of n numbers, `step` apart, are the matrix times Q rows of the source.

    Of the matrix, Q columns from the first one on.
    """
    lanes, zero, one = block[2], int64(0), int64(1)
    sum_blocks(
        block, bias, (zero, lanes), more, out, (o, step, lanes),
        matrix.reshape(-1), (first, matrix.shape[1], zero, one, zero),
        source, (s, zero, pitch, lanes), n // lanes, one, Q,
    )  # fmt: skip


@compiled
def lay_out(
    image, top, tall, lead, width, pitch, matrix, block, m, step, rows, to, room
):
    """`frame`, or sums of rows: all first ones, `step` further all second.

    Rows of whole vectors are summed where they lie, those outside of the image left
    out. Returns where the rows of the image themselves are: array, start, pitch.
    """
    (H, W, C), (_, Q), zero = image.shape, matrix.shape, int64(0)
    source, s, n, shift = image.reshape(-1), top * W * C, W * C, lead * C
    if matrix.size == 0 or C != width or n % block[2]:
        source, s = (room, zero) if matrix.size else (rows, to)
        frame(image, top, tall, lead, width, source, s, pitch)
        n, shift = pitch, zero
    if matrix.size:
        for u in range(tall // m):
            out = max(zero, -top - u * m)  # rows above the image
            sum_rows(
                matrix, out, min(Q, H - top - u * m) - out, block, room[:0], room[:0],
                source, s + (u * m + out) * n, n, n, rows, to + u * pitch + shift, step,
            )  # fmt: skip
    return source, s, n


@in_threads
def correlate(
    x, weights, bias, add, y, phases, strip, block, B, of_B, A, of_A, scratch
):
    """y = bias + add + the correlation of x with weights. add: like y, or of size 0."""
    (_, H, W, K), (_, _, W_x, C), (_, P, lanes) = y.shape, x.shape, block
    group, units, _, high, m, up, stride, tall, lead, pitch, across, depth, whole = strip
    width, columns = (K + lanes - 1) // lanes * lanes, (W + up - 1) // up
    strips, blocks = (high + group - 1) // group, (columns + P - 1) // P
    for item in numba.prange(len(x) * strips):
        full_vectors()
        thread, zero, one = numba.get_thread_id(), int64(0), int64(1)
        rows, sums, room = scratch[thread, 0], scratch[thread, 1], scratch[thread, 2]
        n, start = item // strips, item % strips * group
        count, first = min(group, high - start), m // up * stride * start - lead
        at = zero
        if lead or pitch > W_x * C:
            lay_out(
                x[n], first, tall, lead, C, pitch,
                B, of_B, m, units * pitch, rows, zero, room,
            )  # fmt: skip
        else:
            rows, at = x[n].reshape(-1), first * pitch
        # the last step writes to y where its rows are whole blocks
        none, to = room[:0], (n * H + start * m) * W * K
        more, out, o = (add.reshape(-1), y.reshape(-1), to) if whole else (none, room, zero)
        b1, m1, s1, o1 = (none, none, sums, zero) if A.size else (bias, more, out, o)
        for down, right, top, left, R, M, w in phases:
            for k in range(0, K, lanes):
                for i in range(count):
                    sum_blocks(
                        block, b1, (k, zero), m1, s1, (
                            o1 + (down + up * i) * across + right * width + k,
                            up * width, up * P * width,
                        ), rows, (
                            at + (top + stride * i) * pitch + left * C,
                            stride * C, pitch, one, stride * P * C,
                        ), weights, (k * depth + w * lanes, M * lanes, lanes, zero),
                        blocks, R, M,
                    )  # fmt: skip
        if A.size:
            for u in range(count):
                sum_rows(
                    A, zero, A.shape[1], of_A, bias, more, sums, u * across,
                    units * across, across, out, o + u * m * across, across,
                )  # fmt: skip
        if not whole:
            for i in range(min(count * m, H - start * m)):
                gather(room, i * across, width, add, y, to + i * W * K, W, K)


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
    group, units, slots, high, m, up, stride, tall, lead, pitch, across, depth, _ = strip
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
                    laid, at, step = lay_out(
                        dy[n], start * m, slots * m, zero, width, across,
                        A, of_A, m, units * across, dys, used * up * across, room,
                    )  # fmt: skip
                    for i in range(min(slots * m, H - start * m)):
                        for j in range(uint64(step)):
                            db[j] += laid[uint64(at + i * step) + j]
                    used += slots
                used -= max(0, slots - (high - start))  # spare: dy is 0
                for down, right, top, left, R, M, w in phases:
                    blocks = (M + P - 1) // P
                    for k in range(0, K, lanes):
                        for r in range(R):
                            sum_blocks(
                                block, room[:0], (zero, zero), dw, dw, (
                                    k * depth + (w + r * blocks * P) * lanes,
                                    lanes, P * lanes,
                                ), rows, (
                                    (top + r) * pitch + left * C,
                                    one, stride * pitch, stride * C, P,
                                ), dys, (
                                    down * across + right * width + k,
                                    up * across, up * width, zero,
                                ), blocks, used, (W - right + up - 1) // up,
                            )  # fmt: skip
