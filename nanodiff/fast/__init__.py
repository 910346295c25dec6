"""The functions of `plain.py`, compiled by Numba. For speed only: skip this at first.

What happens to a pixel of x in a 3x3 convolution, and in which file:

down    conv2d          here         chooses a plan: which sums of pixels are multiplied
                        `plans`      by which sums of weights
        correlate       `convolve`   how many images make a string; weights in blocks
        correlate       `kernels`    for each string, in threads: pack, multiply, unpack
        pack            `packing`    1. rows of a few images become one string
                        `winograd`   2. tiles: 9 sums of 9 rows, for 7 rows of y
        add_products    `kernels`    3. each sum times its weights: 4 channels of y by 3
                                     slices of the string at once
up      unpack          `packing`    4. 7 rows of y are sums of the 9 products, and go
                                     to their image

A string is a channel of a few images, row after row, with one zero after every row and
one zero row after every image (and above the first), so that a neighbouring pixel is a
constant shift away:

    two 2x2 images        their string, cut into rows of pitch W + 1
                          0 0 0
       a b    e f         a b 0      the pixel below a is 3 further on: c
       c d    g h         c d 0      the pixel left of c is 1 back: a zero
                          0 0 0      the pixel below d is 3 further on: a zero
                          e f 0
                          g h 0
                          0 0 0

So a convolution is y[k, p] = sum_m w[k, m] x[offset[m] + p] without edges, im2col or
copies, over hundreds of pixels whatever the size of the image. A channel becomes one
string, or several, its planes:

    tiles        one plane for each sum of rows. It holds the rows above and below, so
                 it needs no zero rows.
    stride 2     four planes: even and odd pixels of even and odd rows.
    upsampling   four planes: x, how much it falls to the right, how much below, and how
                 much the one falls in the other direction. Nine products make four
                 pixels.

To read the files: `plans` up to `strided`, `convolve._frame`, `packing`, `kernels`, the
rest of `convolve`, `plans.tiled` with `winograd`, `plans.upsampling`, `norms`.

Norms (`norms`) go over memory once each way. `compiled` has the options of Numba. One
Python thread at a time may be in here: `engine` sees to that.
"""

import numpy as np
from numba import set_num_threads as set_num_threads

from nanodiff.fast import convolve, norms, plans

FEW = 200  # pixels in all, up to which strings of tiles are too short to pay


def conv2d(x, w, b, stride=1, up=False, add=None):
    """As `plain.conv2d`, but upsampling with a 3x3 only."""
    N, _, H, W = x.shape
    size = (2 * H, 2 * W) if up else (-(-H // stride), -(-W // stride))
    plan = _plan(w, stride, up, N, H, W)
    return convolve.correlate(x, w, b, plan, size, add, keep=True)


def conv2d_dx(dy, w, size, stride=1, up=False, add=None):
    """As `plain.conv2d_dx`."""
    plan = _plan(w, stride, up, len(dy), *size).dx
    none = np.zeros(w.shape[1], w.dtype)
    return convolve.correlate(dy, w, none, plan, size, add)


def conv2d_dw(x, dy, w, stride=1, up=False):
    """As `plain.conv2d_dw`."""
    N, _, H, W = x.shape
    dw, db = convolve.correlate_weight(x, dy, _plan(w, stride, up, N, H, W))
    return dw.reshape(w.shape), db


def _plan(w, stride, up, N, H, W):
    """The plan for N images of H by W pixels."""
    if up:
        return plans.upsampling()
    if w.shape[2] == 3 and stride == 1 and N * H * W > FEW:
        return plans.tiled(H)
    return plans.strided(w.shape[2], stride)


def group_norm(x, scale, shift, groups, tiny, silu):
    """As `plain.group_norm`."""
    x, y = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    mean, rstd = np.empty((2, len(x), groups), x.dtype)
    norms.group_norm(x, scale, shift, x.dtype.type(tiny), silu, y, mean, rstd)
    return y, mean, rstd


def group_norm_backward(dy, x, scale, shift, mean, rstd, silu, add=None):
    """As `plain.group_norm_backward`."""
    dx = np.empty(x.shape, x.dtype)
    dscale, dshift = np.empty_like(scale), np.empty_like(shift)
    add = dx[:0] if add is None else np.ascontiguousarray(add)
    norms.group_norm_backward(
        np.ascontiguousarray(dy), np.ascontiguousarray(x), scale, shift, mean, rstd,
        silu, add, dx, dscale, dshift,
    )  # fmt: skip
    return dx, dscale, dshift
