"""Convolutions of images by a plan: what `layers.py` asks, what `kernels.py` does.

The bookkeeping between the two: how many images make a string, where its taps begin,
and which memory is used again.

Shapes: x (N, C, H, W), weight (K, C, kernel, kernel), bias (K,), y (N, K, H', W').
"""

from functools import lru_cache

import numba
import numpy as np

from nanodiff import kernels, weight_kernels

PIXELS = 300  # of a string: short enough that the strings of all channels fit a cache
PARTS = 8  # partial sums of a weight gradient: a constant, so that the bits are too


class Kept:
    """The blocks of a weight, made again only when it has changed.

    To compare takes a tenth of the time of making them. That pays where one image is
    sampled, with the same weights at every call.
    """

    def __init__(self):
        self.weight, self.plan, self.made = np.empty(0), None, None

    def blocks(self, weight, plan, C, frame, length):
        """Return what `_blocked` does.

        Blocks are the same for every frame and length: these only move the offsets.
        """
        same = self.plan is plan and self.weight.dtype == weight.dtype
        if not same or not np.array_equal(self.weight, weight):
            self.plan = None  # until all is done, as an interrupt may come in between
            self.made = _blocked(weight, plan, C, frame, length)
            self.weight, self.plan = weight.copy(), plan
        return self.made


def correlate(x, weight, bias, plan, size, plus=None, kept=None):
    """The convolution of x by a plan, as images (N, K, *size), plus such images.

    kept: a `Kept`, for a weight that is likely to be the same the next time.
    """
    N, C, H, W = x.shape
    K = len(weight)
    frame, length, rows = _frame(N, *plan.grid(H, W))
    taps, _ = _taps(plan, C, frame, length)
    make = _blocked if kept is None else kept.blocks
    y = np.empty((N, K, *size), x.dtype)
    plus = y[:0] if plus is None else np.ascontiguousarray(plus)
    scratch = _scratch(
        plan.source.rooms(C, length) + plan.target.rooms(kernels.ROWS, rows),
        x.dtype, (plan, frame, H, W), numba.get_num_threads(),
    )  # fmt: skip
    source, target = plan.source.arrays(x.dtype), plan.target.arrays(x.dtype)
    kernels.correlate(
        np.ascontiguousarray(x), make(weight, plan, C, frame, length), taps, bias,
        plus, y, source, target, frame, scratch,
    )  # fmt: skip
    return y


def correlate_weight(x, dy, plan):
    """The gradients (weight (K, C, kernel^2), bias (K,)) of `correlate`, from dy."""
    N, C, H, W = x.shape
    K = dy.shape[1]
    frame, length, _ = _frame(N, *plan.grid(H, W))
    taps, index = _taps(plan, C, frame, length)
    scratch = _scratch(
        plan.source.rooms(C, length) + plan.slope.rooms(K, length),
        x.dtype, (plan, frame, H, W), numba.get_num_threads(),
    )  # fmt: skip
    parts = min(PARTS, -(-N // frame[0]))
    dblocks = np.zeros((parts, *_blocks(taps, K)), x.dtype)
    dbias = np.zeros((parts, K), x.dtype)
    kernels.correlate_weight(
        np.ascontiguousarray(x), np.ascontiguousarray(dy), taps, dblocks, dbias,
        plan.source.arrays(x.dtype), plan.slope.arrays(x.dtype), frame, scratch,
    )  # fmt: skip
    folded = np.zeros((len(plan.fold), K, C), x.dtype)
    weight_kernels.block(folded, index, dblocks.sum(0), True)
    dweight = plan.fold.T.astype(x.dtype) @ folded.reshape(-1, K * C)
    return dweight.T.reshape(K, C, -1), dbias.sum(0)


def _blocked(weight, plan, C, frame, length):
    """The weight (K, C, kernel, kernel) of a plan's taps, as the kernels read it."""
    K = len(weight)
    taps, index = _taps(plan, C, frame, length)
    blocks = np.zeros(_blocks(taps, K), weight.dtype)
    folded = plan.fold.astype(weight.dtype) @ weight.reshape(K * C, -1).T
    weight_kernels.block(folded.reshape(-1, K, C), index, blocks, False)
    return blocks


@lru_cache(maxsize=256)
def _frame(N, rows, columns, gap):
    """(images a string, first pixel, pitch, pixels an image), lengths of the strings.

    The first length has zeros around, the second is of the sums.
    """
    pitch = columns + 1
    span = (rows + gap) * pitch
    best = PIXELS / span
    sizes = range(max(1, int(best / 1.5)), max(1, int(best * 1.5)) + 1)

    def images_in_turn(group):  # for one of two cores
        strings = -(-N // group)  # a single one is shared, but laid out by both: 0.6
        return 0.6 * N if strings == 1 else -(-strings // 2) * group

    group = min(sizes, key=lambda group: (images_in_turn(group), -group))
    group = min(group, N)
    lead, body = _whole(pitch + 1), _whole(group * span)
    # rows of sums are read in eights, beyond their end
    return (group, lead, pitch, span), lead + body + lead, body + kernels.LANES


@lru_cache(maxsize=256)
def _taps(plan, C, frame, length):
    """((offset (planes, M), counts (planes,)), index (planes, taps)) for the kernels.

    A plane has counts[plane] offsets into the strings, channel by channel, and its n-th
    tap the weight index[plane, n]; -1 is none.
    """
    _, lead, pitch, _ = frame
    planes = range(plan.target.planes)
    rows = [[tap for tap in plan.table if tap[0] == plane] for plane in planes]
    most = max(len(row) for row in rows)
    channel = np.arange(C)[:, None] * plan.source.planes * length
    index = np.full((len(rows), most), -1)
    offset = np.zeros((len(rows), _whole(C * most, kernels.TAPS)), np.int64)
    for o, row in enumerate(rows):
        # a phase may have none, as three of four have in a 1x1 of stride 2
        columns = np.array(row, np.int64).reshape(-1, 5).T
        _, index[o, : len(row)], plane, down, right = columns
        shift = plane * length + lead + down * pitch + right
        offset[o, : C * len(row)] = (channel + shift).reshape(-1)
    counts = np.array([_whole(C * len(row), kernels.TAPS) for row in rows])
    return (offset, counts), index


def _blocks(taps, K):
    """The shape of the blocks of weights."""
    planes, M = taps[0].shape
    rows, width = kernels.ROWS, kernels.TAPS
    return planes, -(-K // rows), M // width, rows * width


def _whole(n, unit=kernels.LANES):
    """n pixels, filled up to whole vectors, or to whole units."""
    return -(-n // unit) * unit


@lru_cache(maxsize=128)
def _scratch(shapes, dtype, geometry, threads):
    """Arrays (threads, rows, length), once zeroed, for shapes of (rows, length).

    They are kept and used again by every call of the same geometry: one that writes
    pixels where this one did, and so leaves the zeros between them as they are. No two
    calls overlap, since a kernel holds the interpreter's lock.
    """
    return tuple(_aligned((threads, *shape), dtype) for shape in shapes)


def _aligned(shape, dtype):
    """A zeroed array that begins on a cache line, as its rows then do."""
    size = int(np.prod(shape))
    room = np.zeros(size + kernels.LANES, dtype)
    start = -room.ctypes.data % 64 // dtype.itemsize
    return room[start : start + size].reshape(shape)
