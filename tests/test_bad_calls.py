"""Every public function and class is called with every kind of wrong argument.

They are found, not listed: a new one is in here as soon as it can be imported. It must
work with the good arguments of `GOOD` (a new name of a parameter needs a line there),
and with one of them replaced by a wrong value it must work, or raise an error that a
caller can read: one of `READABLE`, with the name of that argument in its message.
"""

# ruff: noqa: E501
import contextlib
import importlib
import inspect
import io
import os
import re
import struct
import types
import warnings
import zlib
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numba
import numpy as np
import pytest
from PIL import Image

import nanodiff
from nanodiff import checkpoint, evaluate, export, layers, schedule, trained
from nanodiff.optim import EMA, Adam
from nanodiff.parallel import ALONE
from nanodiff.run import Run
from nanodiff.train import Recipe
from nanodiff.unet import UNet

READABLE = (ValueError, TypeError, FileNotFoundError, ImportError)
# Left out. `check` is the checkers themselves, whose tests are in tests/test_check.py.
# `plain` and `fast` compute what `layers` has checked, 70 times in a forward pass.
INSIDE = "check", "plain", "fast"
# What `export` opens to; left out, too, where the extra is not installed.
EXTRAS = {"export.pytorch": "torch", "export.onnx_file": "onnx"}
MODULES = [name for _, names in nanodiff.READING_ORDER for name in names
           if name not in INSIDE]  # fmt: skip
MODULES += [name for name, extra in EXTRAS.items() if find_spec(extra)]


def rng():
    return np.random.default_rng(0)


def floats(*shape):
    return rng().standard_normal(shape, dtype=np.float32)


def unet(**settings):
    return UNet(1, 3, channels=(4, 4), features=4, groups=2, rng=rng(), **settings)


def says(xt, t, context=None, x0_hat=None):
    return 0.1 * xt


SMALL = {"channels": [4, 4], "features": 4, "groups": 2, "context_features": 3}


def a_run(steps=2):
    return Run(Recipe(steps, 2, warmup=0), 25, seed=0, shape=(1, 8, 8), **SMALL)


def parts():
    """What a checkpoint is made of."""
    layer = linear_layer()
    params = layer.named_params()
    return {"model": layer, "optimizer": Adam(params), "ema": EMA(params), "rng": rng()}


def saved(path="run.npz"):
    """The path of a checkpoint of a run."""
    a_run().save(path)
    return path


def loaded():
    """What `checkpoint.load` returns of `parts`."""
    checkpoint.save("parts.npz", step=1, config={}, **parts())
    return checkpoint.load("parts.npz")


OF_PARTS = {
    name: lambda name=name: parts()[name]
    for name in ("model", "optimizer", "ema", "rng")
}


def stored(path="weights.npz"):
    """The path of a file of weights."""
    trained.write(path, {"w": floats(3, 2)}, {"a": 1})
    return path


def drawer():
    """In place of a `Pretrained`."""
    return types.SimpleNamespace(
        model=says, schedule=LINEAR, classes=["a", "b", "c"], shape=(1, 8, 8)
    )


LINEAR = schedule.linear(25)
LABELS, IMAGES = np.array([0, 1, 0, 1]), floats(4, 1, 8, 8)
GOOD = {  # by the parameter's name, then what is special of a function or a class
    "T": lambda: 25, "schedule": lambda: LINEAR, "beta": lambda: [0.5, 0.9, 0.999],
    "offset": lambda: 0.01, "start": lambda: -3.0, "end": lambda: 3.0,
    "name": lambda: "linear", "t": lambda: np.array([3, 9]), "s": lambda: 2,
    "x0": lambda: floats(2, 3), "xt": lambda: floats(2, 3), "xT": lambda: floats(2, 3),
    "eps": lambda: floats(2, 3), "eps_hat": lambda: floats(2, 3), "i": lambda: 1,
    "x0_hat": lambda: floats(2, 3), "output": lambda: floats(2, 3), "z": lambda: floats(2, 3),
    "table": lambda: LINEAR.alpha_bar, "images": lambda: IMAGES.copy(), "first": lambda: 0,
    "coefficient": lambda: 2.0, "predicts": lambda: "v", "clip": lambda: 1.0,
    "model": lambda: says, "network": lambda: says, "rng": rng, "variance": lambda: "beta",
    "steps": lambda: [9, 4, 0], "eta": lambda: 0.5, "times": lambda: [9, 4, 0],
    "context": lambda: floats(2, 3), "w": lambda: 0.5, "a": lambda: floats(2, 3),
    "b": lambda: floats(2, 3), "fraction": lambda: 0.3, "mean": lambda: 0.5,
    "std": lambda: 0.5, "means": lambda: [[0.0], [1.0]], "stds": lambda: [0.1, 0.2],
    "weights": lambda: [1.0, 2.0], "bins": lambda: 16, "found": lambda: floats(5, 4) ** 2,
    "x": lambda: floats(2, 4, 8, 8), "dy": lambda: floats(2, 4, 8, 8), "n": lambda: 4,
    "labels": lambda: LABELS.copy(), "classes": lambda: 2, "logits": lambda: floats(4, 2),
    "batch": lambda: 2, "features": lambda: 4, "groups": lambda: 2, "channels": lambda: [4],
    "size": lambda: 4, "dtype": lambda: np.float64, "emb": lambda: floats(2, 4),
    "c_in": lambda: 4, "c_out": lambda: 4, "n_in": lambda: 3, "n_out": lambda: 2,
    "bias": lambda: True, "silu": lambda: True, "kernel": lambda: 3, "stride": lambda: 1,
    "skip": lambda: floats(2, 4, 8, 8), "dskip": lambda: floats(2, 4, 8, 8),
    "modulation": lambda: floats(2, 8), "value": lambda: floats(2, 3),
    "prefix": lambda: "", "params": lambda: {"w": floats(3, 2)}, "demb": lambda: floats(2, 4),
    "grads": lambda: {"w": floats(3, 2)}, "context_features": lambda: 3,
    "image_channels": lambda: 1, "middle": lambda: 1, "self_condition": lambda: True,
    "d_eps": lambda: floats(2, 1, 8, 8), "width": lambda: 4, "time_size": lambda: 4,
    "layer": lambda: layers.Linear(3, 2, rng=rng()), "inputs": lambda: (floats(4, 3),),
    "h": lambda: 1e-6, "rtol": lambda: 1e-6, "split": lambda: "test", "folder": lambda: None,
    "download": lambda: False, "path": lambda: "made.png", "columns": lambda: 2,
    "scale": lambda: 1, "frames": lambda: [IMAGES], "hold": lambda: 1.0,
    "losses": lambda: [2.0, 1.0], "sets": lambda: {"ring": (floats(4, 2), floats(4, 2))},
    "learned": lambda: says, "exact": lambda: says, "curves": lambda: {"a": ([1, 2], [3, 4])},
    "xlabel": lambda: "x", "ylabel": lambda: "y", "floor": lambda: 1.0,
    "rows": lambda: {"a": {"b": IMAGES}}, "log": lambda: "y", "models": lambda: {"a": says}, "label": lambda: 1, "b1": lambda: 0.9,
    "b2": lambda: 0.99, "tiny": lambda: 1e-8, "momentum": lambda: 0.9, "lr": lambda: 0.1,
    "G": lambda: floats(3, 4), "decay": lambda: 0.9, "step": lambda: 1, "peak": lambda: 1.0,
    "warmup": lambda: 0, "max_norm": lambda: 1.0, "drop": lambda: 0.1,
    "focus": lambda: (0.5, 1, 9), "order": lambda: 1, "optimizer": lambda: "adam",
    "recipe": lambda: Recipe(steps=2, batch=2, warmup=0),
    "judge": lambda: evaluate.Judge(rng=rng()), "dlogits": lambda: floats(2, 10),
    "make": lambda: lambda *arrays: arrays[0], "arrays": lambda: (floats(4), floats(4)),
    "asked": lambda: LABELS, "read": lambda: LABELS, "others": lambda: LABELS,
    "training": lambda: (floats(4, 1, 28, 28), LABELS), "seed": lambda: 0,
    "message": lambda: "damaged", "stream": lambda: io.BytesIO(b"abc"), "settings": lambda: {"lr": 0.1},
    "about": lambda: a_run()._config(), "content": lambda: b"abc",
    "growth": lambda: 2, "loop": lambda: [1, 2], "desc": lambda: "adding", "total": lambda: 2,
    "leave": lambda: False, "survives_fork": lambda: True, "func": lambda: says, "ema": lambda: EMA(parameters_of_a_layer()),
    "config": lambda: {"a": 1}, "schedule_parameters": lambda: {}, "names": lambda: ["a", "b"],
    "every": lambda: 2, "draw": lambda: lambda run: None, "options": lambda: {"features": 4, "channels": [4, 4]},
    "signal": lambda: 2, "kind": lambda: "x",
    "source": lambda: np.full((4, 8, 8), 99, np.uint8), "image": lambda: Image.new("L", (9, 8)),
    "sampler": lambda: "ddim", "shape": lambda: (1, 8, 8), "titles": lambda: ["a", "b"],
    "draws": lambda: 2, "held_out": lambda: [(1, 2.0)], "named": lambda: {"linear": LINEAR},
    "half": lambda: True, "twin": lambda: export.to_torch(unet()),
    "comm": lambda: types.SimpleNamespace(rank=0, size=1, Dup=lambda: None),
    "team": lambda: ALONE, "loss": lambda: 0.5, "weight": lambda: 1.0, "number": lambda: 1,
    "heads": lambda: 2, "attention": lambda: 2, "gamma": lambda: 5.0, "min_snr": lambda: 5.0,
    "q": lambda: floats(2, 4, 3), "k": lambda: floats(2, 4, 3), "v": lambda: floats(2, 4, 3),
    "A": lambda: floats(2, 3, 3),
}  # fmt: skip
SPECIAL = {  # where a name means something else
    "engine.Turn": {"start": lambda: lambda: None},
    "engine.threads_for": {"numbers": lambda: 1},
    "engine.set_threads": {"n": lambda: numba.config.NUMBA_NUM_THREADS},
    "schedule.at": {"images": lambda: floats(2, 3), "name": lambda: "t"},
    "schedule.times": {"images": lambda: floats(2, 3)},
    "schedule.named": {"parameters": lambda: {}},
    "prediction.begin": {"predicts": lambda: "eps"},
    "prediction.min_snr": {"images": lambda: floats(2, 3)},
    "ddim.step": {"t": lambda: 9}, "ddim.falling": {"steps": lambda: 4},
    "ddim.timesteps": {"steps": lambda: 4}, "ddim.invert": {"predicts": lambda: "x0"},
    "self_conditioning.WithFirstGuess": {"network": lambda: unet(self_condition=True)},
    "self_conditioning.WithFirstGuess.forward": {"xt": lambda: floats(2, 1, 8, 8)},
    "self_conditioning.WithFirstGuess.backward": {"dy": lambda: floats(2, 1, 8, 8)},
    "exact.carried": {"means": lambda: [0.0, 1.0], "x": lambda: floats(4), "t": lambda: 9},
    "exact.points": {"x0": lambda: floats(4, 3)}, "exact.mixture.model": {"xt": lambda: floats(2, 1)},
    "likelihood.terms": {"x0": lambda: floats(4, 3)}, "layers.Layer.load": {"params": lambda: linear_layer().named_params()},
    "likelihood.bits_per_dimension": {"x0": lambda: floats(4, 3)},
    "layers.Layer.forward": {"x": lambda: floats(4, 3)}, "layers.Layer.backward": {"dy": lambda: floats(4, 2)},
    "layers.Layer.__call__": {"inputs": lambda: (floats(4, 3),)},
    "layers.Layer.add_param": {"name": lambda: "extra"},
    "layers.Linear.forward": {"x": lambda: floats(4, 3)}, "layers.Linear.backward": {"dy": lambda: floats(4, 2)},
    "layers.GroupNorm": {"channels": lambda: 4}, "attention.Attention": {"channels": lambda: 4},
    "attention.attend_backward": {"dy": lambda: floats(2, 4, 3)},
    "unet.time_features": {"dtype": lambda: np.float32},
    "unet.Embedding.forward": {"context": lambda: floats(2, 3)},
    "unet.Down.backward": {"dy": lambda: floats(2, 4, 4, 4), "dskip": lambda: floats(2, 4, 8, 8)},
    "unet.Up.forward": {"x": lambda: floats(2, 4, 4, 4)},
    "unet.UNet": {"channels": lambda: [4, 4]},
    "unet.UNet.forward": {"xt": lambda: floats(2, 1, 8, 8), "x0_hat": lambda: floats(2, 1, 8, 8)},
    "toy.centres": {"name": lambda: "ring"}, "toy.points": {"name": lambda: "moons"},
    "toy.MLP.forward": {"xt": lambda: floats(2, 4), "context": lambda: floats(2, 3)},
    "toy.MLP.backward": {"d_eps": lambda: floats(2, 4)},
    "pictures.pictures": {"channels": lambda: 3},
    "pictures.as_bytes": {"images": lambda: np.full((4, 8, 8), 99, np.uint8)},
    "data.read_idx": {"folder": lambda: "idx"},
    "viz.points": {"sets": lambda: {"ring": floats(4, 2)}},
    **{f"viz.{name}": {"curves": lambda: {"a": ([1, 2], [3, 4], [1, 1])}, "seconds": lambda: 0.1}
       for name in ("quality", "save_quality")},
    "viz.folder": {"path": lambda: "made"}, "viz.save_film": {"path": lambda: "made.gif"},
    "sprites.read": {"images": lambda: floats(2, 3, 16, 16)},
    "optim.Muon": {"adam": lambda: {}}, "optim.is_hidden": {"w": lambda: floats(8, 8, 3, 3)},
    "optim.check_owned": {"w": lambda: floats(3, 2)}, "optim.learning_rate": {"steps": lambda: 9},
    "train.Recipe": {"steps": lambda: 9},
    "train.train": {"context": lambda: floats(4, 3), "model": unet, "optimizer": lambda: Adam({}),
                    "ema": lambda: EMA({})},
    "train.check_data": {"context": lambda: floats(4, 3)},
    "train.loss_of": {"context": lambda: floats(4, 3)},
    **{f"sampling.{name}": {"found": drawer, "classes": lambda: ["a", "b+c"]}
       for name in ("sample", "draw", "contexts")},
    "streams.Streams": {"images": lambda: np.arange(2)},
    "streams.Streams.standard_normal": {"shape": lambda: (2, 3)},
    "parallel.Team.rows": {"name": lambda: "n"}, "parallel.Team.gather": {"rows": lambda: IMAGES},
    "export.pytorch.to_torch": {"found": unet},
    "export.onnx_file.to_onnx": {"found": unet, "path": lambda: "made.onnx"},
    **{f"viz.{name}": {"times": lambda: [9, 4]} for name in ("fields", "save_fields")},
    "files.read_npz": {"path": stored}, "files.read_arrays": {"path": stored},
    "files.exactly": {"size": lambda: 3}, "files.plain": {"name": lambda: "settings"},
    "files.write_npz": {"arrays": lambda: {"w": floats(3, 2)}},
    "checkpoint.save": OF_PARTS, "checkpoint.load": {"path": saved},
    "checkpoint.restore": {**OF_PARTS, "found": loaded},
    "trained.Eps": {"network": unet}, "trained.Eps.forward": {"xt": lambda: floats(2, 1, 8, 8), "x0_hat": lambda: ()},
    "trained.Eps.backward": {"d_eps": lambda: floats(2, 1, 8, 8)}, "trained.Pretrained": {"network": unet},
    "trained.pretrained": {"name": saved, "network": lambda: UNet}, "trained.read": {"path": stored},
    "trained.build": {"params": lambda: a_run().ema.average, "network": lambda: UNet},
    "trained.described": {"classes": lambda: ["a", "b"]}, "trained.settings": {"network": lambda: UNet}, "trained.a_class": {"network": lambda: UNet},
    "trained.fit": {"network": lambda: UNet, "options": lambda: SMALL, "params": lambda: unet().named_params()},
    "run.Run": {"schedule": lambda: "linear", "classes": lambda: ["a", "b"], "network": lambda: UNet, "options": lambda: SMALL},
    "run.Run.of_pictures": {"steps": lambda: 2, "options": lambda: {"channels": [8, 8], "features": 4}},
    "run.Run.beginning_with": {"found": lambda: a_run().trained(), "more": lambda: {}},
    "run.Run.resume": {"path": saved, "network": lambda: UNet, "expected": lambda: {}},
    "run.Run.learn": {"context": lambda: floats(4, 3), "path": lambda: "learned.npz"},
    "progress.progress": {"more": lambda: {"miniters": 1}},
    "evaluate.look": {"images": lambda: floats(4, 1, 28, 28)},
    "evaluate.Judge.features": {"x": lambda: floats(2, 1, 28, 28)},
    "evaluate.Judge.forward": {"x": lambda: floats(2, 1, 28, 28)},
    "evaluate.standard_errors": {"rows": lambda: floats(4, 3),
                                 "score": lambda: lambda rows: {"mean": rows.mean()}},
    "evaluate.spread": {"features": lambda: floats(4, 3)},
    "evaluate.ScoreCard": {"images": lambda: floats(4, 1, 28, 28)},
    "evaluate.ScoreCard.score": {"images": lambda: floats(4, 1, 28, 28)},
}  # fmt: skip


ALIAS = {  # what a parameter is called in messages, where not by its name
    ("self_conditioning.WithFirstGuess.backward", "dy"): "d_eps",
    ("schedule.named", "name"): "schedule", ("layers.Layer.__call__", "inputs"): "x",
    ("pictures.pictures", "source"): "source|images|labels", ("schedule.at", "first"): "t|first", ("schedule.at", "images"): "t|images",
    ("trained.fit", "options"): "options|context_features",
    # not asked in each step of a sampler, whose `begin` has asked: Python's own words
    ("prediction.ask", "model"): "model|positional",
    ("run.Run", "schedule_parameters"): "schedule", ("files.exactly", "size"): "size|bytes", ("run.Run.learn", "images"): "images|xt",
    ("gradcheck.gradcheck", "inputs"): "x|inputs", ("train.train", "images"): "xt|images",
}  # fmt: skip


def linear_layer():
    return layers.Linear(3, 2, rng=rng())


def parameters_of_a_layer():
    return linear_layer().named_params()


WRONG = [
    None, "wrong", "", -1, 0, 0.5, 2.5, np.nan, np.inf, -np.inf, True, np.True_, 10**400,
    7, [], [1, 2], ["a"], [[1.0], [2.0, 3.0]], {}, {"a": 1}, object(), b"wrong",
    np.random.RandomState(0), np.ones((2, 3), int), np.array(np.nan), np.zeros(0),
    np.zeros((1, 1, 1, 1, 1)), np.zeros((2, 3), np.float16), 1j,
]  # fmt: skip
ODD = [  # each is tried on every third parameter; on all where NANODIFF_CALLS is all
    # arrays without axes, of other kinds, empty, in another order of bytes
    np.array(3), np.array("x"), np.array(None), np.array([None, 1]), np.zeros((2, 0)),
    np.zeros(2, [("a", "f4")]), np.ma.masked_array([1.0, 2.0], [True, False]), np.ma.masked,
    np.zeros(2, complex), np.zeros((2, 3), bool), np.zeros((2, 3), "U1"), np.zeros((0, 3)),
    np.array([Decimal(1)]), np.zeros((2, 3), ">f4"), np.zeros((2, 3), np.longdouble),
    # times, and numbers that are too large, too small or of other classes
    np.datetime64("2020-01-01"), np.timedelta64(3, "s"), np.array(["2020"], "M8[Y]"),
    np.array([1, 2], "m8[s]"), 2**31, 2**63, -(2**63) - 1, -(10**400), 10**5000, 1e308, -1e308, 5e-324,
    -0.0, 1 + 0j, np.longdouble(3), Fraction(1, 2), Decimal("0.5"), Decimal("nan"),
    # lists and their like
    range(3), range(0), (), (1,), [None], [[]], [[1, 2], [3]], [[[1.0], [2.0, 3.0]]], [np.nan, 1.0], [1e308, 1e308],
    [2**63, 1], [10**400], [-1, -2], ["1", "2"], [True, False], [1j], {1, 2}, frozenset(),
    bytearray(b"12"), memoryview(b"12"), {"w": None}, {"a": object()}, {1: 2}, {"a": []},
    # paths, texts, functions, modules
    Path("folder"), "folder", "nowhere/file", "\0", "a\nb", "None", "é" * 300, int, np.float64, lambda: None,
    print, np, ..., NotImplemented, slice(1),
]  # fmt: skip


def wrong(good, place=""):
    """What to put in place of a good value."""
    every = 1 if os.environ.get("NANODIFF_CALLS") == "all" else 3
    yield from WRONG
    yield from ODD[zlib.crc32(place.encode()) % every :: every]
    yield (i for i in range(3))
    if isinstance(good, np.ndarray) and good.ndim:
        yield from (good[..., None], good[0], good[:1], good[:0], good[..., :1])
        yield from (
            good.astype(kind) for kind in (np.float16, complex, object, int, bool)
        )
        yield from (np.full(good.shape, np.nan, good.dtype.newbyteorder("=")),
                    ) if good.dtype.kind == "f" else (good - 9, good + 99)  # fmt: skip


def doors():
    """Every public function, class and method, as (name, owner or None, what is called)."""
    for module in MODULES:
        found = importlib.import_module(f"nanodiff.{module}")
        for name, value in vars(found).items():
            if name[0] == "_" or getattr(value, "__module__", "") != found.__name__:
                continue
            yield f"{module}.{name}", None, value
            for method, inner in vars(value).items() if inspect.isclass(value) else ():
                if method[0] != "_" or method == "__call__":
                    yield f"{module}.{name}.{method}", value, inner


DOORS = {
    name: (owner, value)
    for name, owner, value in doors()
    if inspect.isclass(value) or inspect.isroutine(value)
}


def good_value(door, parameter):
    """A good argument, made anew."""
    special = SPECIAL.get(door, {}).get(parameter) or GOOD.get(parameter)
    assert special, (
        f"{door} has a parameter {parameter!r} without a good value: add "
        f"{parameter!r}: lambda: ... to GOOD, or {door!r}: {{...}} to SPECIAL"
    )
    return special()


def parameters(function):
    """The parameters that can be given, but for self."""
    try:
        found = inspect.signature(function).parameters
    except ValueError:  # a class that takes nothing has none in some Pythons
        return {}
    return {name: p for name, p in found.items() if name != "self"}


def arguments(door, function, **instead):
    """(args, kwargs) of a call with good values but for `instead`."""
    args, kwargs = [], {}
    for name, parameter in parameters(function).items():
        value = instead[name] if name in instead else good_value(door, name)
        if parameter.kind == parameter.VAR_POSITIONAL:
            args += value if name not in instead else [value]
        elif parameter.kind == parameter.VAR_KEYWORD:
            kwargs |= value if name not in instead else {}
        elif parameter.kind == parameter.KEYWORD_ONLY:
            kwargs[name] = value
        else:
            args.append(value)
    return args, kwargs


def callee(door):
    """What is called: a function, a class, or a method of a new instance."""
    owner, value = DOORS[door]
    if owner is None:
        return value
    if isinstance(value, classmethod):
        return getattr(owner, door.split(".")[-1])
    if owner is layers.Layer:
        made = linear_layer()
    else:
        args, kwargs = arguments(door.rsplit(".", 1)[0], owner)
        made = owner(*args, **kwargs)
    if door.endswith(".backward"):
        forward = door.replace("backward", "forward")
        args, kwargs = arguments(forward, made.forward)
        made.forward(*args, **kwargs)
    return getattr(made, door.split(".")[-1])


def call(function, args, kwargs):
    """Call, and run what is a generator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = function(*args, **kwargs)
        if isinstance(found, contextlib.AbstractContextManager):
            with found:
                return found
        return list(found) if isinstance(found, types.GeneratorType) else found


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "idx").mkdir(), (tmp_path / "folder").mkdir()
    for name, sizes in (("images-idx3", (2, 28, 28)), ("labels-idx1", (2,))):
        head = struct.pack(f">{1 + len(sizes)}I", 0x0800 + len(sizes), *sizes)
        body = bytes(int(np.prod(sizes)))
        (tmp_path / "idx" / f"t10k-{name}-ubyte").write_bytes(head + body)


def said(value):
    """An integer of 5,000 digits has no repr."""
    return "10**5000" if isinstance(value, int) and value > 10**4000 else repr(value)


MANY = np.ndarray | list | tuple | range | bytearray | memoryview


def complaints(door, parameter, make):
    """What is wrong about the errors of calls in which one argument is wrong."""
    for value in wrong(good_value(door, parameter), door + parameter):
        function = make()
        args, kwargs = arguments(door, function, **{parameter: value})
        shown = f"{door}({parameter}={said(value):.60})"
        names = [ALIAS.get((door, parameter), parameter)]
        if isinstance(value, MANY) or value == 7:
            names += parameters(function)  # of two that do not fit either is named
        try:
            call(function, args, kwargs)
        except READABLE as error:
            if not re.search(rf"(?<![a-z])({'|'.join(names)})", str(error)):
                yield f"{shown}: {error!r:.200}, without the name"
        except Exception as error:
            yield f"{shown}: {error!r:.200}"


@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_argument_is_named_and_a_good_call_works(door, here):
    function = callee(door)
    args, kwargs = arguments(door, function)
    made = call(function, args, kwargs)
    doors = {door: lambda: callee(door)}
    if inspect.isfunction(made):  # a model is a door, too
        doors[f"{door}.model"] = lambda: made
        args, kwargs = arguments(f"{door}.model", made)
        call(made, args, kwargs)
    for name, make in doors.items():
        for parameter in parameters(make()):
            found = list(complaints(name, parameter, make))
            assert not found, "\n".join(found)


def test_what_is_wrong_is_told(monkeypatch):
    def door(steps):
        return [][steps]

    def nameless(steps):
        raise ValueError("no")

    for made, words in ((door, "IndexError"), (nameless, "without the name")):
        found = list(complaints("x", "steps", lambda made=made: made))
        assert any(words in line for line in found)
    with pytest.raises(AssertionError, match="'unheard': lambda: ... to GOOD"):
        good_value("x", "unheard")
