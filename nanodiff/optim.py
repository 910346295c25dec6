"""From gradients to weights: Adam, Muon, learning rate, clipping, moving average.

Shapes: params and grads are dicts of arrays by name, as `Layer.named_params()` gives
them. Arrays are changed in place, so a layer sees its new weights at once.
"""

import numpy as np

from nanodiff import check
from nanodiff.engine import turn


class Adam:
    """Adam: a step of about lr in every coordinate, against a smoothed gradient.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
    w = w - lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + tiny)   at step k = 1, 2, ...

    Kingma, Ba 2014, arXiv 1412.6980, Algorithm 1. The first step is lr sign(g). Raises
    ValueError for a b1 or b2 outside 0..1 (1 itself is out), and `step` for gradients
    that do not fit, or if a layer was cast and so has other arrays than these.

    >>> w = {"w": np.array([1.0, 1.0])}
    >>> Adam(w).step({"w": np.array([3.0, -0.2])}, lr=0.1)
    >>> w["w"].round(6).tolist()
    [0.9, 1.1]
    """

    def __init__(self, params, b1=0.9, b2=0.99, tiny=1e-8):
        self.params, self.tiny = (
            check.arrays("params", params),
            check.number("tiny", tiny, 0),
        )
        self.b1, self.b2 = (
            check.number("b1", b1, 0, below=1),
            check.number("b2", b2, 0, below=1),
        )
        self.k = 0
        self.m = {name: np.zeros_like(w) for name, w in params.items()}
        self.v = {name: np.zeros_like(w) for name, w in params.items()}

    def step(self, grads, lr):
        """Move every parameter once, against its gradient of the same name."""
        lr = check.number("lr", lr, 0)
        _check_gradients(self.params, grads)
        self.k += 1
        rate = lr / (1 - self.b1**self.k)
        unbias = 1 / np.sqrt(1 - self.b2**self.k).item()
        for name, w in self.params.items():
            g, m, v = grads[name], self.m[name], self.v[name]
            m += (1 - self.b1) * (g - m)
            v += (1 - self.b2) * (g * g - v)
            w -= rate * m / (np.sqrt(v) * unbias + self.tiny)


class Muon(Adam):
    """Muon for the kernels of hidden convolutions, Adam for all other parameters.

    The gradient of a kernel, as a matrix with a row for each output channel, has a few
    large singular values: plain descent moves mostly along their singular vectors. Muon
    moves equally far along all singular vectors.

    m = b m + (1 - b) g,   M = b m + (1 - b) g with the m just computed
    w = w - lr 0.2 sqrt(max(rows, columns)) orthogonal(M)

    The factor makes the root mean square of a step 0.2 lr (Liu et al. 2025, arXiv
    2502.16982). Adam's is about the same, so both take the same lr: where gradients are
    pure noise it is sqrt((1 - b1) / (1 + b1)) lr = 0.23 lr. Muon: Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon, where five matrix products (Newton,
    Schulz) approximate `orthogonal`. `is_hidden` says which kernels are hidden.

    >>> w = {"w": np.zeros((8, 8, 1, 1))}
    >>> Muon(w).step({"w": np.diag(np.arange(1.0, 9)).reshape(8, 8, 1, 1)}, lr=0.1)
    >>> np.diag(w["w"][:, :, 0, 0]).round(3)[[0, -1]].tolist()  # 0.1 * 0.2 * sqrt(8)
    [-0.057, -0.057]
    """

    def __init__(self, params, momentum=0.95, **adam):
        check.arrays("params", params)
        self.hidden = {name: w for name, w in params.items() if is_hidden(w)}
        others = {name: w for name, w in params.items() if name not in self.hidden}
        super().__init__(others, **adam)
        self.momentum = check.number("momentum", momentum, 0, below=1)
        self.m |= {name: np.zeros_like(w) for name, w in self.hidden.items()}

    @turn
    def step(self, grads, lr):
        """Move every parameter once, against its gradient of the same name."""
        _check_gradients(self.hidden, grads)
        super().step(grads, lr)
        for name, w in self.hidden.items():
            g, m = grads[name], self.m[name]
            m += (1 - self.momentum) * (g - m)
            ahead = (m + (1 - self.momentum) * (g - m)).reshape(len(w), -1)
            length = 0.2 * max(ahead.shape) ** 0.5
            w -= (lr * length) * orthogonal(ahead).reshape(w.shape)


def is_hidden(w):
    """Return whether w is a convolution's, with more than 4 channels in and out.

    The first convolution of a network of images has at most 4 in, the last at most 4
    out: grey, or colours and opacity.
    """
    w = check.array("w", w)
    return w.ndim == 4 and min(w.shape[:2]) > 4


def orthogonal(G):
    """Return the matrix G with all its singular values made (nearly) 1.

    (G G^T + d I)^(-1/2) G, by the eigenvectors of G G^T: a singular value s becomes
    s / sqrt(s^2 + d), where d is 1e-5 times the square of the largest. Those below
    0.003 of the largest stay small, as they are noise. A G of zeros stays zeros. Raises
    ValueError for a G that is no matrix, or not finite.

    >>> orthogonal(np.array([[3.0, 0.0, 0.0], [0.0, 0.0, -4.0]])).round(2) + 0.0
    array([[ 1.,  0.,  0.],
           [ 0.,  0., -1.]])
    """
    G = check.array("G", G, ("rows", "columns"))
    if len(G) > G.shape[1]:
        return orthogonal(G.T).T
    largest = np.abs(G).max()
    if not np.isfinite(largest):
        check.finite("G", G)
    G = np.ldexp(G, -np.frexp(largest)[1])  # times 2^k: no square leaves the range
    values, vectors = np.linalg.eigh((G @ G.T).astype(np.float64))
    # tiny: else 0 / 0 for a G of zeros, as behind a last layer of zeros at the start
    damped = np.maximum(values, 0) + 1e-5 * values[-1] + np.finfo(np.float32).tiny
    return ((vectors / np.sqrt(damped)) @ vectors.T).astype(G.dtype) @ G


OPTIMIZERS = {"adam": Adam, "muon": Muon}


class EMA:
    """An exponential moving average of the parameters: less noisy than the last ones.

    average = d average + (1 - d) w, d = min(decay, (1 + k) / (10 + k)) at update k =
    0, 1, ... At first the horizon 1 / (1 - d) is about a ninth of the updates so far,
    so a short run forgets its start (as TensorFlow's ExponentialMovingAverage does with
    num_updates). Raises ValueError for a decay outside 0..1, and `update` if a layer
    was cast and so has other arrays than these.

    >>> w = {"w": np.zeros(1)}
    >>> ema = EMA(w)
    >>> w["w"][:] = 1.0
    >>> ema.update()
    >>> ema.average["w"].round(6).tolist()  # 0.1 * 0 + 0.9 * 1
    [0.9]
    """

    def __init__(self, params, decay=0.999):
        self.params, self.k = check.arrays("params", params), 0
        self.decay = check.number("decay", decay, 0, 1)
        self.average = {name: w.copy() for name, w in params.items()}

    def update(self):
        """Add the parameters' present values to the average."""
        for name, w in self.params.items():
            _check_owned(name, w)
        decay = min(self.decay, (1 + self.k) / (10 + self.k))
        self.k += 1
        for name, w in self.params.items():
            self.average[name] += (1 - decay) * (w - self.average[name])


def learning_rate(step, steps, peak, warmup):
    """Return the learning rate: it rises linearly for `warmup` steps, then falls to 0.

    It falls as a cosine (Loshchilov, Hutter 2016, arXiv 1608.03983, Eq. 5). step runs
    0..steps - 1. Raises ValueError for another step, a peak below 0 or a warmup of all
    the steps.

    >>> [learning_rate(step, 100, 1.0, 10) for step in (0, 9, 55)]
    [0.1, 1.0, 0.5]
    """
    steps, peak = check.integer("steps", steps, 1), check.number("peak", peak, 0)
    step = check.integer("step", step, 0, steps - 1, "steps - 1")
    warmup = check.integer("warmup", warmup, 0, steps - 1, "steps - 1")
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / (steps - warmup))))


@turn
def clip_gradients(grads, max_norm):
    """Scale all gradients in place so that their joint norm is at most max_norm.

    Returns the norm before. Pascanu, Mikolov, Bengio 2012, arXiv 1211.5063, Algorithm
    1. Raises ValueError for a max_norm that is not above 0.

    >>> g = {"w": np.array([3.0, 4.0])}
    >>> clip_gradients(g, 1.0)
    5.0
    >>> g["w"].round(6).tolist()
    [0.6, 0.8]
    """
    max_norm = check.number("max_norm", max_norm, above=0)
    check.arrays("grads", grads)
    norm = float(np.sqrt(sum(np.vdot(g, g).item() for g in grads.values())))
    if max_norm < norm < np.inf:
        for g in grads.values():
            g *= max_norm / norm
    return norm


def _check_gradients(params, grads):
    """Raise ValueError unless each parameter is its layer's and has a gradient."""
    check.arrays("grads", grads)
    for name, w in params.items():
        _check_owned(name, w)
        if name not in grads:
            raise ValueError(f"grads has no {name!r}, expected one for each parameter")
        check.array(f"grads[{name!r}]", grads[name], w.shape, w.dtype)


def _check_owned(name, w):
    """Raise ValueError if the layer of a parameter was cast and has another array."""
    if not w.flags.writeable:
        raise ValueError(
            f"params[{name!r}] is no longer its layer's, which was cast: expected an "
            f"optimiser and an average that are made after `cast`"
        )
