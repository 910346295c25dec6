"""Convolutions of images by a plan: what `layers.py` asks, what `kernels.py` does.

The bookkeeping between the two: how many images make a string, where its taps begin,
and which memory is used again.

Shapes: x (N, C, H, W), weight (K, C, kernel, kernel), bias (K,), y (N, K, H', W').
"""

from functools import lru_cache

import numba
import numpy as np

from nanodiff import kernels

PIXELS = 300  # of a string: short enough that the strings of all channels fit a cache
PARTS = 8  # partial sums of a weight gradient: a constant, so that the bits are too


class Kept:
    """The blocks of a weight, made again only when it has changed.

    To compare takes a tenth of the time of making them. That pays where one image is
    sampled, with the same weights at every call.
    """

    def __init__(self):
        self.weight, self.plan, self.made = np.empty(0), None, None

    def blocks(self, weight, plan):
        """Return what `_blocked` does."""
        same = self.plan is plan and self.weight.dtype == weight.dtype
        if same and np.array_equal(self.weight, weight):
            return self.made
        self.plan = None  # until all is done, as an interrupt may come in between
        made = self.made = _blocked(weight, plan)
        self.weight, self.plan = weight.copy(), plan
        return made


def correlate(x, weight, bias, plan, size, plus=None, kept=None):
    """The convolution of x by a plan, as images (N, K, *size), plus such images.

    kept: a `Kept`, for a weight that is likely to be the same the next time.
    """
    N, C, H, W = x.shape
    frame, length, rows = _frame(N, *plan.grid(H, W))
    make = _blocked if kept is None else kept.blocks
    y = np.empty((N, len(bias), *size), x.dtype)
    plus = y[:0] if plus is None else np.ascontiguousarray(plus)
    scratch = _scratch(
        plan.source.rooms(C, length) + plan.target.rooms(kernels.ROWS, rows),
        x.dtype, (plan, frame, H, W), numba.get_num_threads(),
    )  # fmt: skip
    source, target = plan.source.arrays(x.dtype), plan.target.arrays(x.dtype)
    kernels.correlate(
        np.ascontiguousarray(x), make(weight, plan), _taps(plan, C, frame, length),
        bias, plus, y, source, target, frame, scratch,
    )  # fmt: skip
    return y


def correlate_weight(x, dy, plan):
    """The gradients (weight (K, C, kernel^2), bias (K,)) of `correlate`, from dy.

    For plans that are not transposed.
    """
    N, C, H, W = x.shape
    K = dy.shape[1]
    frame, length, _ = _frame(N, *plan.grid(H, W))
    scratch = _scratch(
        plan.source.rooms(C, length) + plan.slope.rooms(K, length),
        x.dtype, (plan, frame, H, W), numba.get_num_threads(),
    )  # fmt: skip
    parts = min(PARTS, -(-N // frame[0]))
    dblocks = np.zeros((parts, len(plan.fold), *_blocks(plan, K, C)), x.dtype)
    dbias = np.zeros((parts, K), x.dtype)
    kernels.correlate_weight(
        np.ascontiguousarray(x), np.ascontiguousarray(dy),
        _taps(plan, C, frame, length), dblocks, dbias,
        plan.source.arrays(x.dtype), plan.slope.arrays(x.dtype), frame, scratch,
    )  # fmt: skip
    place, _ = _order(plan, K, C)
    dblocks = dblocks.sum(0).reshape(len(plan.fold), -1)
    dweight = np.take(plan.fold.T.astype(x.dtype) @ dblocks, place)
    return dweight.reshape(K, C, -1), dbias.sum(0)


def _blocked(weight, plan):
    """The weights of a plan's taps, as the kernels read them: (taps, K/4, M/3, 12)."""
    K, C = weight.shape[1::-1] if plan.swapped else weight.shape[:2]
    _, source = _order(plan, K, C)
    blocks = np.take(np.append(weight, weight.dtype.type(0)), source, mode="wrap")
    return (plan.fold.astype(weight.dtype) @ blocks).reshape(-1, *_blocks(plan, K, C))


@lru_cache(maxsize=256)
def _order(plan, K, C):
    """How the entries of an unfolded weight are sorted into blocks.

    place (K C kernel^2,): where each goes. source (n, K/4 * M/3 * 12): where each of
    the blocks' comes from; -1, beyond the weight, for one that is zero.
    """
    n, columns = plan.fold.shape[1], len(plan.columns)
    groups, width, size = _blocks(plan, K, C)
    k, c, r, column = np.ogrid[:K, :C, :n, :columns]
    m = c * columns + column
    row = (r * groups + k // kernels.ROWS) * width + m // kernels.TAPS
    place = row * size + k % kernels.ROWS * kernels.TAPS + m % kernels.TAPS
    place = (place.swapaxes(0, 1) if plan.swapped else place).reshape(-1)
    source = np.full(n * groups * width * size, -1)
    source[place] = np.arange(place.size)
    return place, source.reshape(n, -1)


def _blocks(plan, K, C):
    """The shape of the blocks of a tap, (K/4, M/3, 12), M = C * columns."""
    rows, width = kernels.ROWS, kernels.TAPS
    return -(-K // rows), -(-C * len(plan.columns) // width), rows * width


@lru_cache(maxsize=256)
def _frame(N, rows, columns, gap):
    """(images a string, first pixel, pitch, pixels an image), two lengths of a string.

    The first is with the zeros around, the second that of the sums.
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
    """(offset (taps, M), starts (planes + 1,)) for the kernels.

    The taps of a plane are starts[plane] .. starts[plane + 1] - 1. Of one, m counts
    channels and their columns; what fills M up reads the first again.
    """
    _, lead, pitch, _ = frame
    output, plane, down, right = np.array(plan.table).T
    tap = plane * length + lead + down * pitch + right
    channel = np.arange(C)[:, None] * plan.source.planes * length
    m = (channel + np.array(plan.columns)).reshape(-1)
    m = np.concatenate([m, m[:1].repeat(-m.size % kernels.TAPS)])
    return tap[:, None] + m, np.searchsorted(output, np.arange(plan.target.planes + 1))


def _whole(n):
    """n pixels, filled up to whole vectors."""
    return -(-n // kernels.LANES) * kernels.LANES


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
