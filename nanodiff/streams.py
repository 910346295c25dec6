"""Random numbers of a stream for each image: image i is the same in any batch.

A Generator that draws for a whole batch gives image i other numbers if the batch is
larger, is cut elsewhere or is computed by other processes. Here the numbers of image i
are a function of (seed, i): those of the i-th child of the seed, as NumPy's
`SeedSequence(seed).spawn` makes it, whose streams are independent.
"""

import numpy as np

from nanodiff import check


class Streams:
    """In place of a Generator: x_T and every z of images that have their own streams.

    seed: at least 0. images: their numbers, at least 0, such as range(100, 200). It has
    the `standard_normal` that samplers call, whose rows are these images. A slice of
    it, streams[a:b], has some of the images, and goes on where they are. Raises
    ValueError for a negative number, and for a shape of more or fewer rows.

    >>> all_of_it = Streams(0, range(5)).standard_normal((5, 1, 2, 2))
    >>> np.array_equal(all_of_it[3:], Streams(0, [3, 4]).standard_normal((2, 1, 2, 2)))
    True
    """

    def __init__(self, seed, images):
        self.seed = check.integer("seed", seed, 0, 2**128)
        self.rngs = [
            np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(i,)))
            for i in check.integers("images", images, 0).tolist()
        ]

    def __len__(self):
        return len(self.rngs)

    def __getitem__(self, rows):
        if not isinstance(rows, slice):
            check.refuse("rows", rows, "a slice, such as streams[0:9]")
        part = object.__new__(Streams)
        part.seed, part.rngs = self.seed, self.rngs[rows]
        return part

    def standard_normal(self, shape):
        """Return standard normal numbers (images, ...), a row from each stream."""
        shape = tuple(check.integers("shape", shape, 1).tolist())
        if shape[:1] != (len(self),):
            check.refuse("shape", shape, f"({len(self)}, ...), a row for each image")
        return np.stack([rng.standard_normal(shape[1:]) for rng in self.rngs])
