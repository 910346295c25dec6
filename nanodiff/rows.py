"""Numba loops over rows for `kernels.py`: zeros, sums, phases, slopes, tiles.

After a change here, touch `kernels.py`: Numba's cache watches the file of the caller.

Shapes: strings, rows, planes (n, length); images, plus are equal, (n, K, H, W).
"""

import numba
from numpy import uint64

FAST = {"reassoc", "contract", "nsz"}  # as in `kernels.py`
jit = numba.njit(fastmath=FAST, cache=True, error_model="numpy")
ONE = uint64(1)
ROWS = 4  # of sums beside each other: `kernels.py` has four output channels at a time


@jit
def clear(strings, length):
    """Write zeros to the first `length` pixels of each string."""
    for row in strings:
        for p in range(uint64(length)):
            row[p] = 0


@jit
def add(images, plus, k):
    """Add to channel k of images that of plus, while it is in the cache."""
    for n in range(len(images)):
        y, more = images[n, k].reshape(-1), plus[n, k].reshape(-1)
        for p in range(uint64(y.size)):
            y[p] += more[p]


@jit
def add_sums(images, totals):
    """Add to totals the sum of each channel of the images."""
    for n in range(len(images)):
        for k in range(len(totals)):
            row, total = images[n, k].reshape(-1), images.dtype.type(0)
            for p in range(uint64(row.size)):
                total += row[p]
            totals[k] += total


@jit
def split(rows, planes, size):
    """Four planes: even and odd pixels of the even rows, then of the odd rows."""
    for i in range(2):
        row, even, odd = rows[i], planes[2 * i], planes[2 * i + 1]
        for p in range(uint64(size)):
            even[p] = row[p + p]
            odd[p] = row[p + p + ONE]


@jit
def join(sums, s, rows, size):
    """Even and odd rows from their planes, which are rows s, s + 4 .. of sums."""
    for i in range(2):
        row, even, odd = rows[i], sums[s + 2 * i * ROWS], sums[s + (2 * i + 1) * ROWS]
        for p in range(uint64(size)):
            row[p + p] = even[p]
            row[p + p + ONE] = odd[p]


@jit
def slopes(planes, size, pitch):
    """From plane 0, x: by how much it rises to the right, below, and both at once."""
    x, right, below, both = planes[0], planes[1], planes[2], planes[3]
    step = uint64(pitch)
    for p in range(uint64(size)):
        right[p] = x[p + ONE] - x[p]
        below[p] = x[p + step] - x[p]
    for p in range(uint64(size)):
        both[p] = x[p] + x[p + step + ONE] - x[p + ONE] - x[p + step]


@jit
def add_phases(rows, planes, size):
    """Nine planes: (both, even, odd rows) by (both, even, odd pixels), added up."""
    for i in range(1, 3):
        row, even, odd = rows[i - 1], planes[3 * i + 1], planes[3 * i + 2]
        both = planes[3 * i]
        for p in range(uint64(size)):
            even[p] = row[p + p]
            odd[p] = row[p + p + ONE]
        for p in range(uint64(size)):
            both[p] = even[p] + odd[p]
    for j in range(3):
        both, even, odd = planes[j], planes[3 + j], planes[6 + j]
        for p in range(uint64(size)):
            both[p] = even[p] + odd[p]


@jit
def fall(plane, size, step):
    """Replace each pixel by how much it falls to the one `step` further on."""
    far = uint64(step)
    for p in range(uint64(size)):
        plane[p] -= plane[p + far]


@jit
def grow(sums, s, rows, size):
    """Even and odd rows from nine planes, which are rows s, s + 4 .. of sums."""
    level, to_left, to_right = sums[s], sums[s + ROWS], sums[s + 2 * ROWS]
    for i in range(2):
        k = s + 3 * (i + 1) * ROWS
        row, level_i = rows[i], sums[k]
        left_i, right_i = sums[k + ROWS], sums[k + 2 * ROWS]
        for p in range(uint64(size)):
            height = level[p] + level_i[p]
            row[p + p] = height + to_left[p] + left_i[p]
            row[p + p + ONE] = height + to_right[p] + right_i[p]


@jit
def tile(matrix, rows, planes, size):
    """Planes are a matrix (planes, 9) of `winograd.py` times the first nine rows.

    Points come as p, -p, whose lines of the matrix differ in the signs of the odd rows
    only: two planes at once. Each point that is left over has a loop of its own.
    """
    x0, x1, x2, x3, x4 = rows[0], rows[1], rows[2], rows[3], rows[4]
    x5, x6, x7, x8 = rows[5], rows[6], rows[7], rows[8]
    pairs = (len(matrix) - 1) // 2
    for k in range(len(matrix)):
        w = matrix[k]
        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
        w5, w6, w7, w8 = w[5], w[6], w[7], w[8]
        if k >= 2 * pairs:
            plane = planes[k]
            for p in range(uint64(size)):
                total = w0 * x0[p] + w1 * x1[p] + w2 * x2[p] + w3 * x3[p] + w4 * x4[p]
                total += w5 * x5[p] + w6 * x6[p] + w7 * x7[p] + w8 * x8[p]
                plane[p] = total
        elif k % 2 == 0:
            plus, minus = planes[k], planes[k + 1]
            for p in range(uint64(size)):
                even = w0 * x0[p] + w2 * x2[p] + w4 * x4[p] + w6 * x6[p]
                odd = w1 * x1[p] + w3 * x3[p] + w5 * x5[p] + w7 * x7[p]
                plus[p] = even + odd
                minus[p] = even - odd


@jit
def untile(matrix, sums, s, rows, size):
    """Rows are a matrix (rows, 9) times planes, which are rows s, s + 4 .. of sums."""
    s0, s1, s2 = sums[s], sums[s + ROWS], sums[s + 2 * ROWS]
    s3, s4, s5 = sums[s + 3 * ROWS], sums[s + 4 * ROWS], sums[s + 5 * ROWS]
    s6, s7, s8 = sums[s + 6 * ROWS], sums[s + 7 * ROWS], sums[s + 8 * ROWS]
    for i in range(len(matrix)):
        w, row = matrix[i], rows[i]
        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
        w5, w6, w7, w8 = w[5], w[6], w[7], w[8]
        for p in range(uint64(size)):
            total = w0 * s0[p] + w1 * s1[p] + w2 * s2[p] + w3 * s3[p] + w4 * s4[p]
            total += w5 * s5[p] + w6 * s6[p] + w7 * s7[p] + w8 * s8[p]
            row[p] = total
