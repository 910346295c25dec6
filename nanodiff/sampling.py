"""Pictures of the classes one asks for, from a trained network, in one call.

It joins what the ideas keep apart: a context for each picture, guidance, noise, a
sampler.

Shapes: contexts (N, features); images (N, C, H, W), or whatever the network makes.
"""

import numpy as np

from nanodiff import check, ddim, ddpm, dpm, flow
from nanodiff.guidance import guide
from nanodiff.parallel import ALONE
from nanodiff.progress import progress
from nanodiff.respace import respace
from nanodiff.streams import Streams

SAMPLERS = ("ddim", "ddpm", "dpm", "flow")


def sample(
    found, classes=None, n=1, w=0.0, steps=50, *, rng, sampler="ddim", eta=0.0,
    shape=None, team=ALONE,
):  # fmt: skip
    """Return n pictures of each class, (classes x n, C, H, W), class after class.

    found: a `Pretrained`, of `pretrained` or `Run.trained`. classes: a list of names,
    labels or mixtures such as "star+circle"; None: all classes, or no context if there
    are none. w: weight of guidance, see `guide`. steps: at most T, each one call of
    the network, of "flow" two but the last. rng: a `np.random.Generator`, or the
    `Streams` of all the pictures. sampler, eta: see `draw`. shape: (C, H, W), for a
    checkpoint that does not know it. team: the processes that share the pictures, see
    `parallel`; all return all of them, and rng has to be Streams. Raises ValueError for
    a class that there is not, and as `draw` does.

    >>> from nanodiff.trained import pretrained
    >>> rng = np.random.default_rng(0)
    >>> sample(pretrained("mnist"), ["3", "3+8"], n=2, steps=2, rng=rng).shape
    (4, 1, 28, 28)
    """
    n, context = check.integer("n", n, 1), contexts(found, classes)
    each = None if context is None else np.repeat(context, n, axis=0)
    N, streams = n if each is None else len(each), isinstance(rng, Streams)
    if streams and len(rng) != N:
        check.refuse("rng", rng, f"Streams of {N} images")
    check.thing("team", team, "a Team", "rows", "gather")
    if team.size > 1 and not streams:
        check.refuse("rng", rng, "Streams, of which each process takes its own")
    mine, made = np.arange(N)[team.rows("n", N)], []
    for part in [mine] if each is None else np.array_split(mine, -(-len(mine) // 100)):
        *_, (_, xt) = draw(
            found, len(part) if each is None else each[part], w, steps,
            rng=rng[part[0] : part[-1] + 1] if streams else rng,
            sampler=sampler, eta=eta, shape=shape,
        )  # fmt: skip
        made.append(xt)
    return team.gather(np.concatenate(made))


def draw(found, context, w=0.0, steps=50, *, rng, sampler="ddim", eta=0.0, shape=None):
    """Return an iterator over (t, xt), with a progress bar: the frames of a film.

    context: (N, features), or the number of pictures N for a network without. sampler:
    "ddim", "ddpm" with beta_tilde, "dpm" for DPM-Solver++(2M), or "flow" for Heun's
    method on the straight line; eta: noise added back by DDIM, 0..1. The others: see
    `sample`. Raises ValueError, at once, for what does not fit.
    """
    _checked(found)
    check.generator("rng", rng)
    check.choice("sampler", sampler, SAMPLERS)
    eta, w = check.number("eta", eta, 0, 1), check.number("w", w)
    if sampler != "ddim" and eta:
        raise ValueError(f"eta is {eta}, expected 0: {sampler} has none, it is DDIM's")
    shape = found.shape if shape is None else shape
    if shape is None:
        raise ValueError("shape is None, expected (C, H, W): found does not know it")
    shape = tuple(check.integers("shape", shape, 1, check.WIDEST).tolist())
    model, noise, clip = found.model, found.schedule, 1.0 if len(shape) == 3 else None
    context = check.as_array("context", context, "an array, or how many pictures")
    if context.ndim:
        N, model = len(context), guide(model, context, w)
    else:
        N = check.integer("context", context, 1)
        if w:
            raise ValueError(f"w is {w}, expected 0 for a network without a context")
    xT = rng.standard_normal((N, *shape)).astype(np.float32)
    if sampler == "ddpm":
        model, noise = respace(model, noise, steps)
        loop = ddpm.sample(model, noise, xT, rng, clip=clip)
    elif sampler == "ddim":
        loop = ddim.sample(model, noise, xT, steps, eta, rng, clip)
    else:
        module = {"dpm": dpm, "flow": flow}[sampler]
        loop = module.sample(model, noise, xT, steps, clip=clip)
    return _with_bar(loop, sampler, steps)


def _with_bar(loop, name, steps):
    total = np.size(steps) - 1 or steps
    bar = progress(loop, "compiling kernels", total, leave=False)
    for t, xt in bar:
        bar.set_description(name, refresh=False)
        yield t, xt


def contexts(found, classes=None):
    """Return a context for each class, (classes, features), or None if there are none.

    A mixture such as "star+circle" is the mean of its parts.

    >>> from nanodiff.trained import pretrained
    >>> contexts(pretrained("sprites"), ["hero", 0, "hero+food"]).tolist()
    [[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0, 0.0]]
    """
    known = list(_checked(found).classes)
    if not known:
        if classes is not None:
            check.refuse("classes", classes, "None: there are none")
        return None
    if classes is None:
        classes = known
    if isinstance(classes, str):
        check.refuse("classes", classes, f"a list, as [{classes!r}]")
    row = isinstance(classes, np.ndarray) and classes.ndim == 1
    if not (row or isinstance(classes, list | tuple)) or not len(classes):
        check.refuse("classes", classes, "a list of names")
    one = np.eye(len(known), dtype=np.float32)
    return np.stack([
        np.mean([one[_label(known, name)] for name in _parts(known, mixture)], axis=0)
        for mixture in classes
    ])  # fmt: skip


def _checked(found):
    return check.thing("found", found, "a Pretrained", "model", "schedule", "classes")


def _parts(known, mixture):
    whole = not isinstance(mixture, str) or mixture in known
    return [mixture] if whole else [part.strip() for part in mixture.split("+")]


def _label(known, name):
    """The place of a class, given by its name, or by its label as an integer."""
    if isinstance(name, str) and name in known:
        return known.index(name)
    number = isinstance(name, int | np.integer)
    if number and not isinstance(name, check.NO_NUMBER) and 0 <= name < len(known):
        return int(name)
    raise ValueError(f"classes has {name!r}, expected one of {known}")
