"""Convolutions as plans: which sums of pixels are multiplied by which sums of weights.

A plan says into which planes the channels of input and output are laid out, which taps
lead from one to the other, and which matrix makes the weights of the taps from a 3x3
kernel. The kernels (see the picture in `kernels.py`) know nothing else, so that these
convolutions, and their gradients, are the same two loops:

strided     one tap for each weight. A stride of 2 reads the image as four phases: even
            and odd rows, even and odd columns, each a string on the coarse grid.
upsampling  nearest-neighbour upsampling and a 3x3 convolution: 9 products for four
            pixels instead of 36.
tiled       3x3, stride 1: for m rows of output (7 or 4), a column of 3 taps is m + 2
            products of sums of rows instead of 3 m (Winograd).
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from nanodiff import kernels
from nanodiff.rows import FALLS
from nanodiff.winograd import POINTS, matrices

WIDEST = 9  # columns that the matrices of `winograd.py` have, or are filled up to
ROOM = 10  # rows for the parts of a layout and for sums; the last is `tile`'s spare one


@dataclass(frozen=True, eq=False)
class Layout:
    """How a channel becomes planes, or planes a channel.

    planes: strings of a channel. first: the row of the image with which each part
    begins, to go on with every `down`-th. Then either `matrix` makes planes of parts,
    or parts of planes; or two parts are `phases`, for each the rows of its even and of
    its odd pixels, and `sums` are made: rows (target, a, b) that are a + b, or (target,
    a, RIGHT or BELOW), by how much a falls. A row of the room is a negative number.
    """

    planes: int
    first: tuple = (0,)
    down: int = 1
    phases: tuple = ()
    sums: tuple = ()
    matrix: np.ndarray = field(default_factory=lambda: np.zeros((0, WIDEST)))

    @lru_cache  # noqa: B019, layouts are few and stay
    def arrays(self, dtype):
        """What the kernels take for a layout of images of a dtype."""
        return (
            self.planes, np.array(self.first), self.down, self.across,
            np.array(self.phases, np.int64).reshape(-1, 2),
            np.array(self.sums, np.int64).reshape(-1, 3),
            np.ascontiguousarray(self.matrix, dtype),
        )  # fmt: skip

    @property
    def across(self):
        """How many pixels of a part are one of a plane."""
        return 2 if self.phases else 1

    def rooms(self, channels, length):
        """Shapes of the strings of channels and of their parts, enough for a matrix."""
        strings = max(channels * self.planes, kernels.ROWS * WIDEST)
        return (strings, length), (ROOM, self.across * length)


def _phases(planes, phases, sums=()):
    return Layout(planes, (0, 1), 2, phases, sums)


RIGHT, BELOW = FALLS, FALLS + 1
PLAIN = Layout(1)
PHASES = _phases(4, ((0, 1), (2, 3)))
# An image, and by how much it falls to the right, below, and both.
GROWN_X = Layout(4, sums=((1, 0, RIGHT), (2, 0, BELOW), (3, 1, BELOW)))
# Plane 3 a + b: a of (both, even, odd) rows by b of (both, even, odd) pixels, added up.
GROWN_DY = _phases(9, ((4, 5), (7, 8)), (
    (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8),
))  # fmt: skip
# The same, but even and odd ones fall to the next of their kind.
FALLING_DY = _phases(9, ((-2, -3), (-4, -5)), (
    (-6, -2, -3), (-7, -2, RIGHT), (-8, -3, RIGHT),
    (3, -6, BELOW), (4, -7, BELOW), (5, -8, BELOW),
    (-2, -4, -5), (-3, -4, RIGHT), (-9, -5, RIGHT),
    (6, -2, BELOW), (7, -3, BELOW), (8, -9, BELOW),
    (0, -6, -2), (1, -7, -3), (2, -8, -9),
))  # fmt: skip
# Of nine products, rows 0 and a = 1, 2 are added: (level -6, left -7, right -8). Then
# even pixels are level + left and odd ones level + right, in even and in odd rows.
GROWN_Y = _phases(9, ((-2, -3), (-4, -5)), (
    (-6, 0, 3), (-7, 1, 4), (-8, 2, 5), (-2, -6, -7), (-3, -6, -8),
    (-6, 0, 6), (-7, 1, 7), (-8, 2, 8), (-4, -6, -7), (-5, -6, -8),
))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plan:
    """A convolution, as the kernels do it.

    table: taps (output plane, input plane, rows down, columns right), counted on the
    coarse grid, in order of output planes. fold (taps, n): makes the taps' weights from
    the n = kernel^2 / len(columns) of a kernel. columns: where a tap's own columns lie,
    right of it; their weights are neighbours in the kernel, and folded alike.
    source, target: layouts of x and y; of dy in the weight gradient: `slope`. swapped:
    the weight's first axis is that of x, not of y.
    """

    table: tuple
    fold: np.ndarray
    source: Layout = PLAIN
    target: Layout = PLAIN
    slope: Layout = PLAIN
    columns: tuple = (0,)
    swapped: bool = False

    @cached_property
    def transposed(self):
        """The plan of the input gradient of one that is not, by the same weight."""
        if len(self.source.matrix):  # correlate with the kernel turned round
            layouts = self.source, self.target, self.slope
            return Plan(
                self.table, self.fold[:, ::-1], *layouts, self.columns[::-1], True
            )
        if self.source is GROWN_X:
            return downsampling()
        back = [(i, o, -down, -right) for o, i, down, right in self.table]
        order = sorted(range(len(back)), key=back.__getitem__)
        table = tuple(back[i] for i in order)
        return Plan(table, self.fold[order], self.target, self.source, swapped=True)

    def grid(self, H, W):
        """Rows, columns and rows between images of the strings of H by W pixels."""
        gap = int(not len(self.source.matrix))  # tiles hold their neighbours
        return -(-H // self.source.down), -(-W // self.source.across), gap


@lru_cache
def strided(kernel, stride):
    """The plan of a kernel x kernel convolution, padding (kernel - 1) / 2.

    >>> strided(1, 1).table
    ((0, 0, 0, 0),)
    """
    table, margin = [], kernel // 2
    for r, s in np.ndindex(kernel, kernel):
        down, i = divmod(r - margin, stride)  # input row = stride * (p + down) + i
        right, j = divmod(s - margin, stride)
        table.append((0, i * stride + j, down, right))
    return Plan(tuple(table), np.eye(kernel**2), PLAIN if stride == 1 else PHASES)


@lru_cache
def upsampling():
    """The plan of nearest 2x upsampling and a 3x3 convolution: nine 1x1 convolutions.

    Of three fine neighbours, two always lie on the same coarse pixel. Along one axis

        y[2 i]     = w0 x[i - 1] + (w1 + w2) x[i] = W x[i] + w0 (x[i - 1] - x[i])
        y[2 i + 1] = (w0 + w1) x[i] + w2 x[i + 1] = W x[i] - w2 (x[i] - x[i + 1])

    with W = w0 + w1 + w2: three products for two pixels, so nine for four, and by how
    much x falls takes no product.
    """
    table = []
    for index, (a, b) in enumerate(np.ndindex(3, 3)):
        plane = 2 * (a > 0) + (b > 0)  # x or a fall of it; from i - 1 for w0
        table.append((index, plane, -(a == 1), -(b == 1)))
    fold = np.array([[1, 1, 1], [1, 0, 0], [0, 0, -1]])  # W, w0, -w2
    return Plan(tuple(table), np.kron(fold, fold), GROWN_X, GROWN_Y, GROWN_DY)


@lru_cache
def downsampling():
    """The plan of the input gradient of `upsampling`: here dy falls.

    dx[i] = W (dy[2 i] + dy[2 i + 1]) - w0 (dy[2 i] - dy[2 i + 2])
            + w2 (dy[2 i - 1] - dy[2 i + 1])
    """
    shift = (0, 0, -1)
    table = [(0, 3 * a + b, shift[a], shift[b]) for a, b in np.ndindex(3, 3)]
    fold = np.array([[1, 1, 1], [-1, 0, 0], [0, 0, 1]])
    fold = np.kron(fold, fold)
    return Plan(tuple(table), fold, FALLING_DY, swapped=True)


@lru_cache
def tiled(rows):
    """The plan of a 3x3 convolution with few products: Winograd's, along rows.

    For m rows of y, a column of 3 taps is m + 2 products of sums of rows, not 3 m. m is
    what suits the number of rows: 7 for 28, 14 and 7, but 4 for 16, 8 and 4.
    """
    m = min(POINTS, key=lambda m: -(-rows // m) * (m + 2))
    A, G, B = matrices(POINTS[m], m, 3)
    n = m + 2

    def layout(first, matrix):  # as many columns as the kernels read
        wide = np.pad(matrix, ((0, 0), (0, WIDEST - matrix.shape[1])))
        return Layout(n, tuple(first), m, matrix=wide)

    x, y, dy = layout(range(-1, m + 1), B.T), layout(range(m), A.T), layout(range(m), A)
    table = tuple((i, i, 0, 0) for i in range(n))
    return Plan(table, G, x, y, dy, columns=(-1, 0, 1))
