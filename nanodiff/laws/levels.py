"""How much signal and noise an x_t holds, for the time that a model is called with."""

import sys
import warnings

import numpy as np

from nanodiff.laws.impulse import as_numpy
from nanodiff.laws.randomness import Draws, replaced


def table_of(alpha_bar, name="alpha_bar"):
    """The table as float64 (T,), or ValueError."""
    table = as_numpy(alpha_bar)
    if table.ndim != 1 or not table.size:
        raise ValueError(f"{name} has shape {table.shape}, expected (T,) or (T + 1,)")
    return table


def levels_table(alpha_bar):
    """The table, if it can be one of alpha_bar; or ValueError."""
    table = table_of(alpha_bar)
    bad = ~((table >= 0) & (table <= 1))
    if bad.any():
        raise ValueError(
            f"alpha_bar holds {table[bad][0]:.4g}, expected values in 0..1"
        )
    return table


class Levels:
    """level(t) -> (a, b) of x_t = a x_0 + b eps, from a table, a function or q_sample.

    last: the time of the noisiest level and quietest: the (a, b) of the first noisy
    step, where a table tells them; otherwise None. note: how the times were read.
    """

    def __init__(self, alpha_bar, q_sample, times, first, time):
        self.note, self.last, self.quietest, self.beyond = "", None, None, set()
        self.time = time or (lambda t: t)
        self.known = {}
        if alpha_bar is None:
            self.read = lambda t: measured_level(q_sample, t)
        elif callable(alpha_bar):
            self.read = lambda t: _pair(_answer(alpha_bar, t), t)
        else:
            self._table(levels_table(alpha_bar), times, first)
        self.q_sample = q_sample if alpha_bar is not None else None

    def __call__(self, t):
        if t not in self.known:
            self.known[t] = self.read(t)
        return self.known[t]

    def _table(self, table, times, first):
        if first is None:
            seen = [self.time(t) for t in times]
            one_based = (
                table[0] < 1 and seen and max(seen) == len(table) and min(seen) >= 1
            )
            first = int(one_based)
            if one_based:
                self.note = f"times are read as 1..{len(table)}"
        noisy = table[table < 1]
        if len(noisy):
            self.quietest = np.sqrt(noisy[0]), np.sqrt(1 - noisy[0])
        self.table, self.first = table, first
        self.last = len(table) - 1 + first
        self.read = self._entry

    def _entry(self, t):
        index = self.time(t) - self.first
        i = int(np.round(index))
        if abs(index - i) > 1e-3 or i >= len(self.table):
            raise ValueError(
                f"the model was called with t = {t:g}, expected an index "
                f"{self.first}..{self.last} of alpha_bar; `time`, a function from what "
                f"the model is called with to the index, or `first` says how to read it"
            )
        if i < 0 and self.first == 0:
            self.beyond.add(t)
        if i < 0:
            return 1.0, 0.0
        return float(np.sqrt(self.table[i])), float(np.sqrt(1 - self.table[i]))

    def landing(self, a):
        """The time at which the table has this signal a, or None."""
        if self.last is None:
            return None
        return self.first + int(np.argmin(np.abs(np.sqrt(self.table) - a)))


def _answer(alpha_bar, t):
    """alpha_bar(t), with t an int where it is whole, or else a tensor."""
    t = int(t) if t == int(t) else t
    try:
        return alpha_bar(t)
    except (TypeError, AttributeError):
        if (torch := sys.modules.get("torch")) is None:
            raise
        return alpha_bar(torch.tensor(t))


def _pair(found, t):
    several = isinstance(found, tuple | list) or getattr(found, "ndim", 0)
    values = [as_numpy(v).reshape(-1) for v in found] if several else []
    if len(values) != 2 or not all(len(v) for v in values):
        raise ValueError(f"alpha_bar({t:g}) is {found!r}, expected (a, b)")
    a, b = (float(v[0]) for v in values)
    return a, b


def measured_level(q_sample, t):
    """(a, b) that q_sample gives x_0 and eps at t; it may draw its own noise."""
    rows, errors = 3, []
    kinds = ["numpy"] + (["torch"] if "torch" in sys.modules else [])
    for kind in kinds:
        for given, many in ((True, True), (True, False), (False, True), (False, False)):
            try:
                x = _ask(q_sample, t, kind, given, many, rows)
            except Exception as error:  # another way of calling may fit
                errors.append(f"{type(error).__name__}: {error}")
                continue
            return float(x[1] - x[0]), float(x[2] - x[0])
    raise ValueError(
        f"q_sample(x0, t, eps) failed at t = {t:g} with x0 of shape (3, 1, 2, 2): "
        f"{errors[0][:200]}"
    )


def _ask(q_sample, t, kind, given, many, rows):
    shape = (rows, 1, 2, 2)
    x0, eps = np.zeros((2, *shape), np.float32)
    x0[1], eps[2] = 1, 1
    whole = float(t) == int(t)
    t = int(t) if whole else float(t)
    if many:
        t = np.full(rows, t)
    if kind == "torch":
        torch = sys.modules["torch"]
        x0, eps = torch.from_numpy(x0), torch.from_numpy(eps)
        t = torch.as_tensor(t)
    flat = eps.reshape(-1)
    draws = Draws(x0.reshape(-1).shape[0], lambda k: np.asarray(flat, np.float64))
    with replaced(draws, q_sample), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = q_sample(x0, t, eps) if given else q_sample(x0, t)
    if isinstance(made, tuple | list):
        made = made[0]
    x = as_numpy(made)
    if x.shape != shape:
        raise ValueError(f"it returned {x.shape}, expected {shape}")
    return x.reshape(rows, -1)[:, 0]
