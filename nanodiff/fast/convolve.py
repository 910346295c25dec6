"""The convolutions of `plain`, by the loops of `kernels`: the bookkeeping between.

Which phases or tiles, how the weights lie in blocks, how many rows are one strip, and
which memory is used again. Shapes as in `plain`; in memory (N, H, W, C).
"""

import weakref
from functools import lru_cache

import numba
import numpy as np

from nanodiff.fast import kernels, plans
from nanodiff.fast.memory import LINE, aligned, channels_last
from nanodiff.fast.products import block, whole

PIXELS = 112  # of a strip, units times columns: what is made of them fits a cache;
PIXELS_DW = 56  # for a gradient of weights: dy is in it, too
SHORT = 2**15  # numbers of an image that may be one row: more are shared by threads
PARTIAL_SUMS = 8  # of a weight gradient: a constant, so that the bits are, too


def conv2d(x, w, b, stride=1, up=False, add=None):
    """As `plain.conv2d`, but upsampling with a 3x3 only."""
    H, W = x.shape[2:]
    size = (2 * H, 2 * W) if up else (-(-H // stride), -(-W // stride))
    return _correlate(x, w, b, _plan(w, stride, up, H), size, add, _kept_weights)


def conv2d_dx(dy, w, size, stride=1, up=False, add=None):
    """As `plain.conv2d_dx`."""
    plan, w = _plan(w, stride, up, size[0]).dx, w.swapaxes(0, 1)
    return _correlate(dy, w, np.zeros(len(w), w.dtype), plan, size, add, _weights)


def conv2d_dw(x, dy, w, stride=1, up=False):
    """As `plain.conv2d_dw`."""
    (K, C), plan = w.shape[:2], _plan(w, stride, up, x.shape[2])
    x, dy, parts = channels_last(x), channels_last(dy), min(PARTIAL_SUMS, len(x))
    numbers = plan.taps * C  # of a row of taps
    sums = _, P, lanes = block(numbers, K, x.dtype)
    filled, blocks = whole(numbers, P), -(-K // lanes)
    across, given = _work(plan, sums, filled, x.shape, dy.shape, x.dtype)
    shape = parts, blocks, len(plan.fold) // plan.taps, filled, lanes
    dweights, dbias = np.empty(shape, x.dtype), np.zeros((parts, across), x.dtype)
    kernels.correlate_weight(x, dy, dweights.reshape(parts, -1), dbias, *given)
    taps = dweights.sum(0)[:, :, :numbers].reshape(blocks, len(plan.fold), -1)
    dw = (plan.fold.T.astype(x.dtype) @ taps).reshape(blocks, -1, C, lanes)
    dw = dw.transpose(0, 3, 2, 1).reshape(-1, *w.shape[1:])
    return dw[:K], dbias.sum(0).reshape(-1, blocks * lanes).sum(0)[:K]


def _plan(w, stride, up, rows):
    """The Tiles or the Axis for images with so many rows."""
    if w.shape[2] == 3 and stride == 1 and not up:
        return plans.tiles(rows)
    return plans.axis(w.shape[2], stride, up)


def _correlate(x, w, bias, plan, size, add, weights):
    """The correlation of x by a plan, plus bias and `add`, as images (N, K, *size)."""
    (H, W), N, K, x = size, len(x), len(w), channels_last(x)
    if plan.taps == plan.stride == plan.up == 1 and x[0].size <= SHORT:
        H, W = 1, H * W  # a pixel has no neighbours: the image may be one row
        x = x.reshape(N, H, W, -1)
    sums = _, P, lanes = block(-(-W // plan.up), K, x.dtype)
    wide = whole(-(-W // plan.up), P) * plan.up
    y = aligned((N, whole(H, plan.m), wide, whole(K, lanes)), x.dtype)
    row, more = np.zeros((wide, y.shape[3]), x.dtype), y[:0]
    row[:, :K] = bias
    if add is not None:
        more = add = channels_last(add).reshape(N, H, W, K)
        if add.shape != y.shape:
            y[:, :H, :W, :K], more = add, y
    _, given = _work(plan, sums, 0, x.shape, y.shape, x.dtype)
    kernels.correlate(x, weights(w, plan, sums), row.reshape(-1), more, y, *given)
    y = np.ascontiguousarray(y[:, :H, :W, :K]).reshape(N, *size, K)
    return y.transpose(0, 3, 1, 2)


@lru_cache(maxsize=512)
def _work(plan, sums, filled, x_shape, y_shape, dtype):
    """(numbers of a row of y in scratch, the last arguments of a loop) for shapes.

    filled: weights of a row of taps, where it is filled up for a gradient; else 0.
    Every call with the same arguments uses the same scratch, one call at a time.
    """
    (N, _, W, C), (_, H_y, W_y, K) = x_shape, y_shape
    columns, high = -(-W_y // plan.up), -(-H_y // plan.m)
    across = columns * plan.up * whole(K, sums[2])
    pixels = PIXELS_DW if filled else PIXELS
    group = -(-high // -(-high // max(1, pixels // columns)))  # of like strips
    tall = plan.extent(group * plan.m // plan.up)
    slots, images = group, 1
    if filled and group == high:
        slots = max(group, -(-tall // plan.stride) * (plan.m == plan.up))
        images = max(1, min(pixels // (columns * slots), N // PARTIAL_SUMS))
    units = images * slots
    pitch = C * max(plan.lead + W, plan.extent(columns))
    pitch = whole(pitch, LINE // dtype.itemsize)  # rows begin with lines
    B = _matrix(plan.B.T, pitch, dtype)
    A = _matrix(plan.A if filled else plan.A.T, across, dtype)
    strip = group, units, slots, high, tall
    depth = len(plan.fold) // plan.taps * filled or len(plan.fold) * C
    steps = plan.m, plan.up, plan.stride, plan.lead, pitch, across, depth
    of_x = max(units * plan.stride + tall, units * len(B[0])) * pitch
    of_y = (units * max(plan.m, len(plan.B), len(A[0])) + len(A[0])) * across
    n = whole(max(of_x, of_y) + sums[1], LINE // dtype.itemsize)
    scratch = aligned((numba.config.NUMBA_NUM_THREADS, 3, n), dtype)
    scratch[:] = 0  # edges of sums stay so, and rows between images: they meet dy of 0
    return across, (plan.table(C, filled, units), strip, steps, sums, *B, *A, scratch)


def _matrix(matrix, numbers, dtype):
    """A matrix and the block for rows of so many numbers, filled up to that block."""
    rows = block(len(matrix), numbers, dtype, one_high=True)
    filled = np.pad(matrix, ((0, -len(matrix) % rows[1]), (0, 0)))
    return filled.astype(dtype, "C"), rows


_KEPT = {}  # by the id of a weight: (a copy of it, plan and block, `_weights`)


def _kept_weights(weight, plan, sums):
    """`_weights`, made again only when the weight has changed.

    To compare takes less than a tenth of making them: it pays where one image is drawn.
    """
    before, of, blocks = _KEPT.get(id(weight), (weight[:0], None, None))
    if of == (plan, sums) and before.dtype == weight.dtype and (before == weight).all():
        return blocks
    if id(weight) not in _KEPT:
        weakref.finalize(weight, _KEPT.pop, id(weight), None).atexit = False
    _KEPT[id(weight)] = weight.copy(), (plan, sums), _weights(weight, plan, sums)
    return _KEPT[id(weight)][2]


def _weights(weight, plan, sums):
    """The weights of all taps in blocks, (K / lanes, taps, C, lanes), flat."""
    K, lanes = len(weight), sums[2]
    weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))  # kernel, kernel, C, K
    if K % lanes:
        weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, -K % lanes)))
    folded = plan.fold.astype(weight.dtype) @ weight.reshape(plan.fold.shape[1], -1)
    folded = folded.reshape(-1, -(-K // lanes), lanes).swapaxes(0, 1)
    blocks = aligned(folded.shape, weight.dtype)
    blocks[...] = folded
    return blocks.reshape(-1)
