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

    @property
    def up(self):
        """The number of phases."""
        return len(self.phases)

    @cached_property
    def folds(self):
        """(fold of rows, fold of columns) of each phase of both."""
        return tuple((r.fold, c.fold) for r, c in product(self.phases, repeat=2))

    @cached_property
    def dx(self):
        """The axis of the input gradient, which takes dy for its x.

        Where y[up i + a] meets x[p] by v[q], dx[p] meets dy[up i + a] by the same. With
        p = stride j + c, a phase c of dx, and i = j + e, that is dy[up j + up e + a].

        >>> axis(3).dx.phases[0].fold.tolist()  # the kernel turned round
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
        """
        up, phases = self.up, []
        for c in range(self.stride):
            taps = {}  # by their place in dy, without a gap between them
            for a, (first, fold) in enumerate(self.phases):
                for q, row in enumerate(fold):
                    e, rest = divmod(c - first - q, self.stride)
                    if rest == 0:
                        taps[up * e + a] = row
            fold = np.reshape([taps[p] for p in sorted(taps)], (-1, fold.shape[1]))
            phases.append(Phase(min(taps, default=0), fold))
        return Axis(up, tuple(phases))


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
    sum of rows of w. columns (3, 3): the order of its columns.
    """

    A: np.ndarray
    G: np.ndarray
    B: np.ndarray
    columns: np.ndarray
    up = 1

    @property
    def folds(self):
        """As of an Axis with one phase."""
        return ((self.G, self.columns),)

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
