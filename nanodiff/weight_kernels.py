"""Numba loops that sort the weights of taps into the blocks that `kernels.py` reads.

Shapes: weight (taps, K, C), index (planes, n): which tap is the n-th of a plane, or -1;
blocks (planes, K/4, M/3, 12), where m = c n + ... counts channels and their taps.
"""

import numba
from numpy import uint64

from nanodiff.kernels import ROWS, TAPS

jit = numba.njit(cache=True, error_model="numpy")
THREE, TWELVE = uint64(TAPS), uint64(ROWS * TAPS)


@jit
def block(weight, index, blocks, back):
    """Sort the weights into blocks; or, going back, add the blocks to the weights."""
    _, K, C = weight.shape
    planes = len(index)
    flat = blocks.reshape(planes, blocks.shape[1], -1)
    for plane in range(planes):
        taps = 0
        while taps < index.shape[1] and index[plane, taps] >= 0:
            taps += 1
        for k in range(K):
            row, column = flat[plane, k // ROWS], uint64(k % ROWS * TAPS)
            for n in range(taps):
                w, m = weight[index[plane, n], k], uint64(n)
                for c in range(uint64(C)):
                    place = m // THREE * TWELVE + column + m % THREE
                    if back:
                        w[c] += row[place]
                    else:
                        row[place] = w[c]
                    m += uint64(taps)
