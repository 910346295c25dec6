"""Which pixels of x meet which sums of weights.

Rows and columns of a convolution are alike, so most of this is about one axis. A phase
is every up-th pixel of y, from a certain one on. All its pixels meet x in one way:

    y[up i + a] = sum_q v[q] x[stride i + first + q],  v = fold w

So a stride, nearest upsampling and the input gradients of both are correlations in one
to four phases. A 3x3 of stride 1 has fewer products in `Tiles`.
"""

from collections import namedtuple
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np

from nanodiff.fast.winograd import POINTS, matrices

Phase = namedtuple("Phase", "first fold")  # fold: (taps, kernel)


@dataclass(frozen=True, eq=False)
class Axis:
    """The phases of an axis, up of them."""

    stride: int
    phases: tuple
    A = B = np.empty((0, 0))  # see `Tiles`

    def __post_init__(self):
        ends = [first + len(fold) for first, fold in self.phases]
        vars(self).update(
            up=len(self.phases),
            m=len(self.phases),  # rows of y of a unit
            lead=max(0, *(-first for first, _ in self.phases)),  # zeros before x
            reach=max(1, *ends),  # pixels of x, from one on, for one of each phase
            taps=max(len(fold) for _, fold in self.phases),
        )

    @cached_property
    def fold(self):
        """The weights of all phases from those of the kernel, (taps, kernel^2)."""
        both = product(self.phases, repeat=2)
        return np.concatenate([np.kron(r.fold, c.fold) for r, c in both])

    def table(self, C, numbers, units):
        """The phases of both axes, as `kernels` has them."""
        rows, w = [], 0
        for (a, r), (b, c) in product(enumerate(self.phases), repeat=2):
            R, M = len(r.fold), len(c.fold) * C
            rows.append((a, b, self.lead + r.first, self.lead + c.first, R, M, w))
            w += R * (numbers or M)
        return np.array(rows)

    def extent(self, n):
        """How many pixels of x meet n pixels of each phase, or n rows of those."""
        return self.lead + self.stride * (n - 1) + self.reach

    @cached_property
    def dx(self):
        """The axis of the input gradient, which takes dy for its x.

        Where y[up i + a] meets x[p] by v[q], dx[p] meets dy[up i + a] by the same. With
        p = stride j + c, a phase c of dx, and i = j + e, that is dy[up j + up e + a].

        >>> axis(3).dx.phases[0].fold.tolist()  # the kernel turned round
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
        """
        phases = []
        for c in range(self.stride):
            taps = {}  # by their place in dy, without a gap between them
            for a, (first, fold) in enumerate(self.phases):
                for q, row in enumerate(fold):
                    e, rest = divmod(c - first - q, self.stride)
                    if rest == 0:
                        taps[self.up * e + a] = row
            fold = np.reshape([taps[p] for p in sorted(taps)], (-1, fold.shape[1]))
            phases.append(Phase(min(taps, default=0), fold))
        return Axis(self.up, tuple(phases))


@lru_cache
def axis(kernel, stride=1, up=False):
    """The axis of `plain.conv2d`.

    Upsampled, two of three neighbours are the same pixel of x:

        y[2 i]     = w0 x[i - 1] + (w1 + w2) x[i]
        y[2 i + 1] = (w0 + w1) x[i] + w2 x[i + 1]

    >>> axis(3, up=True).phases[0].fold.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    if up:
        even, odd = np.array([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        return Axis(1, (Phase(-1, even), Phase(0, odd)))
    return Axis(stride, (Phase(-(kernel // 2), np.eye(kernel)),))


@dataclass(frozen=True, eq=False)
class Tiles:
    """A 3x3 of stride 1: m rows of y from n sums of n rows of x.

    A (n, m), G (n, 3), B (n, n): see `winograd`. Each sum meets a kernel of one row, a
    sum of rows of w, as a phase of its own. columns (3, 3): the order of its columns.
    """

    A: np.ndarray
    G: np.ndarray
    B: np.ndarray
    columns: np.ndarray
    up = stride = lead = 1
    reach, taps = 2, 3
    m = property(lambda self: self.A.shape[1])

    @cached_property
    def fold(self):
        """As of an Axis."""
        return np.kron(self.G, self.columns)

    def table(self, C, numbers, units):
        """As of an Axis: all first sums of a strip, all second ones, .."""
        numbers = numbers or 3 * C
        return np.array([(i * units, 0, i * units, 0, 1, 3 * C, i * numbers)
                         for i in range(len(self.G))])  # fmt: skip

    extent = Axis.extent

    @cached_property
    def dx(self):
        """The same, with the kernel turned round."""
        return Tiles(self.A, self.G[:, ::-1], self.B, self.columns[::-1])


@lru_cache
def tiles(rows):
    """The Tiles with the fewest products for so many rows.

    7 rows of y take 9 for 28, 14 and 7, and 4 take 6 for 16, 8 and 4, where the
    definition has 21 and 12.
    """
    m = min(POINTS, key=lambda m: -(-rows // m) * (m + 2))
    return Tiles(*matrices(POINTS[m], m, 3), np.eye(3))
