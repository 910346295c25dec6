"""Every public function and class is called with every kind of wrong argument.

They are found, not listed: a new one is in here as soon as it can be imported. It must
work with the good arguments of `GOOD` (a new name of a parameter needs a line there),
and with one of them replaced by a wrong value it must work, or raise an error that a
caller can read: one of `READABLE`, with the name of that argument in its message.
"""

import importlib
import inspect
import re
import types
import warnings
from itertools import islice

import numpy as np
import pytest

import nanodiff
from nanodiff import checkpoint, data, evaluate, exact, layers, schedule, self_conditioning
from nanodiff.optim import EMA, Adam
from nanodiff.run import Run
from nanodiff.toy import MLP
from nanodiff.train import Recipe
from nanodiff.trained import EpsUNet, pretrained
from nanodiff.unet import Down, ResBlock, UNet, Up

READABLE = (ValueError, TypeError, FileNotFoundError, ImportError)
# Behind the doors: `layers` has checked what `engine` and these compute, and `check` is
# the checkers themselves.
INSIDE = ("check", "plain", "engine", "fast")
MODULES = [name for _, names in nanodiff.READING_ORDER for name in names
           if name not in INSIDE]  # fmt: skip


def rng():
    return np.random.default_rng(0)


def floats(*shape):
    return rng().standard_normal(shape, dtype=np.float32)


def unet(**settings):
    return UNet(1, 3, channels=(4, 4), features=4, groups=2, rng=rng(), **settings)


def run():
    recipe = Recipe(steps=1, batch=2, warmup=0)
    return Run(recipe, 25, seed=0, channels=[4], features=4, groups=2)


def saved():
    one = run()
    one.save("saved.npz")
    return "saved.npz"


def says(xt, t, context=None, x0_hat=None):
    return 0.1 * xt


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
    "rows": lambda: {"a": {"b": IMAGES}}, "label": lambda: 1, "b1": lambda: 0.9,
    "b2": lambda: 0.99, "tiny": lambda: 1e-8, "momentum": lambda: 0.9, "lr": lambda: 0.1,
    "G": lambda: floats(3, 4), "decay": lambda: 0.9, "step": lambda: 1, "peak": lambda: 1.0,
    "warmup": lambda: 0, "max_norm": lambda: 1.0, "drop": lambda: 0.1,
    "focus": lambda: (0.5, 1, 9), "optimizer": lambda: "adam",
    "recipe": lambda: Recipe(steps=2, batch=2, warmup=0),
    "judge": lambda: evaluate.Judge(rng=rng()), "dlogits": lambda: floats(2, 10),
    "make": lambda: np.add, "arrays": lambda: (floats(4), floats(4)),
    "asked": lambda: LABELS, "read": lambda: LABELS, "others": lambda: LABELS,
    "training": lambda: (floats(4, 1, 28, 28), LABELS), "seed": lambda: 0,
}  # fmt: skip
SPECIAL = {  # function or class, or its method: what differs there
}
WRONG = [
    None, "wrong", "", -1, 0, 0.5, 2.5, np.nan, np.inf, -np.inf, True, np.True_, 10**400,
    7, [], [1, 2], ["a"], [[1.0], [2.0, 3.0]], {}, {"a": 1}, object(), b"wrong",
    np.random.RandomState(0), np.ones((2, 3), int), np.array(np.nan), np.zeros(0),
    np.zeros((1, 1, 1, 1, 1)), np.zeros((2, 3), np.float16), 1j,
]  # fmt: skip


def wrong(good):
    """What to put in place of a good value."""
    yield from WRONG
    if isinstance(good, np.ndarray) and good.ndim:
        yield from (good[..., None], good[0], good[:1], good[:0], good[..., :1])
        yield from (good.astype(kind) for kind in (np.float16, complex, object, int, bool))
        yield from (np.full(good.shape, np.nan, good.dtype.newbyteorder("=")),
                    ) if good.dtype.kind == "f" else (good - 9, good + 99)  # fmt: skip
