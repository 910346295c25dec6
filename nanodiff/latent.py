"""The arc between two noises x_T; DDIM makes a picture of each point on it: a film.

    slerp(a, b, f) = sin((1 - f) angle) / sin(angle) a + sin(f angle) / sin(angle) b

Gaussian noise of D dimensions has a length near sqrt(D). An arc keeps that length; the
middle of a straight line is shorter than any noise seen in training. Song, Meng, Ermon
2020 (DDIM), arXiv 2010.02502, section 5.3.
"""

import numpy as np

from nanodiff import check


def slerp(a, b, fraction):
    """Return the noise at `fraction` of the arc from a (0) to b (1).

    a, b: (N, ...) floats of one shape; each image has its own angle. Raises ValueError
    if shapes differ, the fraction is outside 0..1, an image is all zeros, or an a and
    its b point in opposite directions, so that no arc is the shortest.

    >>> a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    >>> slerp(a, b, 1 / 3).round(3).tolist()  # 30 degrees
    [[0.866, 0.5]]
    """
    a, b = check.alike(a=check.array("a", a, ("N", ...)), b=b)
    fraction = check.number("fraction", fraction, 0, 1)
    unit_a, unit_b = _unit(a, "a"), _unit(b, "b")
    # twice the angle of the half chord, exact also where cos(angle) is near 1
    angle = 2 * np.arctan2(
        np.linalg.norm(unit_a - unit_b, axis=1), np.linalg.norm(unit_a + unit_b, axis=1)
    )
    if np.any(np.pi - angle < 1e-6):
        raise ValueError("b points away from a, expected another direction")
    still = angle < 1e-6  # the arc is a straight line
    sine = np.where(still, 1, np.sin(angle))
    of_a = np.where(still, 1 - fraction, np.sin((1 - fraction) * angle) / sine)
    of_b = np.where(still, fraction, np.sin(fraction * angle) / sine)
    along = (-1,) + (1,) * (a.ndim - 1)
    return (of_a.reshape(along) * a + of_b.reshape(along) * b).astype(a.dtype)


def _unit(x, name):
    """The rows of x as vectors of length 1, in float64."""
    rows = x.reshape(len(x), -1).astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    if not length.all():
        raise ValueError(f"{name} has an image of zeros, expected none")
    return rows / length
