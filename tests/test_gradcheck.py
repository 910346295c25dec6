"""The gradient check fails where it should, and why its dy is random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff.gradcheck import gradcheck
from nanodiff.layers import GroupNorm
from tests.strategies import seeds


def sums(channels, groups, silu, gamma, seed):
    """The sum of a norm's outputs, its derivative by dy of ones, for two random x."""
    norm = GroupNorm(channels, groups, silu=silu).cast(np.float64)
    rng = np.random.default_rng(seed)
    norm.gamma[...] = gamma(rng, channels, groups)
    norm.beta[...] = rng.standard_normal(channels)
    x = rng.standard_normal((2, 2, channels, 3, 4))
    return [norm(each).sum() for each in x], norm.backward(np.ones(x[0].shape))


def alike(rng, channels, groups):
    return np.repeat(rng.standard_normal(groups), channels // groups)


def unlike(rng, channels, groups):
    return 1.0 + np.arange(channels)


@given(st.sampled_from([1, 2, 4]), seeds)
def test_by_dy_of_ones_a_norm_has_no_derivative_if_a_group_has_one_gamma(groups, seed):
    for channels, gamma in ((groups, unlike), (2 * groups, alike)):
        (first, second), dx = sums(channels, groups, False, gamma, seed)
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-10)
        np.testing.assert_allclose(dx, 0, atol=1e-11)


@given(st.sampled_from([1, 2, 4]), seeds)
def test_it_has_one_if_gamma_varies_in_a_group_or_silu_follows(groups, seed):
    for channels, silu, gamma in ((2 * groups, False, unlike), (groups, True, alike)):
        (first, second), dx = sums(channels, groups, silu, gamma, seed)
        assert abs(first - second) > 1e-6 and abs(dx).max() > 1e-6


def test_a_norm_with_a_backward_of_zero_is_noticed(rng):
    class Zero(GroupNorm):
        def backward(self, dy):
            return 0 * super().backward(dy)

    with pytest.raises(AssertionError, match="Zero: the derivative by x0"):
        gradcheck(Zero(4, 4), rng.standard_normal((2, 4, 3, 3)), rng=rng)
