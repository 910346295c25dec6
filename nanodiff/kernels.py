"""Numba loops of convolution on bare arrays: no classes, no allocation.

Every convolution here, its input gradient included, is a few matrix products whose
right-hand rows are overlapping slices of a string of pixels. A channel of a few images
is laid out row after row, with one zero after every row and one zero row after every
image (and above the first), so that a neighbouring pixel is a constant shift away:

    two 2x2 images        their string, cut into rows of pitch R = W + 1
                          0 0 0
       a b    e f         a b 0      the pixel below a is R further on: c
       c d    g h         c d 0      the pixel left of c is 1 back: a zero
                          0 0 0      the pixel below d is R further on: a zero
                          e f 0
                          g h 0
                          0 0 0

    sums[k, p] = sum_m weight[k, m] * string[offset[m] + p]

where m counts taps, channels, and columns of a tap: neighbours to its left and right.
No edge cases, no im2col, and the innermost loop runs over hundreds of neighbouring
pixels of a few images. What is computed in the zeros' places is dropped.

A channel may become several strings, its planes, by way of its parts, which are strings
of every second, fourth or seventh row: even and odd pixels, sums of rows or of pixels.
`plans.py` says which and what for. Planes of sums of rows (tiles) hold what is above
and below, and need no zero rows.

Shapes: images (n, C, H, W), strings (C * planes, length), sums (4 * planes, length).
Taps are offset (taps, M), M = channels * columns, of which a plane has those from
starts[plane] on. Their weights are in blocks (taps, K/4, M/3, 12), of 4 output channels
by 3 of the M, zero where K or M is no multiple. A frame is (images of a string, its
first pixel, pitch, pixels of an image). A layout is (planes, first row of each part,
rows from one of a part to the next, pixels of a part for one of a plane; phases (2, 2),
for each part the rows of its even and of its odd pixels; sums (n, 3) and matrix: see
`add_up` and `tile`). Scratch (strings of x, room for their parts, sums or strings of
dy, room) begins with an axis of threads.
"""

import numba
from numpy import uint64

from nanodiff.rows import (
    add,
    add_sums,
    add_up,
    clear,
    join,
    pick,
    split,
    tile,
    untile,
)

# fastmath without "nnan" and "ninf": a NaN must stay visible to the training loop.
# Reassociation lets sums run in vector lanes; contraction makes multiply-adds.
OPTIONS = {"cache": True, "error_model": "numpy"}
FAST = {"reassoc", "contract", "nsz"}
jit = numba.njit(fastmath=FAST, **OPTIONS)
inline = numba.njit(fastmath=FAST, inline="always", **OPTIONS)  # a call costs 10 %
parallel = numba.njit(fastmath=FAST, parallel=True, **OPTIONS)

ROWS, TAPS = 4, 3  # a block, output channels by the M: what fits the registers
LANES = 16  # strings are computed in whole vectors; a remainder would run one by one
ONE, TWO, THREE, FOUR = uint64(1), uint64(2), uint64(3), uint64(4)


# Indices are unsigned inside the hot loops: an index that may be negative makes Numba
# handle wrap-around, which stops the compiler from using vector instructions.


@inline
def copy_row(source, s, target, t, width, room, bias):
    """Copy `width` pixels and add a bias, eight at a time if there is room for that.

    What is copied too much, the next row overwrites: rows must come in order.
    """
    # All eight are read before any is written, so that one instruction may do it; and
    # `while`, as `range` with a step would divide. A row costs 4 cycles instead of 23.
    begin, end, width, i = uint64(s), uint64(t), uint64(width), uint64(0)
    if (width + uint64(7)) & ~uint64(7) <= uint64(room):
        while i < width:
            p, q = begin + i, end + i
            a, b, c, d = source[p], source[p + ONE], source[p + TWO], source[p + THREE]
            p += FOUR
            e, f, g, h = source[p], source[p + ONE], source[p + TWO], source[p + THREE]
            target[q] = a + bias
            target[q + ONE] = b + bias
            target[q + TWO] = c + bias
            target[q + THREE] = d + bias
            q += FOUR
            target[q] = e + bias
            target[q + ONE] = f + bias
            target[q + TWO] = g + bias
            target[q + THREE] = h + bias
            i += uint64(8)
    else:
        while i < width:
            target[end + i] = source[begin + i] + bias
            i += ONE


@inline
def lay_out(images, c, string, first, down, lead, pitch, span):
    """Copy rows first, first + down .. of channel c of all images, zeros after each."""
    N, C, H, W = images.shape
    pixels, zero = images.reshape(-1), images.dtype.type(0)
    for n in range(N):
        at = lead + n * span
        for h in range(first, first + (H + down - 1) // down * down, down):
            if 0 <= h < H:
                begin = ((n * C + c) * H + h) * W
                copy_row(pixels, begin, string, at, W, pixels.size - begin, zero)
                for q in range(uint64(8)):  # also what was copied too much
                    string[uint64(at + W) + q] = 0
            else:
                for q in range(uint64(pitch)):
                    string[uint64(at) + q] = 0
            at += pitch


@jit
def pack(images, strings, layout, lead, pitch, span, room):
    """Lay (n, C, H, W) images out as strings (C * planes, length)."""
    P, parts, down, across, phases, sums, matrix = layout
    size = strings.shape[1]
    for c in range(images.shape[1]):
        planes = strings[c * P :]
        for j in range(len(parts)):
            lay_out(
                images, c, room[j] if across == 2 or len(matrix) else planes[j],
                parts[j], down, across * lead, across * pitch, across * span,
            )  # fmt: skip
        if len(matrix):
            tile(matrix, room, planes, size)
        for i in range(len(phases)):
            even = pick(phases[i, 0], planes, room)
            odd = pick(phases[i, 1], planes, room)
            split(room[i], even, odd, size)
        add_up(sums, planes, room, size - lead, pitch)


@jit
def unpack(planes, length, images, k, layout, pitch, span, bias, room):
    """Write the planes of sums, and a bias, to channel k of (n, K, H, W)."""
    N, K, H, W = images.shape
    pixels = images.reshape(-1)
    _, parts, down, across, phases, sums, matrix = layout
    if len(matrix):
        untile(matrix, planes, room, length)
    add_up(sums, planes, room, length, pitch)
    for i in range(len(phases)):
        even = pick(phases[i, 0], planes, room)
        odd = pick(phases[i, 1], planes, room)
        join(room[i], even, odd, length)
    for n in range(N):
        image = (n * K + k) * H * W
        for i in range((H + down - 1) // down):
            at = across * (n * span + i * pitch)
            for j in range(len(parts)):
                row = room[j] if across == 2 or len(matrix) else planes[0]
                h = i * down + j  # the parts of a target begin with row 0, 1, ..
                begin, end = image + h * W, image + H * W
                if h < H:
                    copy_row(row, at, pixels, begin, W, end - begin, bias)


@inline
def add_products(sums, row, step, length, string, offset, m, w):
    """Add to rows row, row + step .. of sums the 4 x 3 weights w times three slices."""
    # Scalars, not w[i]: the compiler must not fear that the sums overwrite them.
    w00, w01, w02, w10, w11, w12 = w[0], w[1], w[2], w[3], w[4], w[5]
    w20, w21, w22, w30, w31, w32 = w[6], w[7], w[8], w[9], w[10], w[11]
    o0, o1, o2 = uint64(offset[m]), uint64(offset[m + 1]), uint64(offset[m + 2])
    r0, r1 = uint64(row), uint64(row + step)
    r2, r3 = uint64(row + 2 * step), uint64(row + 3 * step)
    for p in range(uint64(length)):
        x0, x1, x2 = string[o0 + p], string[o1 + p], string[o2 + p]
        sums[r0, p] += w00 * x0 + w01 * x1 + w02 * x2
        sums[r1, p] += w10 * x0 + w11 * x1 + w12 * x2
        sums[r2, p] += w20 * x0 + w21 * x1 + w22 * x2
        sums[r3, p] += w30 * x0 + w31 * x1 + w32 * x2


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
def correlate(x, blocks, taps, bias, plus, y, source, target, frame, scratch):
    """y = bias + plus + the correlation of x with blocks, on strings of some images.

    plus has y's shape, or size 0 for none.
    """
    N, K = x.shape[0], y.shape[1]
    (offset, starts), (group, lead, pitch, span) = taps, frame
    planes, count = len(starts) - 1, (N + group - 1) // group
    # A single string is laid out twice, so that two threads share its channels.
    shares = 2 if count == 1 and K > ROWS else 1
    for b in numba.prange(count * shares):
        thread = numba.get_thread_id()
        strings, room = scratch[0][thread], scratch[1][thread]
        sums, sums_room = scratch[2][thread], scratch[3][thread]
        first = b // shares * group
        last = min(N, first + group)
        pack(x[first:last], strings, source, lead, pitch, span, room)
        string = strings.reshape(-1)
        length = ((last - first) * span + LANES - 1) // LANES * LANES
        for k in range(b % shares * ROWS, K, shares * ROWS):
            clear(sums[: planes * ROWS], length)
            for plane in range(planes):
                for tap in range(starts[plane], starts[plane + 1]):
                    for j in range(blocks.shape[2]):
                        add_products(
                            sums, plane, planes, length, string,
                            offset[tap], j * TAPS, blocks[tap, k // ROWS, j],
                        )  # fmt: skip
            for i in range(min(ROWS, K - k)):
                unpack(
                    sums[i * planes :], length, y[first:last], k + i, target,
                    pitch, span, bias[k + i], sums_room,
                )  # fmt: skip
                if plus.size:
                    add(y[first:last], plus[first:last], k + i)


@parallel
def correlate_weight(x, dy, taps, dblocks, dbias, source, target, frame, scratch):
    """Add the gradients of `correlate`'s blocks and bias, in partial sums."""
    # A fixed number of parts, each in a fixed order: the bits do not depend on threads.
    N, K, parts = x.shape[0], dy.shape[1], dblocks.shape[0]
    (offset, starts), (group, lead, pitch, span) = taps, frame
    planes, count = len(starts) - 1, (N + group - 1) // group
    for part in numba.prange(parts):
        thread = numba.get_thread_id()
        x_strings, room = scratch[0][thread], scratch[1][thread]
        dy_strings, dy_room = scratch[2][thread], scratch[3][thread]
        string, dy_string = x_strings.reshape(-1), dy_strings.reshape(-1)
        size = dy_strings.shape[1]
        for b in range(part * count // parts, (part + 1) * count // parts):
            first, last = b * group, min(N, (b + 1) * group)
            if last - first < group:
                clear(x_strings, size)  # what an earlier, longer string left behind
                clear(dy_strings, size)
                clear(room, room.shape[1])
                clear(dy_room, dy_room.shape[1])
            pack(x[first:last], x_strings, source, lead, pitch, span, room)
            pack(dy[first:last], dy_strings, target, lead, pitch, span, dy_room)
            length = ((last - first) * span + LANES - 1) // LANES * LANES
            add_sums(dy[first:last], dbias[part])
            for plane in range(planes):
                for k in range(0, K, ROWS):
                    # rows beyond K repeat the last one; their products are dropped
                    r0 = (k * planes + plane) * size + lead
                    r1 = (min(k + 1, K - 1) * planes + plane) * size + lead
                    r2 = (min(k + 2, K - 1) * planes + plane) * size + lead
                    r3 = (min(k + 3, K - 1) * planes + plane) * size + lead
                    for tap in range(starts[plane], starts[plane + 1]):
                        for j in range(dblocks.shape[3]):
                            add_inner_products(
                                dblocks[part, tap, k // ROWS, j], length, string,
                                offset[tap], j * TAPS, dy_string, r0, r1, r2, r3,
                            )  # fmt: skip
