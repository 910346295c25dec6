"""Convolutions as plans for the string kernels: bookkeeping, and one algebraic trick.

A plan says into which planes the channels of input and output are laid out, which taps
lead from one to the other, and which matrix makes the weights of the taps from a 3x3
kernel. The kernels (see the picture in `kernels.py`) know nothing else, so that four
convolutions, and their gradients, are the same two loops:

strided     one tap for each weight. A stride of 2 reads the image as four phases: even
            and odd rows, even and odd columns, each a string on the coarse grid.
upsampling  nearest-neighbour upsampling and a 3x3 convolution write four phases, each
            a 2x2 convolution of the coarse image: 16 products instead of 36.
tiled       3x3, stride 1, with half the products: for 4 rows of output, a column of 3
            taps is 6 products of sums of rows instead of 12 (Winograd).

Shapes: x (N, C, H, W), weight (K, C, kernel, kernel), bias (K,), y (N, K, H', W').
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numba
import numpy as np

from nanodiff import kernels, weight_kernels

PIXELS = 300  # of a string: short enough that the strings of all channels fit a cache
PARTS = 8  # partial sums of a weight gradient: a constant, so that the bits are too

# Winograd's F(4, 3): y = A' (G w * B' x), see `rows.py`.
G = np.array([
    [6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24],
]) / 24  # fmt: skip


@dataclass(frozen=True, eq=False)
class Layout:
    """How a channel becomes planes.

    kind: of `kernels.py`. planes: strings of a channel. first: the row of the image
    with which each part begins, to go on with every `down`-th. across: how many pixels
    of a part are one of a plane.
    """

    kind: int
    planes: int
    first: tuple
    down: int = 1
    across: int = 1

    @cached_property
    def arrays(self):
        """What the kernels take for a layout."""
        return self.kind, self.planes, np.array(self.first), self.down, self.across

    def room(self, length):
        """The shape of the parts, for strings of a length."""
        return len(self.first), self.across * length


PLAIN = Layout(kernels.PLAIN, 1, (0,))
PHASES = Layout(kernels.PHASES, 4, (0, 1), down=2, across=2)
X_TILES = Layout(kernels.TILES_X, len(G), (-1, 0, 1, 2, 3, 4), down=4)
DY_TILES = Layout(kernels.TILES_DY, len(G), (0, 1, 2, 3), down=4)
Y_TILES = Layout(kernels.TILES_Y, len(G), (0, 1, 2, 3), down=4)
GROWN_X = Layout(kernels.GROWN_X, 4, (0,))
GROWN_DY = Layout(kernels.GROWN_DY, 9, (0, 1), down=2, across=2)
FALLING_DY = Layout(kernels.FALLING_DY, 9, (0, 1), down=2, across=2)
GROWN_Y = Layout(kernels.GROWN_Y, 9, (0, 1), down=2, across=2)


@dataclass(frozen=True, eq=False)
class Plan:
    """A convolution, as the kernels do it.

    table: taps (output plane, weight, input plane, rows down, columns right), counted
    on the coarse grid. fold (weights, kernel^2): makes the taps' weights. source,
    target: layouts of x and y; of dy in the weight gradient: `slope`.
    """

    table: tuple
    fold: np.ndarray
    source: Layout = PLAIN
    target: Layout = PLAIN
    slope: Layout = PLAIN

    @cached_property
    def transposed(self):
        """The plan of the input gradient, for weights whose channels are swapped."""
        if self.source is X_TILES:  # a 3x3 convolution with the kernel turned round
            return Plan(self.table, self.fold[:, ::-1], X_TILES, Y_TILES, DY_TILES)
        if self.source is GROWN_X:  # the slopes are those of dy, see `rows.fall`
            table = tuple(
                (0, i, i, -(i // 3 == 2), -(i % 3 == 2)) for i in range(len(self.fold))
            )
            return Plan(table, self.fold, FALLING_DY, PLAIN)
        table = tuple((p, i, o, -down, -right) for o, i, p, down, right in self.table)
        return Plan(table, self.fold, self.target, self.source)

    def grid(self, H, W):
        """Rows, columns and rows between images of the strings of H by W pixels."""
        gap = int(self.source is not X_TILES)  # tiles hold their neighbours
        return -(-H // self.source.down), -(-W // self.source.across), gap


@lru_cache
def strided(kernel, stride):
    """The plan of a kernel x kernel convolution, padding (kernel - 1) / 2.

    >>> strided(1, 1).table
    ((0, 0, 0, 0, 0),)
    """
    table, margin = [], kernel // 2
    for r in range(kernel):
        for s in range(kernel):
            down, i = divmod(r - margin, stride)  # input row = stride * (p + down) + i
            right, j = divmod(s - margin, stride)
            table.append((0, r * kernel + s, i * stride + j, down, right))
    return Plan(tuple(table), np.eye(kernel**2), PLAIN if stride == 1 else PHASES)


@lru_cache
def upsampling():
    """The plan of nearest 2x upsampling and a 3x3 convolution: nine 1x1 convolutions.

    Of three fine neighbours, two always lie on the same coarse pixel. Along one axis

        y[2 i]     = w0 x[i - 1] + (w1 + w2) x[i] = W x[i] - w0 (x[i] - x[i - 1])
        y[2 i + 1] = (w0 + w1) x[i] + w2 x[i + 1] = W x[i] + w2 (x[i + 1] - x[i])

    with W = w0 + w1 + w2: three products for two pixels, so nine for four, and the
    slopes of x take no product.
    """
    fold = np.array([[1, 1, 1], [-1, 0, 0], [0, 0, 1]])  # W, -w0, w2
    table = []
    for index, (a, b) in enumerate(np.ndindex(3, 3)):
        plane = 2 * (a > 0) + (b > 0)  # x or a slope of it; that of i - 1 for w0
        table.append((index, index, plane, -(a == 1), -(b == 1)))
    return Plan(tuple(table), np.kron(fold, fold), GROWN_X, GROWN_Y, GROWN_DY)


@lru_cache
def tiled():
    """The plan of a 3x3 convolution with half the products: Winograd's, along rows."""
    table = [(i, 3 * i + s, i, 0, s - 1) for i in range(6) for s in range(3)]
    return Plan(tuple(table), np.kron(G, np.eye(3)), X_TILES, Y_TILES, DY_TILES)


class Kept:
    """The blocks of a weight, made again only when it has changed.

    To compare takes a tenth of the time of making them. That pays where one image is
    sampled, with the same weights at every call.
    """

    def __init__(self):
        self.weight, self.made = np.empty(0), None

    def blocks(self, weight, plan, C, frame, length):
        """Return what `_blocked` does, for a layer that always has the same plan.

        Blocks are the same for every frame and length: these only move the offsets.
        """
        same = self.weight.dtype == weight.dtype
        if not same or not np.array_equal(self.weight, weight):
            self.made = _blocked(weight, plan, C, frame, length)
            self.weight = weight.copy()  # last, as an interrupt may come in between
        return self.made


def correlate(x, weight, bias, plan, size, plus=None, kept=None):
    """The convolution of x by a plan, as images (N, K, *size), plus such images.

    kept: a `Kept`, for a weight that is likely to be the same the next time.
    """
    N, C, H, W = x.shape
    K = len(weight)
    frame, length, rows = _frame(N, *plan.grid(H, W))
    taps, _ = _taps(plan, C, frame, length)
    make = _blocked if kept is None else kept.blocks
    y = np.empty((N, K, *size), x.dtype)
    plus = y[:0] if plus is None else np.ascontiguousarray(plus)
    scratch = _scratch(
        ((C * plan.source.planes, length), plan.source.room(length),
         (kernels.ROWS * plan.target.planes, rows), plan.target.room(rows)),
        x.dtype, (plan, frame, H, W), numba.get_num_threads(),
    )  # fmt: skip
    kernels.correlate(
        np.ascontiguousarray(x), make(weight, plan, C, frame, length), taps, bias,
        plus, y, plan.source.arrays, plan.target.arrays, frame, scratch,
    )  # fmt: skip
    return y


def correlate_weight(x, dy, plan):
    """The gradients (weight (K, C, kernel^2), bias (K,)) of `correlate`, from dy."""
    N, C, H, W = x.shape
    K = dy.shape[1]
    frame, length, _ = _frame(N, *plan.grid(H, W))
    taps, index = _taps(plan, C, frame, length)
    scratch = _scratch(
        ((C * plan.source.planes, length), plan.source.room(length),
         (K * plan.slope.planes, length), plan.slope.room(length)),
        x.dtype, (plan, frame, H, W), numba.get_num_threads(),
    )  # fmt: skip
    parts = min(PARTS, -(-N // frame[0]))
    dblocks = np.zeros((parts, *_blocks(taps, K)), x.dtype)
    dbias = np.zeros((parts, K), x.dtype)
    kernels.correlate_weight(
        np.ascontiguousarray(x), np.ascontiguousarray(dy), taps, dblocks, dbias,
        plan.source.arrays, plan.slope.arrays, frame, scratch,
    )  # fmt: skip
    folded = np.zeros((len(plan.fold), K, C), x.dtype)
    weight_kernels.block(folded, index, dblocks.sum(0), True)
    dweight = plan.fold.T.astype(x.dtype) @ folded.reshape(-1, K * C)
    return dweight.T.reshape(K, C, -1), dbias.sum(0)


def _blocked(weight, plan, C, frame, length):
    """The weight (K, C, kernel, kernel) of a plan's taps, as the kernels read it."""
    K = len(weight)
    taps, index = _taps(plan, C, frame, length)
    blocks = np.zeros(_blocks(taps, K), weight.dtype)
    folded = plan.fold.astype(weight.dtype) @ weight.reshape(K * C, -1).T
    weight_kernels.block(folded.reshape(-1, K, C), index, blocks, False)
    return blocks


@lru_cache(maxsize=256)
def _frame(N, rows, columns, gap):
    """(images a string, first pixel, pitch, pixels an image), lengths of the strings.

    The first length has zeros around, the second is of the sums.
    """
    pitch = columns + 1
    span = (rows + gap) * pitch
    strings = max(1, round(N * span / PIXELS))
    strings += strings % 2 and strings > 1  # as many for each of two cores
    group = -(-N // strings)
    lead, body = _whole(pitch + 1), _whole(group * span)
    return (group, lead, pitch, span), lead + body + lead, body


@lru_cache(maxsize=256)
def _taps(plan, C, frame, length):
    """((offset (planes, M), counts (planes,)), index (planes, taps)) for the kernels.

    A plane has counts[plane] offsets into the strings, channel by channel, and its n-th
    tap the weight index[plane, n]; -1 is none.
    """
    _, lead, pitch, _ = frame
    planes = range(plan.target.planes)
    rows = [[tap for tap in plan.table if tap[0] == plane] for plane in planes]
    most = max(len(row) for row in rows)
    channel = np.arange(C)[:, None] * plan.source.planes * length
    index = np.full((len(rows), most), -1)
    offset = np.zeros((len(rows), _whole(C * most, kernels.TAPS)), np.int64)
    for o, row in enumerate(rows):
        # a phase may have none, as three of four have in a 1x1 of stride 2
        columns = np.array(row, np.int64).reshape(-1, 5).T
        _, index[o, : len(row)], plane, down, right = columns
        shift = plane * length + lead + down * pitch + right
        offset[o, : C * len(row)] = (channel + shift).reshape(-1)
    counts = np.array([_whole(C * len(row), kernels.TAPS) for row in rows])
    return (offset, counts), index


def _blocks(taps, K):
    """The shape of the blocks of weights."""
    planes, M = taps[0].shape
    rows, width = kernels.ROWS, kernels.TAPS
    return planes, -(-K // rows), M // width, rows * width


def _whole(n, unit=kernels.LANES):
    """n pixels, filled up to whole vectors, or to whole units."""
    return -(-n // unit) * unit


@lru_cache(maxsize=128)
def _scratch(shapes, dtype, geometry, threads):
    """Arrays (threads, rows, length), once zeroed, for shapes of (rows, length).

    They are kept and used again by every call of the same geometry: one that writes
    pixels where this one did, and so leaves the zeros between them as they are. No two
    calls overlap, since a kernel holds the interpreter's lock.
    """
    return tuple(_aligned((threads, *shape), dtype) for shape in shapes)


def _aligned(shape, dtype):
    """A zeroed array that begins on a cache line, as its rows then do."""
    size = int(np.prod(shape))
    room = np.zeros(size + kernels.LANES, dtype)
    start = -room.ctypes.data % 64 // dtype.itemsize
    return room[start : start + size].reshape(shape)
