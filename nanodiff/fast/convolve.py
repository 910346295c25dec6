"""A convolution of images by a plan: the bookkeeping between the door and the loops.

How many images make a string, where its taps begin, how the weights lie in blocks, and
which memory is used again.

Shapes: x (N, C, H, W), weight (K, C, kernel, kernel), bias (K,), y (N, K, H', W').
"""

import weakref
from functools import lru_cache

import numba
import numpy as np

from nanodiff.fast import kernels
from nanodiff.fast.kernels import LANES, OUTPUTS, TERMS
from nanodiff.fast.plans import WIDEST, WORK

PIXELS = 300  # of a string: short enough that the planes of all channels fit a cache
PARTIAL_SUMS = 8  # of a weight gradient: a constant, so that the bits are, too


def correlate(x, weight, bias, plan, size, add=None, keep=False):
    """The convolution of x by a plan, as images (N, K, *size), plus `add`.

    keep: whether the weight is likely to be the same at the next call.
    """
    N, C, H, W = x.shape
    frame, length, y_length = _frame(N, *plan.grid(H, W))
    make = _kept_blocks if keep else _blocks
    y = np.empty((N, len(bias), *size), x.dtype)
    kernels.correlate(
        np.ascontiguousarray(x), make(weight, plan), _taps(plan, C, frame, length),
        bias, y[:0] if add is None else np.ascontiguousarray(add), y,
        plan.x.arrays(x.dtype), plan.y.arrays(x.dtype), frame,
        _scratch(plan, x.dtype, frame, (H, W), numba.get_num_threads(),
                 (plan.x, C, length), (plan.y, OUTPUTS, y_length)),
    )  # fmt: skip
    return y


def correlate_weight(x, dy, plan):
    """The gradients (weight (K, C, kernel^2), bias (K,)) of `correlate`, from dy."""
    (N, C, H, W), K = x.shape, dy.shape[1]
    frame, length, _ = _frame(N, *plan.grid(H, W))
    partial_sums = min(PARTIAL_SUMS, -(-N // frame[0]))
    dblocks = np.zeros((partial_sums, len(plan.fold), *_shape(plan, K, C)), x.dtype)
    dbias = np.zeros((partial_sums, K), x.dtype)
    kernels.correlate_weight(
        np.ascontiguousarray(x), np.ascontiguousarray(dy),
        _taps(plan, C, frame, length), dblocks, dbias,
        plan.x.arrays(x.dtype), plan.dy.arrays(x.dtype), frame,
        _scratch(plan, x.dtype, frame, (H, W), numba.get_num_threads(),
                 (plan.x, C, length), (plan.dy, K, length)),
    )  # fmt: skip
    to_block, _ = _order(plan, K, C)
    dblocks = dblocks.sum(0).reshape(len(plan.fold), -1)
    dweight = np.take(plan.fold.T.astype(x.dtype) @ dblocks, to_block)
    return dweight.reshape(K, C, -1), dbias.sum(0)


_KEPT = {}  # by the id of a weight: (a copy of it, plan, blocks)


def _kept_blocks(weight, plan):
    """`_blocks`, made again only when the weight has changed.

    To compare takes a tenth of the time of making them. That pays where one image is
    sampled, with the same weights at every call.
    """
    before, of, blocks = _KEPT.get(id(weight), (weight[:0], None, None))
    if of is plan and before.dtype == weight.dtype and np.array_equal(before, weight):
        return blocks
    if id(weight) not in _KEPT:
        weakref.finalize(weight, _KEPT.pop, id(weight), None).atexit = False
    _KEPT[id(weight)] = weight.copy(), plan, _blocks(weight, plan)
    return _KEPT[id(weight)][2]


def _blocks(weight, plan):
    """The weights of a plan's taps, as the loops read them: (taps, K/4, M/3, 12)."""
    K, C = weight.shape[1::-1] if plan.swapped else weight.shape[:2]
    _, from_weight = _order(plan, K, C)
    blocks = np.take(np.append(weight, weight.dtype.type(0)), from_weight, mode="wrap")
    return (plan.fold.astype(weight.dtype) @ blocks).reshape(-1, *_shape(plan, K, C))


def _shape(plan, K, C):
    """The shape of the blocks of a tap, (K/4, M/3, 12), M = C * columns."""
    return -(-K // OUTPUTS), -(-C * len(plan.columns) // TERMS), OUTPUTS * TERMS


@lru_cache(maxsize=256)
def _order(plan, K, C):
    """How the entries of a weight, before `fold`, are sorted into blocks.

    For 5 channels of y and 2 of x, in one column, an entry km lies in its blocks as

        00 01 -  10 11 -  20 21 -  30 31 -  |  40 41 -  -  -  -  -  -  -  -  -  -

    and - is zero. to_block (K C kernel^2,): where each entry goes. from_weight (n, K/4
    * M/3 * 12): which entry comes to each place; -1 is the zero that `_blocks` appends.
    """
    n, columns = plan.fold.shape[1], len(plan.columns)
    groups, width, size = _shape(plan, K, C)
    k, c, r, column = np.ogrid[:K, :C, :n, :columns]
    m = c * columns + column
    block = (r * groups + k // OUTPUTS) * width + m // TERMS
    to_block = block * size + k % OUTPUTS * TERMS + m % TERMS
    to_block = (to_block.swapaxes(0, 1) if plan.swapped else to_block).reshape(-1)
    from_weight = np.full(n * groups * width * size, -1)
    from_weight[to_block] = np.arange(to_block.size)
    return to_block, from_weight.reshape(n, -1)


@lru_cache(maxsize=256)
def _frame(N, rows, columns, gap):
    """The frame (images of a string, its first pixel, pitch, pixels of an image).

    Then two lengths of a string: of x with the zeros around, and of y.
    """
    pitch = columns + 1
    span = (rows + gap) * pitch
    best = PIXELS / span
    sizes = range(max(1, int(best / 1.5)), max(1, int(best * 1.5)) + 1)

    def busy(images):  # how many images the busier of two threads computes
        strings = -(-N // images)
        # Each thread takes half of the channels of a single string, but lays out all
        # of it: measured, 0.6 of the time of one thread.
        return 0.6 * N if strings == 1 else -(-strings // 2) * images

    images = min(N, min(sizes, key=lambda images: (busy(images), -images)))
    lead, body = _whole(pitch + 1), _whole(images * span)
    # rows of y are read in eights, beyond their end
    return (images, lead, pitch, span), lead + body + lead, body + LANES


@lru_cache(maxsize=256)
def _taps(plan, C, frame, length):
    """(offset (taps, M), starts (planes + 1,)) for the loops.

    The pixel below is `pitch` further on in a string, that to the right 1, the same one
    of the next plane `length`. The taps of plane i of y are starts[i] .. starts[i + 1]
    - 1. Of one, m counts channels and their columns. M is filled up to a multiple of 3
    with the first offset; the weights there are 0.
    """
    _, lead, pitch, _ = frame
    plane_of_y, plane_of_x, down, right = np.array(plan.taps).T
    tap = plane_of_x * length + lead + down * pitch + right
    channel = np.arange(C)[:, None] * plan.x.planes * length
    m = (channel + np.array(plan.columns)).reshape(-1)
    m = np.concatenate([m, m[:1].repeat(-m.size % TERMS)])
    return tap[:, None] + m, np.searchsorted(plane_of_y, np.arange(plan.y.planes + 1))


def _whole(n):
    """n pixels, filled up to whole vectors."""
    return -(-n // LANES) * LANES


@lru_cache(maxsize=128)
def _scratch(plan, dtype, frame, size, threads, *sides):
    """Zeroed planes and work for each (layout, channels, length) of the two sides.

    They are used again by every call with the same arguments, one call at a time. Such
    a call writes pixels at the same places, so the zeros between them stay.
    """
    made = []
    for layout, channels, length in sides:
        planes = max(channels * layout.planes, OUTPUTS * WIDEST)  # as `multiply` reads
        made += [(planes, length), (WORK, layout.across * length)]
    return tuple(_aligned((threads, *shape), dtype) for shape in made)


def _aligned(shape, dtype):
    """A zeroed array that begins on a cache line, as its rows then do."""
    size = int(np.prod(shape))
    room = np.zeros(size + LANES, dtype)
    start = -room.ctypes.data % 64 // dtype.itemsize
    return room[start : start + size].reshape(shape)
