"""The U-Net once more, as in `unet.py` but forward only, with layers of an engine.

`Mirror` says which layer is asked after which. What a layer of each kind computes is
left to PyTorch (`pytorch.py`) or to ONNX (`onnx_file.py`).
"""

import importlib

import numpy as np

from nanodiff import check
from nanodiff.attention import Attention
from nanodiff.layers import Conv2d, Downsample, GroupNorm, Layer, Linear, SiLU, Upsample
from nanodiff.prediction import split
from nanodiff.unet import Down, Embedding, ResBlock, UNet, Up

LAYERS = (
    UNet, Embedding, ResBlock, Down, Up, Attention,
    Linear, Conv2d, Downsample, Upsample, GroupNorm, SiLU,
)  # fmt: skip
SETTINGS = "config", "stride", "up", "groups", "tiny", "silu", "heads"  # of layers


class Mirror:
    """A layer in another engine, with a method for each class of layer, of its name.

    Children and parameters have the names that they have in the layer. An engine says
    how they are made, child(layer or list of layers, name) and parameter(array, name),
    and adds Linear, Conv2d, GroupNorm, SiLU and time_features.
    """

    def reflect(self, layer):
        """Take over a layer's settings, parameters and children."""
        self.kind = type(layer).__name__
        if type(layer) not in LAYERS:
            names = [known.__name__ for known in LAYERS]
            raise ValueError(f"found has a {self.kind}, expected layers of {names}")
        for name in SETTINGS:
            if hasattr(layer, name):
                setattr(self, name, getattr(layer, name))
        for name in layer.param_names:
            setattr(self, name, self.parameter(getattr(layer, name), name))
        for name, value in vars(layer).items():
            if isinstance(value, Layer | list) and name != "cache":
                setattr(self, name, self.child(value, name))

    def run(self, *inputs, **named):
        """What the layer computes."""
        return getattr(self, self.kind)(*inputs, **named)

    def Eps(self, xt, t, context=None, x0_hat=None):
        output = self.UNet(xt, t, context, x0_hat)
        return self.of_xt[t] * xt + self.of_output[t] * output

    def UNet(self, xt, t, context=None, x0_hat=None):
        if context is not None and not self.config["context_features"]:
            raise ValueError("context is given, expected None: context_features is 0")
        if x0_hat is not None and not self.config["self_condition"]:
            raise ValueError("x0_hat is given, expected None without self_condition")
        features = self.time_features(t, self.config["features"])
        emb = self.embed(features, context)
        h, skips = self.conv_in(xt), []
        if x0_hat is not None:
            h = h + self.guess(x0_hat)
        for block in self.downs:
            skips.append(h)
            h = block(h, emb)
        if hasattr(self, "attention"):
            h = self.attention(h)
        for block in self.middle:
            h = block(h, emb)
        for block in self.ups:
            h = block(h, skips.pop(), emb)
        return self.conv_out(self.norm_out(h))

    def guess(self, x0_hat):
        return self.conv_x0(x0_hat)

    def Embedding(self, features, context):
        emb = self.time2(self.act1(self.time1(features)))
        return self.act2(emb if context is None else emb + self.context(context))

    def ResBlock(self, x, emb):
        h = self.conv1(self.norm1(x))
        skip = self.skip(x) if hasattr(self, "skip") else x
        return self.conv2(self.norm2(h, self.modulate(emb))) + skip

    def Down(self, x, emb):
        return self.ResBlock(self.pool(x), emb)

    def Up(self, x, skip, emb):
        return self.ResBlock(self.grow(x) + skip, emb)

    def Downsample(self, x):
        return self.Conv2d(x)

    def Upsample(self, x):
        return self.Conv2d(x)


def network_of(found):
    """The U-Net, and the tables of `Mirror.Eps`, or None if it says eps_hat itself.

    eps_hat = of_xt[t] xt + of_output[t] output, each of shape (T + 1, 1, 1, 1). No
    network is asked at t = 0; if one is, the answer is NaN.
    """
    if isinstance(found, UNet):
        return found, None
    network = getattr(getattr(found, "network", None), "network", None)
    if not isinstance(network, UNet):
        check.refuse("found", found, "a UNet or a Pretrained that has one")
    schedule, predicts = found.schedule, found.network.predicts
    if predicts == "eps":
        return network, None
    t, one = np.arange(1, schedule.T + 1), np.ones((schedule.T, 1, 1, 1))
    tables = {
        "of_xt": split(schedule, one, t, 0 * one, predicts)[1],
        "of_output": split(schedule, 0 * one, t, one, predicts)[1],
    }
    none = np.full_like(one[:1], np.nan)
    return network, {name: np.concatenate([none, of]) for name, of in tables.items()}


def installed(extra):
    """The module of an extra."""
    try:
        return importlib.import_module(extra)
    except ImportError as error:
        command = f"pip install 'nanodiff[{extra}]'"
        raise ImportError(f"{extra} is not installed: {command}") from error
