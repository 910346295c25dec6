"""The training loop: show the network noisy images, ask for the noise, improve it.

    repeat: x0 from the data, t in 1..T, eps standard normal
            a step down the gradient of mean (eps - model(x_t, t))^2,
            x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps

Ho, Jain, Abbeel 2020 (DDPM), arXiv 2006.11239, Algorithm 1 and Eq. 14 (L_simple).

Shapes: x0, xt, eps (N, ...); t (N,); context (N, features).
"""

from dataclasses import dataclass

import numpy as np

from nanodiff import check
from nanodiff.optim import OPTIMIZERS, clip_gradients, learning_rate
from nanodiff.parallel import ALONE
from nanodiff.prediction import KINDS, min_snr, target
from nanodiff.schedule import q_sample, times


@dataclass(frozen=True)
class Recipe:
    """How long and how boldly to train.

    steps: of the whole run. batch: images a step. lr: peak learning rate, reached after
    `warmup` steps and then falling to 0 as a cosine. drop: the share of contexts that
    are set to zero, so that the network also learns to do without (Ho, Salimans 2022,
    arXiv 2207.12598, Algorithm 1). max_norm: longer gradients are shortened to it.
    predicts: what the network learns to say, one of `prediction.KINDS`. focus: (share,
    first, last), the share of times that are drawn from first..last; the others, and
    without a focus all, are uniform in 1..T. min_snr: the gamma of
    `prediction.min_snr`, which weighs the loss of each image, or None for the weight 1.
    optimizer: one of `optim.OPTIMIZERS`, which a `Run` makes; `train` itself takes the
    one it is given.

    Values are kept as Python's own, whatever the width of NumPy's. Raises ValueError if
    one is out of its range.
    """

    steps: int = 1500
    batch: int = 32
    lr: float = 2e-3
    warmup: int = 100
    drop: float = 0.1
    max_norm: float = 1.0
    predicts: str = "eps"
    focus: tuple | None = None
    optimizer: str = "adam"
    min_snr: float | None = None

    def __post_init__(self):
        steps = check.integer("steps", self.steps, 1)
        self._keep(
            steps=steps,
            batch=check.integer("batch", self.batch, 1),
            lr=check.number("lr", self.lr, above=0),
            warmup=check.integer("warmup", self.warmup, 0, steps - 1, "steps - 1"),
            drop=check.number("drop", self.drop, 0, 1),
            max_norm=check.number("max_norm", self.max_norm, above=0),
            predicts=check.choice("predicts", self.predicts, KINDS),
            optimizer=check.choice("optimizer", self.optimizer, OPTIMIZERS),
            focus=None if self.focus is None else _focus(self.focus),
        )
        if self.min_snr is not None:
            self._keep(min_snr=check.number("min_snr", self.min_snr, above=0))

    def _keep(self, **values):
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the class is frozen


def _focus(focus):
    """(share, first, last) as Python's own numbers."""
    focus = focus.tolist() if isinstance(focus, np.ndarray) else focus
    if isinstance(focus, list | tuple) and len(focus) == 3:
        try:
            share = check.number("share", focus[0], 0, 1)
            first = check.integer("first", focus[1], 1)
            return share, first, check.integer("last", focus[2], first)
        except ValueError:
            pass
    return check.refuse(
        "focus", focus, "(share, first, last) with 0 <= share <= 1 and integers 1 <= "
        "first <= last"
    )  # fmt: skip


def train(
    model, schedule, images, context, recipe, *, rng, optimizer, ema, first=0,
    team=ALONE,
):  # fmt: skip
    """Train for steps first..recipe.steps - 1, yielding (step, loss) after each.

    The loss is the mean without weights, so those of any min_snr can be compared.

    model: a network with `forward(xt, t, context)`, `backward(d_eps)`, `named_grads()`.
    images: (n, ...), about [-1, 1]; context: (n, features), or None. rng: a
    `np.random.Generator`, for the batch, t, eps and the dropped contexts. optimizer,
    ema: of the model's parameters. team: the processes that share the batches, see
    `parallel`; each calls this with the same arguments.

    What rng, optimizer, ema and the model hold after step k is all that step k + 1
    depends on: a run may stop there and go on with first = k + 1, bit for bit.

    Raises ValueError, at once, for data as `check_data` does, if the recipe's focus is
    not within 1..T, if its min_snr is asked of eps where alpha_bar is 0, or anything
    else does not fit; later, before any weight has changed, if the output has not the
    shape of x0, and FloatingPointError if the loss or a gradient is not finite.
    """
    schedule, (images, context) = check.schedule(schedule), check_data(images, context)
    needed = "steps", "batch", "focus", "predicts", "min_snr"
    check.thing("recipe", recipe, "a Recipe", *needed)
    if recipe.focus is not None and recipe.focus[2] > schedule.T:
        raise ValueError(f"focus is {recipe.focus}, expected times in 1..{schedule.T}")
    if recipe.min_snr is not None:
        min_snr(schedule, schedule.T, images[:1], recipe.min_snr, recipe.predicts)
    for dtype in {g.dtype for g in check.network(model).named_grads().values()}:
        check.array("images", images, dtype=dtype)
    check.generator("rng", rng, "integers", "standard_normal", "random")
    check.thing("optimizer", optimizer, "an optimiser, such as Adam", "step")
    check.function("optimizer.step", optimizer.step, "a function of grads and lr")
    check.thing("ema", ema, "an EMA", "update")
    first = check.integer("first", first, 0)
    check.thing("team", team, "a Team", "rows", "share", "mean")
    team.rows("batch", recipe.batch)  # or ValueError: a row for each process
    return _train(
        model, schedule, images, context, recipe, rng, optimizer, ema, first, team
    )  # fmt: skip


def _train(model, schedule, images, context, recipe, rng, optimizer, ema, first, team):
    grads = model.named_grads()
    for step in range(first, recipe.steps):
        batch = _batch(images, context, schedule.T, recipe, rng)
        x0, t, eps, given = team.share(*batch)
        error = _error(model.forward, schedule, x0, t, eps, given, recipe.predicts)
        loss = float(np.mean(error * error))
        model.backward(_gradient(error, schedule, t, recipe))
        loss = team.mean(loss, grads, len(x0) / recipe.batch)

        norm = clip_gradients(grads, recipe.max_norm)
        if not np.isfinite(loss) or not np.isfinite(norm):
            raise FloatingPointError(
                f"at step {step} the loss is {loss} and its gradient's norm {norm}; "
                f"the weights are those of step - 1; try a lower lr than {recipe.lr}"
            )
        rate = learning_rate(step, recipe.steps, recipe.lr, recipe.warmup)
        optimizer.step(grads, rate)
        ema.update()
        yield step, loss


def check_data(images, context):
    """Return images and context as arrays, or raise ValueError if they cannot be right.

    images: finite, of about unit size: none beyond 16, and pixels not within 0..1.
    context: None, or a row of numbers for each image.

    >>> check_data(np.zeros((3, 1, 4, 4), np.float32), np.array([7, 2, 1]))
    Traceback (most recent call last):
        ...
    ValueError: context has shape (3,), expected (3, features): labels? see one_hot
    """
    images = check.array("images", images, ("n", "features", ...))
    low, high = check.finite("images", images).min(), images.max()
    if max(-low, high) > 16 or (images.ndim == 4 and low >= 0 and high > 0.5):
        raise ValueError(
            f"images go from {low:g} to {high:g}, expected about -1..1: pixels of 0..1 "
            f"are 2 x - 1, of 0..255 x / 127.5 - 1"
        )
    if context is None:
        return images, None
    rows = len(images)
    if check.as_array("context", context, "an array (n, features)").ndim == 1:
        raise ValueError(
            f"context has shape {np.shape(context)}, expected ({rows}, features): "
            f"labels? see one_hot"
        )
    context = check.finite("context", check.context("context", context, "n"))
    if len(context) != rows:
        raise ValueError(f"context has {len(context)} rows, expected {rows}")
    return images, context


def loss_of(model, schedule, images, context, predicts, rng, batch=64):
    """Return the mean loss of images at random times, (1 / n) sum (target - output)^2.

    model: says what it predicts. With an rng of the same seed the times and the noise
    are the same, so that what differs is the model or the images. Raises ValueError for
    data as `check_data` does, and for what else does not fit.
    """
    check.function("model", model, "a function of xt, t and context", 3)
    check.schedule(schedule), check.choice("predicts", predicts, KINDS)
    images, context = check_data(images, context)
    check.generator("rng", rng, "integers", "standard_normal")
    batch, total = check.integer("batch", batch, 1), 0.0
    for i in range(0, len(images), batch):
        x0, given = images[i : i + batch], None
        if context is not None:
            given = context[i : i + batch]
        t = rng.integers(1, schedule.T + 1, size=len(x0))
        eps = _noise(x0, rng)
        error = _error(model, schedule, x0, t, eps, given, predicts)
        total += float(np.mean(error * error)) * len(x0)
    return total / len(images)


def _batch(images, context, T, recipe, rng):
    """x0, t, eps and the contexts of a step, or None for these."""
    i = rng.integers(len(images), size=recipe.batch)
    x0, t = images[i], _times(T, recipe, rng)
    eps = _noise(x0, rng)
    return x0, t, eps, None if context is None else _drop(context[i], recipe.drop, rng)


def _noise(x0, rng):
    """eps, of the shape and dtype of x0."""
    return rng.standard_normal(x0.shape).astype(x0.dtype)


def _error(model, schedule, x0, t, eps, given, predicts):
    """What the model says of x_t, less what it should say."""
    output = model(q_sample(schedule, x0, t, eps), t, given)
    output = check.array("the model's output", output, x0.shape)
    return output - target(schedule, x0, t, eps, predicts)


def _gradient(error, schedule, t, recipe):
    """dL/doutput, of the loss L = mean weight error^2."""
    gradient = 2 / error.size * error
    if recipe.min_snr is None:
        return gradient
    weight = min_snr(schedule, t, error, recipe.min_snr, recipe.predicts)
    return times(weight, gradient)


def _times(T, recipe, rng):
    """The times of a batch, (batch,)."""
    t = rng.integers(1, T + 1, size=recipe.batch)
    if recipe.focus is None:
        return t
    share, first, last = recipe.focus
    focused = rng.integers(first, last + 1, size=recipe.batch)
    return np.where(rng.random(recipe.batch) < share, focused, t)


def _drop(context, share, rng):
    """The contexts, a share of them replaced by zeros."""
    keep = rng.random(len(context)) >= share
    return context * keep[:, None].astype(context.dtype)
