"""All that is measured of a run: what the laws of samplers look at."""

from functools import cached_property

import numpy as np
from numpy.random import default_rng  # the real one, while a run has another

from nanodiff.laws import steps as theory
from nanodiff.laws.impulse import silent
from nanodiff.laws.steps import discretises, first_order, noise_error, recursion

MEAN, STD = 0.3, 0.5  # the data whose moments are told
POINT = 0.7  # and data that are one point
SEEN = 0.015  # two grey levels of 256, in [-1, 1]
SINGLE = 0.05  # an error of one step that no sum excuses
BEND = 5e-3  # a larger misfit is no rounding


def best_guess(n, x, a, b):
    """The rule of a model that knows data N(MEAN, STD^2)."""
    return MEAN + a * STD**2 / (a**2 * STD**2 + b**2) * (x - a * MEAN)


def far(moments, others):
    return float(np.abs(np.subtract(moments, others)).max())


class Evidence:
    """A loop and its levels, and what follows from them, each measured when asked for.

    asked: the number of calls, if the user said how many.
    """

    def __init__(self, loop, levels, asked):
        self.loop, self.levels, self.asked = loop, levels, asked
        self.times, self.whole = loop.times, loop.first.whole
        self.table = np.array([levels(t) for t in loop.times], float)
        self.measured = loop.measure(levels)
        self.unit = None if loop.undo else self._unit()
        if self.unit:
            loop.undo = lambda y: 2 * y / self.unit - 1
            self.measured = loop.measure(levels)
        if self.whole:
            self._round_last()

    def _unit(self):
        """1 or 255 if the loop ends with unit (x + 1) / 2 and nobody said so."""
        m = self.measured
        for unit in (1, 255):
            centre, scale = m.level[-1] / unit, m.signal[-1, -1] / unit
            if abs(centre - 0.5) < 0.01 and abs(scale - 0.5) < 0.05:
                return unit

    def _round_last(self):
        """An output of integers hides what is smaller than half a grey level."""
        for rows in (self.measured.noise, self.measured.signal, self.measured.level):
            near = np.round(rows[-1])
            rows[-1] = np.where(np.abs(rows[-1] - near) < 0.02, near, rows[-1])

    @cached_property
    def steps(self):
        steps = theory.steps_of(self.times, self.measured, self.table)
        if self.at_first(steps[-1]):  # where the loop means to end
            steps[-1].a_s, steps[-1].b_s = self.levels.quietest
        return steps

    def at_first(self, last):
        """Does the last step land on the table's first noisy level?"""
        if self.levels.quietest is None:
            return False
        (a, b), off = self.levels.quietest, abs(last.c0 - 1)
        return abs(last.c0 - a) < min(1e-3, off) and b / 2 < last.noise < 1.1 * b

    @property
    def finite(self):
        m = self.measured
        return bool(np.isfinite(np.column_stack([m.noise, m.signal, m.level])).all())

    # what kind of loop it is
    @cached_property
    def bend(self):
        """Misfit of a linear map, while all is small, a call and in the output."""
        return self.loop.misfit(self.levels, self.measured, 0.05, 0.3)

    @cached_property
    def bend_of_large(self):
        return self.loop.misfit(self.levels, self.measured, 3.0, 0.9)

    @property
    def linear(self):
        """Is x_t a linear map of the noise, at least while all is small?"""
        return self.bend[:-1].max() < BEND

    @property
    def several(self):
        """Does the loop call the model several times a step, or remember outputs?"""
        return self.linear and any(s.memory > 2e-3 for s in self.steps)

    @property
    def one_call(self):
        """Is each step told by its three numbers?"""
        return self.linear and not self.several

    @property
    def reordered(self):
        """Is only the output no linear map: clipped, or in another order?"""
        return self.linear and self.bend[-1] >= BEND and not self.whole

    @property
    def clamped(self):
        """Is x_t a linear map of small noise, and not of large?"""
        return self.one_call and self.normal and self.bend_of_large[:-1].max() >= BEND

    # its noise
    @cached_property
    def used(self):
        """Which draws reach x_t."""
        return np.abs(self.measured.noise).max(0, initial=0) > 1e-6

    @property
    def uniform(self):
        return bool((self.measured.uniform & self.used).any())

    @cached_property
    def shared(self):
        """The shape of a draw that is too small for x_t and yet reaches it, or None."""
        loop = self.loop
        size, row = loop.rows * loop.numbers, loop.row if loop.grouped else None
        shapes = [shape for shape, *_ in loop.log if shape != row]
        odd = [s for s in shapes if not np.prod(s) or np.prod(s) % size]

        def play(other):
            def fill(k):
                return default_rng(k).standard_normal(size)

            return np.array(loop.play(self.levels, silent, fill, other=other)[0].x)

        moved = odd and np.abs(play(np.ones) - play(np.zeros)).max() > 1e-6
        return odd[0] if moved else None

    @property
    def normal(self):
        """False: neither sigma nor what follows from it is what the loop meant."""
        return not self.uniform and self.shared is None

    # what it makes
    @cached_property
    def errors(self):
        return np.array([noise_error(s)[0] for s in self.steps[:-1]])

    @cached_property
    def family(self):
        return theory.family_of(self.steps[:-1])

    @property
    def kind(self):
        if not self.linear:
            return "no linear map of its noise"
        if self.several:
            return "several calls a step, or earlier outputs remembered"
        return "a discretisation of the SDE" if self.discrete else self.family[0]

    @cached_property
    def discrete(self):
        """Do the steps discretise the SDE, with a run as right as their number allows?

        That is: no further from the data than DDIM or DDPM on the same times.
        """
        steps = self.steps[:-1]
        if not self.one_call or not self.errors.any() or not discretises(steps):
            return False
        data = MEAN, STD
        others = [first_order(self.table, *data), self._correct(data, "eta", 1.0)]
        room = max(far(other, data) for other in others)
        near = far(self.measured.moments(self.table, *data), data) < room
        point = far(self.measured.moments(self.table, POINT, 0.0), (POINT, 0))
        return near and point < SINGLE

    def _correct(self, data, family, eta):
        numbers = [theory.correct(s, family, eta) for s in self.steps]
        return recursion(self.table, numbers, *data)

    def right(self, data):
        """Mean and std of correct code on the same times; or the data's."""
        if not self.one_call or self.discrete:
            return data
        _, family, eta = self.family
        return self._correct(data, family, eta if self.errors.any() else None)

    @cached_property
    def made(self):
        """Mean and std of what is made of data N(MEAN, STD^2)."""
        if not self.linear or self.reordered or self.clamped:
            return float(self.real_noise.mean()), float(self.real_noise.std())
        return self.measured.moments(self.table, MEAN, STD)

    @cached_property
    def real_noise(self):
        """The output of a run with normal noise, of 4000 numbers or more."""
        rng, loop = default_rng(0), self.loop
        rows = -(-4000 // loop.numbers) if loop.free else loop.rows

        def fill(k):
            return rng.standard_normal(rows * loop.numbers)

        return loop.play(self.levels, best_guess, fill, rows)[0].x[-1]

    @property
    def room(self):
        """Five standard errors of the mean and the std of that output."""
        x = self.real_noise
        return 5 * x.std() / np.sqrt([len(x), 2 * len(x)])

    @cached_property
    def degree(self):
        """Of errors that add up over the steps: small, if the whole run is near."""
        if self.discrete:
            return "note"
        data, point, room = (MEAN, STD), (POINT, 0.0), 0.0
        if self.reordered:
            off, room = far(self.made, self.right(data)), max(self.room)
        else:
            made = [self.measured.moments(self.table, *d) for d in (data, point)]
            off = far(made, [self.right(d) for d in (data, point)])
        return "small" if off < SEEN + room else "BROKEN"
