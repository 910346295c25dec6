"""Self-attention: each pixel takes from all pixels, most from those that match it.

    q, k, v = 1x1 convolutions of norm(x)    of each pixel: its query, key and value
    A[i, j] = softmax over j of q[i] . k[j] / sqrt(d)    how much pixel i takes from j
    y[i]    = x[i] + out(sum_j A[i, j] v[j])             out: a 1x1 convolution, too

A convolution sees its neighbours; this sees the whole image, whatever the distance.
With several heads the channels are cut into as many parts of d channels, and each part
has a softmax of its own. Vaswani et al. 2017, arXiv 1706.03762, Eq. 1; DDPM's U-Net has
it at 16x16 pixels (Ho, Jain, Abbeel 2020, arXiv 2006.11239, Appendix B).

No position goes in, so a permutation of the pixels permutes the result. An image does
not depend on its batch: the products are taken image by image.

Shapes: x, y (N, C, H, W), of P = H W pixels; q, k, v (N, heads, d, P); A (N, heads, P,
P), so time and memory grow as P^2: it belongs where the pixels are few.
"""

import numpy as np

from nanodiff import check
from nanodiff.engine import turn
from nanodiff.layers import Conv2d, GroupNorm, Layer


def attend(q, k, v):
    """Return (y, A): A = softmax(q' k / sqrt(d)) over the keys, and y = v A'.

    Pixels are columns, ' transposes. The largest score of each query is subtracted
    first, which changes no quotient: so exp cannot overflow. Shapes: q, k, v, y
    (..., d, P); A (..., P, P). Raises ValueError if shapes differ.

    >>> q = k = np.array([[1e4, -1e4]])  # two pixels that match themselves only
    >>> attend(q, k, np.array([[3.0, 5.0]]))[0].tolist()
    [[3.0, 5.0]]
    """
    q, k, v = check.alike(q=q, k=k, v=v)
    scores = q.swapaxes(-1, -2) @ k * q.shape[-2] ** -0.5
    A = np.exp(scores - scores.max(axis=-1, keepdims=True))
    A /= A.sum(axis=-1, keepdims=True)
    return v @ A.swapaxes(-1, -2), A


def attend_backward(dy, q, k, v, A):
    """Return (dL/dq, dL/dk, dL/dv) of `attend`.

    y[i] = sum_j A[i, j] v[j], so dv[j] = sum_i A[i, j] dy[i] and dA[i, j] = dy[i] .
    v[j]. In a softmax dA[i, j] / dscore[i, m] = A[i, j] ((1 if j = m else 0) - A[i,
    m]), so dscore[i, m] = A[i, m] (dA[i, m] - sum_j A[i, j] dA[i, j]). A score is a
    product of q[i] and k[j] over sqrt(d). Raises ValueError if shapes do not fit.
    """
    dy, q, k, v = check.alike(dy=dy, q=q, k=k, v=v)
    A = check.array("A", A, (*q.shape[:-2], q.shape[-1], q.shape[-1]))
    dA = dy.swapaxes(-1, -2) @ v
    dscores = A * (dA - (A * dA).sum(axis=-1, keepdims=True)) * q.shape[-2] ** -0.5
    return k @ dscores.swapaxes(-1, -2), q @ dscores, dy @ A


class Attention(Layer):
    """y = x + out(attention of norm(x)); it starts as the identity, as out is zero.

    So a trained network can be given it. q, k and v have no bias: that of k would add
    the same to all scores of a query, which the softmax takes away, and that of v would
    add what the bias of out does. heads: 1 or more; groups: of the norm. Raises
    ValueError if heads or groups does not divide channels, and if the shape or dtype of
    x or dy does not fit.

    >>> attention = Attention(8, heads=2, rng=np.random.default_rng(0))
    >>> x = np.ones((1, 8, 3, 3), np.float32)
    >>> np.array_equal(attention(x), x)
    True
    """

    def __init__(self, channels, heads=1, groups=8, *, rng):
        channels = check.width("channels", channels)
        self.heads = check.divisor("heads", heads, channels)
        self.norm = GroupNorm(channels, groups)
        self.q, self.k, self.v = (
            Conv2d(channels, channels, kernel=1, bias=False, rng=rng) for _ in "qkv"
        )
        self.out = Conv2d(channels, channels, kernel=1, rng=rng)
        self.out.w[...] = 0

    @turn
    def forward(self, x):  # (N, C, H, W) -> (N, C, H, W)
        h = self.norm(x)
        q, k, v = (self._heads(layer(h)) for layer in (self.q, self.k, self.v))
        y, A = attend(q, k, v)
        self.cache = q, k, v, A
        return self.out(y.reshape(h.shape), x)

    @turn
    def backward(self, dy):  # (N, C, H, W) -> (N, C, H, W)
        gradients = attend_backward(self._heads(self.out.backward(dy)), *self.cache)
        dh = 0  # q, k and v are of the same h
        for layer, d in zip((self.q, self.k, self.v), gradients, strict=True):
            dh = dh + layer.backward(d.reshape(dy.shape))
        return self.norm.backward(dh, dy)  # x also reaches y past all of it

    def _heads(self, h):
        """(N, C, H, W) -> (N, heads, d, P)."""
        return h.reshape(len(h), self.heads, h.shape[1] // self.heads, -1)
