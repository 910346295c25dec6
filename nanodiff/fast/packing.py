"""From images to strings of pixels and back: Numba loops on bare arrays.

`pack` makes planes of a channel, `unpack` a channel of planes, by a layout of
`plans.py`. The rows of an image are dealt out to parts: part j has the rows first[j],
first[j] + every, .. Then, in this order,

    pack      parts -> even and odd pixels apart (phases) -> sums of rows: planes
              parts -> a matrix of sums of rows (tiles): planes
    unpack    planes -> sums of rows -> even and odd pixels joined: parts
              planes -> a matrix of sums of rows (tiles): parts

A part or a sum that is no plane is a row of `work`.

Shapes: images (n, C, H, W); planes (planes, length); work (rows, across * length). A
layout is (planes of a channel, first of each part, every, across: 2 if there are
phases, else 1; phases: the rows of even and of odd pixels of each part; sums (n, 3):
see `add_rows`; matrix). lead, pitch, span: the first pixel of a string, and its pixels
from row to row and from image to image.
"""

from numpy import uint64

from nanodiff.fast.compiled import compiled, full_vectors

RIGHT, BELOW = 1000, 1001  # in place of a row: see `add_rows`
ONE, TWO, THREE, FOUR = uint64(1), uint64(2), uint64(3), uint64(4)

# Indices are unsigned inside the hot loops: an index that may be negative makes Numba
# handle wrap-around, which stops the compiler from using vector instructions.


@compiled(inline="always")  # a call costs 10 %
def copy_row(source, s, target, t, width, room, bias):
    """Copy `width` pixels and add a bias, eight at a time if there is room for that.

    The pixels beyond width are overwritten by the next row, so rows come in order.
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


@compiled(inline="always")
def copy_part(images, c, row, first, every, lead, pitch, span):
    """Copy rows first, first + every .. of channel c of all images, zeros after each.

    Rows outside of the image are zeros.
    """
    N, C, H, W = images.shape
    pixels, zero = images.reshape(-1), images.dtype.type(0)
    for n in range(N):
        at = lead + n * span
        for h in range(first, first + (H + every - 1) // every * every, every):
            if 0 <= h < H:
                begin = ((n * C + c) * H + h) * W
                copy_row(pixels, begin, row, at, W, pixels.size - begin, zero)
                for q in range(uint64(8)):  # also what was copied too much
                    row[uint64(at + W) + q] = zero
            else:
                for q in range(uint64(pitch)):
                    row[uint64(at) + q] = zero
            at += pitch


@compiled
def pack(images, planes, layout, lead, pitch, span, work):
    """Write the planes of all channels of (n, C, H, W) images."""
    full_vectors()
    P, first, every, across, phases, sums, matrix = layout
    length = planes.shape[1]
    for c in range(images.shape[1]):
        own = planes[c * P :]
        for j in range(len(first)):
            copy_part(
                images, c, work[j] if across == 2 or len(matrix) else own[j],
                first[j], every, across * lead, across * pitch, across * span,
            )  # fmt: skip
        if len(matrix):
            multiply(matrix, work, own, length)
        for j in range(len(phases)):
            even, odd = pick(phases[j, 0], own, work), pick(phases[j, 1], own, work)
            for p in range(uint64(length)):
                even[p] = work[j, p + p]
                odd[p] = work[j, p + p + ONE]
        add_rows(sums, own, work, length - lead, pitch)


@compiled
def unpack(planes, length, images, k, layout, pitch, span, bias, work):
    """Write channel k of (n, K, H, W) images, with a bias, from its planes."""
    full_vectors()
    N, K, H, W = images.shape
    pixels = images.reshape(-1)
    _, first, every, across, phases, sums, matrix = layout
    if len(matrix):
        multiply(matrix, planes, work, length)
    add_rows(sums, planes, work, length, pitch)
    for j in range(len(phases)):
        even, odd = pick(phases[j, 0], planes, work), pick(phases[j, 1], planes, work)
        for p in range(uint64(length)):
            work[j, p + p] = even[p]
            work[j, p + p + ONE] = odd[p]
    for n in range(N):
        image = (n * K + k) * H * W
        for i in range((H + every - 1) // every):
            at = across * (n * span + i * pitch)
            for j in range(len(first)):
                # without phases and matrix the only part is the plane itself
                row = work[j] if across == 2 or len(matrix) else planes[0]
                h = i * every + j  # the parts of y begin with row 0, 1, ..
                begin, end = image + h * W, image + H * W
                if h < H:
                    copy_row(row, at, pixels, begin, W, end - begin, bias)


@compiled
def pick(i, planes, work):
    """Row i: a plane, or for i < 0 row -i of `work`."""
    full_vectors()
    return planes[i] if i >= 0 else work[-i]


@compiled
def add_rows(sums, planes, work, length, pitch):
    """For each (into, a, b) of sums: into = a + b.

    With RIGHT or BELOW for b: by how much a falls to the next pixel in that direction.
    """
    full_vectors()
    for n in range(len(sums)):
        into = pick(sums[n, 0], planes, work)
        falls, one = sums[n, 2] >= RIGHT, into.dtype.type(1)
        a = pick(sums[n, 1], planes, work)
        b = pick(sums[n, 1 if falls else 2], planes, work)
        far = uint64(pitch if sums[n, 2] == BELOW else 1 if falls else 0)
        sign = -one if falls else one
        for p in range(uint64(length)):
            into[p] = a[p] + sign * b[p + far]


@compiled
def multiply(matrix, rows, into, length):
    """Rows of `into` are a matrix (n, 9) of `plans.tiled` times the first nine rows."""
    full_vectors()
    x0, x1, x2, x3, x4 = rows[0], rows[1], rows[2], rows[3], rows[4]
    x5, x6, x7, x8 = rows[5], rows[6], rows[7], rows[8]
    for i in range(len(matrix)):
        w, row = matrix[i], into[i]
        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
        w5, w6, w7, w8 = w[5], w[6], w[7], w[8]
        for p in range(uint64(length)):
            near = w0 * x0[p] + w1 * x1[p] + w2 * x2[p] + w3 * x3[p] + w4 * x4[p]
            row[p] = near + w5 * x5[p] + w6 * x6[p] + w7 * x7[p] + w8 * x8[p]
