"""Random numbers of NumPy and torch, replaced while a check runs and then put back.

`Draws` decides what each draw returns: zeros, or what a check asks for. `replaced` puts
it in the place of the functions of `TABLE`, of Generators made inside the loop, and of
Generators and functions that the loop reaches.
"""

import contextlib
import functools
import operator
import sys
import types

import numpy as np
from numpy.random import PCG64, Generator, RandomState, default_rng  # the real ones

TABLE = (  # owner, where the shape of the numbers stands, normal, uniform
    ("numpy", "dims", ["randn"], ["rand"]),
    (
        "numpy",
        "size",
        ["standard_normal"],
        ["random", "random_sample", "ranf", "sample"],
    ),
    ("numpy", "third", ["normal"], ["uniform"]),
    ("torch", "dims", ["randn"], ["rand"]),
    ("torch", "like", ["randn_like"], ["rand_like"]),
    ("torch", "third", ["normal"], []),
    ("Tensor", "in place", ["normal_"], ["uniform_"]),
)
HELD = {  # where else one can keep a Generator
    types.MethodType: ("__func__", "__self__"),
    functools.partial: ("func", "args", "keywords"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
}
LEAVE = ("numpy", "torch", "builtins", "importlib", "nanodiff.laws")  # not walked into


class Draws:
    """What the loop drew, and what it was given: 0, or 0.5 for a uniform number.

    size: numbers in one x_t. row: the shape of one image, if a draw for each image
    counts as a part of one draw. fill(k): added to the k-th draw of that size.
    other(n): added to a draw of n numbers, if they are no x_t.
    """

    def __init__(self, size=None, fill=None, row=None, other=np.zeros):
        self.size, self.row, self.other = size, row, other
        self.fill = fill or (lambda k: np.zeros(size))
        self.calls = 0  # of the model, so far
        self.log = []  # (shape, calls before it, uniform?) of each draw
        self.slots = []  # (uniform?, mark) of each draw that has a number k
        self.rows = []  # of the k-th draw, for the images that are to come

    def numbers(self, shape, uniform, marks):
        """The next draw. Equal marks tell that equal seeds were set before it."""
        shape = tuple(int(n) for n in shape)
        self.log.append((shape, self.calls, uniform))
        flat, mark = np.full(int(np.prod(shape)), 0.5 * uniform), marks.random()
        if self.size and flat.size and flat.size % self.size == 0:
            for i, part in enumerate(flat.reshape(-1, self.size)):
                part += self._next(uniform, (mark, i))
        elif self.row == shape:
            if not self.rows:
                self.rows = [*self._next(uniform, (mark, 0)).reshape(-1, flat.size)]
            flat += self.rows.pop(0)
        else:
            flat += self.other(flat.size) * (0.1 if uniform else 1.0)
        return flat.reshape(shape)

    def _next(self, uniform, mark):
        self.slots.append((uniform, mark))
        return self.fill(len(self.slots) - 1)


def _asked(how, uniform, args, kw):
    """(shape, shift, scale) of the numbers that a call of a function asks for."""

    def given(i, names, default):
        named = [kw[name] for name in names if name in kw]
        return (*named, *args[i : i + 1], default)[0]

    if how == "dims":
        size = kw.get("size", args)
        nested = len(size) == 1 and hasattr(size[0], "__len__")
        return tuple(size[0] if nested else size), 0.0, 1.0
    if how == "like":
        return given(0, ["input"], None).shape, 0.0, 1.0
    if how == "size":
        out, size = kw.get("out"), given(0, ["size"], None)
        return _shape(size) if out is None else out.shape, 0.0, 1.0
    i = int(how == "in place")
    shift = given(i, ["loc", "mean", "low", "from"], 0.0)
    scale = given(i + 1, ["scale", "std", "high", "to"], 1.0)
    size = args[0].shape if i else given(2, ["size"], None)
    if size is None:
        size = np.broadcast_shapes(np.shape(shift), np.shape(scale))
    return _shape(size), shift, scale - shift if uniform else scale


def _shape(size):
    return () if size is None else tuple(np.atleast_1d(size).tolist())


def _marks(seed=None):
    """Numbers that are equal after equal seeds, and otherwise differ."""
    return default_rng(seed if isinstance(seed, int | np.integer) else None)


def _made(make, owner):
    """make(where the shape stands, uniform?) for each name of an owner."""
    rows = [row[1:] for row in TABLE if row[0] == owner]
    normal = {name: make(how, False) for how, names, _ in rows for name in names}
    return normal | {name: make(how, True) for how, _, names in rows for name in names}


def _numpy_fakes(draws):
    """The replacements in numpy.random by name, and a Generator and a RandomState."""

    def method(how, uniform):
        def make(self, *args, **kw):
            shape, shift, scale = _asked(how, uniform, args, kw)
            made = shift + scale * draws.numbers(shape, uniform, self.marks)
            if kw.get("out") is not None:
                kw["out"][...] = made
                return kw["out"]
            dtype = (kw.get("dtype"), *args[1:2], None)[0] if how == "size" else None
            return made.astype(dtype or np.float64) if np.ndim(made) else float(made)

        return make

    def reseed(self, seed=None):  # the real state stays as it was
        self.marks = _marks(seed)

    def begin(self, seed=None):
        RandomState.__init__(self, 0)
        reseed(self, seed)

    def new(seed=None):
        made = Generators(PCG64(0))
        reseed(made, seed)
        return made

    methods = _made(method, "numpy")
    own = {name: make for name, make in methods.items() if hasattr(Generator, name)}
    Generators = type("Generator", (Generator,), own | {"marks": _marks()})
    methods |= {"seed": reseed}
    state = type("RandomState", (RandomState,), methods | {"__init__": begin})()
    fakes = {name: getattr(state, name) for name in methods}
    fakes |= {"default_rng": new, "Generator": Generators, "RandomState": type(state)}
    return fakes, new(), state


def _torch_fakes(torch, draws):
    """The replacements by (owner, name) for the functions of torch."""
    marks = [_marks()]

    def function(how, uniform):
        def make(*args, **kw):
            shape, shift, scale = _asked(how, uniform, args, kw)
            seeded = kw.get("generator") is None
            made = draws.numbers(shape, uniform, marks[0] if seeded else _marks())
            x = args[0] if how in ("like", "in place") else torch.empty(())
            device, dtype = kw.get("device") or x.device, kw.get("dtype") or x.dtype
            made = shift + scale * torch.from_numpy(made).to(device, dtype)
            out = x if how == "in place" else kw.get("out")
            return made if out is None else out.copy_(made)

        return make

    def manual_seed(seed):
        marks[0] = _marks(int(seed))
        return torch.default_generator

    both = {"torch": torch, "Tensor": torch.Tensor}
    made = {
        (owner, name): fake
        for key, owner in both.items()
        for name, fake in _made(function, key).items()
    }
    return made | {(torch, "manual_seed"): manual_seed}


@contextlib.contextmanager
def replaced(draws, reached_from):
    """Inside, every normal or uniform number comes from draws.

    reached_from: the function or object from which Generators made before are found, in
    globals, closures, attributes and defaults.
    """
    fakes, rng, state = _numpy_fakes(draws)
    fakes = {(np.random, name): fake for name, fake in fakes.items()}
    if (torch := sys.modules.get("torch")) is not None:
        fakes |= _torch_fakes(torch, draws)
    known = {id(getattr(owner, name)): fake for (owner, name), fake in fakes.items()}

    def swap(value):
        """What takes the place of value, or None."""
        if isinstance(value, Generator):
            return rng
        if isinstance(value, RandomState):
            return state
        if isinstance(value, tuple):
            new = tuple(v if swap(v) is None else swap(v) for v in value)
            return None if all(map(operator.is_, new, value)) else new
        owner = getattr(value, "__self__", None)
        if isinstance(owner, Generator | RandomState):
            return getattr(swap(owner), value.__name__, None)
        return known.get(id(value))

    with contextlib.ExitStack() as undo:
        # what is reached first: the walk compares with the functions as they were
        _walk(reached_from, swap, undo, set())
        for (owner, name), fake in fakes.items():
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, fake)
        yield


def _walk(thing, swap, undo, seen):
    """Swap what is reached from a function or an object; undo gets the way back."""
    if id(thing) in seen or len(seen) > 5000:
        return
    seen.add(id(thing))
    for key, value, put in list(_held(thing)):
        if put is not None and (new := swap(value)) is not None:
            undo.callback(put, key, value)
            put(key, new)
        else:
            _walk(value, swap, undo, seen)


def _held(thing):
    """(key, value, put) of what a thing holds; put(key, value) holds another."""
    if isinstance(thing, dict | list | tuple | types.MappingProxyType):
        pairs = enumerate(thing) if isinstance(thing, list | tuple) else thing.items()
        put = getattr(thing, "__setitem__", None)
        if len(thing) <= 1000:  # more are data, where nobody keeps a Generator
            yield from ((key, value, put) for key, value in pairs)
    elif type(thing) in HELD:
        yield from ((None, getattr(thing, name), None) for name in HELD[type(thing)])
    elif not isinstance(thing, types.ModuleType) and not _left(thing):
        if isinstance(thing, types.FunctionType):
            names, space = set(_names(thing.__code__)), thing.__globals__
            modules = [space[n] for n in names & space.keys()]
            modules = [m for m in modules if isinstance(m, types.ModuleType)]
            for there in [space, *(vars(m) for m in modules if not _left(m))]:
                yield from (
                    (n, there[n], there.__setitem__) for n in names & there.keys()
                )
            for cell in filter(_filled, thing.__closure__ or ()):
                yield "cell_contents", cell.cell_contents, cell.__setattr__
            yield "__defaults__", thing.__defaults__, thing.__setattr__
            yield None, thing.__kwdefaults__, None
        if hasattr(thing, "__dict__"):
            yield from ((None, held, None) for held in (vars(thing), type(thing)))


def _filled(cell):
    return cell != types.CellType()  # equal to one that is not yet assigned


def _left(thing):
    module = getattr(thing, "__module__", None) or getattr(thing, "__name__", "")
    return any(f"{module}.".startswith(f"{name}.") for name in LEAVE)


def _names(code):
    """The global names and attributes of a function and those inside it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)
