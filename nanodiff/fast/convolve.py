"""The convolutions of `plain`, by the loops of `kernels`: the bookkeeping between.

Which plan, how many images make a string, where its taps begin, how the weights lie in
blocks, and which memory is used again. Shapes as in `plain`.
"""

import weakref
from collections import namedtuple
from functools import lru_cache

import numba
import numpy as np

from nanodiff.fast import kernels, plans
from nanodiff.fast.kernels import LANES, OUTPUTS, TERMS
from nanodiff.fast.plans import WIDEST, WORK

FEW = 200  # pixels in all, up to which strings of tiles are too short to pay
PIXELS = 300  # of a string: short enough that the planes of all channels fit a cache
PARTIAL_SUMS = 8  # of a weight gradient: a constant, so that the bits are, too


def conv2d(x, w, b, stride=1, up=False, add=None):
    """As `plain.conv2d`, but upsampling with a 3x3 only."""
    N, _, H, W = x.shape
    size = (2 * H, 2 * W) if up else (-(-H // stride), -(-W // stride))
    plan = _plan(w, stride, up, N, H, W)
    return _correlate(x, _kept_blocks(w, plan), b, plan, size, add)


def conv2d_dx(dy, w, size, stride=1, up=False, add=None):
    """As `plain.conv2d_dx`."""
    plan = _plan(w, stride, up, len(dy), *size).dx
    w, none = w.swapaxes(0, 1), np.zeros(w.shape[1], w.dtype)
    return _correlate(dy, _blocks(w, plan), none, plan, size, add)


def conv2d_dw(x, dy, w, stride=1, up=False):
    """As `plain.conv2d_dw`."""
    N, C, H, W = x.shape
    K, plan = len(w), _plan(w, stride, up, N, H, W)
    strings = _strings(plan, plan.dy, K, x.shape, x.dtype)
    partial_sums = min(PARTIAL_SUMS, -(-N // strings.frame[0]))
    dblocks = np.zeros((partial_sums, len(plan.fold), *_shape(plan, K, C)), x.dtype)
    db = np.zeros((partial_sums, K), x.dtype)
    kernels.correlate_weight(
        np.ascontiguousarray(x), np.ascontiguousarray(dy), dblocks, db, *strings
    )
    to_block, _ = _order(plan, K, C)
    dblocks = dblocks.sum(0).reshape(len(plan.fold), -1)
    dw = np.take(plan.fold.T.astype(x.dtype) @ dblocks, to_block)
    return dw.reshape(w.shape), db.sum(0)


def _correlate(x, blocks, bias, plan, size, add):
    """The convolution of x by a plan, as images (N, K, *size), plus `add`."""
    y = np.empty((len(x), len(bias), *size), x.dtype)
    add = y[:0] if add is None else np.ascontiguousarray(add)
    strings = _strings(plan, plan.y, OUTPUTS, x.shape, x.dtype)
    kernels.correlate(np.ascontiguousarray(x), blocks, bias, add, y, *strings)
    return y


def _plan(w, stride, up, N, H, W):
    """The plan for N images of H by W pixels."""
    if up:
        return plans.upsampling()
    if w.shape[2] == 3 and stride == 1 and N * H * W > FEW:
        return plans.tiled(H)
    return plans.strided(w.shape[2], stride)


Strings = namedtuple("Strings", "taps layout_x layout_y frame scratch")


@lru_cache(maxsize=128)
def _strings(plan, layout_y, channels, shape, dtype):
    """What the loops take for x of a shape, and so many channels of y (or dy) at once.

    Scratch is zeroed planes and work of both, for each thread. Every call with the same
    arguments uses it again, one call at a time. Such a call writes pixels at the same
    places, so the zeros between them stay.
    """
    N, C, H, W = shape
    frame, length = _frame(N, *plan.grid(H, W))
    scratch = []
    for layout, n in (plan.x, C), (layout_y, channels):
        planes = max(n * layout.planes, OUTPUTS * WIDEST)  # as `multiply` reads
        for rows in (planes, length), (WORK, layout.across * length):
            scratch.append(_aligned((numba.config.NUMBA_NUM_THREADS, *rows), dtype))
    layouts = plan.x.arrays(dtype), layout_y.arrays(dtype)
    return Strings(_taps(plan, C, frame, length), *layouts, frame, tuple(scratch))


_KEPT = {}  # by the id of a weight: (a copy of it, plan, blocks)


def _kept_blocks(weight, plan):
    """`_blocks`, made again only when the weight has changed.

    To compare takes a tenth of the time of making them. That pays where one image is
    sampled, with the same weights at every call.
    """
    before, of, blocks = _KEPT.get(id(weight), (weight[:0], None, None))
    if of is plan and before.dtype == weight.dtype and (before == weight).all():
        return blocks
    if id(weight) not in _KEPT:
        weakref.finalize(weight, _KEPT.pop, id(weight), None).atexit = False
    _KEPT[id(weight)] = weight.copy(), plan, _blocks(weight, plan)
    return _KEPT[id(weight)][2]


def _blocks(weight, plan):
    """The weights of a plan's taps, as the loops read them: (taps, K/4, M/3, 12)."""
    K, C = weight.shape[:2]
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
    to_block = to_block.reshape(-1)
    from_weight = np.full(n * groups * width * size, -1)
    from_weight[to_block] = np.arange(to_block.size)
    return to_block, from_weight.reshape(n, -1)


def _frame(N, rows, columns, gap):
    """(images of a string, its first pixel, pitch, pixels of an image), its length."""
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
    lead = _whole(pitch + 1)  # zeros before and behind
    return (images, lead, pitch, span), lead + _whole(images * span) + lead


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


def _aligned(shape, dtype):
    """A zeroed array that begins on a cache line, as its rows then do."""
    size = int(np.prod(shape))
    room = np.zeros(size + LANES, dtype)
    start = -room.ctypes.data % 64 // dtype.itemsize
    return room[start : start + size].reshape(shape)
