"""The network in two engines of others: PyTorch for a GPU, ONNX for anywhere else.

    found = pretrained("mnist")
    twin = to_torch(found)                    a torch.nn.Module: train it, or draw by it
    found.network.load(from_torch(twin))      and back: NumPy has its weights
    to_onnx(found, "digits.onnx")             a file for ONNX Runtime

`_Mirror` is the U-Net once more, as in `unet.py` but forward only. It leaves the layers
to an engine, so `_twin` and `_OnnxLayer` each have one short method for each kind of
layer. Parameters keep their paths, shapes and layout in both.

Shapes: xt, x0_hat, output (N, C, H, W); t an int or (N,); context (N, features).
"""

import importlib
import json

import numpy as np

from nanodiff import check, files
from nanodiff.attention import Attention
from nanodiff.layers import Conv2d, Downsample, GroupNorm, Layer, Linear, SiLU, Upsample
from nanodiff.prediction import split
from nanodiff.unet import Down, Embedding, ResBlock, UNet, Up, frequencies

LAYERS = (
    UNet, Embedding, ResBlock, Down, Up, Attention,
    Linear, Conv2d, Downsample, Upsample, GroupNorm, SiLU,
)  # fmt: skip
SETTINGS = "config", "stride", "up", "groups", "tiny", "silu", "heads"  # of layers
OPSET, IR_VERSION = 18, 8  # old ones, which most runtimes read
FLOAT32, INT64, FLOAT64 = 1, 7, 11  # ONNX's numbers of types


class _Mirror:
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


# ------------------------------------------------------------------------- PyTorch


def to_torch(found):
    """Return a network as a `torch.nn.Module`, twin(xt, t, context=None, x0_hat=None).

    found: a `Pretrained`, whose twin says eps_hat as `found.network` does; or a `UNet`,
    such as the `model` of a `Run`, whose twin says what the U-Net says. Output and
    gradients are the same to rounding, on any device. Its `state_dict()` has the names
    and shapes of `named_params()`, with the transposed weights of `Linear` that
    nanodiff has, so it can be loaded with weights of `checkpoint.load`. Raises
    ValueError for a layer that is not in `LAYERS`, and ImportError without torch.

    >>> import pytest
    >>> torch = pytest.importorskip("torch")
    >>> twin = to_torch(UNet(channels=[8, 8], rng=np.random.default_rng(0)))
    >>> twin(torch.zeros(2, 1, 8, 8), 5).shape
    torch.Size([2, 1, 8, 8])
    """
    network, tables = _network(found)
    torch = _installed("torch")
    twin = _twin(torch)(network)
    if tables is not None:
        twin.kind = "Eps"
        for name, table in tables.items():  # no part of the state_dict
            table = torch.tensor(table, dtype=twin.conv_in.w.dtype)
            twin.register_buffer(name, table, persistent=False)
    return twin


def _twin(torch):
    """The class of layers in PyTorch; made here, as torch may not be installed."""
    F = torch.nn.functional

    class Twin(_Mirror, torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.reflect(layer)

        def child(self, value, name):
            if isinstance(value, list):
                return torch.nn.ModuleList(Twin(layer) for layer in value)
            return Twin(value)

        def parameter(self, array, name):
            return torch.nn.Parameter(torch.tensor(array))

        def forward(self, *inputs, **named):
            return self.run(*inputs, **named)

        def Linear(self, x):
            return F.linear(x, self.w.T, getattr(self, "b", None))

        def Conv2d(self, x):
            x = F.interpolate(x, scale_factor=2.0) if self.up else x
            b = getattr(self, "b", None)
            return F.conv2d(x, self.w, b, self.stride, self.w.shape[-1] // 2)

        def Attention(self, x):
            h, layers = self.norm(x), (self.q, self.k, self.v)
            q, k, v = (layer(h).unflatten(1, (self.heads, -1)) for layer in layers)
            q, k, v = (a.flatten(3).mT for a in (q, k, v))  # (N, heads, pixels, d)
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out(y.mT.reshape(x.shape)) + x

        def GroupNorm(self, x, modulation=None):
            if modulation is None:
                y = F.group_norm(x, self.groups, self.gamma, self.beta, self.tiny)
            else:
                scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
                xhat = F.group_norm(x, self.groups, eps=self.tiny)
                y = (self.gamma[:, None, None] + scale) * xhat
                y = y + (self.beta[:, None, None] + shift)
            return F.silu(y) if self.silu else y

        def SiLU(self, x):
            return F.silu(x)

        def time_features(self, t, size):
            t = torch.as_tensor(t).reshape(-1, 1)
            angle = t * torch.as_tensor(frequencies(size), device=t.device)
            return torch.cat([angle.cos(), angle.sin()], 1).to(self.conv_in.w)

    return Twin


def from_torch(twin):
    """Return the weights of a twin as arrays by name, for `load` of its network.

    twin: a module of `to_torch`, on any device, or another with the same names. Raises
    ValueError for anything else.

    >>> import pytest
    >>> torch = pytest.importorskip("torch")
    >>> unet = UNet(channels=[8, 8], rng=np.random.default_rng(0))
    >>> twin = to_torch(unet)  # ... and train it
    >>> unet.load(from_torch(twin))
    UNet(image_channels=1, context_features=0, channels=[8, 8], ...)
    """
    what = "a module of to_torch"
    named = check.thing("twin", twin, what, "named_parameters").named_parameters()
    return {name: w.detach().cpu().numpy().copy() for name, w in named}


# ---------------------------------------------------------------------------- ONNX


def to_onnx(found, path, half=False):
    """Write a network to an ONNX file, for ONNX Runtime; torch is not needed.

    found: as for `to_torch`. Inputs xt (N, C, H, W), t (N,) int64, and where the
    network has them context (N, features) and x0_hat (N, C, H, W), of any N, H and W
    that it takes; zeros are no context, and for each image no guess. Output "eps_hat",
    or of a `UNet` "output". Of a `Pretrained` the file also holds what a sampler needs:
    `get_modelmeta().custom_metadata_map` of a session has alpha_bar, shape and classes
    as JSON. half: keep the weights as float16; the arithmetic is in float32.

    Raises ValueError, before any work, for a layer that is not in `LAYERS` or a path
    that cannot be written, and ImportError without onnx.

    >>> to_onnx(UNet(channels=[8, 8], rng=np.random.default_rng(0)), "nowhere/a.onnx")
    Traceback (most recent call last):
        ...
    ValueError: path is 'nowhere/a.onnx', expected a place that can be written to (...)
    """
    (network, tables), half = _network(found), check.flag("half", half)
    with files.alone(check.path("path", path)):
        onnx = _installed("onnx")
        graph = _Graph(onnx, half)
        layer = _OnnxLayer(network, graph)
        if tables is not None:
            layer.kind = "Eps"
            for name, table in tables.items():
                setattr(layer, name, graph.constant(table.astype(np.float32)))
        model = graph.model(layer, "output" if found is network else "eps_hat")
        if found is not network:
            about = {
                "alpha_bar": found.schedule.alpha_bar.tolist(),
                "shape": found.shape, "classes": found.classes,
            }  # fmt: skip
            texts = {name: json.dumps(value) for name, value in about.items()}
            onnx.helper.set_model_props(model, texts)
        onnx.checker.check_model(model, full_check=True)
        files.write(path, model.SerializeToString())


class _Value:
    """The result of a node in an ONNX graph, known by its name; + * [] make nodes.

    shape: of a weight.
    """

    def __init__(self, graph, name, shape=None):
        self.graph, self.name, self.shape = graph, name, shape

    def __add__(self, other):
        return self.graph.node("Add", self, other)

    def __mul__(self, other):
        return self.graph.node("Mul", self, other)

    def __getitem__(self, rows):
        return self.graph.node("Gather", self, rows)


class _Graph:
    """The nodes and the constants of an ONNX file, in the order in which they come."""

    def __init__(self, onnx, half):
        self.onnx, self.half, self.nodes, self.constants = onnx, half, [], []

    def node(self, kind, *inputs, outputs=1, **attributes):
        """Add a node; return its output, or a list of them if there are several."""
        names = [f"{kind}.{len(self.nodes)}.{i}" for i in range(outputs)]
        inputs = [value.name for value in inputs]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, names, **attributes))
        made = [_Value(self, name) for name in names]
        return made if outputs > 1 else made[0]

    def constant(self, array, name=None):
        """Add an array as it is."""
        name = name or f"constant.{len(self.constants)}"
        tensor = self.onnx.numpy_helper.from_array(np.asarray(array), name)
        self.constants.append(tensor)
        return _Value(self, name)

    def weight(self, array, name):
        """Add an array of weights: float32, even if it is kept in half the bytes."""
        kept = array.astype(np.float16 if self.half else np.float32)
        made = self.constant(kept, name)
        made = self.node("Cast", made, to=FLOAT32) if self.half else made
        return _Value(self, made.name, array.shape)

    def model(self, unet, output):
        """The whole file: what a U-Net computes of its inputs, under this name."""
        helper, config = self.onnx.helper, unet.config
        image = FLOAT32, ["N", config["image_channels"], "H", "W"]
        inputs = {"xt": image, "t": (INT64, ["N"])}
        if config["context_features"]:
            inputs["context"] = FLOAT32, ["N", config["context_features"]]
        if config["self_condition"]:
            inputs["x0_hat"] = image
        made = unet(**{name: _Value(self, name) for name in inputs})
        self.nodes.append(helper.make_node("Identity", [made.name], [output]))
        takes, gives = (
            [helper.make_tensor_value_info(name, *of) for name, of in values.items()]
            for values in (inputs, {output: image})
        )
        return helper.make_model(
            helper.make_graph(self.nodes, "nanodiff", takes, gives, self.constants),
            opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        )  # fmt: skip


class _OnnxLayer(_Mirror):
    """A layer that, when it is called, adds its nodes to a graph."""

    def __init__(self, layer, graph, path=""):
        self.graph, self.path = graph, path
        self.reflect(layer)

    def child(self, value, name):
        if isinstance(value, list):
            return [self.child(layer, f"{name}.{i}") for i, layer in enumerate(value)]
        return _OnnxLayer(value, self.graph, f"{self.path}{name}.")

    def parameter(self, array, name):
        return self.graph.weight(array, self.path + name)

    def __call__(self, *inputs, **named):
        return self.run(*inputs, **named)

    def guess(self, x0_hat):  # zeros have no largest pixel above 0: times 0
        node, axes = self.graph.node, self.graph.constant([1, 2, 3])
        seen = node("Sign", node("ReduceMax", node("Abs", x0_hat), axes))
        return seen * super().guess(x0_hat)

    def Linear(self, x):
        y = self.graph.node("MatMul", x, self.w)
        return y + self.b if hasattr(self, "b") else y

    def Conv2d(self, x):
        node = self.graph.node
        if self.up:
            nothing = _Value(self.graph, "")  # in place of a region of interest
            twice = self.graph.constant(np.float32([1, 1, 2, 2]))
            how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest"}
            x = node("Resize", x, nothing, twice, nearest_mode="floor", **how)
        stride, margin = 2 * [self.stride], 4 * [self.w.shape[-1] // 2]
        weights = [self.w, self.b] if hasattr(self, "b") else [self.w]
        return node("Conv", x, *weights, strides=stride, pads=margin)

    def Attention(self, x):
        node, constant = self.graph.node, self.graph.constant
        h, d = self.norm(x), self.q.w.shape[0] // self.heads
        parts, layers = constant([0, self.heads, d, -1]), (self.q, self.k, self.v)
        q, k, v = (node("Reshape", layer(h), parts) for layer in layers)
        scores = node("MatMul", node("Transpose", q, perm=[0, 1, 3, 2]), k)
        A = node("Softmax", scores * constant(np.float32(d**-0.5)), axis=-1)
        y = node("MatMul", v, node("Transpose", A, perm=[0, 1, 3, 2]))
        return self.out(node("Reshape", y, node("Shape", x))) + x

    def GroupNorm(self, x, modulation=None):
        node, constant = self.graph.node, self.graph.constant
        one, zero = np.ones(self.groups, np.float32), np.zeros(self.groups, np.float32)
        grouped = node("Reshape", x, constant([0, self.groups, -1]))
        xhat = node("InstanceNormalization", grouped, constant(one), constant(zero),
                    epsilon=self.tiny)  # fmt: skip
        xhat = node("Reshape", xhat, node("Shape", x))
        scale, shift = self.gamma, self.beta
        if modulation is not None:
            more = node("Split", modulation, outputs=2, axis=1, num_outputs=2)
            scale, shift = more[0] + scale, more[1] + shift
        last = constant([-2, -1])  # (..., C) -> (..., C, 1, 1)
        y = node("Unsqueeze", scale, last) * xhat + node("Unsqueeze", shift, last)
        return self.SiLU(y) if self.silu else y

    def SiLU(self, x):
        return x * self.graph.node("Sigmoid", x)

    def time_features(self, t, size):
        node, constant = self.graph.node, self.graph.constant
        t = node("Unsqueeze", node("Cast", t, to=FLOAT64), constant([1]))
        angle = t * constant(frequencies(size))
        # in float64, as t is up to thousands; few runtimes have a cosine of float64
        angle = node("Mod", angle, constant(2 * np.pi), fmod=1)
        angle = node("Cast", angle, to=FLOAT32)
        return node("Concat", node("Cos", angle), node("Sin", angle), axis=1)


# ---------------------------------------------------------------------- what both need


def _network(found):
    """The U-Net, and the tables of `_Mirror.Eps`, or None if it says eps_hat itself.

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


def _installed(extra):
    """The module of an extra."""
    try:
        return importlib.import_module(extra)
    except ImportError as error:
        command = f"pip install 'nanodiff[{extra}]'"
        raise ImportError(f"{extra} is not installed: {command}") from error
