"""Numba loops over rows for `kernels.py`: zeros, sums, Winograd's transforms.

For 4 rows of output, a column of 3 taps is 6 products of sums of rows instead of 12:
y = A' (G w * B' x), where * is by element. `tile_x` is B', `tile_y` is A', and
`tile_dy` is A, for the gradient G' (A dy * B' x) by w; G is in `strings.py`. They
follow from the values of polynomials at 0, 1, -1, 2, -2 and infinity. Lavin, Gray 2015,
arXiv 1509.09308, section 4.1, F(4, 3).

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
def tile_x(rows, planes, size):
    """Six planes of x, in tile i of an image, from its rows 4 i - 1 .. 4 i + 4."""
    a, b, c, d, e, f = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    p0, p1, p2 = planes[0], planes[1], planes[2]
    p3, p4, p5 = planes[3], planes[4], planes[5]
    two, four, five = a.dtype.type(2), a.dtype.type(4), a.dtype.type(5)
    for p in range(uint64(size)):
        p0[p] = four * a[p] - five * c[p] + e[p]
        p5[p] = four * b[p] - five * d[p] + f[p]
    for p in range(uint64(size)):
        even, odd = e[p] - four * c[p], d[p] - four * b[p]
        p1[p] = even + odd
        p2[p] = even - odd
    for p in range(uint64(size)):
        even, odd = e[p] - c[p], two * (d[p] - b[p])
        p3[p] = even + odd
        p4[p] = even - odd


@jit
def tile_dy(rows, planes, size):
    """Six planes of dy, in tile i of an image, from its rows 4 i .. 4 i + 3."""
    a, b, c, d = rows[0], rows[1], rows[2], rows[3]
    p0, p1, p2 = planes[0], planes[1], planes[2]
    p3, p4, p5 = planes[3], planes[4], planes[5]
    two, four = a.dtype.type(2), a.dtype.type(4)
    for p in range(uint64(size)):
        p0[p] = a[p]
        p5[p] = d[p]
    for p in range(uint64(size)):
        even, odd = a[p] + c[p], b[p] + d[p]
        p1[p] = even + odd
        p2[p] = even - odd
    for p in range(uint64(size)):
        even, odd = a[p] + four * c[p], two * (b[p] + four * d[p])
        p3[p] = even + odd
        p4[p] = even - odd


@jit
def tile_y(sums, s, rows, size):
    """Rows 4 i .. 4 i + 3 of y in tile i, from its planes: rows s, s + 4 .. of sums."""
    s0, s1, s2 = sums[s], sums[s + ROWS], sums[s + 2 * ROWS]
    s3, s4, s5 = sums[s + 3 * ROWS], sums[s + 4 * ROWS], sums[s + 5 * ROWS]
    y0, y1, y2, y3 = rows[0], rows[1], rows[2], rows[3]
    two, four, eight = s0.dtype.type(2), s0.dtype.type(4), s0.dtype.type(8)
    for p in range(uint64(size)):
        near, far = s1[p] + s2[p], s3[p] + s4[p]
        y0[p] = s0[p] + near + far
        y2[p] = near + four * far
    for p in range(uint64(size)):
        near, far = s1[p] - s2[p], s3[p] - s4[p]
        y1[p] = near + two * far
        y3[p] = near + eight * far + s5[p]
