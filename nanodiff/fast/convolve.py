"""The convolutions of `plain`, by the loops of `kernels`: the bookkeeping between.

Which phases or tiles, how the weights lie in blocks, how many rows are one strip, and
which memory is used again. Shapes as in `plain`; inside, and in the memory of the
results, the channels of a pixel lie together: (N, H, W, C).
"""

import weakref
from collections import namedtuple
from functools import lru_cache

import numba
import numpy as np

from nanodiff.fast import kernels, plans
from nanodiff.fast.memory import LINE, aligned, channels_last
from nanodiff.fast.products import block, whole

PIXELS = 56  # of a strip: so few that what is made of them stays in a cache
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
    sums = block(numbers, K, x.dtype)
    filled, blocks = whole(numbers, sums.P), whole(K, sums.lanes) // sums.lanes
    given = _work(plan, sums, filled, 1, x.shape, dy.shape, x.dtype)
    shape = parts, blocks, len(plan.fold) // plan.taps, filled, sums.lanes
    dweights, dbias = np.zeros(shape, x.dtype), np.zeros((parts, given.across), x.dtype)
    kernels.correlate_weight(
        x, dy.reshape(-1), dweights.reshape(parts, -1), dbias, *given.arguments
    )
    taps = dweights.sum(0)[:, :, :numbers].reshape(blocks, len(plan.fold), -1)
    dw = (plan.fold.T.astype(x.dtype) @ taps).reshape(blocks, -1, C, sums.lanes)
    dw = dw.transpose(0, 3, 2, 1).reshape(-1, *w.shape[1:])
    return dw[:K], dbias.sum(0).reshape(-1, blocks * sums.lanes).sum(0)[:K]


def _plan(w, stride, up, rows):
    """The Tiles or the Axis for images with so many rows."""
    if w.shape[2] == 3 and stride == 1 and not up:
        return plans.tiles(rows)
    return plans.axis(w.shape[2], stride, up)


def _correlate(x, w, bias, plan, size, add, weights):
    """The correlation of x by a plan, plus bias and `add`, as images (N, K, *size)."""
    K, x = len(w), channels_last(x)
    y = aligned((len(x), *size, K), x.dtype)
    add = y[:0] if add is None else channels_last(add)
    sums = block(-(-size[1] // plan.up), K, x.dtype)
    given = _work(plan, sums, 0, sums.P, x.shape, y.shape, x.dtype)
    row = np.zeros(given.across, x.dtype)
    row.reshape(-1, whole(K, sums.lanes))[:, :K] = bias
    weights, add, flat = weights(w, plan, sums), add.reshape(-1), y.reshape(-1)
    kernels.correlate(x, weights, row, add, flat, *given.arguments)
    return y.transpose(0, 3, 1, 2)


Given = namedtuple("Given", "across arguments")  # numbers of a row of y in scratch


@lru_cache(maxsize=512)
def _work(plan, sums, filled, of_columns, x_shape, y_shape, dtype):
    """The last arguments of a loop, for x of a shape, and y or dy of one.

    filled: weights of a row of taps, where it is filled up for a gradient; else 0.
    of_columns: pixels of which there are whole blocks. Scratch is for each thread.
    Every call with the same arguments uses it again, one call at a time.
    """
    (N, _, W, C), (_, H_y, W_y, K) = x_shape, y_shape
    columns = whole(-(-W_y // plan.up), of_columns)
    across, high = columns * plan.up * whole(K, sums.lanes), -(-H_y // plan.m)
    group = max(1, min(PIXELS // columns, high // min(N, 2)))  # work for two threads
    pitch = C * (plan.lead + max(W, plan.stride * (columns - 1) + plan.reach))
    of_x, of_y = plan.rows(group)
    strip = (
        group, high, plan.m, plan.up, plan.stride, of_x, plan.lead, pitch, across,
        len(plan.fold) // plan.taps * filled or len(plan.fold) * C,
    )  # fmt: skip
    matrices = tuple(_nine(m, dtype) for m in plan.matrices(filled > 0))
    threads, scratch = numba.config.NUMBA_NUM_THREADS, []
    for n in (of_x * pitch, of_y * across, group * plan.m * across):
        n = whole(n + sums.P, LINE // dtype.itemsize)  # whole lines for each thread
        scratch.append(aligned((threads, n), dtype))
        scratch[-1][:] = 0  # a block reads beyond, for sums that are not used
    table = plan.table(C, filled, group)
    return Given(across, (y_shape[1:], table, strip, matrices, sums, tuple(scratch)))


def _nine(matrix, dtype):
    """A matrix, filled up to nine columns, as the loops take it."""
    return np.pad(matrix, ((0, 0), (0, 9 - matrix.shape[1]))).astype(dtype, "C")


_KEPT = {}  # by the id of a weight: (a copy of it, plan and block, `_weights`)


def _kept_weights(weight, plan, sums):
    """`_weights`, made again only when the weight has changed.

    To compare takes less than a tenth of the time of making them. That pays where one
    image is sampled, with the same weights at every call.
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
    K, lanes = len(weight), sums.lanes
    weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))  # kernel, kernel, C, K
    if K % lanes:
        weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, -K % lanes)))
    folded = plan.fold.astype(weight.dtype) @ weight.reshape(plan.fold.shape[1], -1)
    folded = folded.reshape(-1, -(-K // lanes), lanes).swapaxes(0, 1)
    blocks = aligned(folded.shape, weight.dtype)
    blocks[...] = folded
    return blocks.reshape(-1)
