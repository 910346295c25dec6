"""An arc between two noises: its ends, its length, its even pace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff.latent import slerp
from tests.strategies import seeds

fractions = st.floats(0, 1)


def pair(seed):
    return np.random.default_rng(seed).standard_normal((2, 3, 2, 5))


def unit(x):
    x = x.reshape(len(x), -1)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(seeds)
def test_its_ends_are_a_and_b(seed):
    a, b = pair(seed)
    np.testing.assert_allclose(slerp(a, b, 0), a, atol=1e-12)
    np.testing.assert_allclose(slerp(a, b, 1), b, atol=1e-12)


@given(seeds, fractions)
def test_it_keeps_the_length_of_two_of_the_same_length(seed, fraction):
    a, b = map(unit, pair(seed))
    length = np.linalg.norm(slerp(a, b, fraction), axis=1)
    np.testing.assert_allclose(length, 1, rtol=1e-12)


@given(seeds, fractions)
def test_the_angle_from_a_grows_evenly(seed, fraction):
    a, b = map(unit, pair(seed))
    whole = np.arccos(np.sum(a * b, axis=1))
    part = np.arccos(np.clip(np.sum(a * slerp(a, b, fraction), axis=1), -1, 1))
    np.testing.assert_allclose(part, fraction * whole, atol=1e-6)


@given(seeds, fractions)
def test_noises_of_any_length_are_mixed_by_the_formula_of_their_angle(seed, fraction):
    a, b = pair(seed) * np.array([0.5, 7.0]).reshape(2, 1, 1, 1)
    angle = np.arccos(np.sum(unit(a) * unit(b), axis=1)).reshape(-1, 1, 1)
    want = np.sin((1 - fraction) * angle) * a + np.sin(fraction * angle) * b
    np.testing.assert_allclose(slerp(a, b, fraction) * np.sin(angle), want, atol=1e-9)


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-5])
def test_where_a_and_b_nearly_agree_the_arc_is_nearly_straight(turn, rng):
    a = np.array([[1.0, 0.0]])
    b = np.array([[np.cos(turn), np.sin(turn)]])
    for fraction in (0, 0.3, 1):
        want = (1 - fraction) * a + fraction * b
        np.testing.assert_allclose(slerp(a, b, fraction), want, rtol=0, atol=1e-10)


@given(seeds, fractions)
def test_the_way_back_is_the_same_way(seed, fraction):
    a, b = pair(seed)
    back = slerp(b, a, 1 - fraction)
    np.testing.assert_allclose(slerp(a, b, fraction), back, atol=1e-12)


@given(seeds, fractions)
def test_from_a_to_a_nothing_moves(seed, fraction):
    a, _ = pair(seed)
    np.testing.assert_allclose(slerp(a, a, fraction), a, atol=1e-12)


@given(seeds, fractions)
def test_float32_stays_float32(seed, fraction):
    a, b = pair(seed).astype(np.float32)
    assert slerp(a, b, fraction).dtype == np.float32


@pytest.mark.parametrize("b, fraction, words", [
    (np.ones((2, 4)), 0.5, r"b has shape \(2, 4\), expected a's \(2, 3\)"),
    (np.ones((2, 3)), 1.5, "fraction is 1.5, expected 0..1"),
    (-np.ones((2, 3)), 0.5, "b points away from a"),
    (np.zeros((2, 3)), 0.5, "b has an image of zeros, expected none"),
    (np.ones((2, 3), int), 0.5, "b has dtype int64, expected floats"),
])  # fmt: skip
def test_bad_input_is_named(b, fraction, words):
    with pytest.raises(ValueError, match=words):
        slerp(np.ones((2, 3)), b, fraction)
