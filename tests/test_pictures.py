"""One's own pictures: every kind of file and array comes out as a person expects."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from nanodiff import data
from nanodiff.pictures import pictures
from tests.strategies import seeds

RED, BLUE, GREEN = (250, 10, 20), (20, 10, 250), (10, 240, 30)


def halves(left=RED, right=BLUE, size=(40, 40)):
    """A picture of two colours, side by side."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def colours(image):
    """The colours 0..255 in the middle of the left and of the right half."""
    C, H, W = image.shape
    at = image[:, H // 2, [W // 4, W - 1 - W // 4]].T
    return (at + 1) * 127.5


@pytest.mark.parametrize(
    "name", ["a.png", "a.bmp", "a.webp", "a.jpg", "a.JPEG", "a.gif"]
)
def test_every_kind_of_file_is_read(tmp_path, name):
    halves().save(tmp_path / name)
    images, labels, names = data.pictures(tmp_path, size=8)
    assert images.shape == (1, 3, 8, 8) and images.dtype == np.float32
    assert labels.tolist() == [0] and names == ["pictures"]
    assert np.abs(colours(images[0]) - [RED, BLUE]).max() < 6  # JPEG and WebP lose some


def test_classes_are_the_first_subfolders_in_order(tmp_path):
    for name in (
        "b/one.png",
        "a/deep/two.png",
        "a/three.png",
        "c/notes.txt",
        ".x/y.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("png"):
            halves().save(tmp_path / name)
        else:
            (tmp_path / name).write_text("no picture")
    _, labels, names = pictures(tmp_path)
    assert labels.tolist() == [0, 0, 1] and names == ["a", "b"]


def saved(path, image, **more):
    image.save(path, **more)
    images, _, _ = pictures(path.parent, size=8)
    return images[0]


def test_transparency_shows_white(tmp_path):
    image = halves().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 40))
    found = saved(tmp_path / "a.png", image)
    np.testing.assert_allclose(colours(found), [[255] * 3, BLUE], atol=1)


def test_a_palette_with_a_transparent_colour_shows_white(tmp_path):
    image = Image.new("P", (40, 40), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (20, 0, 40, 40))
    found = saved(tmp_path / "a.png", image, transparency=0)
    np.testing.assert_allclose(colours(found), [[255] * 3, BLUE], atol=1)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_grey_of_8_1_and_16_bits_is_grey(tmp_path, mode):
    wide = np.repeat([[0, 255]], 40, axis=0).repeat(20, axis=1)
    if mode == "I;16":
        image = Image.fromarray((wide * 257).astype(np.uint16))
    else:
        image = Image.fromarray(wide.astype(np.uint8)).convert(mode)
    found = saved(tmp_path / "a.png", image)
    np.testing.assert_allclose(colours(found), [[0] * 3, [255] * 3], atol=1)


def test_sixteen_bits_keep_their_shades(tmp_path):
    image = Image.fromarray(np.full((8, 8), 2**15, np.uint16))
    np.testing.assert_allclose(colours(saved(tmp_path / "a.png", image)), 127.5, atol=1)


def test_a_picture_is_turned_as_its_exif_tag_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    turned = halves().transpose(Image.Transpose.ROTATE_90)
    found = saved(tmp_path / "a.png", turned, exif=exif)
    np.testing.assert_allclose(colours(found), [RED, BLUE], atol=1)


def test_an_animation_gives_its_first_frame(tmp_path):
    more = {"save_all": True, "append_images": [halves(GREEN, GREEN)]}
    found = saved(tmp_path / "a.gif", halves(), **more)
    assert np.abs(colours(found) - [RED, BLUE]).max() < 6


@pytest.mark.parametrize("size", [(41, 40), (80, 40), (40, 97)])
def test_the_largest_square_in_the_centre_is_kept(tmp_path, size):
    image = halves(size=size)
    W, H = size
    image.paste(GREEN, (0, 0, max(0, (W - H) // 2 - 3), H))  # beside it
    image.paste(GREEN, (0, 0, W, max(0, (H - W) // 2 - 3)))
    found = saved(tmp_path / "a.png", image)
    np.testing.assert_allclose(colours(found), [RED, BLUE], atol=1)
    assert (found[1] < 0).all()  # no green


def test_what_cannot_be_read_is_left_out_with_one_warning_that_lists_it(tmp_path):
    halves().save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "words.gif").write_text("not a picture at all")
    with pytest.warns(UserWarning) as caught:
        images, _, _ = pictures(tmp_path)
    (warning,) = caught
    for name in ("3 of 4 files", "cut.png", "empty.jpg", "words.gif (not a picture)"):
        assert name in str(warning.message)
    assert len(images) == 1 and warning.filename == __file__
    (tmp_path / "good.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="has no picture that can be read"):
            pictures(tmp_path)


@given(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(5, 9), seeds)
def test_every_form_of_an_array_gives_the_same_pictures(n, C, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, C, size, size))
    pixels[0, 0, 0, :2] = 0, 255  # so that the range is seen
    want = pixels / 127.5 - 1
    forms = [pixels, pixels.astype(np.uint8), pixels.astype(np.float64), pixels / 255,
             want, want.astype(np.float32), pixels.transpose(0, 2, 3, 1)]  # fmt: skip
    for form in forms + [pixels[:, 0]] * (C == 1):
        images, _, names = pictures(form, size, C)
        np.testing.assert_allclose(images, want, atol=1e-6)
        assert names == ["pictures"]


@given(hnp.array_shapes(min_dims=1, max_dims=5, max_side=6))
def test_axes_that_fit_no_form_or_two_are_refused(shape):
    axes = [i for i in (1, 3) if len(shape) == 4 and shape[i] in (1, 3, 4)]
    fits = len(axes) == 1 or (len(shape) == 3 and shape[2] not in (1, 3, 4))
    pixels = np.zeros(shape, np.uint8)
    if fits:
        assert pictures(pixels, 8)[0].shape == (shape[0], 3, 8, 8)
    else:
        with pytest.raises(
            ValueError, match=r"images has shape .*, expected \(n, H, W"
        ):
            pictures(pixels, 8)


@pytest.mark.parametrize("labels, want, names", [
    ([7, 3, 7], [1, 0, 1], ["3", "7"]),
    (["dog", "cat", "cat"], [1, 0, 0], ["cat", "dog"]),
])  # fmt: skip
def test_a_file_of_arrays_has_its_labels(tmp_path, labels, want, names):
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels, y=np.array(labels))
    np.save(tmp_path / "a.npy", pixels)
    images, found, of = pictures(tmp_path / "a.npz")
    assert found.tolist() == want and found.dtype == np.int64 and of == names
    np.testing.assert_array_equal(pictures(tmp_path / "a.npy")[0], images)


def test_size_and_channels_are_those_of_the_pictures_if_none_is_asked_for(tmp_path):
    for i, side in enumerate((19, 21, 300)):
        Image.new("L", (side, 2 * side), 90).save(tmp_path / f"{i}.png")
    assert pictures(tmp_path, None, None)[0].shape == (3, 1, 20, 20)
    halves(size=(400, 400)).save(tmp_path / "more.png")
    for i in range(4):
        halves(size=(400, 400)).save(tmp_path / f"more{i}.png")
    assert pictures(tmp_path, None, None)[0].shape == (8, 3, 32, 32)


def test_bad_input_is_named(tmp_path):
    good = np.zeros((3, 8, 8), np.uint8)
    for array, words in (
        (good + 300.0, "float64 from 300.0 to 300.0, expected floats within 0..1"),
        (np.full((1, 8, 8), np.nan), "from nan to nan, expected floats within"),
        (good / 1 + np.arange(8) * 2, "from 0.0 to 14.0, expected floats within 0..1"),
        (good.astype(int) - 1, "int64 from -1 to -1, expected integers within 0..255"),
        (
            good + np.uint8(1),
            "uint8 from 1 to 1, expected integers within 0..255, more",
        ),
        (good.astype("c8"), "dtype complex64, expected integer or float"),
        (
            [np.zeros((8, 8)), np.zeros((9, 8))],
            r"shapes \[\(8, 8\), \(9, 8\)\], expect",
        ),
        (good[:0], r"images has shape \(0, 8, 8\), expected"),
    ):
        with pytest.raises(ValueError, match=words):
            pictures(array)
    for labels in ([1, 2], [0.5, 1, 2], [[1], [2], [3]]):
        with pytest.raises(ValueError, match=r"labels have shape .*expected \(3,\)"):
            pictures(good, labels=labels)
    for more, words in (
        ({"size": 0}, "size is 0, expected 1..4096"),
        ({"size": 8.0}, "size is 8.0, expected an integer"),
        ({"channels": 2}, r"channels is 2, expected one of \[1, 3\]"),
    ):
        with pytest.raises(ValueError, match=words):
            pictures(good, **more)
    with pytest.raises(
        FileNotFoundError, match="nowhere', expected a folder or a file"
    ):
        pictures(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(ValueError, match="expected a folder, an .npy or an .npz"):
        pictures(tmp_path / "a.txt")
    np.savez(tmp_path / "two.npz", a=good, b=good)
    with pytest.raises(
        ValueError, match="has arrays of shapes .* expected one of imag"
    ):
        pictures(tmp_path / "two.npz")
    (tmp_path / "class").mkdir()
    halves().save(tmp_path / "class" / "a.png")
    halves().save(tmp_path / "b.png")
    with pytest.raises(
        ValueError, match="has pictures, such as 'b.png', beside subfol"
    ):
        pictures(tmp_path)
    with pytest.raises(ValueError, match="labels are given, expected None"):
        pictures(tmp_path, labels=[1])
