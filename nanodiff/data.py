"""MNIST as arrays: 12,000 digits that come with the package, or all 70,000.

Your own pictures: `pictures`, of `pictures.py`.

    images (n, 1, 28, 28) float32 in [-1, 1], -1 is background; labels (n,) int64 in
    0..9

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"; licence
CC BY-SA 3.0, which also holds for the subset in this package.
"""

import gzip
import math
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np

from nanodiff import check, files
from nanodiff.pictures import pictures as pictures

SUBSET = Path(__file__).parent / "mnist_subset.npz"  # by tools/make_mnist_subset.py
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = {"train": "train", "test": "t10k"}
SIDE, MOST = 28, 250_000  # of images in pixels, and how many a file may have
OFFICIAL = {  # how many the official files have, and the CRC-32 of what follows
    "train-images-idx3-ubyte": (60_000, 0xF3639B56),
    "train-labels-idx1-ubyte": (60_000, 0xBA07E8EF),
    "t10k-images-idx3-ubyte": (10_000, 0xE4CA5F57),
    "t10k-labels-idx1-ubyte": (10_000, 0xEE8604D9),
}
SHA256 = {  # of the official files
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}


def mnist(split="train", n=None, folder=None, download=False):
    """Return (images, labels) of handwritten digits, the first n of them if n is given.

    split: "train" or "test". By default the subset in the package: of each class the
    first 1,000 of the official training set and the first 200 of the official test set.
    folder: where the official IDX files lie, raw or .gz, for all 60,000 or 10,000.
    download: fetch them first, checked by SHA-256, into the folder or else a cache
    (needs `pip install pooch`, or raises ImportError).

    Raises FileNotFoundError for a missing file and ValueError for one that is cut short
    or of another kind, an unknown split, or an n beyond what there is.

    >>> images, labels = mnist("test", n=3)
    >>> images.shape, images.dtype.name, float(images.min()), labels.tolist()
    ((3, 1, 28, 28), 'float32', -1.0, [7, 2, 1])
    """
    check.choice("split", split, FILES)
    if folder is not None:
        check.path("folder", folder)
    if check.flag("download", download):
        folder = _download(split, folder)
    pixels, labels = _read_subset(split) if folder is None else read_idx(split, folder)
    n = None if n is None else check.integer("n", n, 1, len(labels))
    images = pixels[:n, None].astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    return images, labels[:n].astype(np.int64)


def one_hot(labels, classes=10):
    """Return context vectors: a row of zeros with a one for each label, float32.

    Raises ValueError unless labels are integers in 0..classes - 1, (n,).

    >>> one_hot([2, 0], classes=3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    classes = check.integer("classes", classes, 1)
    labels = check.integers("labels", labels, 0, classes - 1)
    return np.eye(classes, dtype=np.float32)[labels]


def read_idx(split, folder):
    """Return uint8 (pixels (n, H, W), labels (n,)) from a folder of IDX files.

    Raises FileNotFoundError and ValueError as `mnist` does, the latter also if there
    are not as many labels as images, none, or more than MOST, if images are not 28x28,
    or if a label is not in 0..9. Warns if a file has as many as the official one and
    other bytes: it is damaged, or of another set, such as Fashion-MNIST.
    """
    stem = FILES[check.choice("split", split, FILES)]
    check.path("folder", folder)
    pixels = _read_file(folder, f"{stem}-images-idx3-ubyte", (SIDE, SIDE))
    labels = _read_file(folder, f"{stem}-labels-idx1-ubyte", ())
    if len(pixels) != len(labels):
        raise ValueError(
            f"folder {str(folder)!r} has {len(pixels)} images, "
            f"expected as many as labels, {len(labels)}"
        )
    if labels.max() > 9:
        raise ValueError(
            f"folder {str(folder)!r} has the label {labels.max()}, expected 0..9"
        )
    return pixels, labels


def _read_file(folder, name, each):
    """The uint8 array (n, *each) of an IDX file: a magic number, the sizes, the bytes.

    It ends where its sizes say, so a .gz can hold no more than they allow.
    """
    ndim = 1 + len(each)
    found = [path for path in (Path(folder) / name, Path(folder) / f"{name}.gz")
             if path.is_file()]  # fmt: skip
    if not found:
        raise FileNotFoundError(
            f"folder is {str(folder)!r}, expected {name} or {name}.gz in it"
        )
    opened = gzip.open if found[0].suffix == ".gz" else open
    message = f"{str(found[0])!r} is not a whole IDX file of {ndim} axes"
    with files.refusing(message), opened(found[0], "rb") as stream:
        kind, n, *sizes = struct.unpack(f">{1 + ndim}I", stream.read(4 + 4 * ndim))
        if kind != 0x0800 + ndim:  # 08: unsigned bytes
            raise ValueError(f"magic number {kind:#06x}")
        if not 1 <= n <= MOST or tuple(sizes) != each:
            raise ValueError(f"sizes {(n, *sizes)}, expected {(f'1..{MOST}', *each)}")
        body = files.exactly(stream, n * math.prod(each))
    official = OFFICIAL[name]
    if n == official[0] and zlib.crc32(body) != official[1]:
        warnings.warn(
            f"{str(found[0])!r} is not the official file of MNIST, by its checksum: it "
            f"is damaged, or of another set",
            stacklevel=4,
        )
    return np.frombuffer(body, np.uint8).reshape(n, *each)


def _read_subset(split):
    if not SUBSET.is_file():
        raise FileNotFoundError(f"{str(SUBSET)!r} is missing; reinstall nanodiff")
    message = f"{str(SUBSET)!r} is damaged; reinstall nanodiff"
    arrays, _ = files.read_npz(SUBSET, message)
    with files.refusing(message):
        pixels, labels = arrays[f"{split}_pixels"], arrays[f"{split}_labels"]
        n = len(labels)
        for name, array, shape in (
            ("pixels", pixels, (n, SIDE, SIDE)), ("labels", labels, (n,))
        ):  # fmt: skip
            if array.shape != shape or array.dtype != np.uint8 or not n:
                raise ValueError(f"{name} have shape {array.shape}, {array.dtype}")
        if labels.max() > 9:
            raise ValueError(f"it has the label {labels.max()}")
    return pixels, labels


def _download(split, folder):
    """Fetch the two files of a split; pooch checks them and leaves no partial file."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError("download=True needs pooch: pip install pooch") from error
    folder = Path(pooch.os_cache("nanodiff") if folder is None else folder)
    fetcher = pooch.create(path=folder, base_url=MIRROR, registry=SHA256)
    for name in SHA256:
        if name.startswith(FILES[split]):
            fetcher.fetch(name, progressbar=True)
    return folder
