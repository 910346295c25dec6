"""Networks that are trained already: those of the package, and your own checkpoints.

A file in the package is an `.npz` of float16 weights and one JSON text that says what
they are and which command made them, when, and how well they do.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanodiff import check, checkpoint
from nanodiff.evaluate import Judge
from nanodiff.prediction import KINDS, split
from nanodiff.schedule import Schedule, named
from nanodiff.self_conditioning import WithLastGuess
from nanodiff.unet import UNet

FOLDER = Path(__file__).parent
NAMES = ("mnist", "sprites")


class EpsUNet(UNet):
    """A UNet that says eps_hat, whatever it was trained to say.

    eps_hat = p xt + q output, where p and q follow from the time alone, so samplers,
    losses and guidance need not know. To train it on, use a Recipe that predicts "eps".
    """

    def __init__(self, schedule, predicts, **config):
        check.schedule(schedule)
        check.choice("predicts", predicts, KINDS)
        super().__init__(**config, rng=np.random.default_rng(0))
        self.schedule, self.predicts = schedule, predicts

    def forward(self, xt, t, context=None, x0_hat=None):
        """Return eps_hat, shape and dtype of xt; see UNet."""
        output = super().forward(xt, t, context, x0_hat)
        one = np.ones((len(xt), 1, 1, 1), xt.dtype)
        p, q = (
            split(self.schedule, x, t, y, self.predicts)[1]
            for x, y in ((one, 0 * one), (0 * one, one))
        )
        self.cache = p, q
        return p * xt + q * output

    def backward(self, d_eps):
        """Write all gradients from dL/deps_hat; return (dxt, dcontext or None)."""
        p, q = self.cache
        dxt, dcontext = super().backward(q * d_eps)
        return dxt + p * d_eps, dcontext


@dataclass(frozen=True)
class Pretrained:
    """model(xt, t, context) says eps_hat; schedule goes with it; about tells the rest.

    model: what samplers and `guide` take. network: the U-Net alone, a function of xt, t
    and context with `named_params`. It is the model, too, unless it was trained with
    self-conditioning: then the model also shows it its last guess, which depends on the
    calls before. So losses, bounds and inversion are taken of the network. about: a
    dict with the settings of the network and of its training, and for those of the
    package also the command, seed, date, time and score.
    """

    model: EpsUNet | WithLastGuess
    network: EpsUNet
    schedule: Schedule
    about: dict


def pretrained(name="mnist"):
    """Return a trained network with its averaged weights, and its schedule.

    name: "mnist" or "sprites", which come with the package, or the path of a checkpoint
    of the examples. Raises ValueError for any other name and for a damaged file,
    FileNotFoundError for a missing one.

    >>> found = pretrained("mnist")
    >>> found.model(np.zeros((1, 1, 28, 28), np.float32), 500).shape, found.schedule.T
    ((1, 1, 28, 28), 1000)
    """
    if name in NAMES:
        params, about = read(FOLDER / f"trained_{name}.npz")
    elif str(name).endswith(".npz"):
        found = checkpoint.load(name)
        params, about = found.average, found.config
    else:
        raise ValueError(
            f"name is {str(name)!r}, expected one of {list(NAMES)} or a path that ends "
            f"in .npz"
        )
    return build(params, about)


def build(params, about):
    """Return the `Pretrained` of weights and a dict with T, schedule, unet and recipe.

    Raises ValueError if one of them is missing.
    """
    T, schedule, parameters, unet, recipe = settings(about)
    schedule = named(schedule, T, **parameters)
    network = EpsUNet(schedule, recipe["predicts"], **unet).load(params)
    model = WithLastGuess(network, schedule) if network.self_condition else network
    return Pretrained(model, network, schedule, about)


def settings(about):
    """Return T, the schedule's name and parameters, settings of unet and recipe.

    Raises ValueError if one of them is missing in the dict, but for the parameters:
    earlier runs had none.
    """
    about = {"schedule_parameters": {}} | about
    names = "T", "schedule", "schedule_parameters", "unet", "recipe"
    missing = set(names) - about.keys()
    if missing:
        raise ValueError(f"about has no {sorted(missing)}, expected those of a `Run`")
    return [about[name] for name in names]


def judge():
    """Return the classifier of digits that comes with the package, trained.

    >>> judge()(np.zeros((3, 1, 28, 28), np.float32)).shape
    (3, 10)
    """
    params, _ = read(FOLDER / "trained_judge.npz")
    return Judge(rng=np.random.default_rng(0)).load(params)


def write(path, params, about):
    """Write a file of float16 weights. about: anything that JSON can hold.

    Raises ValueError, and writes nothing, if a weight is beyond float16's 65504.
    """
    for name, array in params.items():
        if not np.all(np.abs(array) <= np.finfo(np.float16).max):
            raise ValueError(
                f"params[{name!r}] has {np.abs(array).max()}, beyond float16"
            )
    halves = {name: array.astype(np.float16) for name, array in params.items()}
    checkpoint.write(path, {"about": np.array(json.dumps(about))} | halves)


def read(path):
    """Return (params, about) of a file of weights; params are float32.

    Raises ValueError if the file is damaged, FileNotFoundError if there is none.
    """
    try:
        with open(path, "rb") as stream, np.load(stream) as file:  # no pickle
            about = json.loads(file["about"].item())
            names = [name for name in file.files if name != "about"]
            return {name: file[name].astype(np.float32) for name in names}, about
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); reinstall") from error
