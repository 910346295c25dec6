"""Convolution and group normalisation as sums, each with the gradient that follows.

How to read off a gradient. L is the loss, and dy[o] stands for dL/dy[o]. Every y here
is a sum of products. If y[o] has the term w x, then x moves y[o] by w and w moves y[o]
by x, so by the chain rule
    dL/dx = the sum of w dy[o]        over all o in which that x is used,
    dL/dw = the sum of x dy[o]        over all o in which that w is used.
So a gradient has the loops of its forward pass, with what is read and what is written
exchanged. `fast` has the same functions, compiled; `engine` says which of the two run.

Shapes: images x (N, C, H, W), y and dy (N, K, H', W'); weights w (K, C, kernel, kernel)
with kernel 1 or 3; b (K,). Any float dtype. add: None, or an array of the result's
shape that is added to it (a skip connection).
"""

from functools import partial

import numpy as np

einsum = partial(np.einsum, optimize=True)  # optimize: let BLAS do the sum if it can


def conv2d(x, w, b, stride=1, up=False, add=None):
    """Return the convolution y of x (a correlation, as all networks have it).

    y[n, k, i, j] = b[k] + sum_c,r,s w[k, c, r, s] x[n, c, stride i + r - m,
                                                           stride j + s - m]
    with m = (kernel - 1) / 2, and x = 0 outside of the image. H' = ceil(H / stride),
    stride 1 or 2. up: first repeat every pixel of x 2x2 (nearest-neighbour upsampling).
    The loop runs over the taps (r, s). For all i and j at once, the pixels of x under
    one tap are a slice of the padded image.

    >>> x, w = np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 3, 3))
    >>> conv2d(x, w, np.zeros(1)).tolist()  # 0 + 1 + 2 + 3 everywhere
    [[[[6.0, 6.0], [6.0, 6.0]]]]
    """
    x = _repeat(x) if up else x
    padded, (N, _, H, W) = _pad(x, w), x.shape
    y = np.zeros((N, len(w), -(-H // stride), -(-W // stride)), x.dtype)
    y += b[:, None, None]
    for r, s, met in _taps(w, stride, y):
        y += einsum("kc,ncij->nkij", w[:, :, r, s], padded[met])
    return y if add is None else y + add


def conv2d_dx(dy, w, size, stride=1, up=False, add=None):
    """Return dL/dx of `conv2d`. size: (H, W) of x.

    x[n, c, p, q] is used in y[n, k, i, j], times w[k, c, r, s], wherever p = stride i +
    r - m and q = stride j + s - m. So each tap adds w dy to the pixels that it met. up:
    a pixel was repeated 2x2, each times 1, so its gradient is the sum of these four.
    """
    H, W = (2 * size[0], 2 * size[1]) if up else size
    padded = _pad(np.zeros((len(dy), w.shape[1], H, W), dy.dtype), w)
    for r, s, met in _taps(w, stride, dy):
        padded[met] += einsum("kc,nkij->ncij", w[:, :, r, s], dy)
    m = w.shape[2] // 2
    dx = padded[:, :, m : m + H, m : m + W]
    if up:
        dx = dx.reshape(*dx.shape[:2], H // 2, 2, W // 2, 2).sum((3, 5))
    return dx.copy() if add is None else dx + add


def conv2d_dw(x, dy, w, stride=1, up=False):
    """Return (dL/dw, dL/db) of `conv2d`. Of w only the shape is read.

    w[k, c, r, s] is used in y[n, k, i, j] for every n, i, j, times the pixel that the
    tap meets there; b[k] in all of them, times 1.
    """
    padded, dw = _pad(_repeat(x) if up else x, w), np.empty(w.shape, x.dtype)
    for r, s, met in _taps(w, stride, dy):
        dw[:, :, r, s] = einsum("nkij,ncij->kc", dy, padded[met])
    return dw, dy.sum((0, 2, 3))


def _repeat(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def _pad(x, w):
    m = w.shape[2] // 2
    return np.pad(x, ((0, 0), (0, 0), (m, m), (m, m)))


def _taps(w, stride, y):
    """Yield each tap (r, s), and where in the padded x it is for all pixels of y."""
    rows, columns = stride * (y.shape[2] - 1) + 1, stride * (y.shape[3] - 1) + 1
    for r, s in np.ndindex(w.shape[2:]):
        met = slice(r, r + rows, stride), slice(s, s + columns, stride)
        yield r, s, (slice(None), slice(None), *met)


def group_norm(x, scale, shift, groups, tiny, silu):
    """Return (y, mean, rstd): x normalised by groups of channels of one image.

    xhat = (x - mean) rstd,  rstd = 1 / sqrt(variance + tiny)   over a group's n pixels
    u    = scale xhat + shift                                   for each image, channel
    y    = u, or with silu u sigmoid(u)

    scale, shift: (N, C). mean, rstd: (N, groups), for the backward pass. Wu, He 2018,
    arXiv 1803.08494, Eq. 1, 6 and 7.

    >>> x = np.array([[[[1.0, 3.0]]]])
    >>> group_norm(x, np.ones((1, 1)), np.zeros((1, 1)), 1, 0.0, False)[0].tolist()
    [[[[-1.0, 1.0]]]]
    """
    grouped = x.reshape(len(x), groups, -1)
    mean, variance = grouped.mean(2), grouped.var(2)
    rstd = 1 / np.sqrt(variance + x.dtype.type(tiny))
    u = _each(scale) * _normalised(x, mean, rstd) + _each(shift)
    return u * _sigmoid(u) if silu else u, mean, rstd


def group_norm_backward(dy, x, scale, shift, mean, rstd, silu, add=None):
    """Return (dL/dx, dL/dscale, dL/dshift) of `group_norm`.

    y = u s, s = sigmoid(u), s' = s (1 - s), so du = dy (s + u s (1 - s)). u = scale
    xhat + shift, so dscale is the sum of du xhat, dshift the sum of du, and d =
    dL/dxhat = scale du.

    In a group of n pixels x[i] moves its own xhat[i] by rstd. It moves every xhat[j]
    through the mean (dmean/dx[i] = 1 / n) and the deviation (dstd/dx[i] = xhat[i] / n):
        dxhat[j]/dx[i] = rstd ((1 if i = j else 0) - 1 / n - xhat[i] xhat[j] / n)
    Times d[j], summed over j:
        dx[i] = rstd (d[i] - mean(d) - xhat[i] mean(d xhat))
    """
    xhat, du = _normalised(x, mean, rstd), dy
    if silu:
        u = _each(scale) * xhat + _each(shift)
        s = _sigmoid(u)
        du = dy * (s + u * s * (1 - s))
    dscale, dshift = (du * xhat).sum((2, 3)), du.sum((2, 3))
    grouped = len(x), mean.shape[1], -1
    d, xhat = (_each(scale) * du).reshape(grouped), xhat.reshape(grouped)
    mean_d, mean_d_xhat = (a.mean(2, keepdims=True) for a in (d, d * xhat))
    dx = (rstd[:, :, None] * (d - mean_d - xhat * mean_d_xhat)).reshape(x.shape)
    return dx if add is None else dx + add, dscale, dshift


def _normalised(x, mean, rstd):
    grouped = x.reshape(len(x), mean.shape[1], -1)
    return ((grouped - mean[:, :, None]) * rstd[:, :, None]).reshape(x.shape)


def _each(values):
    """(N, C) -> (N, C, 1, 1)."""
    return values[:, :, None, None]


def _sigmoid(u):
    # exp(-u) may overflow to infinity, which is right: the sigmoid is 0 there.
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-u))
