"""Convolutions as plans: which sums of pixels are multiplied by which sums of weights.

A plan says into which planes the channels of input and output are laid out, which taps
lead from one to the other, and which matrix makes the weights of the taps from a 3x3
kernel. The loops know nothing else, so that these convolutions, and their gradients,
are the same two:

strided     one tap for each weight. A stride of 2 reads the image as four planes: even
            and odd rows, even and odd columns, each a string on the coarse grid.
upsampling  nearest-neighbour upsampling and a 3x3: 9 products for 36
tiled       3x3, stride 1: 9 products for 21, or 6 for 12 (Winograd)
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nanodiff.fast.packing import BELOW, RIGHT
from nanodiff.fast.winograd import POINTS, matrices

WIDEST = 9  # columns that `packing.multiply` reads of a matrix
WORK = 12  # rows of work: two parts and ten sums; or the nine rows of a tile


@dataclass(frozen=True, eq=False)
class Layout:
    """How `packing.pack` makes planes of a channel, or `unpack` a channel of planes.

    The fields are those that `packing.py` explains, in its order.
    """

    planes: int = 1
    first: tuple = (0,)
    every: int = 1
    across: int = 1
    phases: tuple = ()
    sums: tuple = ()
    matrix: tuple = ()

    @lru_cache  # noqa: B019, layouts are few and stay
    def arrays(self, dtype):
        """The tuple that the loops take, for images of a dtype."""
        return (
            self.planes, np.array(self.first), self.every, self.across,
            np.array(self.phases, np.int64).reshape(-1, 2),
            np.array(self.sums, np.int64).reshape(-1, 3),
            np.array(self.matrix, dtype, order="C").reshape(-1, WIDEST),
        )  # fmt: skip


FALL = None  # in a formula: see `both_axes`


def both_axes(formula, given, wanted, planes, pixels=None):
    """The layout of one axis's formula, applied to the right and then downwards.

    A formula has lines (into, a, b) for numbered values: value `into` is a + b, or for
    b = FALL by how much a falls to the next a. From the given values it makes the
    wanted ones. Of both axes together, value (down, right) is a plane if both numbers
    are in `planes`, else a row of work. pixels: which values are the even and the odd
    pixels, where these lie apart.

    >>> layout = both_axes([(1, 0, FALL)], given=[0], wanted=[0, 1], planes=[0, 1])
    >>> layout.sums == ((1, 0, RIGHT), (2, 0, BELOW), (3, 1, BELOW))
    True
    """
    rows = {
        (down, right): len(planes) * i + j
        for i, down in enumerate(planes)
        for j, right in enumerate(planes)
    }
    count = len(rows)

    def row(down, right):
        return rows.setdefault(
            (down, right), count - 2 - len(rows)
        )  # work[2], ..: 0, 1 are parts

    sums = [
        (row(down, into), row(down, a), RIGHT if b is FALL else row(down, b))
        for down in given
        for into, a, b in formula
    ]
    sums += [
        (row(into, right), row(a, right), BELOW if b is FALL else row(b, right))
        for right in wanted
        for into, a, b in formula
    ]
    if pixels is None:
        return Layout(count, sums=tuple(sums))
    phases = tuple(tuple(row(down, right) for right in pixels) for down in pixels)
    return Layout(count, (0, 1), 2, 2, phases, tuple(sums))


ONE_PLANE = Layout()
PHASES = both_axes([], [], [], planes=[0, 1], pixels=[0, 1])

# The four layouts of upsampling, from the formulas of one axis in `upsampling`:
#
#   value        0             1             2             3             4
#   x            x             its fall
#   y            product 0     product 1     product 2     even pixels   odd pixels
#   dy, weight   even + odd    even pixels   odd pixels
#   dy, input    even + odd    fall of even  fall of odd   even pixels   odd pixels
GROWN_X = both_axes([(1, 0, FALL)], [0], [0, 1], planes=[0, 1])
GROWN_Y = both_axes(
    [(3, 0, 1), (4, 0, 2)], [0, 1, 2], [3, 4], planes=[0, 1, 2], pixels=[3, 4]
)
GROWN_DY = both_axes(
    [(0, 1, 2)], [1, 2], [0, 1, 2], planes=[0, 1, 2], pixels=[1, 2]
)  # fmt: skip
FALLING_DY = both_axes(
    [(0, 3, 4), (1, 3, FALL), (2, 4, FALL)],
    [3, 4], [0, 1, 2], planes=[0, 1, 2], pixels=[3, 4],
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plan:
    """A convolution of images x to images y, as the loops do it.

    taps: rows (plane of y, plane of x, rows down, columns right), in order of the first
    and counted on the planes' grid: where in x to look from a pixel of y. fold (taps,
    n): the weights of the taps are fold times the n weights of a kernel. With several
    `columns` it is applied to each column of the kernel by itself, and columns[i] says
    how far to the right column i looks. x, y, dy: the layouts; dy is read in the weight
    gradient. dx: the plan of the input gradient, which takes dy for its x, and the
    weight with its first two axes exchanged.
    """

    taps: tuple
    fold: np.ndarray
    x: Layout = ONE_PLANE
    y: Layout = ONE_PLANE
    dy: Layout = ONE_PLANE
    columns: tuple = (0,)
    dx: "Plan | None" = None

    def grid(self, H, W):
        """Rows, columns and rows between images of the strings of H by W pixels."""
        gap = int(not len(self.x.matrix))  # tiles hold their neighbours
        return -(-H // self.x.every), -(-W // self.x.across), gap


@lru_cache
def strided(kernel, stride):
    """The plan of a kernel x kernel convolution, padding (kernel - 1) / 2.

    >>> strided(1, 1).taps
    ((0, 0, 0, 0),)
    """
    taps, margin = [], kernel // 2
    for r, s in np.ndindex(kernel, kernel):
        down, i = divmod(r - margin, stride)  # row of x = stride * (p + down) + i
        right, j = divmod(s - margin, stride)
        taps.append((0, i * stride + j, down, right))
    x, fold = ONE_PLANE if stride == 1 else PHASES, np.eye(kernel**2)
    back = [(x, y, -down, -right) for y, x, down, right in taps]  # every tap, from y
    order = sorted(range(len(back)), key=back.__getitem__)
    dx = Plan(tuple(back[i] for i in order), fold[order], y=x)
    return Plan(tuple(taps), fold, x, dx=dx)


@lru_cache
def upsampling():
    """The plan of nearest 2x upsampling and a 3x3 convolution: nine 1x1 convolutions.

    Of three fine neighbours, two always lie on the same coarse pixel. Along one axis

        y[2 i]     = w0 x[i - 1] + (w1 + w2) x[i] = W x[i] + w0 (x[i - 1] - x[i])
        y[2 i + 1] = (w0 + w1) x[i] + w2 x[i + 1] = W x[i] - w2 (x[i] - x[i + 1])

    with W = w0 + w1 + w2: three products, 0: W x[i], 1: w0 times the fall of x at i -
    1, 2: -w2 times that at i. Two pixels take three, so four take nine. In the input
    gradient dy falls:

        dx[i] = W (dy[2 i] + dy[2 i + 1]) - w0 (dy[2 i] - dy[2 i + 2])
                + w2 (dy[2 i - 1] - dy[2 i + 1])
    """

    def taps(y, x, back):  # of each product: its plane of y, of x, and from where
        axis = list(zip(y, x, back, strict=True))
        wide_y, wide_x = max(y) + 1, max(x) + 1
        return tuple(
            (wide_y * i + j, wide_x * m + n, down, right)
            for i, m, down in axis for j, n, right in axis
        )  # fmt: skip

    fold = np.array([[1, 1, 1], [1, 0, 0], [0, 0, -1]])  # W, w0, -w2
    dx_fold = np.array([[1, 1, 1], [-1, 0, 0], [0, 0, 1]])  # W, -w0, w2
    dx = Plan(
        taps((0, 0, 0), (0, 1, 2), (0, 0, -1)), np.kron(dx_fold, dx_fold), FALLING_DY,
    )  # fmt: skip
    return Plan(
        taps((0, 1, 2), (0, 1, 1), (0, -1, 0)), np.kron(fold, fold),
        GROWN_X, GROWN_Y, GROWN_DY, dx=dx,
    )  # fmt: skip


@lru_cache
def tiled(rows):
    """The plan of a 3x3 convolution with few products: Winograd's, along rows.

    For m rows of y, a column of 3 taps is m + 2 products of sums of rows, not 3 m. m is
    the one with the fewest products for so many rows: 7 for 28, 14 and 7, but 4 for 16,
    8 and 4. The input gradient is the same with the kernel turned round.
    """
    m = min(POINTS, key=lambda m: -(-rows // m) * (m + 2))
    A, G, B = matrices(POINTS[m], m, 3)
    n = m + 2

    def layout(first, matrix):
        wide = np.pad(matrix, ((0, 0), (0, WIDEST - matrix.shape[1])))
        return Layout(n, tuple(first), m, matrix=wide)

    x, y, dy = layout(range(-1, m + 1), B.T), layout(range(m), A.T), layout(range(m), A)
    taps, columns = tuple((i, i, 0, 0) for i in range(n)), (-1, 0, 1)
    dx = Plan(taps, G[:, ::-1], x, y, dy, columns[::-1])
    return Plan(taps, G, x, y, dy, columns, dx=dx)
