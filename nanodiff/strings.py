"""Convolutions as tables of taps for the string kernels: bookkeeping only, no maths.

A tap says: output phase `out` receives weight number `index` times input phase `plane`,
`down` coarse rows below and `right` coarse columns to the right. The same table, read
backwards, is the input gradient. See `kernels.py` for the picture of a string.

Shapes: x (N, C, H, W), weight (K, C, taps), bias (K,), y (N, K, H', W').
"""

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np

from nanodiff import kernels

PIXELS = 900  # of a string: four of its rows of sums and three slices fit a 32 kB cache
PARTS = 8  # partial sums of a weight gradient: a constant, so that the bits are too
LINE = 64  # bytes of a cache line


@dataclass(frozen=True)
class Taps:
    """A convolution's taps as a table, and the phases of its input and its output."""

    phases_in: int
    phases_out: int
    table: tuple  # of (out, index, plane, down, right)

    def transposed(self):
        """The taps of the input gradient: from output to input, the other way."""
        table = tuple((p, i, o, -down, -right) for o, i, p, down, right in self.table)
        return Taps(self.phases_out, self.phases_in, table)

    def grid(self, H, W):
        """The coarse grid (rows, columns) of an input of H by W pixels."""
        return -(-H // self.phases_in), -(-W // self.phases_in)


@lru_cache
def strided(kernel, stride):
    """The taps of a kernel x kernel convolution, padding (kernel - 1) / 2.

    >>> strided(1, 1).table
    ((0, 0, 0, 0, 0),)
    """
    table, margin = [], kernel // 2
    for r in range(kernel):
        for s in range(kernel):
            down, i = divmod(r - margin, stride)  # input row = stride * (p + down) + i
            right, j = divmod(s - margin, stride)
            table.append((0, r * kernel + s, i * stride + j, down, right))
    return Taps(stride, 1, tuple(table))


@lru_cache
def upsampling():
    """The taps of nearest 2x upsampling and a 3x3 convolution: four 2x2 convolutions.

    Of three fine neighbours, two always lie on the same coarse pixel: an even row sees
    coarse rows -1, 0, 0 and an odd row 0, 0, 1. Adding their weights first (`FOLD`)
    leaves 16 products a coarse pixel instead of 36.
    """
    table = []
    for index, (i, a, j, b) in enumerate(np.ndindex(2, 2, 2, 2)):
        table.append((2 * i + j, index, 0, a + i - 1, b + j - 1))
    return Taps(1, 2, tuple(table))


# FOLD[i, a, r]: does fine tap r of an output row of parity i lie on its coarse tap a?
FOLD = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])


def correlate(x, weight, bias, taps, size):
    """The convolution of x by a table of taps, as images (N, K, *size)."""
    N, C, H, W = x.shape
    K, grid = weight.shape[0], taps.grid(H, W)
    group, span, length = _string(N, *grid)
    offset, index = _offsets(taps, C, grid[1] + 1, length)
    x_s = _scratch(C * taps.phases_in**2, length, x.dtype)
    sums = _scratch(kernels.ROWS, group * span, x.dtype, pad=True)
    y = np.empty((N, K, *size), x.dtype)
    blocks = _blocked(weight, index)
    kernels.correlate(
        np.ascontiguousarray(x), blocks, offset, bias, y, grid,
        taps.phases_in, taps.phases_out, group, x_s, sums,
    )  # fmt: skip
    return y


def correlate_weight(x, dy, taps):
    """The gradients (weight (K, C, taps), bias (K,)) of `correlate`, from dy."""
    N, C, H, W = x.shape
    K, grid = dy.shape[1], taps.grid(H, W)
    group, _, length = _string(N, *grid)
    offset, index = _offsets(taps, C, grid[1] + 1, length)
    x_s = _scratch(C * taps.phases_in**2, length, x.dtype)
    dy_s = _scratch(K * taps.phases_out**2, length, x.dtype)
    rows, columns = -(-K // kernels.ROWS), offset.shape[1] // kernels.TAPS
    parts = min(PARTS, -(-N // group))
    blocks = np.zeros((parts, len(offset), rows, columns, 12), x.dtype)
    dbias = np.zeros((parts, K), x.dtype)
    kernels.correlate_weight(
        np.ascontiguousarray(x), np.ascontiguousarray(dy), offset, blocks, dbias, grid,
        taps.phases_in, taps.phases_out, group, x_s, dy_s,
    )  # fmt: skip
    return _unblocked(blocks.sum(0), index, K, C, len(taps.table)), dbias.sum(0)


def _string(N, rows, columns):
    """Images a string, its pixels an image, and its length with the zeros around."""
    pitch = columns + 1
    span = (rows + 1) * pitch
    group = min(N, max(1, round(PIXELS / span)))
    return group, span, group * span + 2 * pitch + 2


@lru_cache(maxsize=256)
def _offsets(taps, C, pitch, length):
    """Offsets (phases, M) into the strings, weight index (phases, taps); -1 is none."""
    phases, planes = taps.phases_out**2, taps.phases_in**2
    rows = [[tap for tap in taps.table if tap[0] == phase] for phase in range(phases)]
    most = max(len(row) for row in rows)
    index = np.full((phases, most), -1)
    shift = np.zeros((phases, most), np.int64)
    for phase, row in enumerate(rows):
        for n, (_, i, plane, down, right) in enumerate(row):
            index[phase, n] = i
            shift[phase, n] = plane * length + (down + 1) * pitch + right + 1
    offset = shift[:, None] + np.arange(C)[:, None] * planes * length
    offset = offset.reshape(phases, C * most)
    spare = -offset.shape[1] % kernels.TAPS
    return np.pad(offset, ((0, 0), (0, spare))), index


def _blocked(weight, index):
    """Weights (K, C, taps) as blocks (phases, K/4, M/3, 12), filled up with zeros."""
    K, C, _ = weight.shape
    phases, n = index.shape
    taken = np.where(index >= 0, weight[:, :, index], weight.dtype.type(0))
    matrix = taken.transpose(2, 0, 1, 3).reshape(phases, K, C * n)
    spare = (0, 0), (0, -K % kernels.ROWS), (0, -(C * n) % kernels.TAPS)
    matrix = np.pad(matrix, spare)
    blocks = matrix.reshape(
        phases, -1, kernels.ROWS, matrix.shape[2] // 3, kernels.TAPS
    )
    blocks = np.ascontiguousarray(blocks.transpose(0, 1, 3, 2, 4))
    return blocks.reshape(*blocks.shape[:3], kernels.ROWS * kernels.TAPS)


def _unblocked(blocks, index, K, C, taps):
    """The inverse of `_blocked`: blocks of weight gradients as (K, C, taps)."""
    phases, rows, columns, _ = blocks.shape
    n = index.shape[1]
    matrix = blocks.reshape(phases, rows, columns, kernels.ROWS, kernels.TAPS)
    matrix = matrix.transpose(0, 1, 3, 2, 4).reshape(phases, 4 * rows, 3 * columns)
    found = matrix[:, :K, : C * n].reshape(phases, K, C, n).transpose(1, 2, 0, 3)
    dweight = np.empty((K, C, taps), blocks.dtype)
    dweight[:, :, index[index >= 0]] = found[:, :, index >= 0]
    return dweight


def _scratch(rows, length, dtype, pad=False):
    """A zeroed (threads, rows, length) array; padded rows start on cache lines."""
    line = LINE // dtype.itemsize
    if pad:  # rows of sums that straddle lines cost 15 % (28x28, 32 channels)
        length = -(-length // line) * line + line
    shape = (numba.get_num_threads(), rows, length)
    room = np.zeros(int(np.prod(shape)) + line, dtype)
    start = -room.ctypes.data // dtype.itemsize % line
    return room[start : room.size - line + start].reshape(shape)
