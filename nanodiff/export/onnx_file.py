"""The network as a file for ONNX Runtime, built node by node, without PyTorch."""

import json

import numpy as np

from nanodiff import check, files
from nanodiff.export.mirror import Mirror, installed, network_of
from nanodiff.unet import frequencies

OPSET, IR_VERSION = 18, 8  # old ones, which most runtimes read
FLOAT32, INT64, FLOAT64 = 1, 7, 11  # ONNX's numbers of types


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

    >>> from nanodiff.unet import UNet
    >>> to_onnx(UNet(channels=[8, 8], rng=np.random.default_rng(0)), "nowhere/a.onnx")
    Traceback (most recent call last):
        ...
    ValueError: path is 'nowhere/a.onnx', expected a place that can be written to (...)
    """
    (network, tables), half = network_of(found), check.flag("half", half)
    with files.alone(check.path("path", path)):
        onnx = installed("onnx")
        graph = _Graph(onnx, half)
        layer = _Layer(network, graph)
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


class _Layer(Mirror):
    """A layer that, when it is called, adds its nodes to a graph."""

    def __init__(self, layer, graph, path=""):
        self.graph, self.path = graph, path
        self.reflect(layer)

    def child(self, value, name):
        if isinstance(value, list):
            return [self.child(layer, f"{name}.{i}") for i, layer in enumerate(value)]
        return _Layer(value, self.graph, f"{self.path}{name}.")

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
