"""The loops of every convolution, on images whose channels lie together.

    correlate         y from x by a plan           correlate_weight   dw and db
    correlate_tiles   the same in tiles of rows    tiles_weight       dw and db

Each takes a strip of rows of x into scratch, with zeros where the image ends. Then the
pixels under a row of taps are contiguous numbers, and so are those under the next pixel
of y, a few further on: `add_products` needs no copy of each. Sums go to the image when
all terms are in. Shapes: x (N, H, W, C), y and dy (N, H', W', K). Other arrays are flat
or have a first axis of threads or of partial sums. K is filled up to whole blocks in
scratch, as `across`, the numbers of a row of y there, says.
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
def fill(target, t, n, value):
    """target[t : t + n] = value."""
    full_vectors()
    t = uint64(t)
    for i in range(uint64(n)):
        target[t + i] = value


@compiled
def frame_row(image, h, row, at, margin, pitch):
    """Row h of (H, W, C), or zeros outside, `margin` zeros before and zeros behind."""
    H, W, C = image.shape
    zero = image.dtype.type(0)
    if 0 <= h < H:
        fill(row, at, margin, zero)
        copy(image.reshape(-1), h * W * C, row, at + margin, W * C)
        fill(row, at + margin + W * C, pitch - margin - W * C, zero)
    else:
        fill(row, at, pitch, zero)


@compiled
def spread(source, rows, at, width):
    """(W, K) numbers to every `width` of a row: K of each, then what was there."""
    W, K = source.shape
    if width == K:
        copy(source.reshape(-1), 0, rows, at, W * K)
    else:
        for p in range(W):
            for k in range(K):
                rows[at + p * width + k] = source[p, k]


@compiled
def gather(rows, at, width, bias, target, more):
    """The way back from `spread`, plus a row of bias, plus `more`, or one of size 0."""
    full_vectors()
    W, K = target.shape
    if width == K:
        pixels, added, at = target.reshape(-1), more.reshape(-1), uint64(at)
        if more.size:
            for i in range(uint64(W * K)):
                pixels[i] = rows[at + i] + bias[i] + added[i]
        else:
            for i in range(uint64(W * K)):
                pixels[i] = rows[at + i] + bias[i]
    else:
        for p in range(W):
            for k in range(K):
                i = p * width + k
                target[p, k] = rows[at + i] + bias[i]
                if more.size:
                    target[p, k] += more[p, k]


@compiled
def of_row(add, n, h):
    """Row h of image n of `add`, or something of size 0."""
    return add[n, h] if add.size else add[:0].reshape(0, 0)


@compiled(parallel=True)
def correlate(x, weights, starts, bias, add, y, plan, frame, block, scratch):
    """y = bias + add + the correlation of x with weights, by a plan.

    add: like y, or of size 0. bias: a row of y, `across` long. plan: (stride, first,
    taps of each phase). frame: (rows of a strip, rows of x for a strip, zeros before a
    row, pitch of a row of x, across). starts (up, up): where the weights of a phase of
    rows and one of columns begin: (K / lanes, taps, taps, C, lanes).
    """
    full_vectors()
    (stride, first, taps), (rows, tall, lead, pitch, across) = plan, frame
    N, C, (H, W, K) = x.shape[0], x.shape[3], y.shape[1:]
    up, P, lanes = len(first), block.P, block.lanes
    coarse, columns = (H + up - 1) // up, (W + up - 1) // up
    width, strips = (K + lanes - 1) // lanes * lanes, (coarse + rows - 1) // rows
    for item in numba.prange(N * strips):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, sums = scratch[0][thread], scratch[1][thread]
        n, start = item // strips, item % strips * rows
        count = min(rows, coarse - start)
        for q in range(tall):
            frame_row(x[n], stride * start - lead + q, x_rows, q * pitch, lead * C, pitch)
        for a in range(up):
            fill(sums, 0, count * across, x.dtype.type(0))
            for b in range(up):
                for k in range(0, K, lanes):
                    w = starts[a * up + b] + k * taps[a] * taps[b] * C
                    for i in range(count):
                        for j in range(0, columns, P):
                            add_products(
                                block,
                                sums, i * across + (j * up + b) * width + k, up * width,
                                x_rows, (stride * i + first[a] + lead) * pitch
                                + (stride * j + first[b] + lead) * C,
                                stride * C, pitch, 1,
                                weights, w, taps[b] * C * lanes, lanes,
                                taps[a], taps[b] * C,
                            )  # fmt: skip
            for i in range(count):
                h = (start + i) * up + a
                if h < H:
                    gather(
                        sums, i * across, width, bias, y[n, h], of_row(add, n, h)
                    )


@compiled(parallel=True)
def correlate_weight(x, dy, dweights, dbias, starts, plan, frame, block, scratch):
    """Add the gradients of `correlate`'s weights and bias, in partial sums.

    Each partial sum is one thread's, as two that added to one would lose updates. Their
    number and the order within each are fixed, so the bits do not depend on threads.
    dbias (partial sums, across). Of the taps along columns and channels there are
    whole blocks in dweights: the gradients beyond mean nothing.
    """
    full_vectors()
    (stride, first, taps), (rows, tall, lead, pitch, across) = plan, frame
    N, _, _, C = x.shape
    _, H, W, K = dy.shape
    parts = len(dweights)
    up, P, lanes = len(first), block.P, block.lanes
    coarse = (H + up - 1) // up
    width, strips = (K + lanes - 1) // lanes * lanes, (coarse + rows - 1) // rows
    for part in numba.prange(parts):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, dy_rows = scratch[0][thread], scratch[1][thread]
        dw = dweights[part]
        db = dbias[part]
        for item in range(part * N * strips // parts, (part + 1) * N * strips // parts):
            n, start = item // strips, item % strips * rows
            for q in range(tall):
                h = stride * start - lead + q
                frame_row(x[n], h, x_rows, q * pitch, lead * C, pitch)
            for a in range(up):
                count = min(rows, (H - a + up - 1) // up - start)
                for i in range(count):
                    spread(dy[n, (start + i) * up + a], dy_rows, i * across, width)
                    add_row(db, dy_rows, i * across, W * width)
                for b in range(up):
                    numbers = taps[b] * C
                    size = (numbers + P - 1) // P * P * lanes
                    for k in range(0, K, lanes):
                        for r in range(taps[a]):
                            at = starts[a * up + b] + (k // lanes * taps[a] + r) * size
                            for j in range(0, numbers, P):
                                add_products(
                                    block, dw, at + j * lanes, lanes,
                                    x_rows, (first[a] + lead + r) * pitch
                                    + (first[b] + lead) * C + j,
                                    1, stride * pitch, stride * C,
                                    dy_rows, b * width + k, across, up * width,
                                    count, (W - b + up - 1) // up,
                                )  # fmt: skip


@compiled
def add_row(into, row, at, n):
    """into[:n] += row[at : at + n]."""
    full_vectors()
    at = uint64(at)
    for i in range(uint64(n)):
        into[i] += row[at + i]


@compiled
def sum_rows(weights, starts, rows, at, target, t, n):
    """target[t : t + n] = the sum of weights[q] times rows[at + starts[q] :], q < 9.

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
        near = w0 * rows[s0 + i] + w1 * rows[s1 + i] + w2 * rows[s2 + i]
        near += w3 * rows[s3 + i] + w4 * rows[s4 + i]
        near += w5 * rows[s5 + i] + w6 * rows[s6 + i]
        target[t + i] = near + w7 * rows[s7 + i] + w8 * rows[s8 + i]


@compiled
def tile_rows(pixels, top, high, across, matrix, starts, weights, rows, at, step, margin):
    """Sums of rows top, top + 1, .. of `high` rows of so many pixels, `step` apart.

    margin: before each sum. A row that is not there is any, times 0. starts, weights
    (9,) are written to.
    """
    for i in range(len(matrix)):
        for q in range(9):
            h = top + q
            starts[q] = min(max(h, 0), high - 1) * across
            weights[q] = matrix[i, q] if 0 <= h < high else pixels.dtype.type(0)
        sum_rows(weights, starts, pixels, 0, rows, at + i * step + margin, across)


@compiled
def clear_margins(rows, margin, inside, pitch, count):
    """Write zeros before and behind the `inside` of each row."""
    for i in range(count):
        fill(rows, i * pitch, margin, rows.dtype.type(0))
        behind = margin + inside
        fill(rows, i * pitch + behind, pitch - behind, rows.dtype.type(0))


@compiled(parallel=True)
def correlate_tiles(x, weights, starts, bias, add, y, matrices, frame, block, scratch):
    """As `correlate`, for a 3x3 of stride 1, by `plans.Tiles`.

    weights: (K / lanes, n, 3, C, lanes). matrices: B (n, 9) and A (m, 9), transposed
    and filled up with zeros. frame: (tiles of a strip, pitch of a row of x, across).
    """
    full_vectors()
    (B, A, m), (group, pitch, across) = matrices, frame
    (N, H, W, C), K, n = x.shape, y.shape[3], len(B)
    P, lanes, high = block.P, block.lanes, (H + m - 1) // m
    width, strips = (K + lanes - 1) // lanes * lanes, (N * high + group - 1) // group
    for strip in numba.prange(strips):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, sums = scratch[0][thread], scratch[1][thread]
        row, few, at = scratch[2][thread], np.empty(9, x.dtype), np.empty(9, np.int64)
        start = strip * group
        count = min(group, N * high - start)
        clear_margins(x_rows, C, W * C, pitch, n * group)
        fill(sums, 0, n * group * across, x.dtype.type(0))
        for u in range(count):
            pixels, tile = x[(start + u) // high].reshape(-1), (start + u) % high
            tile_rows(
                pixels, tile * m - 1, H, W * C, B, at, few,
                x_rows, u * pitch, group * pitch, C,
            )  # fmt: skip
        for k in range(0, K, lanes):
            for i in range(n):
                for u in range(count):
                    for j in range(0, W, P):
                        add_products(
                            block,
                            sums, (i * group + u) * across + j * width + k, width,
                            x_rows, (i * group + u) * pitch + j * C, C, 0, 1,
                            weights, (k * n + i * lanes) * 3 * C, 0, lanes,
                            1, 3 * C,
                        )  # fmt: skip
        for q in range(9):
            at[q] = min(q, n - 1) * group * across
        for u in range(count):
            image, tile = (start + u) // high, (start + u) % high
            for q in range(min(m, H - tile * m)):
                sum_rows(A[q], at, sums, u * across, row, 0, W * width)
                h = tile * m + q
                gather(row, 0, width, bias, y[image, h], of_row(add, image, h))


@compiled(parallel=True)
def tiles_weight(x, dy, dweights, dbias, starts, matrices, frame, block, scratch):
    """As `correlate_weight`, for `correlate_tiles`. matrices: B (n, 9) and A (n, 9)."""
    full_vectors()
    (B, A, m), (group, pitch, across) = matrices, frame
    N, H, W, C = x.shape
    K, n, parts = dy.shape[3], len(B), len(dweights)
    P, lanes, high = block.P, block.lanes, (H + m - 1) // m
    width, count_all = (K + lanes - 1) // lanes * lanes, N * high
    strips = (count_all + group - 1) // group
    size = (3 * C + P - 1) // P * P * lanes
    for part in numba.prange(parts):
        full_vectors()
        thread = numba.get_thread_id()
        x_rows, dy_rows = scratch[0][thread], scratch[1][thread]
        row, few, at = scratch[2][thread], np.empty(9, x.dtype), np.empty(9, np.int64)
        dw = dweights[part]
        db = dbias[part]
        clear_margins(x_rows, C, W * C, pitch, n * group)
        for strip in range(part * strips // parts, (part + 1) * strips // parts):
            start = strip * group
            count = min(group, count_all - start)
            for u in range(count):
                image, tile = (start + u) // high, (start + u) % high
                tile_rows(
                    x[image].reshape(-1), tile * m - 1, H, W * C, B, at, few,
                    x_rows, u * pitch, group * pitch, C,
                )  # fmt: skip
                inside = min(m, H - tile * m)
                for q in range(inside):
                    spread(dy[image, tile * m + q], row, q * W * width, width)
                    add_row(db, row, q * W * width, W * width)
                tile_rows(
                    row, 0, inside, W * width, A, at, few,
                    dy_rows, u * across, group * across, 0,
                )  # fmt: skip
            for k in range(0, K, lanes):
                for i in range(n):
                    for j in range(0, 3 * C, P):
                        add_products(
                            block, dw, (k // lanes * n + i) * size + j * lanes, lanes,
                            x_rows, i * group * pitch + j, 1, pitch, C,
                            dy_rows, i * group * across + k, across, width, count, W,
                        )  # fmt: skip
