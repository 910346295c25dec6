"""Make nanodiff/mnist_subset.npz from the official MNIST files.

    python tools/make_mnist_subset.py FOLDER

FOLDER holds the four official IDX files, raw or .gz. Of each class, the first 1,000 of
the training set and the first 200 of the test set are kept, in their official order.
Prints the SHA-256 of the pixels and labels, which tests/test_files.py also holds.
"""

import hashlib
import sys

import numpy as np

from nanodiff.data import SUBSET, read_idx


def first_of_each_class(labels, n):
    """Return the sorted indices of the first n examples of each class.

    >>> first_of_each_class(np.array([1, 0, 1, 1, 0]), 2).tolist()
    [0, 1, 2, 4]
    """
    return np.sort(
        np.concatenate([np.flatnonzero(labels == c)[:n] for c in set(labels)])
    )


if __name__ == "__main__":
    arrays = {}
    for split, n in (("train", 1000), ("test", 200)):
        pixels, labels = read_idx(split, sys.argv[1])
        keep = first_of_each_class(labels, n)
        arrays |= {f"{split}_pixels": pixels[keep], f"{split}_labels": labels[keep]}
    np.savez_compressed(SUBSET, **arrays)
    content = b"".join(arrays[name].tobytes() for name in sorted(arrays))
    print(SUBSET, SUBSET.stat().st_size, "bytes")
    print("SHA-256 of the content:", hashlib.sha256(content).hexdigest())
