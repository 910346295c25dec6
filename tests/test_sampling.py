"""Pictures of the classes that one asks for, by a network of any kind."""

from types import SimpleNamespace

import numpy as np
import pytest

from nanodiff import ddim, ddpm, dpm, flow
from nanodiff.guidance import guide
from nanodiff.respace import respace
from nanodiff.sampling import contexts, sample
from nanodiff.schedule import linear


def network(xt, t, context=None):
    """A network that pulls to the number that the context stands for."""
    pull = 0 if context is None else (context @ [0.5, -0.5]).astype(xt.dtype)
    return 0.1 * xt - np.reshape(pull, (-1,) + (1,) * (xt.ndim - 1))


def found(classes=("up", "down"), shape=(1, 4, 4)):
    return SimpleNamespace(
        model=network, schedule=linear(50), classes=list(classes), shape=shape
    )


@pytest.mark.parametrize("sampler, eta", [
    ("ddim", 0.0), ("ddim", 0.5), ("ddpm", 0.0), ("dpm", 0.0), ("flow", 0.0),
])  # fmt: skip
@pytest.mark.parametrize("w", [0.0, 2.0])
def test_it_is_the_loop_that_one_would_write(sampler, eta, w):
    made = sample(found(), ["down", "up"], 3, w, 7, rng=np.random.default_rng(1),
                  sampler=sampler, eta=eta)  # fmt: skip
    rng = np.random.default_rng(1)
    xT = rng.standard_normal((6, 1, 4, 4)).astype(np.float32)
    context = np.repeat([[0, 1], [1, 0]], 3, axis=0).astype(np.float32)
    model, noise = guide(network, context, w), linear(50)
    if sampler == "ddpm":
        model, noise = respace(model, noise, 7)
        *_, (_, want) = ddpm.sample(model, noise, xT, rng, clip=1.0)
    elif sampler in ("dpm", "flow"):
        module = {"dpm": dpm, "flow": flow}[sampler]
        *_, (_, want) = module.sample(model, noise, xT, 7, clip=1.0)
    else:
        *_, (_, want) = ddim.sample(model, noise, xT, 7, eta, rng, clip=1.0)
    np.testing.assert_array_equal(made, want)


def test_more_than_a_hundred_are_made_in_parts_and_none_is_missing(rng):
    made = sample(found(shape=(9,)), ["up", "down", "up"], 77, steps=25, rng=rng)
    assert made.shape == (231, 9) and made.dtype == np.float32
    means = made.reshape(3, 77, 9).mean((1, 2))
    assert means[1] < 0 < min(means[0], means[2])
    assert len(np.unique(made, axis=0)) == 231


def test_a_class_is_a_name_a_label_or_a_mixture():
    one, other = [1.0, 0.0], [0.0, 1.0]
    for asked, want in (
        (["down", 0, np.int64(1)], [other, one, other]),
        (["up+down", "up + up + up+ down"], [[0.5, 0.5], [0.75, 0.25]]),
        (None, [one, other]),
    ):
        np.testing.assert_array_equal(contexts(found(), asked), want)
    named_so = found(["a+b", "a"])  # a name may have a plus in it
    np.testing.assert_array_equal(contexts(named_so, ["a+b"]), [one])


def test_a_network_without_classes_makes_points_of_any_shape(rng):
    made = sample(found([], (3,)), n=5, steps=4, rng=rng)
    assert made.shape == (5, 3) and contexts(found([])) is None


def test_bad_input_is_named(rng):
    for more, words in (
        (
            {"classes": ["left"]},
            r"classes has 'left', expected one of \['up', 'down'\]",
        ),
        ({"classes": [2]}, "classes has 2, expected one of"),
        ({"classes": "up"}, r"classes is 'up', expected a list, as \['up'\]"),
        ({"n": 0}, "n is 0, expected an integer of at least 1"),
        ({"n": 1.5}, "n is 1.5, expected an integer of at least 1"),
        ({"sampler": "euler"}, "sampler is 'euler', expected one of"),
        ({"sampler": "ddpm", "eta": 0.5}, "eta is 0.5, expected 0: ddpm has none"),
        ({"sampler": "flow", "eta": 0.5}, "eta is 0.5, expected 0: flow has none"),
        ({"steps": 51}, r"steps is 51, expected 1\.\.T = 1\.\.50"),
    ):
        with pytest.raises(ValueError, match=words):
            sample(found(), rng=rng, **more)
    with pytest.raises(ValueError, match="rng is 0, expected a Generator"):
        sample(found(), rng=0)
    with pytest.raises(ValueError, match=r"shape is None, expected \(C, H, W\)"):
        sample(found(shape=None), rng=rng)
    with pytest.raises(ValueError, match=r"classes is \['up'\], expected None: there"):
        sample(found([]), ["up"], rng=rng)
    with pytest.raises(
        ValueError, match="w is 1.0, expected 0 for a network without a"
    ):
        sample(found([]), w=1, rng=rng)
