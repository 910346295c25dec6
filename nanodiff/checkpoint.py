"""A run in one file: an `.npz` of plain arrays and one JSON text, no pickle.

The file is written beside its place and then renamed, so an interrupted write loses
nothing. What is stored is what `train` needs to go on bit for bit, and its settings.
"""

import re
from pathlib import Path
from types import SimpleNamespace

from nanodiff import check, files

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
ABOUT = ("step", "adam_k", "ema_k", "rng", "config")


def save(path, *, model, optimizer, ema, rng, step, config):
    """Write a checkpoint. `config` is a dict that JSON can hold, or TypeError.

    model, optimizer, ema, rng: as `train` takes them; step: how many are done. Raises
    OSError, with the path, if it cannot be written; an earlier file then stays.
    ValueError: if one of them is something else.
    """
    _check_parts(model, optimizer, ema, rng)
    step = check.integer("step", step, 0)
    config = files.plain(check.instance("config", config, dict), "config")
    arrays = {}
    kept = model.named_params(), ema.average, optimizer.m, optimizer.v
    for group, named in zip(GROUPS, kept, strict=True):
        arrays |= {f"{group}/{name}": array for name, array in named.items()}
    about = {
        "format": FORMAT, "step": step, "adam_k": optimizer.k, "ema_k": ema.k,
        "rng": rng.bit_generator.state, "config": config,
    }  # fmt: skip
    files.write_npz(path, arrays, about)


def load(path):
    """Return a checkpoint's params, average, m, v (dicts of arrays), step and config.

    It also has adam_k, ema_k and rng, for `restore`. The arrays of a U-Net in format 1
    get the paths that they have now. Raises FileNotFoundError, or ValueError if the
    file is cut short, damaged or not a checkpoint.
    """
    if not Path(check.path("path", path)).is_file():
        raise FileNotFoundError(f"path is {str(path)!r}, expected a checkpoint file")
    message = f"path is {str(path)!r}, expected a whole {FORMAT!r} file"
    arrays, about = files.read_npz(path, message)
    with files.refusing(message):
        if about["format"] not in (FORMAT, FORMAT_1):
            raise ValueError("another format")
        for name in ("step", "adam_k", "ema_k"):
            if type(about[name]) is not int or not 0 <= about[name] < 2**53:
                raise ValueError(f"{name} is {about[name]!r:.50}, expected a count")
        for name in ("rng", "config"):
            if not isinstance(about[name], dict):
                raise ValueError(f"{name} is {about[name]!r:.50}, expected a dict")
        groups = {group: {} for group in GROUPS}
        for key, array in arrays.items():
            group, name = key.split("/")
            groups[group][name] = array
        for group, named in groups.items():
            _fit(group, named, groups["params"], some=group == "v")
        if about["format"] == FORMAT_1 and "mid.conv1.w" in groups["params"]:  # U-Net
            groups = {group: _renamed(named) for group, named in groups.items()}
    return SimpleNamespace(**{name: about[name] for name in ABOUT}, **groups)


def _check_parts(model, optimizer, ema, rng):
    """Raise ValueError unless these have what is saved of them."""
    check.thing("model", model, "a network", "named_params")
    check.thing("optimizer", optimizer, "an optimiser, such as Adam", "m", "v", "k")
    check.thing("ema", ema, "an EMA", "average", "k")
    check.generator("rng", rng, "bit_generator")


def _fit(group, arrays, own, some=False):
    """Raise ValueError unless these have the names, shapes and dtypes of one's own.

    some: whether names may be missing.
    """
    for name in own.keys() ^ arrays.keys():
        if name in arrays or not some:
            where = "is missing" if name in own else "is not a parameter here"
            raise ValueError(f"{group}: {name!r} {where}")
    for name, array in arrays.items():
        kind, wanted = ((a.shape, str(a.dtype)) for a in (array, own[name]))
        if kind != wanted:
            raise ValueError(f"{group}[{name!r}] is {kind}, expected {wanted}")


def _renamed(arrays):
    """The arrays of a U-Net in format 1 under the paths that they have now.

    >>> list(_renamed({"pool1.w": 1, "mid2.conv1.b": 2, "up1.conv1.w": 3}))
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

    Raises ValueError, before anything has changed, if these are not of the names,
    shapes and dtypes that were saved, or if rng is of another kind.
    """
    _check_parts(model, optimizer, ema, rng)
    check.thing("found", found, "what `load` returns", *GROUPS, *ABOUT)
    if optimizer.m.keys() != found.m.keys() or optimizer.v.keys() != found.v.keys():
        raise ValueError(
            f"optimizer is {type(optimizer).__name__}, expected one that keeps m and v "
            f"of the same parameters as the one that was saved"
        )
    groups = (
        ("params", model.named_params(), found.params),
        ("m", optimizer.m, found.m),
        ("v", optimizer.v, found.v),
        ("average", ema.average, found.average),
    )
    for group, own, stored in groups:
        _fit(group, stored, own)
    kind = type(rng.bit_generator)
    with files.refusing(f"rng is a {kind.__name__}, expected one as was saved"):
        kind().state = found.rng  # a trial
    for _, own, stored in groups:
        for name, array in stored.items():
            own[name][...] = array
    optimizer.k, ema.k = found.adam_k, found.ema_k
    rng.bit_generator.state = found.rng
