"""How good are the digits? A judge that reads them, and a distance between two sets.

The judge is a small convolutional classifier of nanodiff's own layers. The class that
it reads tells whether a digit is the one asked for. Its last hidden layer gives each
image 64 features; the distance of two sets of images is the Frechet distance of the
Gaussians with the mean m and the covariance C of their features:

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

Heusel et al. 2017, arXiv 1706.08500, Eq. 6. They call it d^2 and take the features of
the Inception network: their numbers (FID) do not compare with these. Two sets of real
digits have a distance above 0 too, larger for smaller sets. This is the floor: a
distance means something only beside the floor of the same n.

Shapes: images (N, 1, 28, 28) in [-1, 1]; logits (N, 10); features (N, 64).
"""

import numpy as np

from nanodiff import check, data
from nanodiff.engine import turn
from nanodiff.layers import Conv2d, Downsample, GroupNorm, Layer, Linear, SiLU


class Judge(Layer):
    """A classifier of digits: four convolutions with norms, two linear layers.

    >>> judge = Judge(rng=np.random.default_rng(0))
    >>> judge(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    """

    def __init__(self, *, rng):
        self.conv1 = Conv2d(1, 16, rng=rng)
        self.norm1 = GroupNorm(16, 4, silu=True)
        self.pool1 = Downsample(16, 32, rng=rng)
        self.norm2 = GroupNorm(32, 8, silu=True)
        self.conv2 = Conv2d(32, 32, rng=rng)
        self.norm3 = GroupNorm(32, 8, silu=True)
        self.pool2 = Downsample(32, 64, rng=rng)
        self.norm4 = GroupNorm(64, 8, silu=True)
        self.full = Linear(64 * 7 * 7, 64, rng=rng)
        self.act = SiLU()
        self.read = Linear(64, 10, rng=rng)

    @turn
    def features(self, x):  # (N, 1, 28, 28) -> (N, 64)
        """Return the last hidden layer, from which the class is read."""
        x = check.array("x", x, ("N", 1, 28, 28), self.full.w.dtype)
        h = self.norm1(self.conv1(x))
        h = self.norm3(self.conv2(self.norm2(self.pool1(h))))
        h = self.norm4(self.pool2(h))
        return self.act(self.full(h.reshape(len(h), -1)))

    @turn
    def forward(self, x):  # (N, 1, 28, 28) -> logits (N, 10)
        return self.read(self.features(x))

    @turn
    def backward(self, dlogits):  # (N, 10) -> (N, 1, 28, 28)
        like = self.read.cache
        dlogits = check.array("dlogits", dlogits, (len(like), 10), like.dtype)
        dh = self.full.backward(self.act.backward(self.read.backward(dlogits)))
        dh = self.pool2.backward(self.norm4.backward(dh.reshape(-1, 64, 7, 7)))
        dh = self.conv2.backward(self.norm3.backward(dh))
        dh = self.pool1.backward(self.norm2.backward(dh))
        return self.conv1.backward(self.norm1.backward(dh))


def cross_entropy(logits, labels):
    """Return (loss, dlogits): the mean of -log softmax(logits)[label], its gradient.

    Raises ValueError unless logits are (N, classes) and labels (N,) integers of these.

    >>> loss, dlogits = cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4), dlogits.tolist()  # log 4
    (1.3863, [[0.25, 0.25, -0.75, 0.25]])
    """
    logits = check.array("logits", logits, ("N", "classes"))
    labels = check.integers("labels", labels, 0, logits.shape[1] - 1, (len(logits),))
    shifted = logits - logits.max(axis=1, keepdims=True)  # exp cannot overflow
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    dlogits = np.exp(log_p)
    dlogits[rows, labels] -= 1
    return -float(log_p[rows, labels].mean()), dlogits / len(labels)


def in_batches(make, *arrays, batch=250):
    """Return make(*arrays), computed `batch` rows at a time.

    Each result is copied: make may write the next over it. Raises ValueError unless the
    arrays have as many rows, at least one, and make returns rows.

    >>> in_batches(np.add, np.arange(5), np.arange(5), batch=2).tolist()
    [0, 2, 4, 6, 8]
    """
    batch = check.integer("batch", batch, 1)
    arrays = [check.as_array("arrays", a, "arrays") for a in arrays]
    if not arrays or any(a.ndim == 0 or len(a) != len(arrays[0]) for a in arrays):
        check.refuse("arrays", [a.shape for a in arrays], "shapes with as many rows")
    starts = range(0, len(arrays[0]), batch)
    if not starts:
        check.refuse("arrays", [a.shape for a in arrays], "at least one row")
    check.function("make", make, "a function of as many arrays", takes=len(arrays))
    made = [np.array(make(*(a[i : i + batch] for a in arrays))) for i in starts]
    if made[0].ndim == 0:
        check.refuse("make", made[0][()], "a function that returns a row for each row")
    return np.concatenate(made)


def look(judge, images, batch=250):
    """Return the judge's features of images (N, 64), and the classes it reads (N,).

    Images are limited to [-1, 1] first, as they are when saved as a picture. Raises
    ValueError for images of another shape, and says how many values are NaN or
    infinite.
    """
    check.thing("judge", judge, "a Judge", "features", "read")
    batch = check.integer("batch", batch, 1)
    images = check.finite("images", check.array("images", images, ("N", 1, 28, 28)))
    images = np.clip(images, -1, 1).astype(np.float32)
    features = in_batches(judge.features, images, batch=batch)
    return features, judge.read(features).argmax(axis=1)


def frechet(a, b):
    """Return the (squared) Frechet distance of features (n, d) and (m, d).

    In float64. (C1 C2)^(1/2) has the trace of (C1^(1/2) C2 C1^(1/2))^(1/2), which is
    symmetric, so symmetric eigenvalues suffice. Raises ValueError if d differs, if
    a set has fewer than two rows, or for values that are NaN or infinite, with how
    many.

    >>> a = np.array([[0.0], [2.0]])  # mean 1, variance 2
    >>> round(frechet(a, 3 * a + 1), 9)  # (4 - 1)^2 + (sqrt(18) - sqrt(2))^2
    17.0
    """
    a = check.finite("a", check.array("a", a))
    b = check.finite("b", check.array("b", b))
    if a.ndim != 2 or a.shape[1:] != b.shape[1:] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features have shapes {a.shape} of a, {b.shape} of b, expected (n, d) and "
            f"(m, d) with n and m at least 2"
        )
    (m1, C1), (m2, C2) = _moments(a), _moments(b)
    values, vectors = np.linalg.eigh(C1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ C2 @ root), 0)).sum()
    return float(np.sum((m1 - m2) ** 2) + np.trace(C1) + np.trace(C2) - 2 * cross)


def _moments(features):
    features = features.astype(np.float64)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def standard_errors(score, rows, rng, draws=200):
    """Return the bootstrap's standard error of each value in the dict score(rows).

    rows: one for each image. As many are drawn again, with repeats, `draws` times; the
    error is the standard deviation of the scores (Efron 1979, Ann. Statist. 7(1)).
    Repeats raise a Frechet distance, so take its spread from here and not its mean.
    Raises ValueError for fewer than two rows or draws.

    >>> rng = np.random.default_rng(0)
    >>> coins = rng.integers(0, 2, 10_000)  # the error of their mean is 1 / 200
    >>> errors = standard_errors(lambda rows: {"mean": rows.mean()}, coins, rng)
    >>> round(errors["mean"], 3)
    0.005
    """
    check.function("score", score, "a function of rows", takes=1)
    rows = check.as_array("rows", rows, "an array")
    check.generator("rng", rng, "integers")
    draws = check.integer("draws", draws, 2)
    if rows.ndim == 0 or len(rows) < 2:
        check.refuse("rows", rows, "two rows or more")
    chosen = (rng.integers(0, len(rows), len(rows)) for _ in range(draws))
    drawn = [check.instance("score(rows)", score(rows[i]), dict) for i in chosen]
    return {key: float(np.std([s[key] for s in drawn], ddof=1)) for key in drawn[0]}


def confusion(asked, read, classes=10):
    """Return a table of counts: row, the class asked for; column, the class read.

    Raises ValueError unless both are integers in 0..classes - 1, as many of each.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), classes=2).tolist()
    [[1, 0], [1, 1]]
    """
    classes = check.integer("classes", classes, 1)
    asked = check.integers("asked", asked, 0, classes - 1)
    read = check.integers("read", read, 0, classes - 1, asked.shape)
    table = np.zeros((classes, classes), int)
    np.add.at(table, (asked, read), 1)
    return table


def spread(features, labels):
    """Return the variance within a class: how unlike the images of one class are.

    The variance of each feature about its class's mean, summed over features, averaged
    over images. Guidance lowers it. Images that are no digits raise it, so it says
    little where few are read as asked. Raises ValueError unless features are (n, d) and
    finite, labels (n,) integers.

    >>> spread(np.array([[1.0], [3.0], [7.0], [7.0]]), np.array([0, 0, 1, 1]))
    0.5
    """
    features = check.finite("features", check.array("features", features, ("n", "d")))
    labels = check.integers("labels", labels, 0, shape=(len(features),))
    classes = np.unique(labels)
    means = np.stack([features[labels == c].mean(axis=0) for c in classes])
    away = features - means[np.searchsorted(classes, labels)]
    return float(np.mean(np.sum(away * away, axis=1)))


def matching(labels, others):
    """Return indices, no two alike, such that others[indices] equals labels.

    Raises ValueError if others has not enough of a class, or for what is no integer.

    >>> matching(np.array([1, 0, 1]), np.array([0, 0, 1, 1, 1])).tolist()
    [2, 0, 3]
    """
    labels, others = (
        check.integers("labels", labels, 0),
        check.integers("others", others, 0),
    )
    indices = np.empty(len(labels), int)
    for c in np.unique(labels):
        wanted, there = np.flatnonzero(labels == c), np.flatnonzero(others == c)
        if len(there) < len(wanted):
            raise ValueError(
                f"others has {len(there)} of class {c}, expected {len(wanted)}"
            )
        indices[wanted] = there[: len(wanted)]
    return indices


class ScoreCard:
    """n real digits, with which as many generated ones are compared.

    judge: a trained Judge. images, labels: n digits that it was not trained on.
    training: (images, labels) of other real digits, of which as many of each class are
    taken as `labels` has; their distance to `images` is `floor`. Raises ValueError if
    training has too few of a class.
    """

    def __init__(self, judge, images, labels, training):
        labels = check.integers("labels", labels, 0, 9)
        if len(check.array("images", images, ("n", ...))) != len(labels):
            check.refuse("images", images, f"{len(labels)}, as many as labels")
        if not isinstance(training, tuple | list) or len(training) != 2:
            check.refuse("training", training, "(images, labels)")
        others = check.array("training", training[0], ("n", 1, 28, 28))
        kinds = check.integers("training", training[1], 0, 9, (len(others),))
        self.judge, self.labels = judge, labels
        self.features, _ = look(judge, images)
        self.spread = spread(self.features, labels)
        others = others[matching(labels, kinds)]
        self.floor = frechet(self.features, look(judge, others)[0])

    @classmethod
    def of_mnist(cls, judge, n, folder=None, seed=0):
        """Return a card of n test digits, drawn from all, and of training digits.

        folder: of the official MNIST files; None is the subset of the package. seed:
        for the draw; the first n would not do, as the first half of the official test
        set is the cleaner one. Raises ValueError if there are fewer than n.
        """
        n, seed = check.integer("n", n, 1), check.integer("seed", seed, 0, 2**62)
        rng, parts = np.random.default_rng(seed), []
        for split in ("test", "train"):
            images, labels = data.mnist(split, folder=folder)
            check.integer("n", n, 1, len(labels))
            order = rng.permutation(len(labels))
            parts.append((images[order], labels[order]))
        (images, labels), training = parts
        return cls(judge, images[:n], labels[:n], training)

    def score(self, images, rng=None):
        """Return distance, share and spread of images that were asked to be `labels`.

        distance: to the real digits. share: the share that is read as asked. spread:
        the variance within a class, divided by that of the real digits. With rng, a
        Generator, distance_error and share_error too: their `standard_errors` over
        images. The real digits stay, so it is the error of one sampler beside another.
        """
        features, read = look(self.judge, images)
        if len(read) != len(self.labels):
            check.refuse("images", images, f"{len(self.labels)}, as many as labels")

        def score(rows):
            share = float(np.mean(read[rows] == self.labels[rows]))
            return {"distance": frechet(features[rows], self.features), "share": share}

        rows = np.arange(len(read))
        found = score(rows) | {"spread": spread(features, self.labels) / self.spread}
        if rng is None:
            return found
        errors = standard_errors(score, rows, rng)
        return found | {f"{key}_error": value for key, value in errors.items()}
