"""Points in the plane to learn from in seconds, and a small network for them.

Each set is a mixture of round Gaussians, many of them along a curve, so that the exact
prediction of its noise is known: `exact.mixture(schedule, *toy.centres(name))`.

Shapes: points x0, xt (N, 2), of about unit size; t an int or (N,).
"""

import numpy as np

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
    if name == "ring":
        return _circle(2 * np.pi * np.arange(8) / 8), 0.08
    if name == "spiral":  # the root: as many for each length of the line
        radius = np.sqrt((np.arange(400) + 0.5) / 400)
        return radius[:, None] * _circle(4 * np.pi * radius), 0.03
    if name == "moons":
        half = _circle(np.pi * (np.arange(100) + 0.5) / 100)
        upper = (half + [-0.5, -0.25]) / 1.5
        return np.concatenate([upper, -upper]), 0.05
    raise ValueError(f"name is {name!r}, expected one of {SETS}")


def points(name, n, rng):
    """Return n points of a set, (n, 2) float32; names as in `centres`.

    >>> points("moons", 5, np.random.default_rng(0)).shape
    (5, 2)
    """
    means, std = centres(name)
    means = means[rng.integers(len(means), size=n)]
    return (means + std * rng.standard_normal((n, 2))).astype(np.float32)


def _circle(angle):
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


class MLP(Layer):
    """eps_hat = l4(act(l3(act(l2(act(l1([waves of xt, features of t]))))))).

    The waves are xt itself, and sin and cos of it at rising frequencies, so that fine
    detail needs no steep weights (Tancik et al. 2020, arXiv 2006.10739). It has the
    interface of the UNet, so `train` and the samplers take it as well; like the UNet it
    starts by predicting zero. Raises ValueError if it is given a context.

    >>> mlp = MLP(rng=np.random.default_rng(0))
    >>> mlp(np.ones((3, 2), np.float32), 5).tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """

    frequency = np.pi / 2 * 2.0 ** np.arange(4)

    def __init__(self, width=128, time_size=32, *, rng):
        self.time_size = time_size
        self.l1 = Linear(2 + 4 * len(self.frequency) + time_size, width, rng=rng)
        self.act1 = SiLU()
        self.l2 = Linear(width, width, rng=rng)
        self.act2 = SiLU()
        self.l3 = Linear(width, width, rng=rng)
        self.act3 = SiLU()
        self.l4 = Linear(width, 2, rng=rng)
        self.l4.w[...] = 0

    @turn
    def forward(self, xt, t, context=None):  # (N, 2), () or (N,) -> (N, 2)
        if context is not None:
            raise ValueError("context is given, expected None: an MLP takes none")
        angle = (xt[:, :, None] * self.frequency.astype(xt.dtype)).reshape(len(xt), -1)
        features = time_features(np.broadcast_to(t, len(xt)), self.time_size, xt.dtype)
        sin, cos = np.sin(angle), np.cos(angle)
        self.cache = sin, cos
        h = self.l1(np.concatenate([xt, sin, cos, features], axis=1))
        h = self.act2(self.l2(self.act1(h)))
        h = self.act3(self.l3(h))
        return self.l4(h)

    @turn
    def backward(self, d_eps):  # (N, 2) -> (N, 2)
        sin, cos = self.cache
        dh = self.act3.backward(self.l4.backward(d_eps))
        dh = self.act2.backward(self.l3.backward(dh))
        dh = self.l1.backward(self.act1.backward(self.l2.backward(dh)))
        n = sin.shape[1]
        dsin, dcos = dh[:, 2 : 2 + n], dh[:, 2 + n : 2 + 2 * n]
        dangle = (dsin * cos - dcos * sin).reshape(len(sin), 2, -1)
        return dh[:, :2] + dangle @ self.frequency.astype(dh.dtype)
