"""Networks that are trained already: those of the package, and your own checkpoints.

A file in the package is an `.npz` of float16 weights and one JSON text that says what
they are and which command made them, when, and how well they do.
"""

import inspect
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanodiff import check, checkpoint, files
from nanodiff.evaluate import Judge
from nanodiff.layers import Layer
from nanodiff.prediction import KINDS, split
from nanodiff.schedule import Schedule, named
from nanodiff.self_conditioning import WithLastGuess
from nanodiff.sprites import CLASSES
from nanodiff.toy import MLP
from nanodiff.unet import UNet

FOLDER = Path(__file__).parent
NAMES = ("mnist", "sprites")
SETTINGS = {  # of the settings that a network is built from
    "T": int, "schedule": str, "schedule_parameters": dict,
    "network": str, "settings": dict, "recipe": dict,
}  # fmt: skip
SHIPPED = {  # what their files do not say
    "mnist": {"shape": [1, 28, 28]},
    "sprites": {"shape": [3, 16, 16], "classes": list(CLASSES)},
}
NETWORKS = {"UNet": UNet, "MLP": MLP}  # what a checkpoint may name


class Eps(Layer):
    """A network that says eps_hat, whatever it was trained to say.

    eps_hat = p xt + q output, where p and q follow from the time alone, so samplers,
    losses and guidance need not know. Its parameters are those of the network. To train
    it on, use a Recipe that predicts "eps".
    """

    def __init__(self, network, schedule, predicts):
        self.network = check.thing("network", network, "a network", "forward", "walk")
        self.schedule = check.schedule(schedule)
        self.predicts = check.choice("predicts", predicts, KINDS)
        self.self_condition = getattr(network, "self_condition", False)

    def walk(self, prefix=""):
        """Yield (prefix, layer) of the network's layers."""
        return self.network.walk(prefix)

    def forward(self, xt, t, context=None, *x0_hat):
        """Return eps_hat, shape and dtype of xt; the inputs are the network's."""
        output = self.network.forward(xt, t, context, *x0_hat)
        self.cache = t, xt.shape, xt.dtype
        return split(self.schedule, xt, t, output, self.predicts)[1]

    def backward(self, d_eps):
        """Write all gradients from dL/deps_hat; return (dxt, dcontext or None)."""
        t, shape, dtype = self.cache
        d_eps = check.array("d_eps", d_eps, shape, dtype)
        one = np.ones((len(d_eps), *(1,) * (d_eps.ndim - 1)), dtype)
        p, q = (
            split(self.schedule, x, t, y, self.predicts)[1]
            for x, y in ((one, 0 * one), (0 * one, one))
        )
        dxt, dcontext = self.network.backward(q * d_eps)
        return dxt + p * d_eps, dcontext

    def __repr__(self):
        return f"Eps({self.network!r}, predicts={self.predicts!r})"


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

    model: Eps | WithLastGuess
    network: Eps
    schedule: Schedule
    about: dict

    def __post_init__(self):
        check.function("model", self.model, takes=2)
        check.thing("network", self.network, "a network", "forward", "named_params")
        check.schedule(self.schedule)
        for name in ("network", "settings"):
            if name not in check.instance("about", self.about, dict):
                raise ValueError(f"about has no {name!r}, expected that of a `Run`")

    @property
    def shape(self):
        """Of one picture or point, such as (C, H, W); None if it is not known."""
        shape = self.about.get("shape")
        return None if shape is None else tuple(shape)

    @property
    def classes(self):
        """Names of the classes; numbers where they have none."""
        features = self.about["settings"].get("context_features", 0)
        return self.about.get("classes") or [str(k) for k in range(features)]

    def __repr__(self):
        shape = "of a shape not known" if self.shape is None else self.shape
        return (
            f"Pretrained({self.about['network']}, {shape}, T={self.schedule.T}, "
            f"classes={self.classes})"
        )


def pretrained(name="mnist", network=None):
    """Return a trained network with its averaged weights, and its schedule.

    name: "mnist" or "sprites", which come with the package, or the path of a checkpoint
    of a `Run`. network: the class of a checkpoint's network, if it is not one of
    `NETWORKS`. Raises ValueError for any other name and for a damaged file,
    FileNotFoundError for a missing one.

    >>> found = pretrained("mnist")
    >>> found.model(np.zeros((1, 1, 28, 28), np.float32), 500).shape, found.schedule.T
    ((1, 1, 28, 28), 1000)
    """
    known = f"one of {list(NAMES)} or a path that ends in .npz"
    check.path("name", name, known)
    path = FOLDER / f"trained_{name}.npz" if name in NAMES else name
    if name in NAMES:
        params, about = read(path)
        about = SHIPPED[name] | about
    elif str(name).endswith(".npz"):
        found = checkpoint.load(name)
        params, about = found.average, found.config
    else:
        check.refuse("name", str(name), known)
    with files.refusing(f"path is {str(path)!r}, expected a network of a run"):
        return build(params, about, network)


def build(params, about, network=None):
    """Return the `Pretrained` of weights and the dict that a `Run` keeps about itself.

    network: the class, if it is none of `NETWORKS`. Raises ValueError if it is missing,
    or a setting, or if the weights are of another network.
    """
    check.arrays("params", params)
    T, schedule, parameters, network, options, recipe = settings(about, network)
    with files.refusing("about and params do not fit, expected those of one network"):
        fit(network, options, params)
        described(about.get("shape"), about.get("classes"))
        schedule = named(schedule, T, **parameters)
        inner = network(**options, rng=np.random.default_rng(0)).load(params)
        found = Eps(inner, schedule, recipe["predicts"])
    model = WithLastGuess(found, schedule) if found.self_condition else found
    about = about | {"network": network.__name__, "settings": options}
    return Pretrained(model, found, schedule, about)


def settings(about, network=None):
    """Return T, the schedule's name and parameters, network, its settings, recipe.

    about: what a `Run` keeps about itself; earlier ones had no parameters of the
    schedule, and only U-Nets. network: the class, if it is none of `NETWORKS`. Raises
    ValueError if something is missing in the dict, or if one is no setting, as in a
    file that is not a run's.
    """
    about = {"schedule_parameters": {}} | check.instance("about", about, dict)
    if network is not None:
        a_class(network)
    if "unet" in about:
        about = {"network": "UNet", "settings": about["unet"]} | about
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
    kind = about["network"]
    network = NETWORKS.get(kind) if network is None else network
    if network is None or network.__name__ != kind:
        raise ValueError(
            f"network is {network and network.__name__!r}, expected the class {kind!r}"
        )
    return [network if name == "network" else about[name] for name in SETTINGS]


def a_class(network):
    """Return the class of a network, or raise ValueError."""
    methods = "forward", "backward", "named_params", "load"
    if not isinstance(network, type) or not all(hasattr(network, m) for m in methods):
        check.refuse("network", network, "a class of networks")
    return network


def described(shape, classes):
    """Return the shape of a picture, a tuple, and the names of classes, a list.

    Either may be None: not known. Raises ValueError for anything else.

    >>> described([3, 8, 8], ["star", "circle"])
    ((3, 8, 8), ['star', 'circle'])
    """
    if shape is not None:
        shape = tuple(check.integers("shape", shape, 1).tolist())
    if classes is not None:
        classes = classes.tolist() if isinstance(classes, np.ndarray) else classes
        if not isinstance(classes, list | tuple) or not classes:
            check.refuse("classes", classes, "a list of names")
        classes = [str(name) for name in classes]
    return shape, classes


def fit(network, options, params):
    """Raise ValueError if weights are not those of a network with these settings.

    It is asked before the network is made: in a damaged file one could fill the memory.
    Of a class that is none of `NETWORKS` it cannot tell.
    """
    tell = {UNet: _of_a_unet, MLP: _of_an_mlp}.get(a_class(network))
    if tell is None:
        return
    check.arrays("params", params)
    known = inspect.signature(network).parameters.items()
    defaults = {name: p.default for name, p in known if p.default is not p.empty}
    options = files.plain(
        defaults | check.instance("options", options, dict), "options"
    )
    shapes = {name: np.shape(w) for name, w in params.items()}
    with files.refusing(f"params are not those of a {network.__name__}"):
        told = tell(shapes, options)
    for name, value in told.items():
        if options[name] != value:
            raise ValueError(
                f"{name} is {options[name]!r:.50}, expected that of the weights, "
                f"{value}"
            )


def _of_a_unet(shapes, options):
    """The settings of a UNet whose parameters have these shapes."""
    levels = itertools.takewhile(
        shapes.get, (f"downs.{i}.conv1.w" for i in itertools.count())
    )
    blocks = {name.split(".")[1] for name in shapes if name.startswith("middle.")}
    return {
        "image_channels": shapes["conv_in.w"][1],
        "context_features": shapes.get("embed.context.w", [0])[0],
        "channels": [shapes[name][0] for name in ("conv_in.w", *levels)],
        "features": shapes["embed.time1.w"][0],
        "middle": len(blocks), "self_condition": "conv_x0.w" in shapes,
        # no weight tells how many heads share it
        "attention": (options["attention"] or 1) if "attention.q.w" in shapes else 0,
    }  # fmt: skip


def _of_an_mlp(shapes, options):
    """The settings of an MLP; l1 sees waves, the time and the context as one row."""
    (n_in, width), features = shapes["l1.w"], shapes["l4.w"][1]
    waves = features * (1 + 2 * len(MLP.frequency))
    time_size = check.even("time_size", options["time_size"])
    return {
        "features": features, "width": width,
        "context_features": n_in - waves - time_size,
    }  # fmt: skip


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
    for name, array in check.arrays("params", params).items():
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
    message = (
        f"{str(check.path('path', path))!r} is damaged; reinstall, or make it again"
    )
    halves, about = files.read_npz(path, message)
    with files.refusing(message):
        for name, array in halves.items():
            if array.dtype != np.float16:
                raise ValueError(f"{name!r} is {array.dtype}, expected float16")
    return {name: array.astype(np.float32) for name, array in halves.items()}, about
