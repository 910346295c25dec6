"""Points in the plane to learn from in seconds, and a small network for vectors.

Each set is a mixture of round Gaussians, many of them along a curve, so that the exact
prediction of its noise is known: `exact.mixture(schedule, *toy.centres(name))`.

Shapes: points x0, xt (N, 2), or (N, features), of about unit size; t an int or (N,).
"""

import numpy as np

from nanodiff import check
from nanodiff.engine import turn
from nanodiff.layers import Layer, Linear, SiLU
from nanodiff.unet import time_features

SETS = ("ring", "spiral", "moons")


def centres(name):
    """Return the means (M, 2) and the deviation of the Gaussians that make up a set.

    name: "ring", eight on a circle; "spiral", two turns; "moons", two half circles that
    reach into each other. Anything else raises ValueError.

    >>> means, std = centres("ring")
    >>> means.shape, std
    ((8, 2), 0.08)
    """
    check.choice("name", name, SETS)
    if name == "ring":
        return _circle(2 * np.pi * np.arange(8) / 8), 0.08
    if name == "spiral":  # the root: as many for each length of the line
        radius = np.sqrt((np.arange(400) + 0.5) / 400)
        return radius[:, None] * _circle(4 * np.pi * radius), 0.03
    half = _circle(np.pi * (np.arange(100) + 0.5) / 100)  # moons
    upper = (half + [-0.5, -0.25]) / 1.5
    return np.concatenate([upper, -upper]), 0.05


def points(name, n, rng):
    """Return n points of a set, (n, 2) float32; names as in `centres`.

    Raises ValueError for another name, or an n below 1.

    >>> points("moons", 5, np.random.default_rng(0)).shape
    (5, 2)
    """
    (means, std), n = centres(name), check.integer("n", n, 1)
    check.generator("rng", rng, "integers", "standard_normal")
    means = means[rng.integers(len(means), size=n)]
    return (means + std * rng.standard_normal((n, 2))).astype(np.float32)


def _circle(angle):
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


class MLP(Layer):
    """eps_hat = l4(act(l3(act(l2(act(l1([waves of xt, features of t, context]))))))).

    The waves are xt itself, and sin and cos of it at rising frequencies, so that fine
    detail needs no steep weights (Tancik et al. 2020, arXiv 2006.10739). It has the
    interface of the UNet, so a `Run` and the samplers take it as well; like the UNet it
    starts by predicting zero.

    features: of a point, 2 in the plane. context_features: width of the context, 0 for
    none; None in its place is a context of zeros. Raises ValueError if one of them is
    no integer above 0 (context_features may be 0), if time_size is odd, or if xt, t,
    the context or d_eps does not fit.

    >>> mlp = MLP(rng=np.random.default_rng(0))
    >>> mlp(np.ones((3, 2), np.float32), 5).tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """

    frequency = np.pi / 2 * 2.0 ** np.arange(4)

    def __init__(
        self, features=2, context_features=0, width=128, time_size=32, *, rng
    ):  # fmt: skip
        features = check.width("features", features)
        context_features = check.width("context_features", context_features, 0)
        width = check.width("width", width)
        time_size = check.even("time_size", time_size)
        self.config = {
            "features": features, "context_features": context_features,
            "width": width, "time_size": time_size,
        }  # fmt: skip
        n_in = features * (1 + 2 * len(self.frequency)) + time_size + context_features
        self.l1 = Linear(n_in, width, rng=rng)
        self.act1 = SiLU()
        self.l2 = Linear(width, width, rng=rng)
        self.act2 = SiLU()
        self.l3 = Linear(width, width, rng=rng)
        self.act3 = SiLU()
        self.l4 = Linear(width, features, rng=rng)
        self.l4.w[...] = 0

    def __repr__(self):
        return f"MLP({', '.join(f'{k}={v}' for k, v in self.config.items())})"

    @turn
    def forward(self, xt, t, context=None):  # (N, features), () or (N,) -> as xt
        size, C = self.config["time_size"], self.config["context_features"]
        xt = check.array("xt", xt, ("N", self.config["features"]), self.l1.w.dtype)
        t = check.times("t", t, len(xt))
        given = np.zeros((len(xt), C), xt.dtype)
        if context is not None:
            if not C:
                check.refuse("context", context, "None: context_features is 0")
            given[...] = check.context("context", context, len(xt), C)
        angle = (xt[:, :, None] * self.frequency.astype(xt.dtype)).reshape(len(xt), -1)
        features = time_features(t, size, xt.dtype)
        sin, cos = np.sin(angle), np.cos(angle)
        self.cache = sin, cos, context is not None
        h = self.l1(np.concatenate([xt, sin, cos, features, given], axis=1))
        h = self.act2(self.l2(self.act1(h)))
        h = self.act3(self.l3(h))
        return self.l4(h)

    @turn
    def backward(self, d_eps):  # (N, features) -> dxt, dcontext or None
        sin, cos, has_context = self.cache
        like = len(sin), self.config["features"]
        d_eps = check.array("d_eps", d_eps, like, sin.dtype)
        dh = self.act3.backward(self.l4.backward(d_eps))
        dh = self.act2.backward(self.l3.backward(dh))
        dh = self.l1.backward(self.act1.backward(self.l2.backward(dh)))
        n, m = d_eps.shape[1], sin.shape[1]
        dx, dsin, dcos, _, dcontext = np.split(
            dh, np.cumsum([n, m, m, self.config["time_size"]]), axis=1
        )
        dangle = (dsin * cos - dcos * sin).reshape(len(sin), n, -1)
        dx = dx + dangle @ self.frequency.astype(dh.dtype)
        return dx, dcontext if has_context else None
