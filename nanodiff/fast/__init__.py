"""The functions of `plain.py`, compiled by Numba. For speed only: skip this at first.

What happens to a pixel of x in a 3x3 convolution, and in which file:

down    conv2d         `convolve`   chooses a plan (`plans`): which pixels of x meet
                                    which sums of weights; sorts the weights into blocks
        correlate      `kernels`    for each strip of an image, in threads:
        lay_out                     1. for 7 rows of y, 9 sums of 9 rows of x, between
                                    zeros: products with a matrix
        sum_products   `products`   2. each sum times its weights, for 14 pixels and 32
                                    channels of y at once, in registers
up      sum_products                3. 7 rows of y: the bias, and sums of 9 products

Without tiles rows of x lie between zeros (a 1x1 reads x itself), and step 2 writes y.

The channels of a pixel lie together in memory, (N, H, W, C). So the three pixels under
a row of taps are 3 C numbers in a row, and those under the next pixel of y are the same
ones, C further on:

    C = 2, pixels a b c d     0 0 a a b b c c d d 0 0      zeros where the image ends
    under y[0]                [. . . . . .]
    under y[1]                    [. . . . . .]

and y[p, k] = sum_r,m w[r, m, k] x[r, p C + m] needs no edges, im2col or copies. Other
convolutions differ in how far the next pixel is:

    stride 2     2 C further on.
    upsampling   four phases, even and odd rows and columns of y: each meets two of the
                 three pixels, as the third is the same as its neighbour.
    gradients    of x: the same with the kernel turned round; that of stride 2 has four
                 phases, that of upsampling a stride of 2. Of w: r, m and p change
                 places.

The arrays that come and go look as anywhere, (N, C, H, W); only their memory has this
order, and one that has it not is copied first.

To read the files: `products` to `sum_products`, `plans` to `axis`, `kernels` where B
and A are empty, `convolve`, then `plans.tiles` with `winograd`, `norms`. `compiled` has
the options of Numba, `memory` two functions. One Python thread at a time may be in
here: `engine` sees to that.
"""

from nanodiff.fast.convolve import conv2d, conv2d_dw, conv2d_dx
from nanodiff.fast.norms import group_norm, group_norm_backward

__all__ = ["conv2d", "conv2d_dw", "conv2d_dx", "group_norm", "group_norm_backward"]
