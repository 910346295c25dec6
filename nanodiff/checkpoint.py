"""A run in one file: an `.npz` of plain arrays and one JSON text, no pickle.

The file is written beside its place and then renamed, so an interrupted write loses
nothing. What is stored is what `train` needs to go on bit for bit, and its settings.
"""

import json
import os
import re
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np

FORMAT = "nanodiff checkpoint 2"
FORMAT_1 = "nanodiff checkpoint 1"
# The layers of a U-Net in it, and their paths now: i is the number in the name (1 if
# it has none), in a network of n + 1 levels.
RENAMED = {
    "pool": lambda i, n: f"downs.{i - 1}.pool",
    "down": lambda i, n: f"downs.{i - 2}",
    "mid": lambda i, n: f"middle.{i - 1}",
    "grow": lambda i, n: f"ups.{n - i}.grow",
    "up": lambda i, n: f"ups.{n - i}",
}
GROUPS = ("params", "average", "m", "v")
_DAMAGED = (ValueError, KeyError, OSError, EOFError, AttributeError, TypeError)
_DAMAGED += (IndexError, zipfile.BadZipFile, zlib.error)


def save(path, *, model, optimizer, ema, rng, step, config):
    """Write a checkpoint. `config` is anything that JSON can hold.

    model, optimizer, ema, rng: as `train` takes them; step: how many are done.
    """
    arrays = {}
    kept = model.named_params(), ema.average, optimizer.m, optimizer.v
    for group, named in zip(GROUPS, kept, strict=True):
        arrays |= {f"{group}/{name}": array for name, array in named.items()}
    about = {
        "format": FORMAT, "step": step, "adam_k": optimizer.k, "ema_k": ema.k,
        "rng": rng.bit_generator.state, "config": config,
    }  # fmt: skip
    write(path, {"about": np.array(json.dumps(about))} | arrays)


def write(path, arrays):
    """Write a dict of arrays as an `.npz`, beside its place, then rename it."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path):
    """Return a checkpoint's params, average, m, v (dicts of arrays), step and config.

    It also has adam_k, ema_k and rng, for `restore`. The arrays of a U-Net in format 1
    get the paths that they have now. Raises FileNotFoundError, or ValueError if the
    file is cut short, damaged or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path is {str(path)!r}, expected a checkpoint file")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(file["about"].item())
            arrays = {name: file[name] for name in file.files if name != "about"}
        version = about.pop("format")
        if version not in (FORMAT, FORMAT_1):
            raise ValueError("another format")
        found = SimpleNamespace(**about, **{group: {} for group in GROUPS})
        for key, array in arrays.items():
            group, name = key.split("/")
            getattr(found, group)[name] = array
        if not found.params.keys() == found.average.keys() == found.m.keys():
            raise ValueError("arrays are missing")
        if version == FORMAT_1 and "mid.conv1.w" in found.params:  # a U-Net's
            for group in GROUPS:
                setattr(found, group, renamed(getattr(found, group)))
    except _DAMAGED as error:
        raise ValueError(
            f"path is {str(path)!r}, expected a whole {FORMAT!r} file ({error})"
        ) from error
    return found


def renamed(arrays):
    """Return the arrays of a U-Net in format 1 under the paths that they have now.

    >>> list(renamed({"pool1.w": 1, "mid2.conv1.b": 2, "up1.conv1.w": 3}))
    ['downs.0.pool.w', 'middle.1.conv1.b', 'ups.0.conv1.w']
    """
    n = len({name.split(".")[0] for name in arrays if re.match(r"up\d", name)})

    def now(name):
        part = re.fullmatch(rf"({'|'.join(RENAMED)})(\d*)\.(.*)", name)
        if part is None:
            return name
        layer, i, rest = part.groups()
        return f"{RENAMED[layer](int(i or 1), n)}.{rest}"

    return {now(name): array for name, array in arrays.items()}


def restore(found, *, model, optimizer, ema, rng):
    """Put what `load` returned back into a model, its optimiser, average and rng.

    Raises ValueError, before anything has changed, if the optimiser keeps other arrays.
    """
    if optimizer.m.keys() != found.m.keys() or optimizer.v.keys() != found.v.keys():
        raise ValueError(
            f"optimizer is {type(optimizer).__name__}, expected one that keeps m and v "
            f"of the same parameters as the one that was saved"
        )
    model.load(found.params)
    for own, stored in (
        (optimizer.m, found.m),
        (optimizer.v, found.v),
        (ema.average, found.average),
    ):
        for name, array in stored.items():
            own[name][...] = array
    optimizer.k, ema.k = found.adam_k, found.ema_k
    rng.bit_generator.state = found.rng
