"""Image i is the same in any batch, by any sampler."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, ddpm, engine
from nanodiff.sampling import sample
from nanodiff.schedule import linear
from nanodiff.streams import Streams
from nanodiff.trained import pretrained


@given(st.integers(0, 2**63), st.lists(st.integers(0, 10**9), min_size=1, max_size=9))
def test_numbers_are_a_function_of_seed_and_image(seed, images):
    together = Streams(seed, images)
    for shape in ((2, 3), (), (5,)):
        rows = together.standard_normal((len(images), *shape))
        assert rows.shape == (len(images), *shape)
        alone = [Streams(seed, [i]) for i in images]
        if shape == (2, 3):
            for row, stream in zip(rows, alone, strict=True):
                np.testing.assert_array_equal(row, stream.standard_normal((1, 2, 3))[0])


def test_they_are_those_of_numpys_children_of_the_seed():
    children = np.random.SeedSequence(7).spawn(3)
    want = [np.random.default_rng(child).standard_normal(4) for child in children]
    np.testing.assert_array_equal(Streams(7, range(3)).standard_normal((3, 4)), want)


def test_no_image_has_the_numbers_of_another_or_of_another_seed():
    rows = [Streams(seed, range(50)).standard_normal((50, 40)) for seed in (0, 1)]
    rows = np.concatenate([*rows, [np.random.default_rng(0).standard_normal(40)]])
    correlation = np.corrcoef(rows) - np.eye(101)
    assert abs(correlation).max() < 5.5 / np.sqrt(40)  # 5,050 pairs
    assert abs(rows.mean()) < 5 / np.sqrt(rows.size)
    assert abs(rows.std() - 1) < 5 / np.sqrt(2 * rows.size)


def test_a_slice_goes_on_where_its_images_are():
    streams, again = Streams(0, range(9)), Streams(0, range(9))
    streams.standard_normal((9, 2)), again.standard_normal((9, 2))
    part = streams[3:7]
    assert len(part) == 4
    want = again.standard_normal((9, 2))
    np.testing.assert_array_equal(part.standard_normal((4, 2)), want[3:7])


def picture(sampler, images, eta=0.0):
    """x0 of these images by a model that looks at each image alone."""
    streams, schedule = Streams(5, images), linear(50)
    xT = streams.standard_normal((len(images), 3))

    def model(xt, t):
        return np.tanh(xt) * (t / 50)

    if sampler == "ddpm":
        loop = ddpm.sample(model, schedule, xT, streams)
    else:
        loop = ddim.sample(model, schedule, xT, 7, eta, streams)
    *_, (_, x0) = loop
    return x0


@pytest.mark.parametrize("sampler, eta", [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.7)])
def test_an_image_is_the_same_in_any_batch(sampler, eta):
    whole = picture(sampler, range(8), eta)
    parts = [picture(sampler, part, eta) for part in ([0], range(1, 6), [6, 7])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(picture(sampler, [5, 2], eta), whole[[5, 2]])


@pytest.mark.slow
def test_a_digit_is_the_same_in_any_batch():
    found, classes = pretrained("mnist"), list("0123456789")

    def draw(classes, first):
        streams = Streams(0, range(first, first + len(classes)))
        return sample(found, classes, 1, 0.5, 8, rng=streams)

    whole = draw(classes, 0)
    for each in (1, 3, 4, 5):
        parts = [draw(classes[i : i + each], i) for i in range(0, 10, each)]
        # plain convolutions are BLAS products, whose order depends on the batch
        far = 1e-4 if engine.PLAIN else 0
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=far)


def test_more_than_a_hundred_pictures_are_those_of_their_streams():
    found, labels = pretrained("sprites"), [0, 1] * 60
    whole = sample(found, labels, steps=1, rng=Streams(0, range(120)))
    last = sample(found, labels[-20:], steps=1, rng=Streams(0, range(100, 120)))
    np.testing.assert_allclose(whole[-20:], last, atol=1e-4)


def test_bad_input_is_named():
    for seed, images, words in (
        (-1, [0], r"seed is -1, expected 0\.\."),
        (None, [0], "seed is None, expected an integer in 0"),
        (0, [-1], "images go from -1 to -1, expected within"),
        (0, 3, r"images has shape \(\), expected"),
    ):
        with pytest.raises(ValueError, match=words):
            Streams(seed, images)
    with pytest.raises(ValueError, match=r"shape is \(3, 2\), expected \(2, ...\)"):
        Streams(0, [0, 1]).standard_normal((3, 2))
    with pytest.raises(ValueError, match=r"rows is 0, expected a slice"):
        Streams(0, [0, 1])[0]
    with pytest.raises(ValueError, match="rng is .*, expected Streams of 2 images"):
        sample(pretrained("sprites"), [0, 1], steps=1, rng=Streams(0, [0]))
