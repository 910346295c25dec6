"""Damaged and lying files: each is refused by ValueError, or loads what was written.

NANODIFF_FUZZ is the number of corruptions that are tried: 1,500 unless it is set.
"""

import gzip
import io
import json
import os
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from nanodiff import checkpoint, data, files, pictures, trained
from nanodiff.run import Run
from nanodiff.toy import MLP
from nanodiff.train import Recipe
from tests.test_files import write_idx

TRIALS = int(os.environ.get("NANODIFF_FUZZ", "1500"))
SMALL = {"channels": [4, 4], "features": 4, "groups": 2, "context_features": 2}
NONSENSE = (None, "x", [], [1], -1, 1e300, {"a": 1}, float("nan"), True)
DEEP = "[" * 100_000 + "]" * 100_000


# What is read, as a function of a path that gives back arrays and numbers to compare.
def a_run(path):
    run = Run.resume(path)
    arrays = [run.model.named_params(), run.ema.average, run.optimizer.m]
    values = run._config(), run.optimizer.k, run.ema.k, run.rng.bit_generator.state
    return [*arrays, run.optimizer.v], json.dumps(values)


def weights(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "FOLDER", path.parent)
        found = trained.pretrained("mnist")
    return [found.network.named_params()], json.dumps(found.about)


def a_subset(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SUBSET", path)
        return [dict(enumerate(data.mnist()))], ""


def idx(path):
    arrays = dict(enumerate(data.mnist(folder=path.parent)))
    if path.suffix == ".gz":
        return [arrays], ""
    return [{}], str([a.shape for a in arrays.values()])  # raw bytes have no checksum


def own(path):
    """Pictures of one's own, with words for labels."""
    images, labels, names = pictures.pictures(path, 8)
    return [{"images": images, "labels": labels}], str(names)


def same(found, wanted, settings=True):
    """Are arrays, and settings too, the same to the bit?"""
    for one, other in zip(found[0], wanted[0], strict=True):
        if one.keys() != other.keys():
            return False
        for name, w in other.items():
            if one[name].dtype != w.dtype or not np.array_equal(one[name], w):
                return False
    return found[1] == wanted[1] or not settings


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """(reader, path) of small whole files of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    images = np.random.default_rng(0).standard_normal((4, 1, 4, 4), np.float32)
    run, path = Run(Recipe(2, 2, warmup=0), 25, seed=3, **SMALL), folder / "run.npz"
    context = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    run.learn(images, context, path, 9, lambda run: None)
    trained.write(folder / "trained_mnist.npz", run.ema.average, run._config())
    pixels = np.arange(3 * 28 * 28).astype(np.uint8).reshape(3, 28, 28)
    named = {"train_pixels": pixels, "train_labels": np.arange(3, dtype=np.uint8)}
    np.savez_compressed(folder / "subset.npz", **named)
    found = [(a_run, path), (weights, folder / "trained_mnist.npz")]
    found.append((a_subset, folder / "subset.npz"))
    words = np.array(["cat", "dog", "cat"])
    np.savez_compressed(folder / "own.npz", images=pixels[:, :8, :8], labels=words)
    found.append((own, folder / "own.npz"))
    for compress in (False, True):
        there = folder / f"idx{compress}"
        there.mkdir()
        write_idx(there, compress=compress)
        found += [(idx, file) for file in sorted(there.iterdir())]
    return found


# Corruptions of bytes, which know nothing of the format.
def flip(raw, rng):
    at = rng.integers(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << rng.integers(8)]) + raw[at + 1 :]


def flip_in_a_head(raw, rng):
    """A bit near a place where zip, NumPy or gzip say what follows."""
    marks = [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"NUMPY", b"descr", b"shape", b"\x1f\x8b"]
    places, mark = [0], marks[rng.integers(len(marks))]
    while (place := raw.find(mark, places[-1] + 1)) > 0:
        places.append(place)
    start = places[rng.integers(len(places))]
    end = min(len(raw), start + 60)
    return raw[:start] + flip(raw[start:end], rng) + raw[end:]


def cut(raw, rng):
    return raw[: rng.integers(len(raw))]


def cut_out(raw, rng):
    a, b = sorted(rng.integers(len(raw) + 1, size=2))
    return raw[:a] + raw[b:]


def swap(raw, rng):
    a, b, c, d = sorted(rng.integers(len(raw) + 1, size=4))
    return raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


def overwrite(raw, rng):
    n = rng.integers(1, 9)
    at = rng.integers(len(raw))
    return (raw[:at] + rng.bytes(n) + raw[at + n :])[: len(raw)]


def insert(raw, rng):
    at = rng.integers(len(raw))
    return raw[:at] + rng.bytes(rng.integers(1, 9)) + raw[at:]


def lie_about_a_number(raw, rng):
    """Four bytes anywhere become a number such as sizes and offsets are."""
    at = rng.integers(max(1, len(raw) - 4))
    value = rng.choice([0, 1, 7, 255, 65_535, 2**24, 2**30, 2**31, 2**32 - 1])
    return (
        raw[:at] + struct.pack("<I>I"[2 * rng.integers(2) :][:2], value) + raw[at + 4 :]
    )


def nothing_of_it(raw, rng):
    return rng.bytes(rng.integers(0, 300))


# Lies with right checksums: a zip is taken apart and put together again.
def rezip(raw, edit, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [(m.filename, archive.read(m)) for m in archive.infolist()]
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", compression) as archive,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # "Duplicate name"
        for name, body in edit(members):
            archive.writestr(name, body)
    return content.getvalue()


def changed(members, i, name=None, body=None):
    found = list(members)
    found[i] = (name or found[i][0], found[i][1] if body is None else body)
    return found


def drop_a_member(members, rng):
    i = rng.integers(len(members))
    return members[:i] + members[i + 1 :]


def double_a_member(members, rng):
    name, body = members[rng.integers(len(members))]
    return [*members, (name, flip(body[:-8], rng) + body[-8:])]


def rename_a_member(members, rng):
    names = ("x.npy", "params/x.npy", "a/b/c.npy", "../x.npy", "about", "m/.npy", "v/é")
    return changed(members, rng.integers(len(members)), names[rng.integers(len(names))])


def other_shape_or_dtype(members, rng):
    i = rng.integers(len(members))
    array = np.load(io.BytesIO(members[i][1]))
    others = [
        array[None], np.zeros(array.shape, np.complex64), np.array(None),
        np.zeros((0, 3), np.float32), np.array("text"), np.zeros(3, "V8"),
        np.zeros(2, "M8[s]"), np.zeros(1, [("a", "f4")]),
    ]  # fmt: skip
    if array.dtype.kind == "f":
        others += [array.astype(np.float64), array.astype(np.float16)] * (
            array.dtype == np.float32
        )
    body = io.BytesIO()
    np.save(body, others[rng.integers(len(others))])
    return changed(members, i, body=body.getvalue())


HEADS = [
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999), }",
    b"{'descr': '<U999999999', 'fortran_order': False, 'shape': (0,), }",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1.5,), }",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': " + b"(" * 9000 + b"}",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    b"{'descr': '<f4', 'shape': (1,), }", b"{", b"None", b"__import__('os')", b"\xff",
    b"1" * 60_000, b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1," * 99
    + b"), }", b"{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }",
    b"{'descr': '<b9', 'fortran_order': False, 'shape': (), }",
]  # fmt: skip


def lying_head(members, rng):
    i, head = rng.integers(len(members)), HEADS[rng.integers(len(HEADS))] + b"\n"
    version = [b"\1\0", b"\2\0", b"\3\0", b"\7\7"][rng.integers(4)]
    body = members[i][1]
    start = 10 + int.from_bytes(body[8:10], "little")
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(head))
    return changed(
        members, i, body=b"\x93NUMPY" + version + length + head + body[start:]
    )


def other_text(members, rng):
    """Nonsense in place of one value of "about", or of all."""
    names = [name for name, _ in members]
    if "about.npy" not in names:
        return drop_a_member(members, rng)
    i = names.index("about.npy")
    about = json.loads(np.load(io.BytesIO(members[i][1])).item())
    text = [DEEP, "", "nonsense", "1" * 5000, None, None, None, None][rng.integers(8)]
    if text is None:
        place, key = about, list(about)[rng.integers(len(about))]
        while isinstance(place[key], dict) and place[key] and rng.random() < 0.7:
            place = place[key]
            key = list(place)[rng.integers(len(place))]
        place[key] = NONSENSE[rng.integers(len(NONSENSE))]
        text = json.dumps(about)
    body = io.BytesIO()
    np.save(body, np.array(text))
    return changed(members, i, body=body.getvalue())


ZIPPED = [drop_a_member, double_a_member, rename_a_member, other_shape_or_dtype,
          lying_head, other_text]  # fmt: skip
BYTES = [flip, flip_in_a_head, flip_in_a_head, cut, cut_out, swap, overwrite, insert,
         lie_about_a_number, nothing_of_it]  # fmt: skip


def corrupted(raw, how, rng):
    if how in BYTES:
        return how(raw, rng)
    how_stored = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]
    kind = how_stored[rng.integers(len(how_stored))]
    return rezip(raw, lambda members: how(members, rng), kind)


def test_a_corrupted_file_is_refused_or_loads_what_was_written(targets):
    rng, refused = np.random.default_rng(18), 0
    wholes = [
        (*target, target[1].read_bytes(), target[0](target[1])) for target in targets
    ]
    share = np.array([8, 4, 3, 3, 1, 1, 1, 1]) / 22
    for trial in range(TRIALS):
        read, path, raw, wanted = wholes[rng.choice(len(wholes), p=share)]
        kinds = BYTES + ZIPPED if path.suffix == ".npz" else BYTES
        if read is own:  # pictures without labels, or of other sizes, are pictures
            kinds = [*BYTES, double_a_member, rename_a_member, lying_head]
        how = kinds[rng.integers(len(kinds))]
        path.write_bytes(corrupted(raw, how, rng))
        where = f"trial {trial}: {how.__name__} of {path.name}"
        try:
            found = read(path)
        except ValueError as error:
            assert path.stem.split(".")[0] in str(error) or "folder" in str(error), (
                where
            )
            refused += 1
        except Exception as error:
            raise AssertionError(f"{where} leaks {error!r}") from error
        else:
            settings = how is not other_text  # another number may be one that it is
            assert same(found, wanted, settings), f"{where} loads something else"
        path.write_bytes(raw)
    assert refused > 0.7 * TRIALS


@pytest.mark.parametrize("more", [1, 8])
def test_an_array_has_as_many_bytes_as_its_shape_says(tmp_path, more):
    path, content = tmp_path / "a.npz", io.BytesIO()
    np.savez(content, a=np.arange(3.0))

    def edit(members):
        return [(name, body + bytes(more)) for name, body in members]

    path.write_bytes(rezip(content.getvalue(), edit))
    with pytest.raises(ValueError, match=r"'a' has .. bytes, not \(3,\) float64"):
        files.read_npz(path, "damaged")


def test_no_bit_of_the_first_array_and_the_first_heads_can_be_turned(targets):
    read, path = targets[0]
    raw, wanted = path.read_bytes(), read(path)
    rng = np.random.default_rng(0)
    for at in range(0, 512):
        turned = bytearray(raw)
        turned[at] ^= 1 << rng.integers(8)
        path.write_bytes(turned)
        try:
            assert same(read(path), wanted), f"byte {at}"
        except ValueError:
            pass
    path.write_bytes(raw)


def peak(read, path):
    """How many bytes it takes at most until a file is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=path.stem.split(".")[0]):
            read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", [checkpoint.load, trained.read, a_subset, own])
def test_a_bomb_is_refused_before_it_grows(tmp_path, read):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"m/{i}.npy", bytes(files.MOST // 2))
    assert path.stat().st_size < 1e6
    assert peak(read, path) < 1e6
    raw = path.read_bytes().replace(struct.pack("<I", files.MOST // 2), b"\1\0\0\0")
    path.write_bytes(raw)  # sizes that lie
    assert peak(read, path) < 5e6


def test_a_bomb_of_idx_is_refused_before_it_grows(tmp_path):
    write_idx(tmp_path, compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    head = gzip.decompress(path.read_bytes())[:16]
    path.write_bytes(gzip.compress(head + bytes(2**26)))
    assert peak(idx, path) < 5e6


OF_POINTS = {"network": MLP, "features": 3, "context_features": 2, "width": 8}
LIES = [
    (SMALL, {"attention": 1}), (SMALL | {"attention": 2}, {"attention": 0}),
    (SMALL | {"attention": 2}, {"attention": [2]}),
    (SMALL, {"channels": [4, 10**6]}), (SMALL, {"features": 10**6}),
    (SMALL, {"T": 10**9}), (OF_POINTS, {"features": 10**7}),
    (OF_POINTS, {"width": 10**7}), (OF_POINTS, {"context_features": 10**7}),
    (OF_POINTS, {"time_size": 10**8, "context_features": 34 - 10**8}),
    (OF_POINTS, {"time_size": 10**8, "context_features": None}),
    (OF_POINTS, {"network": "UNet"}), (SMALL, {"network": "MLP"}),
    (SMALL, {"network": "Eps"}), (SMALL, {"shape": [2, -1]}),
    (SMALL, {"classes": {"a": 1}}), (SMALL, {"held_out": [[1]]}),
]  # fmt: skip


@pytest.mark.parametrize("options, lies", LIES)
def test_a_run_that_asks_for_another_network_than_it_has_is_refused(
    tmp_path, options, lies
):
    path = tmp_path / "run.npz"
    Run(Recipe(2, 2, warmup=0), 25, seed=3, **options).save(path)
    assert a_run(path)

    def edit(members):
        body, out = dict(members)["about.npy"], io.BytesIO()
        about = json.loads(np.load(io.BytesIO(body)).item())
        config = about["config"]
        for name, value in lies.items():
            where = config if name in config else config["settings"]
            where[name] = value
            if value is None:
                del where[name]
        np.save(out, np.array(json.dumps(about)))
        others = [m for m in members if m[0] != "about.npy"]
        return [*others, ("about.npy", out.getvalue())]

    path.write_bytes(rezip(path.read_bytes(), edit))
    assert peak(Run.resume, path) < 2e6
    if "held_out" not in lies:
        assert peak(trained.pretrained, path) < 2e6
