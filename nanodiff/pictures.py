"""Your own pictures as arrays to train on: a folder of files, an `.npz`, an array.

    images (n, channels, size, size) float32 in [-1, 1], -1 is black; labels (n,) int64;
    names: of the classes, so that names[label] is a picture's class

Each picture is read as 8 bits a channel, laid on white where it is transparent, turned
as its EXIF tag says, cut to the largest square in its centre, and resized: a pixel is
the mean of what it covers, so that nothing is brighter or darker than it was.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nanodiff import check, files

KINDS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
LARGEST = 32  # pixels a side, where none are asked for: about what a laptop trains
MOST = 4096  # that can be asked for
GROWTH = 50  # times its own size: what a compressed file of drawings may have


def pictures(source, size=32, channels=3, labels=None):
    """Return (images, labels, names) of one's own pictures, ready to train on.

    source: a folder of PNG, JPEG, GIF, WebP or BMP files, with a subfolder for each
    class if there are classes; or an array, or the path of an `.npy` or `.npz` with
    one, (n, H, W), (n, H, W, C) or (n, C, H, W), with C = 1, 3 or 4: integers 0..255,
    or floats within 0..1, -1..1 or 0..255. In an `.npz` an array of one axis is the
    labels. size: pixels a side; None: of the pictures' median, a multiple of 4, at most
    32. channels: 1, grey; 3, colours; None: 1 if all pictures are grey. labels: (n,),
    of an array; numbers or words. Without classes there is one, "pictures".

    Files that cannot be read are left out, with one warning that lists them. Raises
    FileNotFoundError if there is no source, and ValueError if no picture is left, if
    the numbers or axes of an array can be taken in no way or in two, or for another
    size or channels.

    >>> pixels = np.zeros((5, 40, 30), np.uint8)  # five grey pictures, all black
    >>> images, labels, names = pictures(pixels, 16, labels=list("abbba"))
    >>> images.shape, float(images.max()), labels.tolist(), names
    ((5, 3, 16, 16), -1.0, [0, 1, 1, 1, 0], ['a', 'b'])
    """
    size = None if size is None else check.integer("size", size, 1, MOST)
    channels = None if channels is None else check.choice("channels", channels, (1, 3))
    if isinstance(source, str | Path):
        check.path("source", source)
    if isinstance(source, str | Path) and Path(source).is_dir():
        if labels is not None:
            raise ValueError("labels are given, expected None: subfolders are classes")
        found, words = _from_folder(Path(source), size)
    else:
        found, words = _from_array(source, labels, size)
    pixels = np.stack(found)  # (n, size, size, 3) uint8
    if channels is None:
        channels = 1 if (pixels == pixels[..., :1]).all() else 3
    if channels == 1:
        pixels = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in pixels])
        pixels = pixels[..., None]
    names, labels = np.unique(words, return_inverse=True)
    images = pixels.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(2 / 255)
    return images - np.float32(1), labels.astype(np.int64), [str(n) for n in names]


def as_square(image, size):
    """Return a Pillow image as uint8 colours (size, size, 3).

    >>> as_square(Image.new("LA", (40, 20), (0, 0)), 4)[0, 0].tolist()  # transparent
    [255, 255, 255]
    """
    check.thing("image", image, "a Pillow image", "mode", "getexif")
    size = check.integer("size", size, 1, MOST)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16 bits: Pillow would clip them at 255
        image = Image.fromarray((np.asarray(image, np.float64) / 257).astype(np.uint8))
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BOX))


def _from_folder(folder, size):
    """The pictures of a folder's files, and the class of each: its first subfolder."""
    paths = [path for path in sorted(folder.rglob("*"))
             if path.suffix.lower() in KINDS and path.is_file()
             and not any(part.startswith((".", "__")) for part in
                         path.relative_to(folder).parts)]  # fmt: skip
    above = [path for path in paths if path.parent == folder]
    if above and len(above) < len(paths):
        raise ValueError(
            f"source {str(folder)!r} has pictures, such as {above[0].name!r}, beside "
            f"subfolders of pictures, expected either: subfolders are classes"
        )
    found, words, left_out = [], [], []
    size = size or _common([side for path in paths for side in _side(path)])
    for path in paths:
        try:
            with Image.open(path) as image:
                image.draft(None, (4 * size, 4 * size))  # a large JPEG, read quickly
                found.append(as_square(image, size))
            words.append(path.relative_to(folder).parts[0] if not above else "pictures")
        except Exception as error:  # Pillow raises nearly anything for a damaged file
            reason = "not a picture" if "cannot identify" in str(error) else error
            left_out.append(f"{path.relative_to(folder)} ({reason})")
    if left_out:
        warnings.warn(
            f"{len(left_out)} of {len(paths)} files in {str(folder)!r} cannot be read "
            f"and are left out: {', '.join(left_out)}",
            stacklevel=3,
        )
    if not found:
        raise ValueError(
            f"source {str(folder)!r} has no picture that can be read, expected files "
            f"that end in {', '.join(KINDS)}"
        )
    return found, words


def _side(path):
    """The shorter side of a file's picture, in a list; an empty one if it has none."""
    try:
        with Image.open(path) as image:
            return [min(image.size)]
    except Exception:  # it will be listed
        return []


def _common(sides):
    """The size for pictures of such shorter sides."""
    middle = int(np.median(sides)) if sides else LARGEST
    return max(4, min(LARGEST, middle // 4 * 4))


def _from_array(source, labels, size):
    """The pictures of an array, or of a file with one, and the class of each."""
    if isinstance(source, str | Path):
        source, stored = _from_file(Path(source))
        labels = stored if labels is None else labels
    pixels = as_bytes(source)
    words = np.full(len(pixels), "pictures")
    if labels is not None:
        try:
            words = np.asarray(labels)
        except ValueError:  # rows of different lengths
            check.refuse("labels", labels, f"({len(pixels)},) whole numbers or words")
    if words.shape != (len(pixels),) or words.dtype.kind not in "biuSU":
        raise ValueError(
            f"labels have shape {words.shape} and dtype {words.dtype}, expected "
            f"({len(pixels)},) whole numbers or words, one for each picture"
        )
    size = size or _common([min(pixels.shape[1:3])])
    return [as_square(Image.fromarray(p), size) for p in pixels], words


def _from_file(path):
    """The array of images in an `.npy` or `.npz`, and that of labels, or None."""
    if not path.is_file():
        raise FileNotFoundError(f"source is {str(path)!r}, expected a folder or a file")
    message = f"source is {str(path)!r}, expected a folder, an .npy or an .npz"
    arrays = files.read_arrays(path, message, GROWTH)
    if "" in arrays:  # an .npy
        return arrays[""], None
    images = [name for name, array in arrays.items() if array.ndim in (3, 4)]
    labels = [name for name, array in arrays.items() if array.ndim == 1]
    if len(images) != 1 or len(labels) > 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"source {str(path)!r} has arrays of shapes {shapes}, expected one of "
            f"images, with 3 or 4 axes, and at most one of labels, with 1"
        )
    return arrays[images[0]], arrays[labels[0]] if labels else None


def as_bytes(images):
    """Return an array of pictures as uint8 (n, H, W) or (n, H, W, C), for Pillow.

    The axes are told apart by C, which is 1, 3 or 4, and floats by their range.

    >>> as_bytes(np.zeros((2, 3, 8, 8))).shape
    (2, 8, 8, 3)
    """
    if isinstance(images, list | tuple):
        each = [check.as_array("images", p, "a picture in numbers") for p in images]
        shapes = sorted({p.shape for p in each})
        if len(shapes) != 1:
            raise ValueError(f"images have shapes {shapes}, expected one shape for all")
    pixels = np.asarray(images)
    shape = pixels.shape
    first, last = (pixels.ndim == 4 and shape[i] in (1, 3, 4) for i in (1, 3))
    grey = pixels.ndim == 3 and shape[2] not in (1, 3, 4)  # else it is one picture
    if 0 in shape or first + last + grey != 1:
        raise ValueError(
            f"images has shape {shape}, expected (n, H, W), (n, H, W, C) or "
            f"(n, C, H, W), with C = 1, 3 or 4 on one of these two axes, and none 0"
        )
    pixels = _in_bytes(pixels.transpose(0, 2, 3, 1) if first else pixels)
    return pixels[..., 0] if pixels.ndim == 4 and pixels.shape[3] == 1 else pixels


def _in_bytes(pixels):
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"images has dtype {pixels.dtype}, expected integer or float")
    low, high = pixels.min(), pixels.max()
    scale = f"images has {pixels.dtype} from {low} to {high}, expected"
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind in "iu":
        if not (low >= 0 and 1 < high <= 255) and not low == high == 0:
            raise ValueError(f"{scale} integers within 0..255, more than 0 and 1")
        return pixels.astype(np.uint8)
    slack = 1e-3  # of rounding
    if -1 - slack <= low < -slack and high <= 1 + slack:
        pixels = (pixels + 1) * 127.5
    elif low >= -slack and high <= 1 + slack:
        pixels = pixels * 255
    elif not (low >= -slack and 127 < high <= 255 + slack):  # or NaN
        raise ValueError(f"{scale} floats within 0..1, -1..1 or 0..255")
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
