"""The loops of every convolution, on images whose channels lie together.

    correlate          y from x                correlate_weight   dw and db

An image is worked on in strips of units: rows, or tiles of rows (`plans`). Strips of x
are in scratch, with zeros where the image ends: rows, or sums of rows that are read
from the image itself. A 1x1 reads x itself. The last sums are written to y.

Shapes: x (N, H, W, C); y and what is added to it (N, H', W', K), in whole blocks; dy
(N, H', W', K). In scratch a row of x has `pitch` numbers, `lead` pixels of zeros first;
a row of y has `across`: pixels of `width` channels, whole blocks. bias: such a row.
phases: rows (down, right, first, left, R, M, w) for each kind of pixel of y, or sum of
rows: its first row and pixel in y, the first under it in x, R rows of taps of M
numbers, where its weights begin, (K / lanes, R, M, lanes). strip: group, its units;
units, those that scratch has room for; slots, those for one image; high, those of an
image; tall, rows of x. steps: m, rows of y of a unit; up, pixels from one of a phase to
the next; stride, those of x; lead; pitch; across; depth, weights of a lane. B, A: the
matrices of tiles, or empty, each with its block. scratch (threads, 3, n). in_...: a
place in an array, its start and steps (`sum_products`).
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
def sum_blocks(block, bias, in_bias, more, out, in_out, a, in_a, b, in_b, J, terms):
    """`sum_products` for J blocks; each place has one more step, to the next block."""
    full_vectors()
    (s, sj), (o, op, oj), (at, ap, ar, am, aj) = in_bias, in_out, in_a
    bt, br, bm, bj = in_b
    for j in range(J):
        sum_products(
            block, bias, (s + j * sj,), more, out, (o + j * oj, op),
            a, (at + j * aj, ap, ar, am), b, (bt + j * bj, br, bm), terms,
        )  # fmt: skip


@compiled
def lay_out(image, top, tall, steps, width, matrix, block, step, rows, to, room):
    """`frame`, or sums of rows: all first ones, `step` further all second.

    Sums leave out rows above and below the image. room: for rows that do not fill
    blocks. Returns the rows of the image themselves: array, start, numbers of a row.
    """
    (H, W, C), (_, Q), (m, lead, pitch) = image.shape, matrix.shape, steps
    source, s, n, shift = image.reshape(-1), top * W * C, W * C, lead * C
    lanes, none, zero, one = block[2], room[:0], int64(0), int64(1)
    if matrix.size == 0 or C < width or n % lanes:
        source, s = (room, zero) if matrix.size else (rows, to)
        frame(image, top, tall, lead, width, source, s, pitch)
        n, shift = pitch, zero
    if matrix.size:
        for u in range(tall // m):
            above, t = max(zero, -top - u * m), to + u * pitch + shift
            inside, r = min(Q, H - top - u * m) - above, s + (u * m + above) * n
            sum_blocks(
                block, none, (zero, zero), none, rows, (t, step, lanes),
                matrix.reshape(-1), (above, Q, zero, one, zero),
                source, (r, zero, n, lanes), n // lanes, (one, inside),
            )  # fmt: skip
    return source, s, n


@in_threads
def correlate(
    x, weights, bias, add, y, phases, strip, steps, block, B, of_B, A, of_A, scratch
):
    """y = bias + add + the correlation of x with weights. add: like y, or of size 0."""
    (N, H, W, width), (_, _, W_x, C), (_, P, lanes) = y.shape, x.shape, block
    group, units, _, high, tall = strip
    m, up, stride, lead, pitch, across, depth = steps
    strips, blocks = (high + group - 1) // group, W // up // P
    for item in numba.prange(N * strips):
        full_vectors()
        thread, zero, one = numba.get_thread_id(), int64(0), int64(1)
        rows, sums, room = scratch[thread, 0], scratch[thread, 1], scratch[thread, 2]
        n, start = item // strips, item % strips * group
        count, top, at = min(group, high - start), m // up * stride * start - lead, zero
        if lead or pitch > W_x * C:
            lay_out(
                x[n], top, tall, (m, lead, pitch), C,
                B, of_B, units * pitch, rows, zero, room,
            )  # fmt: skip
        else:  # of a 1x1
            rows, at = x[n].reshape(-1), top * pitch
        to = (n * H + start * m) * across
        out, o, row, more = y.reshape(-1), to, bias, add.reshape(-1)
        if A.size:  # these are for the last step
            out, o, row, more = sums, zero, sums[:0], sums[:0]
        for down, right, first, left, R, M, w in phases:
            for k in range(0, width, lanes):
                in_weights = k * depth + w * lanes, M * lanes, lanes, zero
                for i in range(count):
                    t = o + (down + up * i) * across + right * width + k
                    s = at + (first + stride * i) * pitch + left * C
                    sum_blocks(
                        block, row, (k, zero), more,
                        out, (t, up * width, up * P * width),
                        rows, (s, stride * C, pitch, one, stride * P * C),
                        weights, in_weights, blocks, (R, M),
                    )  # fmt: skip
        for u in range(count if A.size else 0):
            in_y = to + u * m * across, across, of_A[2]
            in_sums = u * across, zero, units * across, of_A[2]
            sum_blocks(
                of_A, bias, (zero, of_A[2]), add.reshape(-1), y.reshape(-1), in_y,
                A.reshape(-1), (zero, A.shape[1], zero, one, zero),
                sums, in_sums, across // of_A[2], (one, A.shape[1]),
            )  # fmt: skip


@in_threads
def correlate_weight(
    x, dy, dweights, dbias, phases, strip, steps, block, B, of_B, A, of_A, scratch
):
    """Write the gradients of `correlate`'s weights and bias, in partial sums.

    Each is one thread's, as two that added to one would lose updates. Their number and
    the order within each are fixed, so the bits do not depend on threads. dweights
    (partial sums, n), M filled up to whole blocks: what is beyond means nothing. dbias
    (partial sums, across). Small images share a strip: a slot for each.
    """
    (N, H, W, K), C, (_, P, lanes) = dy.shape, x.shape[3], block
    group, units, slots, high, tall = strip
    m, up, stride, lead, pitch, across, depth = steps
    width, parts = (K + lanes - 1) // lanes * lanes, len(dweights)
    for part in numba.prange(parts):
        full_vectors()
        thread, zero, one = numba.get_thread_id(), int64(0), int64(1)
        rows, dys, room = scratch[thread, 0], scratch[thread, 1], scratch[thread, 2]
        dw, db = dweights[part], dbias[part]
        begin, end = part * N // parts, (part + 1) * N // parts
        for first in range(begin, end, units // slots):
            for start in range(0, high, group):
                more = dw if first > begin or start else room[:0]
                used, top = 0, m // up * stride * start - lead
                for n in range(first, min(first + units // slots, end)):
                    lay_out(
                        x[n], top, tall, (m, lead, pitch), C,
                        B, of_B, units * pitch, rows, used * stride * pitch, room,
                    )  # fmt: skip
                    laid, at, step = lay_out(
                        dy[n], start * m, slots * m, (m, zero, across), width,
                        A, of_A, units * across, dys, used * up * across, room,
                    )  # fmt: skip
                    for i in range(min(slots * m, H - start * m)):
                        for j in range(uint64(step)):
                            db[j] += laid[uint64(at + i * step) + j]
                    used += slots
                used -= max(0, slots - (high - start))  # spare: dy is 0
                for down, right, first_row, left, R, M, w in phases:
                    n, pixels = (M + P - 1) // P, (W - right + up - 1) // up
                    for k in range(0, K, lanes):
                        t = down * across + right * width + k
                        for r in range(R):
                            q = (first_row + r) * pitch + left * C
                            o = k * depth + (w + r * n * P) * lanes
                            sum_blocks(
                                block, room[:0], (zero, zero), more, dw,
                                (o, lanes, P * lanes), rows,
                                (q, one, stride * pitch, stride * C, P), dys,
                                (t, up * across, up * width, zero), n, (used, pixels),
                            )  # fmt: skip
