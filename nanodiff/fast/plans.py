"""Convolutions as plans: which pixels of x meet which sums of weights.

A plan holds for rows and for columns alike, so it is about one axis:

    y[up i + a] = sum_q v[a][q] x[stride i + first[a] + q],  v[a] = folds[a] w

for the phases a < up. So a stride, nearest upsampling, and the input gradients of both
are the same loops (`kernels`). A 3x3 of stride 1 has fewer products as `Tiles`.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np

from nanodiff.fast.winograd import POINTS, matrices

NINE = 9  # rows that `kernels.sum_rows` reads


@dataclass(frozen=True, eq=False)
class Plan:
    """stride; first of each phase; folds of each phase, (taps, kernel)."""

    stride: int
    first: tuple
    folds: tuple

    @cached_property
    def phases(self):
        """The folds of rows and of columns of each phase of both."""
        return tuple(product(self.folds, self.folds))

    @cached_property
    def axis(self):
        """(stride, first, taps of each phase), as the loops take it."""
        taps = [len(fold) for fold in self.folds]
        return self.stride, np.array(self.first), np.array(taps)

    @cached_property
    def dx(self):
        """The plan of the input gradient: it takes dy for its x.

        Where y[up i + a] meets x[p] by v[a][q], dx[p] meets dy[up i + a] by the same.
        With p = stride j + c, a phase c of dx, and i = j + e, that is dy[up j + up e +
        a].

        >>> plan(3).dx.folds[0].tolist()  # the kernel turned round
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
        """
        up, kernel = len(self.first), self.folds[0].shape[1]
        first, folds = [], []
        for c in range(self.stride):
            taps = {}  # by their place in dy; there is no gap between them
            for a, fold in enumerate(self.folds):
                for q, row in enumerate(fold):
                    e, rest = divmod(c - self.first[a] - q, self.stride)
                    if rest == 0:
                        taps[up * e + a] = row
            first.append(min(taps, default=0))
            folds.append(np.reshape([taps[p] for p in sorted(taps)], (-1, kernel)))
        return Plan(up, tuple(first), tuple(folds))


@lru_cache
def plan(kernel, stride=1, up=False):
    """The plan of `plain.conv2d`.

    Upsampled, two of three neighbours are the same pixel of x:

        y[2 i]     = w0 x[i - 1] + (w1 + w2) x[i]
        y[2 i + 1] = (w0 + w1) x[i] + w2 x[i + 1]

    >>> plan(3, up=True).folds[0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    if up:
        even, odd = np.array([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        return Plan(1, (-1, 0), (even, odd))
    return Plan(stride, (-(kernel // 2),), (np.eye(kernel),))


@dataclass(frozen=True, eq=False)
class Tiles:
    """A 3x3 of stride 1 as tiles: m rows of y from n sums of n rows of x.

    A (n, m), G (n, 3), B (n, n): see `winograd`. columns (3, 3): the order of those of
    the kernel. Every sum meets a kernel of one row, so there are n rows of weights.
    """

    A: np.ndarray
    G: np.ndarray
    B: np.ndarray
    columns: np.ndarray

    @cached_property
    def phases(self):
        """As of a Plan: one."""
        return ((self.G, self.columns),)

    @cached_property
    def dx(self):
        """The same, with the kernel turned round."""
        return Tiles(self.A, self.G[:, ::-1], self.B, self.columns[::-1])

    def sums(self, matrix, dtype):
        """A matrix, filled up to nine columns, as the loops take it."""
        return np.pad(matrix, ((0, 0), (0, NINE - matrix.shape[1]))).astype(dtype, "C")


@lru_cache
def tiles(rows):
    """The Tiles with the fewest products for so many rows.

    7 rows of y take 9 for 28, 14 and 7, and 4 take 6 for 16, 8 and 4, where the
    definition has 21 and 12.
    """
    m = min(POINTS, key=lambda m: -(-rows // m) * (m + 2))
    return Tiles(*matrices(POINTS[m], m, 3), np.eye(3))
