"""Self-attention: its sums, its derivative, what it does not depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import engine
from nanodiff.attention import Attention, attend, attend_backward
from nanodiff.gradcheck import gradcheck
from nanodiff.optim import Muon, orthogonal
from tests.strategies import seeds

few, heads = st.integers(1, 3), st.sampled_from([1, 2, 4])


def layer(heads, seed, channels=8):
    """A layer in float64 whose weights are all random, and its rng."""
    rng = np.random.default_rng(seed)
    made = Attention(channels, heads, groups=4, rng=rng).cast(np.float64)
    for w in made.named_params().values():
        w[...] = rng.standard_normal(w.shape)
    return made, rng


@given(few, heads, few, few, seeds)
def test_attention_is_its_sum_pixel_by_pixel(N, heads, H, W, seed):
    made, rng = layer(heads, seed)
    x, d = rng.standard_normal((N, 8, H, W)), 8 // heads
    want = x + made.out.b[:, None, None]
    for n, h in enumerate(made.norm(x)):
        pixels = h.reshape(8, -1).T
        q, k, v = (pixels @ conv.w[:, :, 0, 0].T for conv in (made.q, made.k, made.v))
        taken = np.zeros((H * W, 8))
        for i in range(H * W):
            for c in range(0, 8, d):
                scores = [q[i, c : c + d] @ other[c : c + d] / d**0.5 for other in k]
                share = np.exp(scores) / np.sum(np.exp(scores))
                taken[i, c : c + d] = share @ v[:, c : c + d]
        want[n] += (taken @ made.out.w[:, :, 0, 0].T).T.reshape(8, H, W)
    np.testing.assert_allclose(made(x), want, rtol=1e-9, atol=1e-9)


@given(few, heads, few, few, seeds)
def test_backward_is_the_derivative_by_x_and_every_weight(N, heads, H, W, seed):
    rng = np.random.default_rng(seed)
    made = Attention(8, heads, groups=4, rng=rng)
    x = rng.standard_normal((N, 8, H + 1, W))
    checked = gradcheck(made, x, rng=rng)
    assert checked == ["x0", *made.named_params()]
    names = "norm.gamma norm.beta q.w k.w v.w out.w out.b"
    assert list(made.named_params()) == names.split()


@given(heads, few, few, seeds)
def test_it_commutes_with_a_permutation_of_the_pixels(heads, H, W, seed):
    made, rng = layer(heads, seed)
    x, dy = rng.standard_normal((2, 2, 8, H, W))
    order = rng.permutation(H * W)

    def permuted(images):
        return images.reshape(2, 8, -1)[:, :, order].reshape(2, 8, H, W)

    y = permuted(made(x))
    dx = permuted(made.backward(dy))
    np.testing.assert_allclose(made(permuted(x)), y, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(made.backward(permuted(dy)), dx, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_it_starts_as_the_identity_and_is_none_later(heads, rng):
    made = Attention(8, heads, rng=rng)
    x, dy = rng.standard_normal((2, 3, 8, 4, 5), dtype=np.float32)
    np.testing.assert_array_equal(made(x), x)
    np.testing.assert_array_equal(made.backward(dy), dy)
    assert made.out.dw.any() and not made.q.dw.any()
    made.out.w[...] = 1
    assert (made(x) != x).any()
    made.backward(dy)
    assert all(g.any() for g in made.named_grads().values())


@given(st.sampled_from([np.float32, np.float64]), st.floats(-1e4, 1e4), seeds)
def test_scores_of_any_size_are_shares_that_sum_to_one(dtype, size, seed):
    rng = np.random.default_rng(seed)
    q, k, v, dy = rng.standard_normal((4, 3, 2, 9)).astype(dtype)
    q *= dtype(size)
    y, A = attend(q, k, v)
    found = (y, A, *attend_backward(dy, q, k, v, A))
    assert all(a.dtype == dtype and np.isfinite(a).all() for a in found)
    np.testing.assert_allclose(A.sum(-1), 1, rtol=1e-5)
    assert A.min() >= 0


@given(seeds)
def test_a_query_takes_only_from_its_key_if_scores_are_large(seed):
    rng = np.random.default_rng(seed)
    order, v = rng.permutation(4), rng.standard_normal((1, 4, 4))
    q, k = 200 * np.eye(4)[None, :, order], 100 * np.eye(4)[None]  # 1e4 or 0
    np.testing.assert_array_equal(attend(q, k, v)[0], v[:, :, order])
    y, A = attend(0 * q, k, v)  # all scores are 0: the mean
    np.testing.assert_allclose(y, v.mean(-1, keepdims=True) + 0 * v, rtol=1e-12)
    np.testing.assert_allclose(A, 1 / 4)


@given(heads, seeds)
def test_scores_may_all_be_shifted_and_v_by_a_constant_is_added(heads, seed):
    rng = np.random.default_rng(seed)
    q, k, v = rng.standard_normal((3, heads, 4, 6))
    shift = rng.standard_normal((heads, 4, 1))  # what a bias would add to all pixels
    y, A = attend(q, k, v)
    np.testing.assert_allclose(attend(q, k + shift, v)[1], A, rtol=1e-9)
    np.testing.assert_allclose(attend(q, k, v + shift)[0], y + shift, rtol=1e-9)


@pytest.mark.parametrize("heads", [1, 4])
def test_an_image_does_not_depend_on_its_batch(heads, rng):
    made, _ = layer(heads, 0)
    made.cast(np.float32)
    x, dy = rng.standard_normal((2, 9, 8, 7, 7), dtype=np.float32)
    y, dx = made(x), made.backward(dy)
    for n in (1, 2, 5):
        found = made(x[:n]), made.backward(dy[:n])
        for part, whole in zip(found, (y, dx), strict=True):
            if engine.PLAIN:  # its convolutions are BLAS products of the whole batch
                np.testing.assert_allclose(part, whole[:n], rtol=1e-5, atol=1e-5)
            else:
                np.testing.assert_array_equal(part, whole[:n])


def test_a_nan_stays_in_its_image(rng):
    made, _ = layer(2, 0)
    x = rng.standard_normal((5, 8, 3, 3))
    x[3, 0, 0, 0] = np.nan
    y = made(x)
    dx = made.backward(np.ones(y.shape))
    for found in (y, dx):
        assert np.isnan(found[3]).all() and np.isfinite(np.delete(found, 3, 0)).all()


def test_inputs_are_unchanged_and_backward_is_linear_and_repeatable(rng):
    made, _ = layer(2, 0)
    x, a, b = rng.standard_normal((3, 2, 8, 3, 3))
    kept = x.copy(), a.copy()
    made(x)
    first = made.backward(a)
    np.testing.assert_array_equal(made.backward(a), first)
    np.testing.assert_array_equal([x, a], kept)
    both, other = made.backward(2 * a - 3 * b), made.backward(b)
    np.testing.assert_allclose(both, 2 * first - 3 * other, rtol=1e-9, atol=1e-9)


def test_muon_treats_q_k_and_v_apart(rng):
    made = Attention(8, 2, rng=rng)
    params = made.named_params()
    before = {name: w.copy() for name, w in params.items()}
    muon = Muon(params)
    assert list(muon.hidden) == ["q.w", "k.w", "v.w", "out.w"]
    grads = {n: rng.standard_normal(w.shape).astype("f") for n, w in params.items()}
    for scale, name in zip((1, 1e-3, 1e3), ("q.w", "k.w", "v.w"), strict=True):
        grads[name] *= np.float32(scale)  # in one matrix v would drown q and k
    muon.step(grads, lr=0.1)
    for name in muon.hidden:
        want = 0.1 * 0.2 * 8**0.5 * orthogonal(grads[name][:, :, 0, 0])
        moved = (before[name] - params[name])[:, :, 0, 0]
        np.testing.assert_allclose(moved, want, atol=1e-5)


def test_bad_input_is_named(rng):
    for heads in (0, 3, 1.5, None):
        with pytest.raises(ValueError, match=f"heads is {heads}, expected"):
            Attention(8, heads, rng=rng)
    with pytest.raises(ValueError, match="groups is 3, expected a divisor of 8"):
        Attention(8, groups=3, rng=rng)
    made = Attention(8, rng=rng)
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 2, 2\), expected"):
        made(np.zeros((1, 4, 2, 2), np.float32))
    with pytest.raises(ValueError, match="x has dtype float64, expected float32"):
        made(np.zeros((1, 8, 2, 2)))
    made(np.zeros((1, 8, 2, 2), np.float32))
    with pytest.raises(ValueError, match=r"dy has shape \(1, 8, 2, 3\), expected"):
        made.backward(np.zeros((1, 8, 2, 3), np.float32))
    q = np.zeros((1, 2, 3))
    with pytest.raises(ValueError, match="k has shape"):
        attend(q, q[:, :1], q)
