"""The convolutions of `plain`, by the loops of `kernels`: the bookkeeping between.

Which plan, how the weights lie in blocks, how many rows are one strip of work, and
which memory is used again. Shapes as in `plain`; inside, and in the memory of the
results, the channels of a pixel lie together, (N, H, W, C).
"""

import weakref
from collections import namedtuple
from functools import lru_cache

import numba
import numpy as np

from nanodiff.fast import kernels, plans
from nanodiff.fast.memory import aligned, channels_last
from nanodiff.fast.products import BYTES, block, whole

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
    x, dy = channels_last(x), channels_last(dy)
    sums = block(len(plan.phases[0][1]) * C, K, x.dtype)
    work = _work(plan, sums, True, x.shape, dy.shape[1:], x.dtype)
    starts = _starts(plan, C, K, sums, sums.P)
    parts = min(PARTIAL_SUMS, len(x))
    dweights = np.zeros((parts, starts[-1]), x.dtype)
    dbias = np.zeros((parts, work.across), x.dtype)
    loop = kernels.tiles_weight if isinstance(plan, plans.Tiles) else kernels.correlate_weight
    loop(x, dy, dweights, dbias, starts, *work.given)
    dw = np.zeros((-(-K // sums.lanes), *w.shape[2:], C * sums.lanes), x.dtype)
    for start, (rows, columns) in zip(starts, plan.phases, strict=False):
        rows, columns = rows.T.astype(x.dtype), columns.T.astype(x.dtype)
        r, s = rows.shape[1], columns.shape[1]
        shape = parts, len(dw), r, whole(s * C, sums.P) * sums.lanes
        part = dweights[:, start : start + np.prod(shape[1:])].reshape(shape)
        part = (rows @ part).sum(0)[..., : s * C * sums.lanes]
        dw += columns @ part.reshape(*part.shape[:2], s, -1)
    dw = dw.reshape(*dw.shape[:3], C, -1).transpose(0, 4, 3, 1, 2).reshape(-1, *w.shape[1:])
    return dw[:K], dbias.sum(0).reshape(-1, work.width)[:, :K].sum(0)


def _plan(w, stride, up, rows):
    """The plan for images with so many rows."""
    if w.shape[2] == 3 and stride == 1 and not up:
        return plans.tiles(rows)
    return plans.plan(w.shape[2], stride, up)


def _correlate(x, w, bias, plan, size, add, weights):
    """The correlation of x by a plan, plus bias and `add`, as images (N, K, *size)."""
    K, x = len(w), channels_last(x)
    y = aligned((len(x), *size, K), x.dtype)
    add = y[:0] if add is None else channels_last(add)
    up = 1 if isinstance(plan, plans.Tiles) else len(plan.first)
    sums = block(-(-size[1] // up), K, x.dtype)
    work = _work(plan, sums, False, x.shape, y.shape[1:], x.dtype)
    row = np.zeros((work.across // work.width, work.width), x.dtype)
    row[:, :K] = bias
    loop = kernels.correlate_tiles if isinstance(plan, plans.Tiles) else kernels.correlate
    loop(x, *weights(w, plan, sums), row.reshape(-1), add, y, *work.given)
    return y.transpose(0, 3, 1, 2)


Work = namedtuple("Work", "width across given")


@lru_cache(maxsize=256)
def _work(plan, sums, backward, shape, size, dtype):
    """What a loop takes for x of a shape, and y or dy of a size (H', W', K).

    width: K, filled up to whole blocks; across: of a row. Scratch is for each thread.
    Every call with the same arguments uses it again, one call at a time.
    """
    (N, _, W, C), (H_y, W_y, K) = shape, size
    tiled, P = isinstance(plan, plans.Tiles), 1 if backward else sums.P
    up = 1 if tiled else len(plan.first)
    width, columns = whole(K, sums.lanes), whole(-(-W_y // up), P)
    across = columns * up * width
    if tiled:
        n, m = plan.A.shape
        group = _group(N * -(-H_y // m), columns)
        pitch = (columns + 2) * C
        matrices = plan.sums(plan.B.T, dtype), plan.sums(plan.A if backward else plan.A.T, dtype)
        given, frame = (*matrices, m), (group, pitch, across)
        sizes = n * group * pitch, n * group * across, m * across
    else:
        stride, first, taps = given = plan.axis
        group = _group(-(-H_y // up), columns)
        lead, reach = max(0, -first.min()), max(1, (first + taps).max())
        pitch = (lead + max(W, stride * (columns - 1) + reach)) * C
        tall = lead + stride * (group - 1) + reach
        frame = group, int(tall), int(lead), int(pitch), across
        sizes = tall * pitch, group * across
    threads = numba.config.NUMBA_NUM_THREADS
    scratch = tuple(
        aligned((threads, whole(int(n) + sums.P, BYTES)), dtype) for n in sizes
    )
    for room in scratch:
        room[:] = 0  # what lies beyond a row is read, too, and never used
    return Work(width, across, (given, frame, sums, scratch))


def _group(many, columns):
    """How many of so many rows or tiles are one strip: two at least for two threads."""
    return max(1, min(PIXELS // columns, -(-many // 2)))


def _starts(plan, C, K, sums, P):
    """Where the weights of each phase begin, (up, up), and of a last one, their end."""
    sizes = [whole(len(columns) * C, P) * len(rows) * whole(K, sums.lanes)
             for rows, columns in plan.phases]  # fmt: skip
    return np.cumsum([0, *sizes])


_KEPT = {}  # by the id of a weight: (a copy of it, plan and block, weights in blocks)


def _kept_weights(weight, plan, sums):
    """`_weights`, made again only when the weight has changed.

    To compare takes a tenth of the time of making them. That pays where one image is
    sampled, with the same weights at every call.
    """
    before, of, blocks = _KEPT.get(id(weight), (weight[:0], None, None))
    if of == (plan, sums) and before.dtype == weight.dtype and (before == weight).all():
        return blocks
    if id(weight) not in _KEPT:
        weakref.finalize(weight, _KEPT.pop, id(weight), None).atexit = False
    _KEPT[id(weight)] = weight.copy(), (plan, sums), _weights(weight, plan, sums)
    return _KEPT[id(weight)][2]


def _weights(weight, plan, sums):
    """The weights of a plan's phases in blocks (K / lanes, rows, columns, C, lanes).

    Flat, one phase after the other, and where each begins.
    """
    (K, C, kernel, _), dtype = weight.shape, weight.dtype
    starts = _starts(plan, C, K, sums, 1)
    flat = aligned((starts[-1],), dtype)
    flat[:] = 0
    weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(kernel, -1)
    for start, end, folds in zip(starts, starts[1:], plan.phases, strict=False):
        rows, columns = (fold.astype(dtype) for fold in folds)
        folded = columns @ (rows @ weight).reshape(len(rows), kernel, -1 if len(rows) else 0)
        folded = folded.reshape(len(rows), len(columns) * C, K)
        shape = -(-K // sums.lanes), len(rows), len(columns) * C, sums.lanes
        blocks = flat[start:end].reshape(shape)
        for i, block in enumerate(blocks):
            some = folded[:, :, i * sums.lanes : (i + 1) * sums.lanes]
            block[:, :, : some.shape[2]] = some
    return flat, starts[:-1]
