"""The two loops of every convolution: products of weights with slices of a string.

    y[k, p]  = sum_m w[k, m] x[offset[m] + p]          correlate
    dw[k, m] = sum_p dy[k, p] x[offset[m] + p]         correlate_weight

where m counts taps, channels, and columns of a tap: neighbours to its left and right.
y is also computed where the string has zeros; `unpack` does not copy that. Bare arrays,
no allocation.

Shapes: images (n, C, H, W); planes of x (C * planes, length) and of y, for 4 channels,
(4 * planes, length). Taps are offsets (taps, M), M = channels * columns, of which those
from starts[plane] on are of that plane of y. Their weights are in blocks (taps, K/4,
M/3, 12): 4 channels of y by 3 of the M, zero where K or M is no multiple. A frame is
(images of a string, its first pixel, pitch, pixels of an image). scratch: planes and
work of x, then planes and work of y or dy, each with an axis of threads before.
"""

import numba
from numpy import uint64

from nanodiff.fast.compiled import SUMS, compiled, full_vectors
from nanodiff.fast.norms import total
from nanodiff.fast.packing import pack, unpack

OUTPUTS, TERMS = 4, 3  # a block: channels of y by M, what fits the registers
LANES = 16  # strings are computed in whole vectors; a remainder would run one by one


@compiled(inline="always")
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
        # in this order each term is one multiply-add
        sums[r0, p] = w02 * x2 + (w01 * x1 + (w00 * x0 + sums[r0, p]))
        sums[r1, p] = w12 * x2 + (w11 * x1 + (w10 * x0 + sums[r1, p]))
        sums[r2, p] = w22 * x2 + (w21 * x1 + (w20 * x0 + sums[r2, p]))
        sums[r3, p] = w32 * x2 + (w31 * x1 + (w30 * x0 + sums[r3, p]))


@compiled(inline="always")  # with the fastmath of the caller
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


@compiled(parallel=True)
def correlate(x, blocks, bias, add, y, taps, layout_x, layout_y, frame, scratch):
    """y = bias + add + the correlation of x with blocks. add: like y, or of size 0.

    Each string is one thread's. If there is one string only, two threads compute half
    of the channels of y each, and both pack it. No two write the same pixel of y.
    """
    full_vectors()
    N, K = x.shape[0], y.shape[1]
    (offset, starts), (group, lead, pitch, span) = taps, frame
    planes, count = len(starts) - 1, (N + group - 1) // group
    shares = 2 if count == 1 and K > OUTPUTS else 1
    for b in numba.prange(count * shares):
        full_vectors()
        thread = numba.get_thread_id()
        x_planes, x_work = scratch[0][thread], scratch[1][thread]
        y_planes, y_work = scratch[2][thread], scratch[3][thread]
        first = b // shares * group
        last = min(N, first + group)
        pack(x[first:last], x_planes, layout_x, lead, pitch, span, x_work)
        string = x_planes.reshape(-1)
        length = ((last - first) * span + LANES - 1) // LANES * LANES
        for k in range(b % shares * OUTPUTS, K, shares * OUTPUTS):
            y_planes[: planes * OUTPUTS, :length] = 0
            for plane in range(planes):
                for tap in range(starts[plane], starts[plane + 1]):
                    for j in range(blocks.shape[2]):
                        add_products(
                            y_planes, plane, planes, length, string,
                            offset[tap], j * TERMS, blocks[tap, k // OUTPUTS, j],
                        )  # fmt: skip
            for i in range(min(OUTPUTS, K - k)):
                unpack(
                    y_planes[i * planes :], length, y[first:last], k + i, layout_y,
                    pitch, span, bias[k + i], y_work,
                )  # fmt: skip
                if add.size:
                    add_channel(y[first:last], add[first:last], k + i)


@compiled(parallel=True, fastmath=SUMS)
def correlate_weight(x, dy, dblocks, dbias, taps, layout_x, layout_dy, frame, scratch):
    """Add the gradients of `correlate`'s blocks and bias, in partial sums.

    Each partial sum is one thread's, as two that added to one would lose updates. Their
    number and the order within each are fixed, so the bits do not depend on threads.
    """
    full_vectors()
    N, K, partial_sums = x.shape[0], dy.shape[1], dblocks.shape[0]
    (offset, starts), (group, lead, pitch, span) = taps, frame
    planes, count = len(starts) - 1, (N + group - 1) // group
    for part in numba.prange(partial_sums):
        full_vectors()
        thread = numba.get_thread_id()
        x_planes, x_work = scratch[0][thread], scratch[1][thread]
        dy_planes, dy_work = scratch[2][thread], scratch[3][thread]
        string, dy_string = x_planes.reshape(-1), dy_planes.reshape(-1)
        size = dy_planes.shape[1]
        for b in range(
            part * count // partial_sums, (part + 1) * count // partial_sums
        ):
            first, last = b * group, min(N, (b + 1) * group)
            if last - first < group:  # clear what an earlier, longer string left behind
                for rows in (x_planes, dy_planes, x_work, dy_work):
                    rows[:] = 0
            pack(x[first:last], x_planes, layout_x, lead, pitch, span, x_work)
            pack(dy[first:last], dy_planes, layout_dy, lead, pitch, span, dy_work)
            length = ((last - first) * span + LANES - 1) // LANES * LANES
            for n in range(first, last):
                for k in range(K):
                    dbias[part, k] += total(dy[n, k].reshape(-1))
            for plane in range(planes):
                for k in range(0, K, OUTPUTS):
                    # rows beyond K repeat the last one: `_order` maps no weight to them
                    r0 = (k * planes + plane) * size + lead
                    r1 = (min(k + 1, K - 1) * planes + plane) * size + lead
                    r2 = (min(k + 2, K - 1) * planes + plane) * size + lead
                    r3 = (min(k + 3, K - 1) * planes + plane) * size + lead
                    for tap in range(starts[plane], starts[plane + 1]):
                        for j in range(dblocks.shape[3]):
                            add_inner_products(
                                dblocks[part, tap, k // OUTPUTS, j], length, string,
                                offset[tap], j * TERMS, dy_string, r0, r1, r2, r3,
                            )  # fmt: skip


@compiled
def add_channel(images, more, k):
    """Add to channel k of images that of `more`, while it is in the cache."""
    full_vectors()
    for n in range(len(images)):
        y, added = images[n, k].reshape(-1), more[n, k].reshape(-1)
        for p in range(uint64(y.size)):
            y[p] += added[p]
