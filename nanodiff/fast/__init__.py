"""The functions of `plain.py`, compiled by Numba. For speed only: skip this at first.

What happens to a pixel of x in a 3x3 convolution, and in which file:

down    conv2d          `convolve`   chooses a plan (`plans`): which sums of pixels are
                                     multiplied by which sums of weights; how many
                                     images make a string; weights in blocks
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
rest of `convolve`, `plans.tiled` with `winograd`, `plans.upsampling`, `norms`. Norms go
over memory once each way. `compiled` has the options of Numba. One Python thread at a
time may be in here: `engine` sees to that.
"""

from nanodiff.fast.convolve import conv2d, conv2d_dw, conv2d_dx
from nanodiff.fast.norms import group_norm, group_norm_backward

__all__ = ["conv2d", "conv2d_dw", "conv2d_dx", "group_norm", "group_norm_backward"]
