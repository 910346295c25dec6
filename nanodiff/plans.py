"""Convolutions as plans: which sums of pixels are multiplied by which sums of weights.

A plan says into which planes the channels of input and output are laid out, which taps
lead from one to the other, and which matrix makes the weights of the taps from a 3x3
kernel. The kernels (see the picture in `kernels.py`) know nothing else, so that four
convolutions, and their gradients, are the same two loops:

strided     one tap for each weight. A stride of 2 reads the image as four phases: even
            and odd rows, even and odd columns, each a string on the coarse grid.
upsampling  nearest-neighbour upsampling and a 3x3 convolution: 9 products for four
            pixels instead of 36.
tiled       3x3, stride 1: for 7 rows of output, a column of 3 taps is 9 products of
            sums of rows instead of 21 (Winograd).
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from nanodiff import kernels
from nanodiff.winograd import POINTS, matrices

WIDEST = 9  # lines that the matrices of `winograd.py` have, or are filled up to


@dataclass(frozen=True, eq=False)
class Layout:
    """How a channel becomes planes.

    kind: of `kernels.py`. planes: strings of a channel. first: the row of the image
    with which each part begins, to go on with every `down`-th. across: how many pixels
    of a part are one of a plane. matrix: makes planes of parts, or parts of planes.
    """

    kind: int
    planes: int
    first: tuple = (0,)
    down: int = 1
    across: int = 1
    matrix: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @lru_cache  # noqa: B019, layouts are few and stay
    def arrays(self, dtype):
        """What the kernels take for a layout of images of a dtype."""
        first = np.array(self.first)
        matrix = self.matrix.astype(dtype)
        return self.kind, self.planes, first, self.down, self.across, matrix

    def rooms(self, channels, length):
        """Shapes of the strings of channels and of their parts, enough for a matrix."""
        strings = max(channels * self.planes, kernels.ROWS * WIDEST)
        return (strings, length), (max(len(self.first), WIDEST), self.across * length)


PLAIN = Layout(kernels.PLAIN, 1)
PHASES = Layout(kernels.PHASES, 4, (0, 1), down=2, across=2)
GROWN_X = Layout(kernels.GROWN_X, 4)
GROWN_DY = Layout(kernels.GROWN_DY, 9, (0, 1), down=2, across=2)
FALLING_DY = Layout(kernels.FALLING_DY, 9, (0, 1), down=2, across=2)
GROWN_Y = Layout(kernels.GROWN_Y, 9, (0, 1), down=2, across=2)


@dataclass(frozen=True, eq=False)
class Plan:
    """A convolution, as the kernels do it.

    table: taps (output plane, weight, input plane, rows down, columns right), counted
    on the coarse grid. fold (weights, kernel^2): makes the taps' weights. source,
    target: layouts of x and y; of dy in the weight gradient: `slope`.
    """

    table: tuple
    fold: np.ndarray
    source: Layout = PLAIN
    target: Layout = PLAIN
    slope: Layout = PLAIN

    @cached_property
    def transposed(self):
        """The plan of the input gradient, for weights whose channels are swapped."""
        if self.source.kind == kernels.TILES:  # correlate with the kernel turned round
            layouts = self.source, self.target, self.slope
            return Plan(self.table, self.fold[:, ::-1], *layouts)
        if self.source is GROWN_X:  # the slopes are those of dy, see `rows.fall`
            table = tuple(
                (0, i, i, -(i // 3 == 2), -(i % 3 == 2)) for i in range(len(self.fold))
            )
            return Plan(table, self.fold, FALLING_DY, PLAIN)
        table = tuple((p, i, o, -down, -right) for o, i, p, down, right in self.table)
        return Plan(table, self.fold, self.target, self.source)

    def grid(self, H, W):
        """Rows, columns and rows between images of the strings of H by W pixels."""
        gap = int(self.source.kind != kernels.TILES)  # tiles hold their neighbours
        return -(-H // self.source.down), -(-W // self.source.across), gap


@lru_cache
def strided(kernel, stride):
    """The plan of a kernel x kernel convolution, padding (kernel - 1) / 2.

    >>> strided(1, 1).table
    ((0, 0, 0, 0, 0),)
    """
    table, margin = [], kernel // 2
    for r in range(kernel):
        for s in range(kernel):
            down, i = divmod(r - margin, stride)  # input row = stride * (p + down) + i
            right, j = divmod(s - margin, stride)
            table.append((0, r * kernel + s, i * stride + j, down, right))
    return Plan(tuple(table), np.eye(kernel**2), PLAIN if stride == 1 else PHASES)


@lru_cache
def upsampling():
    """The plan of nearest 2x upsampling and a 3x3 convolution: nine 1x1 convolutions.

    Of three fine neighbours, two always lie on the same coarse pixel. Along one axis

        y[2 i]     = w0 x[i - 1] + (w1 + w2) x[i] = W x[i] - w0 (x[i] - x[i - 1])
        y[2 i + 1] = (w0 + w1) x[i] + w2 x[i + 1] = W x[i] + w2 (x[i + 1] - x[i])

    with W = w0 + w1 + w2: three products for two pixels, so nine for four, and the
    slopes of x take no product.
    """
    fold = np.array([[1, 1, 1], [-1, 0, 0], [0, 0, 1]])  # W, -w0, w2
    table = []
    for index, (a, b) in enumerate(np.ndindex(3, 3)):
        plane = 2 * (a > 0) + (b > 0)  # x or a slope of it; that of i - 1 for w0
        table.append((index, index, plane, -(a == 1), -(b == 1)))
    return Plan(tuple(table), np.kron(fold, fold), GROWN_X, GROWN_Y, GROWN_DY)


@lru_cache
def tiled(rows):
    """The plan of a 3x3 convolution with few products: Winograd's, along rows.

    For m rows of y, a column of 3 taps is m + 2 products of sums of rows, not 3 m. m is
    what suits the number of rows: 7 for 28, 14 and 7, but 4 for 32, 16 and 8.
    """
    m = min(POINTS, key=lambda m: -(-rows // m) * (m + 2))
    A, G, B = matrices(POINTS[m], m, 3)
    n = m + 2
    wide = (0, 0), (0, WIDEST)  # filled up with zeros
    x = Layout(
        kernels.TILES, n, tuple(range(-1, m + 1)), m,
        matrix=np.pad(B.T, wide)[:, :WIDEST],
    )  # fmt: skip
    dy = Layout(
        kernels.TILES, n, tuple(range(m)), m, matrix=np.pad(A, wide)[:, :WIDEST]
    )
    y = Layout(
        kernels.TILES, n, tuple(range(m)), m, matrix=np.pad(A.T, wide)[:, :WIDEST]
    )
    table = [(i, 3 * i + s, i, 0, s - 1) for i in range(n) for s in range(3)]
    return Plan(tuple(table), np.kron(G, np.eye(3)), x, y, dy)
