"""Networks that are trained already: those of the package, and your own checkpoints.

A file in the package is an `.npz` of float16 weights and one JSON text that says what
they are and which command made them, when, and how well they do.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanodiff import check, checkpoint, files
from nanodiff.evaluate import Judge
from nanodiff.prediction import KINDS, split
from nanodiff.schedule import Schedule, named
from nanodiff.self_conditioning import WithLastGuess
from nanodiff.unet import UNet

FOLDER = Path(__file__).parent
NAMES = ("mnist", "sprites")
SETTINGS = {  # of the settings that a network is built from
    "T": int, "schedule": str, "schedule_parameters": dict,
    "unet": dict, "recipe": dict,
}  # fmt: skip


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
    path = FOLDER / f"trained_{name}.npz" if name in NAMES else name
    if name in NAMES:
        params, about = read(path)
    elif str(name).endswith(".npz"):
        found = checkpoint.load(name)
        params, about = found.average, found.config
    else:
        raise ValueError(
            f"name is {str(name)!r}, expected one of {list(NAMES)} or a path that ends "
            f"in .npz"
        )
    with files.refusing(f"path is {str(path)!r}, expected a network of the examples"):
        return build(params, about)


def build(params, about):
    """Return the `Pretrained` of weights and a dict with T, schedule, unet and recipe.

    Raises ValueError if one of them is missing, or if the weights are of another UNet.
    """
    T, schedule, parameters, unet, recipe = settings(about)
    fit(unet, params)
    schedule = named(schedule, T, **parameters)
    network = EpsUNet(schedule, recipe["predicts"], **unet).load(params)
    model = WithLastGuess(network, schedule) if network.self_condition else network
    return Pretrained(model, network, schedule, about)


def settings(about):
    """Return T, the schedule's name and parameters, settings of unet and recipe.

    Raises ValueError if one of them is missing in the dict, but for the parameters:
    earlier runs had none; or if one is no setting, as in a file that is not a run's.
    """
    about = {"schedule_parameters": {}} | about
    missing = SETTINGS.keys() - about.keys()
    if missing:
        raise ValueError(f"about has no {sorted(missing)}, expected those of a `Run`")
    for name, kind in SETTINGS.items():
        if type(about[name]) is not kind:
            raise ValueError(
                f"about[{name!r}] is {about[name]!r:.50}, expected {kind.__name__}"
            )
    if not 1 <= about["T"] <= 1_000_000:
        raise ValueError(f"about['T'] is {about['T']}, expected 1..1,000,000")
    return [about[name] for name in SETTINGS]


def fit(unet, params):
    """Raise ValueError if weights are not those of a UNet with these settings.

    It is asked before the UNet is made: in a damaged file one could fill the memory.
    """
    params = {name: np.shape(w) for name, w in params.items()}
    levels = itertools.takewhile(
        params.get, (f"downs.{i}.conv1.w" for i in itertools.count())
    )
    blocks = {name.split(".")[1] for name in params if name.startswith("middle.")}
    own = {
        "image_channels": params["conv_in.w"][1],
        "context_features": params.get("embed.context.w", [0])[0],
        "channels": [params[name][0] for name in ("conv_in.w", *levels)],
        "features": params["embed.time1.w"][0],
        "middle": len(blocks), "self_condition": "conv_x0.w" in params,
    }  # fmt: skip
    groups = unet.get("groups", 1)
    if type(groups) is not int or groups < 1:
        raise ValueError(f"unet has groups {groups!r:.50}, expected an integer above 0")
    for name in own.keys() & unet.keys():
        if unet[name] != own[name]:
            raise ValueError(
                f"unet has {name} {unet[name]!r:.50}, expected that of the weights, "
                f"{own[name]}"
            )


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
    files.write_npz(path, halves, about)


def read(path):
    """Return (params, about) of a file of weights; params are float32.

    Raises ValueError if the file is damaged, FileNotFoundError if there is none.
    """
    message = f"{str(path)!r} is damaged; reinstall, or make it again"
    halves, about = files.read_npz(path, message)
    with files.refusing(message):
        for name, array in halves.items():
            if array.dtype != np.float16:
                raise ValueError(f"{name!r} is {array.dtype}, expected float16")
    return {name: array.astype(np.float32) for name, array in halves.items()}, about
