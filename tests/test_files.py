"""Checkpoints and data files: whole, cut short, damaged, foreign, missing."""

import gzip
import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import nanodiff
from nanodiff import checkpoint, data, files, viz
from tests.test_train import run


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "run.npz", step=3, config={}, **run())
    return tmp_path / "run.npz"


def test_a_checkpoint_leaves_nothing_beside_it(path):
    assert [file.name for file in path.parent.iterdir()] == ["run.npz"]
    assert checkpoint.load(path).step == 3


def test_a_failed_save_keeps_the_old_checkpoint(path):
    with pytest.raises(TypeError):
        checkpoint.save(path, step=4, config={"not JSON": object()}, **run())
    assert checkpoint.load(path).step == 3
    assert [file.name for file in path.parent.iterdir()] == ["run.npz"]


def test_a_damaged_checkpoint_is_refused(path):
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"PNG" * 99):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match="expected a whole 'nanodiff checkpoint 2'"
        ):
            checkpoint.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    path.write_bytes(bytes(flipped))
    with pytest.raises(ValueError, match="expected a whole"):
        checkpoint.load(path)


def test_a_foreign_npz_and_a_missing_file_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="expected a whole"):
        checkpoint.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="none.npz"):
        checkpoint.load(tmp_path / "none.npz")


def test_the_version_is_the_one_to_cite():
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {nanodiff.__version__}\n" in citation


def test_the_subset_is_the_one_that_its_script_makes():
    with np.load(data.SUBSET) as file:
        content = b"".join(file[name].tobytes() for name in sorted(file.files))
    assert hashlib.sha256(content).hexdigest() == (
        "00d4264dc6ba83968ddb52e789b3dda9315d8bc0e7a5cd4b5088a403cbf6fb33"
    )


def test_the_subset_has_as_many_of_each_digit():
    for split, n in (("train", 1000), ("test", 200)):
        images, labels = data.mnist(split)
        assert images.shape == (10 * n, 1, 28, 28) and images.dtype == np.float32
        assert images.min() == -1 and images.max() == 1
        assert np.bincount(labels).tolist() == [n] * 10


def write_idx(folder, n=5, compress=False):
    pixels = np.arange(n * 28 * 28, dtype=np.uint32).astype(np.uint8)
    for kind, sizes, body in (
        ("images-idx3", (n, 28, 28), pixels),
        ("labels-idx1", (n,), np.arange(n, dtype=np.uint8)),
    ):  # fmt: skip
        head = struct.pack(f">{1 + len(sizes)}I", 0x0800 + len(sizes), *sizes)
        raw, name = head + body.tobytes(), f"train-{kind}-ubyte"
        if compress:
            raw, name = gzip.compress(raw), f"{name}.gz"
        (folder / name).write_bytes(raw)


@pytest.mark.parametrize("compress", [False, True])
def test_official_files_are_read_raw_and_gzip(tmp_path, compress):
    write_idx(tmp_path, compress=compress)
    images, labels = data.mnist(folder=tmp_path, n=4)
    assert images.shape == (4, 1, 28, 28) and labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(images[0, 0, 0, :3], np.arange(3) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("compress", [False, True])
def test_damaged_official_files_are_refused(tmp_path, compress):
    for keep in (0, 3, 40, -1):
        write_idx(tmp_path, compress=compress)
        file = sorted(tmp_path.glob("train-images*"))[0]
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(ValueError, match="is not a whole IDX file"):
            data.mnist(folder=tmp_path)


def test_a_file_that_is_not_the_official_one_is_warned_of(tmp_path, monkeypatch):
    write_idx(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte"
    official = {path.name: (5, zlib.crc32(path.read_bytes()[8 if "labels" in path.name
                else 16 :])) for path in tmp_path.iterdir()}  # fmt: skip
    monkeypatch.setattr(data, "OFFICIAL", official)
    whole = data.mnist(folder=tmp_path)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.warns(UserWarning, match="images-idx3-ubyte' is not the official file"):
        images, _ = data.mnist(folder=tmp_path)
    assert np.count_nonzero(images != whole[0]) == 1
    write_idx(tmp_path, n=6)
    data.mnist(folder=tmp_path)  # a set of another size does not claim to be MNIST


def test_the_checksums_are_those_of_the_official_files():
    assert {name: n for name, (n, _) in data.OFFICIAL.items()} == {
        f"{stem}-{kind}-ubyte": n
        for stem, n in (("train", 60_000), ("t10k", 10_000))
        for kind in ("images-idx3", "labels-idx1")
    }
    folder = os.environ.get("NANODIFF_MNIST")
    if folder is None:
        pytest.skip("NANODIFF_MNIST names no folder of the official files")
    for split in data.FILES:
        data.read_idx(split, folder)  # a warning would be an error


@pytest.mark.parametrize("kind, at, value, words", [
    ("images", 4, 0, "sizes"), ("labels", 4, 0, "sizes"), ("images", 8, 27, "sizes"),
    ("images", 4, 6, "3920 bytes, expected 4704"), ("labels", 4, 4, "more bytes, expe"),
    ("images", 4, 2**32 - 1, "expected .'1..250000', 28, 28"),
    ("labels", 0, 0x0901, "magic number 0x0901"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(tmp_path, kind, at, value, words):
    write_idx(tmp_path)
    (file,) = tmp_path.glob(f"train-{kind}*")
    raw = bytearray(file.read_bytes())
    raw[at : at + 4] = struct.pack(">I", value)
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=f"{file.name}' is not a whole IDX .*{words}"):
        data.mnist(folder=tmp_path)


def test_labels_that_are_no_digits_are_refused(tmp_path, monkeypatch):
    write_idx(tmp_path, n=11)
    with pytest.raises(ValueError, match="has the label 10, expected 0..9"):
        data.mnist(folder=tmp_path)
    monkeypatch.setattr(data, "SUBSET", tmp_path / "subset.npz")
    pixels = np.zeros((1, 28, 28), np.uint8)
    for labels, words in (
        (np.array([10], np.uint8), "label 10"), (np.array([1]), "labels have"),
        (np.array([], np.uint8), "pixels have"), (np.uint8(3), "unsized"),
    ):  # fmt: skip
        np.savez(data.SUBSET, train_pixels=pixels, train_labels=labels)
        with pytest.raises(
            ValueError, match=f"is damaged; reinstall nanodiff .*{words}"
        ):
            data.mnist()


def test_a_file_of_settings_and_arrays_is_read_as_it_was_written(tmp_path):
    arrays = {
        "a/b.c": np.arange(6.0).reshape(2, 3).T, "n": np.array(3),
        "yes": np.ones(1, bool), "empty": np.ones((0, 2)),
        "big": np.arange(3, dtype=">f4"),
    }  # fmt: skip
    settings = {"é": [np.float32(0.5)], "t": (1, None)}
    files.write_npz(tmp_path / "a.npz", arrays, settings)
    found, about = files.read_npz(tmp_path / "a.npz", "damaged")
    assert about == {"é": [0.5], "t": [1, None]} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=name != "big")
        found[name][...] = 0  # one's own


def test_a_sheet_shows_saturation_and_the_same_grey_for_the_same_value():
    images = np.array([-3.0, -1.0, 0.0, 1.0, 3.0]).reshape(5, 1, 1, 1)
    pixels = viz.sheet(images, columns=5, scale=1)[1, 1::3]
    assert pixels.tolist() == [0, 0, 128, 255, 255]
    assert viz.sheet(images[2:3], columns=1, scale=1)[1, 1] == 128


def test_bad_input_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected train-images"):
        data.mnist(folder=tmp_path)
    with pytest.raises(ValueError, match="split is 'all', expected one of"):
        data.mnist("all")
    for n in (0, 2001):
        with pytest.raises(ValueError, match=f"n is {n}, expected 1..2000"):
            data.mnist("test", n=n)
    with pytest.raises(
        ValueError, match="labels go from 3 to 10, expected within 0..9"
    ):
        data.one_hot([10, 3])
    with pytest.raises(ValueError, match="labels go from -1 to 3, expected within"):
        data.one_hot([3, -1])
    with pytest.raises(ValueError, match="images has shape"):
        viz.sheet(np.zeros((5, 1, 8, 8)), columns=2)
