"""Is an argument what a function takes? One checker for each kind, one wording for all.

Each gets the name of the argument first. It returns the value, converted, or raises a
ValueError with the name, the value and what was expected: "t is 7, expected 1..5".
Numbers may be Python's or NumPy's, of any width. None looks at all values of an array
but `finite`.
"""

import errno
import inspect
import os

import numpy as np

NO_NUMBER = bool | np.timedelta64  # which are integers to Python and to NumPy


def refuse(name, value, expected):
    """Raise the ValueError that says it.

    >>> refuse("t", 7, "1..5")
    Traceback (most recent call last):
        ...
    ValueError: t is 7, expected 1..5
    """
    raise ValueError(f"{name} is {_said(value)[:200]}, expected {expected}")


def _said(value):
    if np.ma.isMaskedArray(value):
        return f"a masked array of shape {value.shape}"
    if isinstance(value, np.ndarray) and (value.size > 9 or value.ndim > 1):
        return f"an array of shape {value.shape}"
    try:  # NumPy's numbers as Python's
        return str(value) if isinstance(value, np.generic) else repr(value)
    except Exception:  # an integer of 5,000 digits, say
        return f"a {type(value).__name__}"


def number(name, value, low=None, high=None, above=None, below=None):
    """Return a finite number as a float; a bool is none. It may be low or high itself.

    >>> number("eta", np.float32(0.5), 0, 1)
    0.5
    """
    value = _scalar(value)
    real = isinstance(value, int | float | np.integer | np.floating)
    try:
        found = float(value) if real and not isinstance(value, NO_NUMBER) else np.nan
    except OverflowError:  # an int beyond float64
        found = np.nan
    if not np.isfinite(found):
        refuse(name, value, "a finite number")
    if above is not None and not found > above:
        refuse(name, value, f"above {above}")
    if below is not None and not found < below:
        refuse(name, value, f"below {below}")
    _inside(name, value, low, high)
    return found


LARGEST = 2**24  # of a count that has no other limit: what is made would fill memory
WIDEST = 2**16  # of the channels and features of a layer, and of a picture's sides


def integer(name, value, low, high=None, limit=""):
    """Return an integer of low..high as an int; no float, not even a whole one.

    A time of 333.3 would be cut where one of 300.0 passes. limit: what high is, for the
    message.

    >>> integer("steps", 51, 1, 50, "T")
    Traceback (most recent call last):
        ...
    ValueError: steps is 51, expected 1..T = 1..50
    """
    value = _scalar(value)
    if isinstance(value, NO_NUMBER) or not isinstance(value, int | np.integer):
        within = f" of at least {low}" if high is None else f" in {low}..{high}"
        refuse(name, value, f"an integer{within}")
    _inside(name, value, low, high, "an integer of ", limit)
    if high is None and value > LARGEST:
        refuse(name, value, f"at most {LARGEST}")
    return int(value)


def width(name, value, low=1):
    """Return how many channels or features, low..WIDEST."""
    return integer(name, value, low, WIDEST)


def even(name, value):
    """Return an even width: half of the features are cosines, half sines."""
    value = width(name, value, 2)
    return value if value % 2 == 0 else refuse(name, value, "an even number")


def divisor(name, value, n):
    """Return an integer above 0 that divides n, such as groups of n channels."""
    value = integer(name, value, 1)
    return value if n % value == 0 else refuse(name, value, f"a divisor of {n}")


def flag(name, value):
    """Return a Python or NumPy bool as a bool."""
    value = _scalar(value)
    if not isinstance(value, bool | np.bool_):
        refuse(name, value, "True or False")
    return bool(value)


def choice(name, value, known):
    """Return the one of the known strings or integers that equals the value."""
    value = _scalar(value)
    known_kind = isinstance(value, str | int | np.integer)
    if known_kind and not isinstance(value, NO_NUMBER):
        for one in known:
            if value == one:
                return one
    return refuse(name, value, f"one of {list(known)}")


def as_array(name, value, what):
    """Return an array of numbers or bools, from an array or lists of them."""
    if type(value) is np.ndarray and value.dtype.kind in "biufc":
        return value  # what layers pass on to each other, many times in a call
    try:
        found = np.asarray(value)
    except Exception:  # rows of different lengths, say, or a class of one's own
        refuse(name, value, what)
    known = found.dtype.kind in "biufc" and not np.ma.isMaskedArray(value)
    return found if known else refuse(name, value, what)


def array(name, value, shape=None, dtype=None):
    """Return an array of floats, perhaps of this shape and dtype.

    shape: integers, and a string for any size but 0; it may end in ..., for any sizes.

    >>> array("x0", [[1.0, 2.0]], ("N", ...)).shape
    (1, 2)
    """
    found = as_array(name, value, "an array of floats")
    if shape is not None:
        _shape(name, found, shape)
    if dtype is not None and found.dtype != dtype:
        raise ValueError(f"{name} has dtype {found.dtype}, expected {dtype}")
    if found.dtype.kind != "f":
        raise ValueError(f"{name} has dtype {found.dtype}, expected floats")
    return found


def reals(name, value, shape=None):
    """Return an array of numbers, floats or integers, as float64: tables, contexts."""
    return _of("fiu", "numbers", name, value, shape).astype(np.float64)


def context(name, value, rows="N", features="features"):
    """Return a context (N, features): floats as they are, integers as float32."""
    found = as_array(name, value, "an array (N, features)")
    found = found.astype(np.float32) if found.dtype.kind in "iu" else found
    return array(name, found, (rows, features))


def times(name, value, rows):
    """Return `rows` integers of at least 0, from one time or one for each row."""
    found = as_array(name, value, "an integer, or one for each image")
    if found.shape not in ((), (rows,)):
        raise ValueError(f"{name} has shape {found.shape}, expected () or ({rows},)")
    integers(name, found, 0, shape=found.shape)
    return np.broadcast_to(found, (rows,))


def integers(name, value, low, high=np.inf, shape=("N",)):
    """Return an array of integers in low..high, such as labels."""
    found = _of("iu", "integers", name, value, shape)
    if found.size and not (low <= found.min() and found.max() <= high):
        raise ValueError(
            f"{name} go from {found.min()} to {found.max()}, expected within "
            f"{low}..{high}"
        )
    return found


def alike(**arrays):
    """Return named arrays of floats, all of the first one's shape."""
    found = {name: array(name, value) for name, value in arrays.items()}
    (first, a), *others = found.items()
    for name, b in others:
        if b.shape != a.shape:
            raise ValueError(
                f"{name} has shape {b.shape}, expected {first}'s {a.shape}"
            )
    return list(found.values())


def series(name, value, shape=("n",)):
    """Return a finite array of numbers as float64, to be drawn."""
    return finite(name, reals(name, value, shape))


def instance(name, value, kind):
    """Return what is of a class, such as dict or str."""
    if not isinstance(value, kind):
        refuse(name, value, f"a {kind.__name__}")
    return value


def entries(name, value):
    """Return the entries of a dict that has some, as a list of (name, value)."""
    if not instance(name, value, dict):
        refuse(name, value, "a dict with entries")
    return list(value.items())


def arrays(name, value):
    """Return a dict of arrays of floats by name, as `Layer.named_params` gives it."""
    for key, one in instance(name, value, dict).items():
        if not isinstance(one, np.ndarray) or one.dtype.kind != "f":
            refuse(f"{name}[{key!r}]", one, "an array of floats")
    return value


def finite(name, value):
    """Return an array that has no NaN and nothing infinite; this looks at all of it."""
    bad = value.size - np.count_nonzero(np.isfinite(value))
    if bad:
        raise ValueError(
            f"{name} has {bad} of {value.size} values that are NaN or infinite, "
            f"expected finite ones"
        )
    return value


def at_least_two(name, value):
    """Return an array of two rows or more: of one, no spread can be estimated."""
    if len(value) < 2:
        raise ValueError(f"{name} has {len(value)} rows, expected at least 2")
    return value


def thing(name, value, what, *attributes):
    """Return a value that has these attributes: it may be of any class."""
    if isinstance(value, type) or not all(hasattr(value, a) for a in attributes):
        refuse(name, value, what)
    return value


def dtype(name, value):
    """Return NumPy's float32 or float64: what can be computed with."""
    try:
        found = np.dtype(value) if value is not None else None
    except Exception:
        found = None
    if found not in (np.float32, np.float64):
        refuse(name, value, "float32 or float64")
    return found


def network(value):
    """Return what `train` takes: forward, backward, named_grads."""
    methods = "forward", "backward", "named_grads"
    return thing("model", value, f"a network with {', '.join(methods)}", *methods)


def schedule(value):
    """Return a `Schedule`, or what has its tables."""
    tables = "T", "beta", "alpha", "alpha_bar", "beta_tilde"
    return thing("schedule", value, "a Schedule", *tables)


def function(name, value, what="a function of xt and t", takes=None):
    """Return what can be called; takes: with so many arguments, if Python knows.

    Knowing costs 15 to 30 microseconds, so it is asked before a loop and not in it.
    """
    if isinstance(value, type) or not callable(value):
        refuse(name, value, what)
    try:
        if takes is not None:
            inspect.signature(value).bind(*range(takes))
    except TypeError:
        refuse(name, value, what)
    except ValueError:  # some of C say nothing
        pass
    return value


def clip(value):
    """Return the limit of x0_hat, above 0, or None for no limit."""
    return None if value is None else number("clip", value, above=0)


def generator(name, value, *methods):
    """Return a np.random.Generator, or what has the methods of it that are needed."""
    what = "a Generator, such as np.random.default_rng(0)"
    return thing(name, value, what, *(methods or ("standard_normal",)))


def path(name, value, what="a path"):
    """Return the path of a file or folder, which need not be there: text or a Path."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        refuse(name, value, what)
    try:
        os.stat(value)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            refuse(name, str(value), f"{what}; this is too long")
    except ValueError as error:  # a character that no path has
        refuse(name, str(value), f"{what} ({error})")
    return value


def _of(kinds, what, name, value, shape):
    """An array of a dtype of these kinds, perhaps of this shape."""
    found = as_array(name, value, f"an array of {what}")
    if shape is not None:
        _shape(name, found, shape)
    if found.dtype.kind not in kinds:
        raise ValueError(f"{name} has dtype {found.dtype}, expected {what}")
    return found


def _scalar(value):
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _shape(name, found, shape):
    there, sizes, more = found.shape, shape, bool(shape) and shape[-1] is ...
    if more:
        sizes = shape[:-1]
        there = there[: len(sizes)]
    if len(there) == len(sizes):  # a loop: layers ask often, and `all` costs thrice
        for size, want in zip(there, sizes):  # noqa: B905, and `strict` a tenth
            if size != want and (size == 0 or not isinstance(want, str)):
                break
        else:
            return
    want = ", ".join([str(n) for n in sizes] + ["..."] * more)
    want += "," if len(shape) == 1 else ""
    rest = ", none of them 0" if any(isinstance(n, str) for n in sizes) else ""
    raise ValueError(f"{name} has shape {found.shape}, expected ({want}){rest}")


def _inside(name, value, low, high, kind="", limit=""):
    if (low is not None and value < low) or (high is not None and value > high):
        equal = f"{low}..{limit} = " if limit else ""
        one_sided = f"{kind}at least {low}" if low is not None else f"at most {high}"
        both = low is not None and high is not None
        refuse(name, value, f"{equal}{low}..{high}" if both else one_sided)
