"""Random numbers of NumPy and torch, replaced while a check runs and then put back.

A `Draws` decides what every draw returns: zeros, or ones at chosen places. It takes the
place of the module functions, of Generators made inside the loop, and of Generators and
functions that the loop reaches through globals, closures, attributes and defaults.
"""

import contextlib
import functools
import sys
import types

import numpy as np

UNIFORM = 0.5  # the mean of a uniform number, returned where nothing else is asked for
FOREIGN = ("numpy", "torch", "builtins", "importlib", "nanodiff.laws")


class Draws:
    """What the loop drew, and what it was given.

    size: numbers in one x_t, or None if not yet known. fill(k): the flat array of the
    k-th draw of that size; None gives zeros. grouped: whether a draw for one image
    counts as a row of a draw, `rows` of which make one.
    """

    def __init__(self, size=None, fill=None, image=None, odd=0.0):
        self.size, self.fill, self.image, self.odd = size, fill, image, odd
        self.calls, self.count, self.row = 0, 0, 0
        self.log = []  # (shape, model calls before it, uniform?, seed and place)
        self.slots = []  # the same without the shape, for each draw of full size
        self.place = None

    def array(self, shape, uniform=False, stream=None):
        shape = tuple(int(n) for n in shape)
        total, base = int(np.prod(shape)), UNIFORM if uniform else 0.0
        self.place = stream.next(total) if stream is not None else None
        self.log.append((shape, self.calls, uniform, self.place))
        flat = np.full(total, base)
        if self.size and total and total % self.size == 0:
            for i, part in enumerate(flat.reshape(-1, self.size)):
                self._slot(part, uniform)
                self.place = self.place and (*self.place[:3], i + 1)
        elif self.image == shape:
            self._row(flat, uniform)
        else:
            self._odd(flat, uniform)
        return flat.reshape(shape)

    def _odd(self, flat, uniform):
        if not callable(self.odd):
            flat += self.odd
        elif not uniform:
            flat += self.odd(len(flat))

    def _slot(self, part, uniform):
        if self.fill is not None:
            part += self.fill(self.count)
        self.slots.append((self.calls, uniform, self.place))
        self.count += 1

    def _row(self, part, uniform):
        rows = self.size // len(part)
        if self.fill is not None:
            part += self.fill(self.count).reshape(rows, -1)[self.row]
        if self.row == 0:
            self.slots.append((self.calls, uniform, self.place))
        self.row = (self.row + 1) % rows
        self.count += self.row == 0


class Kept:
    """Takes the place of a Stream whose next place is known."""

    def __init__(self, place):
        self.place = place

    def next(self, count):
        return self.place


class Stream:
    """The numbers that follow from one seed: equal places are equal numbers."""

    def __init__(self, kind, seed=None):
        self.kind, self.position = kind, 0
        self.seed = seed if isinstance(seed, int | np.integer) else None

    def next(self, count):
        here = (self.kind, self.seed, self.position)
        self.position += count
        return None if self.seed is None else here


def _shape(size):
    return () if size is None else tuple(np.atleast_1d(size).tolist())


def _numpy_fakes(draws):
    """A Generator and a RandomState whose numbers come from draws."""

    def normal(self, loc=0.0, scale=1.0, size=None):
        shape = np.broadcast(loc, scale).shape if size is None else _shape(size)
        return loc + scale * _plain(draws.array(shape, False, self.stream))

    def uniform(self, low=0.0, high=1.0, size=None):
        shape = np.broadcast(low, high).shape if size is None else _shape(size)
        return low + (high - low) * _plain(draws.array(shape, True, self.stream))

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        shape = _shape(size if out is None else out.shape)
        return _into(draws.array(shape, False, self.stream), dtype, out)

    def random(self, size=None, dtype=np.float64, out=None):
        shape = _shape(size if out is None else out.shape)
        return _into(draws.array(shape, True, self.stream), dtype, out)

    def randn(self, *shape):
        return _plain(draws.array(shape, False, self.stream))

    def rand(self, *shape):
        return _plain(draws.array(shape, True, self.stream))

    def seed(self, seed=None):  # the real states stay as they were
        self.stream = Stream("RandomState", seed)

    def state(self, seed=None):
        np.random.mtrand.RandomState.__init__(self, 0)
        self.stream = Stream("RandomState", seed)

    both = {
        "normal": normal,
        "uniform": uniform,
        "random": random,
        "standard_normal": standard_normal,
        "stream": None,
    }
    old = {
        "__init__": state,
        "randn": randn,
        "rand": rand,
        "random_sample": random,
        "seed": seed,
    }
    Generator = type("Generator", (np.random.Generator,), both)
    RandomState = type("RandomState", (np.random.RandomState,), both | old)
    return Generator, RandomState


def _plain(array):
    return array if array.shape else float(array)


def _into(array, dtype, out):
    if out is None:
        return _plain(array.astype(dtype))
    out[...] = array
    return out


def _torch_fakes(torch, draws):
    """Replacements by (owner, name) for the functions of torch."""

    streams = [None]

    def manual_seed(seed):
        streams[0] = Stream("torch", seed)
        return torch.default_generator

    def tensor(shape, uniform=False, dtype=None, device=None, generator=None, **_):
        stream = streams[0] if generator is None else None
        array = draws.array(shape, uniform, stream)
        dtype = dtype or torch.get_default_dtype()
        return torch.from_numpy(array).to(dtype=dtype, device=device)

    def maker(uniform):
        def make(*size, out=None, **kw):
            size = kw.pop("size", size)
            if len(size) == 1 and not isinstance(size[0], int):
                size = size[0]
            made = tensor(size, uniform, **kw)
            return made if out is None else out.copy_(made)

        return make

    def like(uniform):
        def make(x, dtype=None, device=None, **_):
            return tensor(x.shape, uniform, dtype or x.dtype, device or x.device)

        return make

    def normal(mean=0.0, std=1.0, size=None, **kw):
        if size is None:
            size = torch.broadcast_shapes(
                *(getattr(v, "shape", ()) for v in (mean, std))
            )
        return mean + std * tensor(size, **kw)

    def normal_(self, mean=0.0, std=1.0, **_):
        return self.copy_(mean + std * tensor(self.shape))

    def uniform_(self, low=0.0, high=1.0, **_):
        return self.copy_(low + (high - low) * tensor(self.shape, uniform=True))

    return {
        (torch, "randn"): maker(False),
        (torch, "rand"): maker(True),
        (torch, "randn_like"): like(False),
        (torch, "rand_like"): like(True),
        (torch, "normal"): normal,
        (torch, "manual_seed"): manual_seed,
        (torch.Tensor, "normal_"): normal_,
        (torch.Tensor, "uniform_"): uniform_,
    }


@contextlib.contextmanager
def replaced(draws, *reached_from):
    """Inside, every normal or uniform number comes from draws.

    reached_from: functions or objects from which Generators made before are found.
    """
    Generator, RandomState = _numpy_fakes(draws)
    rng, state = Generator(np.random.PCG64(0)), RandomState()

    def default_rng(seed=None):
        made = Generator(np.random.PCG64(0))
        made.stream = Stream("Generator", seed)
        return made

    fakes = {
        (np.random, name): getattr(state, name)
        for name in (
            "randn",
            "rand",
            "normal",
            "uniform",
            "random",
            "random_sample",
            "seed",
            "standard_normal",
        )
    }
    fakes |= {
        (np.random, "ranf"): state.random,
        (np.random, "sample"): state.random,
        (np.random, "default_rng"): default_rng,
        (np.random, "Generator"): Generator,
        (np.random, "RandomState"): RandomState,
    }
    if (torch := sys.modules.get("torch")) is not None:
        fakes |= _torch_fakes(torch, draws)
    known = {id(getattr(owner, name)): fake for (owner, name), fake in fakes.items()}

    def swap(value):
        if isinstance(value, np.random.Generator):
            return rng
        if isinstance(value, np.random.RandomState):
            return state
        owner = getattr(value, "__self__", None)
        if isinstance(owner, np.random.Generator | np.random.RandomState):
            return getattr(swap(owner), value.__name__, None)
        return known.get(id(value))

    with contextlib.ExitStack() as undo:
        # what is reached first: the walk compares with the functions as they were
        for root in reached_from:
            _walk(root, swap, undo, set())
        for (owner, name), fake in fakes.items():
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, fake)
        yield


def _walk(thing, swap, undo, seen):
    """Swap what is reached from a function or an object; undo gets the way back."""
    if id(thing) in seen or len(seen) > 5000:
        return
    seen.add(id(thing))

    def each(pairs, put):
        for key, value in list(pairs):
            if (new := swap(value)) is not None:
                undo.callback(put, key, value)
                put(key, new)
            else:
                _walk(value, swap, undo, seen)

    if isinstance(thing, types.FunctionType):
        each(
            [(c, c.cell_contents) for c in thing.__closure__ or () if _filled(c)],
            lambda cell, value: setattr(cell, "cell_contents", value),
        )
        if _foreign(thing.__module__):
            return
        names = set(_names(thing.__code__))
        space = thing.__globals__
        each([(n, space[n]) for n in names & space.keys()], space.__setitem__)
        for module in [space[n] for n in names & space.keys()]:
            if isinstance(module, types.ModuleType) and not _foreign(module.__name__):
                there = vars(module)
                each([(n, there[n]) for n in names & there.keys()], there.__setitem__)
        if thing.__defaults__:
            new = tuple(v if swap(v) is None else swap(v) for v in thing.__defaults__)
            undo.callback(setattr, thing, "__defaults__", thing.__defaults__)
            thing.__defaults__ = new
        if thing.__kwdefaults__:
            each(thing.__kwdefaults__.items(), thing.__kwdefaults__.__setitem__)
    elif isinstance(thing, types.MethodType):
        _walk(thing.__func__, swap, undo, seen)
        _walk(thing.__self__, swap, undo, seen)
    elif isinstance(thing, functools.partial):
        old = thing.__reduce__()[2]
        args = tuple(v if swap(v) is None else swap(v) for v in thing.args)
        undo.callback(thing.__setstate__, old)
        thing.__setstate__((thing.func, args, dict(thing.keywords), vars(thing)))
        _walk(thing.func, swap, undo, seen)
        for value in args:
            _walk(value, swap, undo, seen)
        each(thing.keywords.items(), thing.keywords.__setitem__)
    elif isinstance(thing, dict | list) and len(thing) > 1000:
        return  # data, not a place where one keeps a Generator
    elif isinstance(thing, dict):
        each(thing.items(), thing.__setitem__)
    elif isinstance(thing, list):
        each(enumerate(thing), thing.__setitem__)
    elif isinstance(thing, type):
        if not _foreign(thing.__module__):
            for value in list(vars(thing).values()):
                value = getattr(value, "__func__", value)  # static and class methods
                value = getattr(value, "__wrapped__", value)
                _walk(value, swap, undo, seen)
    elif not _foreign(type(thing).__module__) and hasattr(thing, "__dict__"):
        _walk(type(thing), swap, undo, seen)
        if not isinstance(thing, types.ModuleType):
            each(vars(thing).items(), vars(thing).__setitem__)


def _foreign(module):
    return any(
        (module or "").split(".")[0] == f
        or (module or "").startswith(f + ".")
        or module == f
        for f in FOREIGN
    )


def _filled(cell):
    try:
        return cell.cell_contents is not None
    except ValueError:  # not yet assigned
        return False


def _names(code):
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names(const)
