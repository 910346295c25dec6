"""How much signal and noise an x_t holds, for the time that a model is called with."""

import itertools
import warnings

import numpy as np

from nanodiff.laws.impulse import arrays_or_tensors, as_numpy, last_array
from nanodiff.laws.randomness import Draws, replaced

VISIBLE, FLAGRANT = 2e-3, 0.02  # alpha_bar at the first call, and at T


def table_of(values, name="alpha_bar"):
    """The table as float64 (T,), or ValueError."""
    table = as_numpy(values)
    if table.ndim != 1 or not table.size:
        raise ValueError(f"{name} has shape {table.shape}, expected (T,) or (T + 1,)")
    return table


def levels_table(alpha_bar):
    """The table, if it can be one of alpha_bar; or ValueError."""
    table = table_of(alpha_bar)
    bad = table[~((table >= 0) & (table <= 1))]
    if len(bad):
        raise ValueError(f"alpha_bar holds {bad[0]:.4g}, expected values in 0..1")
    return table


class Levels:
    """level(t) -> (a, b) of x_t = a x_0 + b eps, from a table, a function or q_sample.

    last: the time of the noisiest level and quietest: the (a, b) of the first noisy
    step, where a table tells them; otherwise None. note: how the times were read.
    beyond: the times that were below those of the table.
    """

    def __init__(self, alpha_bar, q_sample=None, times=(), first=None, time=None):
        self.note, self.last, self.quietest, self.beyond = "", None, None, set()
        self.known, self.time = {}, time or (lambda t: t)
        self.q_sample = q_sample if alpha_bar is not None else None
        if alpha_bar is None:
            self.read = lambda t: measured_level(q_sample, t)
        elif callable(alpha_bar):
            self.read = lambda t: _pair(alpha_bar, t)
        else:
            self.read = self._entry
            self._table(levels_table(alpha_bar), [self.time(t) for t in times], first)

    def __call__(self, t):
        if t not in self.known:
            self.known[t] = self.read(t)
        return self.known[t]

    def _table(self, table, seen, first):
        T = len(table)
        if first is None:
            whole = bool(seen) and max(seen) == T and min(seen) >= 1
            first = int(whole and table[0] < 1)
            self.note = f"times are read as 1..{T}" if first else ""
        noisy = table[table < 1]
        if len(noisy):
            self.quietest = np.sqrt(noisy[0]), np.sqrt(1 - noisy[0])
        self.table, self.first, self.last = table, first, T - 1 + first

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
        alpha_bar = self.table[i] if i >= 0 else 1.0
        return float(np.sqrt(alpha_bar)), float(np.sqrt(1 - alpha_bar))

    def landing(self, a):
        """The time at which the table has this signal a, or None."""
        if self.last is None:
            return None
        return self.first + int(np.argmin(np.abs(np.sqrt(self.table) - a)))

    def leading(self, times):
        """Do times fall evenly from one step before the last, as many packages' do?"""
        falling = sorted(set(times), reverse=True)
        if len(falling) == 1:
            return self.last is not None and falling[0] <= self.first + 1
        gap = falling[0] - falling[1]
        beyond = falling[0] + gap * (1 - 1e-9)
        if not np.allclose(np.diff(falling), -gap, atol=1.0 if gap > 10 else 1e-3):
            return False
        if self.last is not None:
            return falling[0] < self.last <= beyond
        a, b = self.read(beyond)
        return a * a <= VISIBLE * (a * a + b * b)


def _pair(alpha_bar, t):
    """(a, b) from a function of t, an int where it is whole; or of a tensor."""
    for number in (lambda t: t, *arrays_or_tensors()[1:]):
        try:
            found = alpha_bar(number(int(t) if t == int(t) else t))
            break
        except (TypeError, AttributeError) as error:
            failed = error
    else:
        raise failed
    several = isinstance(found, tuple | list) or getattr(found, "ndim", 0)
    values = [as_numpy(v).reshape(-1) for v in found] if several else []
    if len(values) != 2 or not all(len(v) for v in values):
        raise ValueError(f"alpha_bar({t:g}) is {found!r}, expected (a, b)")
    return float(values[0][0]), float(values[1][0])


def measured_level(q_sample, t):
    """(a, b) that q_sample gives x_0 and eps at t, its own noise if it takes none."""
    return (ask(q_sample, t, True) or ask(q_sample, t, False, must=True))[:2]


def ask(q_sample, t, given, must=False):
    """(a, b, draws) of q_sample(x0, t, eps), or of q_sample(x0, t) if not given.

    None, or ValueError if it must, where no way of calling it works.
    """
    errors, shape = [], (3, 1, 2, 2)
    x0, eps = np.zeros((2, *shape), np.float32)
    x0[1], eps[2] = 1, 1
    t = int(t) if t == int(t) else float(t)
    for kind, times in itertools.product(arrays_or_tensors(), (np.full(3, t), t)):
        draws = Draws(eps.size, lambda k: eps.reshape(-1))
        try:
            with replaced(draws, q_sample), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = q_sample(kind(x0), kind(times), *[kind(eps)] * given)
            made = last_array(made)
            x = as_numpy(made).reshape(3, -1)[:, 0]
        except Exception as error:  # another way of calling may fit
            errors.append(f"{type(error).__name__}: {error}")
            continue
        return float(x[1] - x[0]), float(x[2] - x[0]), draws
    if must:
        raise ValueError(
            f"q_sample(x0, t, eps) failed at t = {t:g} with x0 of shape {shape}: "
            f"{errors[0][:200]}"
        )
