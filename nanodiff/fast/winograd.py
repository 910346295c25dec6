"""Short convolutions with few products: multiply polynomials by their values.

Two polynomials of degrees m - 1 and r - 1 have a product of degree m + r - 2, which is
known from its values at m + r - 1 points: a product of two numbers at each, where the
definition has m r of them. Read backwards (transposed), the same three matrices make m
outputs of a correlation with r taps,

    y[i] = sum_j w[j] x[i + j]  as  y = A' (G w * B' x)        * is by element

and the gradient G' (A dy * B' x) of w. Toom 1963, Cook 1966, Winograd 1980; for
networks: Lavin, Gray 2015, arXiv 1509.09308. The last point is infinity: the highest
coefficient.
"""

from fractions import Fraction

import numpy as np

# Points of few bits, whose powers are exact, and near 1, so that these are of like
# size: both keep rounding small. In float32 it is twice that of the same sums without
# tiles with 4 outputs, 5 times with 7.
POINTS = {
    4: (1, -1, 2, -2, 0),
    7: tuple(sign * Fraction(n, 8) for n in (2, 5, 10, 20) for sign in (1, -1)),
}


def matrices(points, outputs, taps):
    """Return A (n, outputs), G (n, taps), B (n, n), float64; n = outputs + taps - 1.

    Rows of G and columns of B are scaled by powers of two, so that those of B have a
    length of about 1. points: n - 1 numbers, all different.

    >>> A, G, B = matrices((0, 1, -1), outputs=2, taps=3)
    >>> w, x = np.array([1.0, 2, 3]), np.array([5.0, 0, 1, 4])
    >>> (A.T @ (G @ w * (B.T @ x))).round(9).tolist()  # 5 + 2 0 + 3 1, 0 + 2 1 + 3 4
    [8.0, 14.0]
    """
    n = outputs + taps - 1
    A, G, B = np.zeros((n, outputs)), np.zeros((n, taps)), np.zeros((n, n))
    A[-1, -1] = G[-1, -1] = 1
    for i, point in enumerate(points):
        others = [Fraction(other) for other in points if other != point]
        weight = 1 / Fraction(np.prod([point - other for other in others]))
        A[i] = [point**j for j in range(outputs)]
        G[i] = [weight * point**j for j in range(taps)]
        B[: n - 1, i] = np.poly1d(others, r=True).coeffs[::-1]
    B[:, -1] = np.poly1d(points, r=True).coeffs[::-1]
    scale = 2.0 ** np.round(np.log2(np.linalg.norm(B, axis=0)))
    return A, G * scale[:, None], B / scale
