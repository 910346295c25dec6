"""The whole network: derivative, shapes, its start at zero, its inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanodiff.gradcheck import gradcheck
from nanodiff.unet import UNet, time_features


def tiny(rng, **options):
    config = {"image_channels": 2, "context_features": 3, "channels": (8, 16, 8)}
    return UNet(**config | {"features": 8, "groups": 4} | options, rng=rng)


def test_backward_is_the_derivative_by_x_context_and_every_parameter(rng):
    unet = tiny(rng)
    xt, context = rng.standard_normal((3, 2, 8, 12)), rng.standard_normal((3, 3))
    checked = gradcheck(unet, xt, np.array([1, 5, 7]), context, rng=rng)
    assert checked == ["x0", "x1", *unet.named_params()]


@given(
    st.sampled_from([(4,), (4, 8), (8, 4, 4)]), st.integers(1, 3), st.integers(1, 3),
    st.integers(0, 3), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3),
    st.sampled_from([0, 1, 2]), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=8)
def test_backward_is_the_derivative_for_any_size(
    channels, N, C, M, H, W, middle, attention, seed
):
    rng = np.random.default_rng(seed)
    more = {"middle": middle, "attention": attention}
    unet = UNet(C, M, channels, features=4, groups=2, **more, rng=rng)
    step = 2 ** (len(channels) - 1)
    xt = rng.standard_normal((N, C, step * H + step, step * W))
    context = rng.standard_normal((N, M)) if M else None
    checked = gradcheck(unet, xt, rng.integers(1, 99, N), context, rng=rng)
    assert checked == ["x0", *(["x1"] if M else []), *unet.named_params()]


def test_without_context_the_context_layer_gets_no_gradient(rng):
    unet = tiny(rng)
    unet.conv_out.w[...] = 1
    xt = rng.standard_normal((2, 2, 8, 8), dtype=np.float32)
    unet.backward(unet(xt, 3, np.ones((2, 3))))
    assert unet.embed.context.dw.any()
    unet.backward(unet(xt, 3))
    assert not unet.embed.context.dw.any()


def test_a_new_network_predicts_zero_and_a_null_context_is_none(rng):
    unet = tiny(rng)
    xt = rng.standard_normal((2, 2, 8, 8), dtype=np.float32)
    assert not unet(xt, 1, np.ones((2, 3))).any()
    unet.conv_out.w[...] = rng.standard_normal(unet.conv_out.w.shape)
    np.testing.assert_array_equal(unet(xt, 1, np.zeros((2, 3))), unet(xt, 1))
    assert (unet(xt, 1, np.ones((2, 3))) != unet(xt, 1)).any()


def test_more_middle_blocks_start_as_the_identity(rng):
    small, large = tiny(rng), tiny(rng, middle=3)
    for unet in (small, large):
        unet.conv_out.w[...] = 1
    large.load(large.named_params() | small.named_params())
    xt = rng.standard_normal((2, 2, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(large(xt, 3), small(xt, 3))
    large.middle[2].conv2.w[...] = 1
    assert (large(xt, 3) != small(xt, 3)).any()


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_starts_as_the_identity(rng, heads):
    small, large = tiny(rng), tiny(rng, attention=heads)
    for unet in (small, large):
        unet.conv_out.w[...] = 1
    large.load(large.named_params() | small.named_params())
    new = {f"attention.{name}" for name in large.attention.named_params()}
    assert large.named_params().keys() - small.named_params().keys() == new
    xt = rng.standard_normal((2, 2, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(large(xt, 3), small(xt, 3))
    large.attention.out.w[...] = 1
    assert (large(xt, 3) != small(xt, 3)).any()


def test_with_attention_backward_is_the_derivative_too(rng):
    unet = tiny(rng, attention=2)
    xt, context = rng.standard_normal((3, 2, 8, 12)), rng.standard_normal((3, 3))
    checked = gradcheck(unet, xt, np.array([1, 5, 7]), context, rng=rng)
    assert "attention.q.w" in checked
    assert checked == ["x0", "x1", *unet.named_params()]


class Shown(UNet):
    """A network that is always shown the same guess of x0."""

    def forward(self, xt, t, context=None):
        return super().forward(xt, t, context, self.guess.astype(xt.dtype))


def test_backward_is_the_derivative_if_it_is_shown_its_guess(rng):
    unet = Shown(2, 3, (8, 8), 8, 4, self_condition=True, rng=rng)
    unet.guess = rng.standard_normal((3, 2, 8, 12))
    xt, context = rng.standard_normal((3, 2, 8, 12)), rng.standard_normal((3, 3))
    checked = gradcheck(unet, xt, np.array([1, 5, 7]), context, rng=rng)
    assert "conv_x0.w" in checked and checked == ["x0", "x1", *unet.named_params()]


def test_a_guess_changes_nothing_at_first_and_no_guess_is_no_gradient(rng):
    small, large = tiny(rng), tiny(rng, self_condition=True)
    for unet in (small, large):
        unet.conv_out.w[...] = 1
    large.load(large.named_params() | small.named_params())
    xt, guess = rng.standard_normal((2, 2, 2, 8, 8), dtype=np.float32)
    for found in (large(xt, 3), large(xt, 3, None, guess)):
        np.testing.assert_array_equal(found, small(xt, 3))
    large.backward(guess)
    assert large.conv_x0.dw.any() and large.conv_x0.db.any()
    large(xt, 3)
    large.backward(guess)
    assert not large.conv_x0.dw.any() and not large.conv_x0.db.any()
    large.conv_x0.w[...] = 1
    assert (large(xt, 3, None, guess) != large(xt, 3)).any()


@given(st.integers(0, 1000), st.integers(1, 20), st.sampled_from([2, 8, 128]))
def test_time_features_turn_by_their_frequencies(t, later, size):
    # cos + i sin of (t + d) w is that of t w, turned by d w: the same at any t
    cos, sin = np.split(time_features([0, t, later, t + later], size, float), 2, 1)
    start, now, turn, then = cos + 1j * sin
    np.testing.assert_allclose(then, now * turn, rtol=0, atol=1e-12)
    assert np.all(start == 1)
    cos, sin = np.split(time_features([1], size, float)[0], 2)
    frequency = 10_000.0 ** (-2 * np.arange(size // 2) / size)
    np.testing.assert_allclose(np.arctan2(sin, cos), frequency, rtol=1e-12)


@pytest.mark.parametrize("attention", [0, 2])
def test_a_sample_does_not_depend_on_its_batch(rng, attention):
    unet = tiny(rng, attention=attention)
    for layer in (unet.conv_out, *([unet.attention.out] if attention else [])):
        layer.w[...] = rng.standard_normal(layer.w.shape)
    xt = rng.standard_normal((5, 2, 8, 8), dtype=np.float32)
    alone = np.concatenate([unet(xt[i : i + 1], 4) for i in range(5)])
    # float32: sums of other lengths in another order, of values up to 6
    np.testing.assert_allclose(unet(xt, 4), alone, rtol=1e-5, atol=4e-5)


def test_the_default_network_has_about_half_a_million_parameters(rng):
    unet = UNet(context_features=10, rng=rng)
    assert 450_000 < sum(w.size for w in unet.named_params().values()) < 600_000


def test_bad_input_is_named(rng):
    with pytest.raises(ValueError, match="middle is 0, expected an integer of"):
        tiny(rng, middle=0)
    for heads in (-1, 3, 16, 1.0, None):
        with pytest.raises(ValueError, match=f"attention is {heads}, expected"):
            tiny(rng, attention=heads)
    unet = tiny(rng)
    good = np.zeros((2, 2, 8, 8), np.float32)
    for shape in ((2, 2, 8, 10), (2, 2, 8), (0, 2, 8, 8)):
        with pytest.raises(ValueError, match="xt has shape"):
            unet(np.zeros(shape, np.float32), 1)
    with pytest.raises(
        ValueError, match=r"t has shape \(3,\), expected \(\) or \(2,\)"
    ):
        unet(good, np.ones(3, int))
    with pytest.raises(
        ValueError, match=r"context has shape \(2, 4\), expected \(2, 3\)"
    ):
        unet(good, 1, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="context is .* of shape"):
        tiny(rng, context_features=0)(good, 1, np.zeros((2, 0)))
    with pytest.raises(ValueError, match="x0_hat is .* None without self_condition"):
        unet(good, 1, None, good)
    with pytest.raises(ValueError, match=r"x0_hat has shape \(1, 2, 8, 8\), expected"):
        tiny(rng, self_condition=True)(good, 1, None, good[:1])
