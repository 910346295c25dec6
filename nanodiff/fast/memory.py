"""The order of images in memory: a pixel's channels together, from a cache line on."""

import math

import numpy as np

LINE = 64  # bytes: a vector that crosses two lines of the cache takes twice as long


def channels_last(x):
    """(N, C, H, W) as (N, H, W, C), without a copy if memory has that order."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def aligned(shape, dtype):
    """An uninitialised array that begins on a cache line."""
    room = np.empty(math.prod(shape) + LINE, dtype)
    return np.ndarray(shape, dtype, room, -room.ctypes.data % LINE)
