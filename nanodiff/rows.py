"""Numba loops over rows for `kernels.py`: zeros, sums, phases, tiles.

After a change here, touch `kernels.py`: Numba's cache watches the file of the caller.

Shapes: strings, rows, planes (n, length); images, plus are equal, (n, K, H, W).
"""

import numba
from numpy import uint64

FAST = {"reassoc", "contract", "nsz"}  # as in `kernels.py`
jit = numba.njit(fastmath=FAST, cache=True, error_model="numpy")
FALLS = 1000  # in place of a row: see `add_up`
ONE = uint64(1)


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
def split(row, even, odd, size):
    """Even and odd pixels of a row, each side by side."""
    for p in range(uint64(size)):
        even[p] = row[p + p]
        odd[p] = row[p + p + ONE]


@jit
def join(row, even, odd, size):
    """A row from its even and its odd pixels."""
    for p in range(uint64(size)):
        row[p + p] = even[p]
        row[p + p + ONE] = odd[p]


@jit
def pick(i, planes, room):
    """Row i: that of a plane, or for i < 0 that of the room."""
    return planes[i] if i >= 0 else room[-i]


@jit
def add_up(sums, planes, room, size, pitch):
    """Rows (target, a, b): a + b, or for b = RIGHT, BELOW by how much a falls."""
    for n in range(len(sums)):
        target = pick(sums[n, 0], planes, room)
        falls, one = sums[n, 2] >= FALLS, target.dtype.type(1)
        a = pick(sums[n, 1], planes, room)
        b = pick(sums[n, 1 if falls else 2], planes, room)
        far = uint64(pitch if sums[n, 2] > FALLS else 1 if falls else 0)
        sign = -one if falls else one
        for p in range(uint64(size)):
            target[p] = a[p] + sign * b[p + far]


@jit
def tile(matrix, rows, planes, size):
    """Planes are a matrix (planes, 9) of `winograd.py` times the first nine rows.

    Points come as p, -p, whose lines of the matrix differ in the signs of the odd rows
    only: two planes at once. For a point that is left over, the second is a spare row.
    """
    x0, x1, x2, x3, x4 = rows[0], rows[1], rows[2], rows[3], rows[4]
    x5, x6, x7, x8 = rows[5], rows[6], rows[7], rows[8]
    k, pairs = 0, (len(matrix) - 1) // 2  # the last line is that of infinity
    while k < len(matrix):
        w, plus = matrix[k], planes[k]
        minus = planes[k + 1] if k < 2 * pairs else rows[9]
        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
        w5, w6, w7, w8 = w[5], w[6], w[7], w[8]
        for p in range(uint64(size)):
            even = w0 * x0[p] + w2 * x2[p] + w4 * x4[p] + w6 * x6[p] + w8 * x8[p]
            odd = w1 * x1[p] + w3 * x3[p] + w5 * x5[p] + w7 * x7[p]
            plus[p] = even + odd
            minus[p] = even - odd
        k += 2 if k < 2 * pairs else 1


@jit
def untile(matrix, planes, rows, size):
    """Rows are a matrix (rows, 9) times the first nine planes."""
    s0, s1, s2, s3, s4 = planes[0], planes[1], planes[2], planes[3], planes[4]
    s5, s6, s7, s8 = planes[5], planes[6], planes[7], planes[8]
    for i in range(len(matrix)):
        w, row = matrix[i], rows[i]
        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
        w5, w6, w7, w8 = w[5], w[6], w[7], w[8]
        for p in range(uint64(size)):
            total = w0 * s0[p] + w1 * s1[p] + w2 * s2[p] + w3 * s3[p] + w4 * s4[p]
            total += w5 * s5[p] + w6 * s6[p] + w7 * s7[p] + w8 * s8[p]
            row[p] = total
