"""Sprites: varied, reproducible, and told apart by a rule that reads only pixels."""

import numpy as np
import pytest
from hypothesis import given

from nanodiff import sprite_parts
from nanodiff.sprites import CLASSES, DIP, INK, ROLES, _eyes, read, sprites
from tests.strategies import seeds

each_class = pytest.mark.parametrize("label", range(5), ids=CLASSES)


@given(seeds)
def test_the_rule_recovers_every_class_facing_either_way(seed):
    images, labels = sprites(100, np.random.default_rng(seed))
    assert (read(images) == labels).all()
    assert (read(images[..., ::-1]) == labels).all()


@each_class
def test_the_rule_bears_noise(label, rng):
    images, _ = sprites(500, rng, label)
    noise = rng.standard_normal(images.shape)
    for std, least in ((0.1, 0.995), (0.2, 0.98)):
        accuracy = (read(images + std * noise) == label).mean()
        assert accuracy >= least, (std, accuracy)


@each_class
def test_the_margins_are_wide(label, rng):
    images, _ = sprites(4000, rng, label)
    clear = np.maximum(*_eyes(images))
    if CLASSES[label] in ("food", "spell"):
        assert clear.max() < DIP - 0.1
    else:
        assert clear.min() > DIP + 0.25


def test_white_sparkles_keep_clear_of_the_row_of_the_eyes(rng):
    images, _ = sprites(500, rng, CLASSES.index("spell"))
    white = (images > 0.85).all(1)
    assert white[:, :5].any() and not white[:, 5:9, :4].any()


def test_what_exceeds_the_range_is_clipped(rng):
    images, _ = sprites(500, rng)
    noisy = images + 0.5 * rng.standard_normal(images.shape)
    assert (read(noisy) == read(np.clip(noisy, -1, 1))).all()


def test_the_rule_goes_by_eyes_warmth_and_a_white_centre(rng):
    hero, other, food, spell, side = range(5)
    for label in (hero, other, side):
        images, _ = sprites(100, rng, label)
        images[:, :, 6:8] = images[:, :, 6:8, 8:9]  # eyes closed
        assert np.isin(read(images), (food, spell)).all()
    images, _ = sprites(100, rng, hero)
    images[:, :, 6:8, 9] = images[:, :, 6:8, 8]  # one eye closed
    assert np.isin(read(images), (food, spell)).all()
    images, _ = sprites(100, rng, hero)
    assert (read(images[:, ::-1]) == other).all()  # red for blue
    images, _ = sprites(100, rng, food)
    images[:, :, 7:9, 7:9] = 1
    assert (read(images) == spell).mean() > 0.9  # if it does not make a dip beside it


@given(seeds)
def test_sprites_are_a_function_of_the_seed(seed):
    one, same, other = (
        sprites(10, np.random.default_rng(s)) for s in (seed, seed, seed + 1)
    )
    assert (one[0] == same[0]).all() and (one[1] == same[1]).all()
    assert (one[0] != other[0]).any()


@each_class
def test_most_sprites_are_distinct(label, rng):
    images, _ = sprites(1000, rng, label)
    assert len(np.unique(images.reshape(1000, -1), axis=0)) > 850


@each_class
def test_images_are_float32_from_dark_to_light_on_one_background(label, rng):
    images, labels = sprites(200, rng, label)
    assert images.shape == (200, 3, 16, 16) and images.dtype == np.float32
    assert labels.dtype == np.int64 and (labels == label).all()
    assert -1 <= images.min() < -0.8 and 0.9 < images.max() <= 1
    pixels = np.rint((images + 1) * 127.5).transpose(0, 2, 3, 1)
    dark = (pixels == [0x18, 0x14, 0x25]).all(3).mean((1, 2))
    assert 0.15 < dark.min() and dark.max() < 0.9


def test_all_classes_are_drawn_alike(rng):
    _, labels = sprites(2000, rng)
    deviation = np.sqrt(2000 * 0.2 * 0.8)
    assert (abs(np.bincount(labels, minlength=5) - 400) < 4 * deviation).all()


def test_every_letter_has_a_colour():
    known = {".", *INK, *"".join(ROLES.values())}
    for name in ("HERO", "CREATURE", "FOOD", "SPELL", "SIDE"):
        for band in getattr(sprite_parts, name).strip().split("\n\n"):
            _, *rows = band.split("\n")
            assert set("".join(rows).replace(" ", "")) <= known, band


def test_bad_input_is_named(rng):
    for n in (0, -3, 2.5, None):
        with pytest.raises(ValueError, match=f"n is {n}, expected an integer of at"):
            sprites(n, rng)
    for label in (-1, 5, "food"):
        with pytest.raises(ValueError, match=f"label is {label!r}, expected .*0..4"):
            sprites(3, rng, label)
    for shape in ((3, 16, 16), (1, 1, 16, 16), (1, 3, 28, 28)):
        with pytest.raises(ValueError, match="images has shape .*, expected .n, 3, 16"):
            read(np.zeros(shape))
