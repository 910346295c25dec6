"""Guidance: a line through what the network says without and with its context."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff.guidance import guide
from nanodiff.prediction import KINDS, split, target
from nanodiff.schedule import linear, q_sample
from tests.strategies import schedules, seeds

weights = st.floats(-3, 10)


def network(xt, t, context):
    """Any function of all three, each image for itself."""
    t = np.reshape(t, (-1, 1))
    return np.sin(xt * (1 + t)) + xt * np.cos(context.sum(1, keepdims=True))


def drawn(seed, n=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3)), rng.random((n, 2)), rng.integers(1, 9, size=n)


@given(seeds)
def test_there_is_no_guidance_unless_told(seed):
    xt, context, t = drawn(seed)
    assert np.array_equal(guide(network, context)(xt, t), network(xt, t, context))


@given(seeds)
def test_weight_0_is_the_conditional_network(seed):
    xt, context, t = drawn(seed)
    found = guide(network, context, 0)(xt, t)
    assert np.array_equal(found, network(xt, t, context))


@given(seeds, weights)
def test_without_context_every_weight_is_the_unconditional_network(seed, w):
    xt, context, t = drawn(seed)
    found = guide(network, 0 * context, w)(xt, t)
    assert np.array_equal(found, network(xt, t, 0 * context))


@given(seeds, weights)
def test_it_is_one_plus_w_given_minus_w_free(seed, w):
    xt, context, t = drawn(seed)
    want = (1 + w) * network(xt, t, context) - w * network(xt, t, 0 * context)
    np.testing.assert_allclose(guide(network, context, w)(xt, t), want, atol=1e-12)


@given(seeds, weights, weights)
def test_it_is_linear_in_the_weight(seed, v, w):
    xt, context, t = drawn(seed)
    at_v, at_w, between = (
        guide(network, context, weight)(xt, t) for weight in (v, w, (v + w) / 2)
    )
    np.testing.assert_allclose(between, (at_v + at_w) / 2, atol=1e-12)


@given(seeds, weights)
def test_the_halves_are_one_batch_of_the_same_images_and_times(seed, w):
    xt, context, t = drawn(seed)
    calls = []

    def watched(*given):
        calls.append(given)
        return network(*given)

    guide(watched, context, w)(xt, t)
    ((images, times, contexts),) = calls
    if w:
        xt, t = np.concatenate([xt, xt]), np.concatenate([t, t])
        context = np.concatenate([context, 0 * context])
    for found, want in ((images, xt), (times, t), (contexts, context)):
        assert np.array_equal(found, want)


@given(schedules, seeds, weights, st.sampled_from(KINDS))
def test_to_guide_v_or_x0_is_to_guide_eps(schedule, seed, w, predicts):
    x0, context, _ = drawn(seed)
    eps, t = np.cos(x0), schedule.T
    xt = q_sample(schedule, x0, t, eps)

    def says(xt, t, context):  # what a network of this kind says with such a context
        x0_hat = np.resize(x0, xt.shape) + context.sum(1, keepdims=True)
        eps_hat = np.resize(eps, xt.shape)
        return target(schedule, x0_hat, t, eps_hat, predicts)

    def says_eps(xt, t, context):
        return split(schedule, xt, t, says(xt, t, context), predicts)[1]

    guided = guide(says, context, w)(xt, t)
    want = guide(says_eps, context, w)(xt, t)
    found = split(schedule, xt, t, guided, predicts)[1]
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-6)


@given(seeds, weights)
def test_float32_stays_float32(seed, w):
    xt, context, _ = drawn(seed)

    def single(xt, t, context):
        return xt * context[:, :1]

    found = guide(single, context.astype(np.float32), w)(xt.astype(np.float32), 3)
    assert found.dtype == np.float32


@pytest.mark.parametrize("context, w, words", [
    (np.ones(3), 1, r"context has shape \(3,\), expected \(N, features\)"),
    (np.ones((3, 2)), np.nan, "w is nan, expected a finite number"),
    (np.ones((3, 2)), [1, 2], r"w is \[1, 2\], expected a finite number"),
    (np.ones((4, 2)), 1, "xt has 3 rows, expected 4"),
])  # fmt: skip
def test_bad_input_is_named(context, w, words):
    with pytest.raises(ValueError, match=words):
        guide(network, context, w)(np.ones((3, 3)), linear(100).T)
