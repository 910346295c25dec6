"""The convolutions of `plain`, by the loops of `kernels`: the bookkeeping between.

Which phases or tiles, how the weights lie in blocks, how many rows are one strip, and
which memory is used again. Shapes as in `plain`; inside, and in the memory of the
results, the channels of a pixel lie together: (N, H, W, C).
"""

import weakref
from functools import lru_cache
from itertools import product

import numba
import numpy as np

from nanodiff.fast import kernels, plans
from nanodiff.fast.memory import aligned, channels_last
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
    sums = block(len(plan.folds[0][1]) * C, K, x.dtype)
    loop, starts, given = _work(plan, sums, sums.P, 1, x.shape, dy.shape, x.dtype)
    dweights, across = np.zeros((parts, starts[-1]), x.dtype), given[-3][-1]
    dbias = np.zeros((parts, across), x.dtype)
    loop(x, dy.reshape(-1), dweights, dbias, *given)
    dw, width = 0, whole(K, sums.lanes)
    for (rows, columns), start in zip(plan.folds, starts, strict=False):
        rows, columns = rows.T.astype(x.dtype), columns.T.astype(x.dtype)
        R, taps = rows.shape[1], columns.shape[1]
        shape = parts, width // sums.lanes, R, whole(taps * C, sums.P) * sums.lanes
        part = dweights[:, start : start + width * R * shape[-1] // sums.lanes]
        part = (rows @ part.reshape(shape)).sum(0)[..., : taps * C * sums.lanes]
        dw = dw + columns @ part.reshape(*part.shape[:2], taps, -1)
    dw = dw.reshape(*dw.shape[:3], C, -1).transpose(0, 4, 3, 1, 2)
    return dw.reshape(-1, *w.shape[1:])[:K], dbias.sum(0).reshape(-1, width)[:, :K].sum(
        0
    )


def _plan(w, stride, up, rows):
    """The Tiles or the Axis for images with so many rows."""
    if w.shape[2] == 3 and stride == 1 and not up:
        return plans.tiles(rows)
    return plans.axis(w.shape[2], stride, up)


def _correlate(x, w, bias, plan, size, add, weights):
    """The correlation of x by a plan, plus bias and `add`, as images (N, K, *size)."""
    K, x = len(w), channels_last(x)
    y = aligned((len(x), *size, K), x.dtype)
    add = y.reshape(-1)[:0] if add is None else channels_last(add).reshape(-1)
    sums = block(-(-size[1] // plan.up), K, x.dtype)
    loop, _, given = _work(plan, sums, 1, sums.P, x.shape, y.shape, x.dtype)
    width, across = whole(K, sums.lanes), given[-3][-1]
    row = np.zeros((across // width, width), x.dtype)
    row[:, :K] = bias
    loop(x, weights(w, plan, sums), row.reshape(-1), add, y.reshape(-1), *given)
    return y.transpose(0, 3, 1, 2)


@lru_cache(maxsize=512)
def _work(plan, sums, of_taps, of_columns, shape, size, dtype):
    """(loop, where the weights of each phase begin, the last arguments of the loop).

    shape, size: of x, and of y or dy. Taps or columns are filled up to so many. Scratch
    is for each thread. Every call with the same arguments uses it again, one call at a
    time.
    """
    (N, _, W, C), (_, H_y, W_y, K), forward = shape, size, of_taps == 1
    width, columns = whole(K, sums.lanes), whole(-(-W_y // plan.up), of_columns)
    sizes = [width * len(r) * whole(len(c) * C, of_taps) for r, c in plan.folds]
    starts, across = np.cumsum([0, *sizes]), columns * plan.up * width
    if isinstance(plan, plans.Tiles):
        n, m = plan.A.shape
        group, pitch = _group(N * -(-H_y // m), columns), (columns + 2) * C
        given = (
            (_nine(plan.B.T, dtype), _nine(plan.A.T, dtype))
            if forward
            else (_nine(plan.B.T, dtype), _nine(plan.A, dtype), m)
        )
        strip, rooms = (
            (group, pitch, across),
            (n * group * pitch, n * group * across, m * across),
        )
        loop = kernels.correlate_tiles if forward else kernels.tiles_weight
    else:
        group, first = (
            _group(-(-H_y // plan.up), columns),
            [p.first for p in plan.phases],
        )
        lead, reach = (
            max(0, -min(first)),
            max(p.first + len(p.fold) for p in plan.phases),
        )
        tall = lead + plan.stride * (group - 1) + max(reach, 1)
        pitch = (lead + max(W, plan.stride * (columns - 1) + reach)) * C
        given = np.array(
            [
                (a, b, r.first, c.first, len(r.fold), len(c.fold) * C, start)
                for ((a, r), (b, c)), start in zip(
                    product(enumerate(plan.phases), repeat=2), starts
                )
            ]
        )
        strip, rooms = (
            (plan.up, plan.stride, group, tall, lead, pitch, across),
            (tall * pitch, group * plan.up * across),
        )
        loop = kernels.correlate if forward else kernels.correlate_weight
    threads = numba.config.NUMBA_NUM_THREADS
    scratch = tuple(aligned((threads, whole(n + sums.P, 64)), dtype) for n in rooms)
    for room in scratch:
        room[:] = 0  # what lies beyond a row is read, too, and never used
    return loop, starts, (size[1:], given, strip, sums, scratch)


def _group(many, columns):
    """How many of so many rows or tiles are one strip: two at least for two threads."""
    return max(1, min(PIXELS // columns, -(-many // 2)))


def _nine(matrix, dtype):
    """A matrix, filled up to nine columns, as the loops take it."""
    return np.pad(matrix, ((0, 0), (0, 9 - matrix.shape[1]))).astype(dtype, "C")


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
    """The weights of all phases in blocks, each (K / lanes, rows, columns * C, lanes)."""
    (K, C, kernel, _), found = weight.shape, []
    weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(kernel, -1)
    for rows, columns in plan.folds:
        R, taps = len(rows), len(columns)
        folded = (rows.astype(weight.dtype) @ weight).reshape(R, kernel, C * K)
        folded = (columns.astype(weight.dtype) @ folded).reshape(R, taps * C, K)
        folded = np.pad(folded, ((0, 0), (0, 0), (0, -K % sums.lanes)))
        shape = R, taps * C, folded.shape[2] // sums.lanes, sums.lanes
        found.append(folded.reshape(shape).transpose(2, 0, 1, 3).ravel())
    flat = aligned((sum(map(len, found)),), weight.dtype)
    return np.concatenate(found, out=flat)
