"""The matrices of short convolutions are exact, and lose what they say to rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff.fast.winograd import POINTS, matrices
from tests.strategies import seeds

POINT = st.fractions(-2, 2, max_denominator=4)
KINDS = [(POINTS[m], m) for m in POINTS]


@given(st.lists(POINT, min_size=1, max_size=6, unique=True), st.data(), seeds)
def test_any_points_make_a_correlation_and_its_gradient(points, data, seed):
    taps = data.draw(st.integers(1, len(points) + 1))
    outputs = len(points) + 2 - taps
    A, G, B = matrices(points, outputs, taps)
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal(taps), rng.standard_normal(outputs + taps - 1)
    dy = rng.standard_normal(outputs)
    close = {"rtol": 0, "atol": 1e-8}
    y = A.T @ (G @ w * (B.T @ x))
    np.testing.assert_allclose(y, np.correlate(x, w, "valid"), **close)
    dw = G.T @ (A @ dy * (B.T @ x))
    np.testing.assert_allclose(dw, np.correlate(x, dy, "valid"), **close)


@pytest.mark.parametrize("points, m, times", [(*KINDS[0], 2.5), (*KINDS[1], 6.5)])
def test_rounding_is_as_small_as_the_file_says(points, m, times, rng):
    # 64 channels, as in the U-Net; beside the rounding of the definition
    w, x = rng.standard_normal((64, 3)), rng.standard_normal((64, m + 2, 999))
    A, G, B = (M.astype(np.float32) for M in matrices(points, m, 3))
    slices = np.stack([x[:, i : i + m] for i in range(3)], 1)  # channel, tap, row
    exact = np.einsum("cj,cjip->ip", w, slices)
    w, x, slices = (a.astype(np.float32) for a in (w, x, slices))
    short = A.T @ np.einsum("ck,ckp->kp", w @ G.T, B.T @ x)
    plain = np.einsum("cj,cjip->ip", w, slices)
    assert np.std(short - exact) < times * np.std(plain - exact)
