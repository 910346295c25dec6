"""The laws of samplers: statements about the steps of a run, or about its output."""

import dataclasses

import numpy as np
from numpy.random import default_rng  # the real one, while a run has another

from nanodiff.laws.levels import measured_level
from nanodiff.laws.steps import close, landing, legal, slack

MEAN, STD = 0.3, 0.5  # the data whose moments are told
POINT = 0.7  # and data that are one point
VISIBLE, FLAGRANT = 2e-3, 0.02  # alpha_bar at the first call
SEEN = 0.015  # two grey levels of 256, in [-1, 1]
SINGLE = 0.05  # an error of one step that no sum excuses
BEND = 5e-3  # a larger misfit is no rounding


@dataclasses.dataclass
class Evidence:
    """All that is known of a run: what the laws look at."""

    report: object
    loop: object
    levels: object
    table: np.ndarray  # (calls, 2): a, b at each call
    measured: object
    steps: list
    asked: int | None  # calls, if the user said how many
    bend: np.ndarray  # misfit of a linear map, at each call and in the output
    degree: str = "BROKEN"  # of errors that add up: small, if the run is near

    def add(self, law, verdict, **words):
        self.report.add(law, verdict, **words)

    @property
    def linear(self):
        """Is x_t a linear map of the noise, at least while all is small?"""
        return self.bend[:-1].max() < BEND

    @property
    def reordered(self):
        """Is only the output none: clipped, or in another order?"""
        return self.linear and self.bend[-1] >= BEND and not self.measured.whole

    @property
    def several(self):
        """Does the loop call the model several times a step, or remember outputs?"""
        return self.linear and any(s.memory > 2e-3 for s in self.steps)


def graded(off):
    """The verdict on an error of the output, or of the last step."""
    return "small" if off < SEEN else "BROKEN"


def finite(run):
    """False, if something is not: then nothing else can be said."""
    m, times = run.measured, run.measured.times
    rows = np.column_stack([m.noise, m.signal, m.level])
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if not len(bad):
        run.add("finite", "ok")
        return True
    t = times[max(bad[0] - 1, 0)]
    if run.table[0, 0] == 0 and bad[0] <= 1:
        run.add(
            "finite",
            "note",
            found="NaN or infinity",
            where=f"after t = {t:g}",
            expected="a model of v or x0, as alpha_bar is 0 there and eps says "
            "nothing about x_0",
        )
    else:
        where = "in the output" if bad[0] == len(times) else f"after t = {t:g}"
        run.add(
            "finite",
            "BROKEN",
            found="NaN or infinity",
            where=where,
            cause="the table read at -1, a division by 1 - alpha_bar = 0, or the "
            "root of a negative number",
        )
    return False


def starts(run):
    """x at the first call is noise of the level that the model is told."""
    (a, b), t = run.table[0], run.measured.times[0]
    unit, where = np.hypot(a, b), f"at the first call, t = {t:g}"
    std = np.sqrt(np.sum(run.measured.noise[0] ** 2 * run.measured.variance))
    off = min(abs(std - b), abs(std - unit)) / unit
    if off > 0.01 and run.linear:
        run.add(
            "starts",
            "BROKEN" if off > SINGLE else "small",
            found=f"std {std:.3f}",
            expected=f"{b:.3f}",
            where=where,
            cause="x_T not drawn, or not scaled as x_t is",
        )
    left = (a / unit) ** 2
    found = f"alpha_bar is {left:.2g}: x_t still holds {np.sqrt(left):.2f} x_0"
    if left <= VISIBLE:
        run.add("starts", "ok", found=f"alpha_bar {left:.2g} at t = {t:g}")
    elif leading(run.levels, run.measured.times):
        run.add("starts", "note", found=found + ", as times lead to 0", where=where)
    else:
        run.add(
            "starts",
            "BROKEN" if left > FLAGRANT else "note",
            found=found,
            expected=f"at most {VISIBLE}",
            where=where,
            cause="betas not scaled to this T, or a first time below T",
        )


def shares(run):
    """q_sample, if given beside alpha_bar, has the levels that the sampler assumes."""
    if run.levels.q_sample is None:
        return
    trained = np.array(
        [measured_level(run.levels.q_sample, t) for t in run.measured.times]
    )
    off = np.abs(trained - run.table).max(1)
    n = int(np.argmax(off))
    found, expected = (
        f"{a:.4f} x_0 + {b:.4f} eps" for a, b in (trained[n], run.table[n])
    )
    where = f"at t = {run.measured.times[n]:g}"
    if off[n] < 1e-3:
        run.add("shares", "ok", found=f"worst {off[n]:.1e}")
    else:
        run.add(
            "shares",
            "BROKEN",
            found=f"q_sample makes {found}",
            where=where,
            expected=expected,
            cause="training and sampling with two schedules, or "
            "times counted from 0 in one and from 1 in the other",
        )


def leading(levels, times):
    """Do the times fall evenly from one step before the last, as many packages' do?"""
    falling = sorted(set(times), reverse=True)
    if len(falling) == 1:
        return levels.last is not None and falling[0] <= levels.first + 1
    gap = falling[0] - falling[1]
    beyond = falling[0] + gap * (1 - 1e-9)
    if not np.allclose(np.diff(falling), -gap, atol=1.0 if gap > 10 else 1e-3):
        return False
    if levels.last is not None:
        return falling[0] < levels.last <= beyond
    a, b = levels.read(beyond)
    return a * a <= VISIBLE * (a * a + b * b)


def normal(run):
    """Fresh normal numbers, one for each pixel and step. False: sigma says nothing."""
    m = run.measured
    used = np.abs(m.noise).max(0, initial=0) > 1e-6
    if (m.uniform & used).any():
        for step in run.steps:  # the mean of a uniform number is no other error
            step.shift = 0.0
        run.add(
            "normal",
            "BROKEN",
            found="uniform numbers reach x_t",
            expected="normal ones",
            cause="rand where randn belongs",
        )
        return False
    if (shape := shared_draw(run)) is not None:
        run.add(
            "normal",
            "BROKEN",
            found=f"a draw of shape {shape} reaches x_t",
            expected="one number for each pixel of each image",
            cause="noise drawn once and broadcast",
        )
        return False
    again = [s for s in run.steps[2:-1] if s.reused > 0.02]
    places = [p for p, is_used in zip(m.places, used, strict=True) if p and is_used]
    if len(set(places)) < len(places):
        run.add(
            "normal",
            "BROKEN",
            found=f"{len(places)} draws, of which {len(set(places))} differ",
            expected="fresh draws",
            cause="a seed set inside the loop",
        )
    elif run.linear and again and not run.several:
        run.add(
            "normal",
            "BROKEN",
            where=str(again[0]),
            found=f"noise of earlier steps is added, {again[0].reused:.3f} times",
            expected="a fresh draw",
            cause="z drawn once before the loop",
        )
    else:
        run.add("normal", "ok", found=f"{used.sum()} draws")
    return True


def shared_draw(run):
    """The shape of a draw that is too small for x_t and yet reaches it, or None."""
    loop, odd = run.loop, run.loop.odd_draws()
    if not odd:
        return None

    def still(n, x, a, b):
        return 0 * x

    def noise(k):
        return default_rng(k).standard_normal(loop.rows * loop.numbers)

    quiet, _ = loop.play(run.levels, still, noise)
    moved, _ = loop.play(run.levels, still, noise, odd=1.0)
    far = [np.abs(p - q).max() for p, q in zip(moved.x, quiet.x, strict=True)]
    return odd[0] if max(far) > 1e-6 else None


def count(run):
    """As many calls as asked for, at times that fall."""
    times, levels = run.measured.times, run.levels
    noise = run.table[:, 1] / np.hypot(*run.table.T)
    rises = np.flatnonzero(np.diff(noise) > 1e-9)
    again = np.flatnonzero(np.diff(times) == 0)
    if levels.beyond:
        run.add(
            "count",
            "BROKEN",
            found=f"a call at t = {min(levels.beyond):g}",
            expected="no time below the first",
            cause="times made by arange with a step that is no whole number",
        )
    elif run.asked is not None and run.asked not in (len(times), run.loop.first.calls):
        run.add(
            "count",
            "small",
            found=f"{len(times)} calls",
            expected=f"{run.asked}",
            cause="times made with T // n where n does not divide T",
        )
    elif len(rises):
        run.add(
            "count",
            "BROKEN" if run.degree == "BROKEN" else "note",
            found="the next call is noisier",
            expected="times that fall",
            where=str(run.steps[rises[0]]),
        )
    elif len(again):
        run.add(
            "count",
            "small",
            found="a time is repeated",
            expected="times that fall",
            where=str(run.steps[again[0]]),
        )
    else:
        run.add(
            "count",
            "ok",
            found=f"{len(times)} calls, t = {times[0]:g} .. {times[-1]:g}",
        )


def joins(run):
    """x_s has the signal of the time at which the model is called next."""
    steps = run.steps[:-1]
    if not steps:
        run.add("joins", "skipped", found="one step only")
        return
    errors = np.array([max(abs(s.c0 - s.a_s), abs(s.shift)) for s in steps])
    over = errors > [slack(s) for s in steps]
    if not over.any():
        run.add("joins", "ok", found=f"{len(steps)} steps, worst {errors.max():.1e}")
        return
    n = int(np.argmax(errors * over))
    run.add(
        "joins",
        "BROKEN" if errors[n] > SINGLE else run.degree,
        found=f"signal {steps[n].c0:.4f}",
        expected=f"{steps[n].a_s:.4f} of the next call",
        where=f"{over.sum()} of {len(steps)} steps; worst {steps[n]}",
        cause=why_apart(run.levels, steps),
    )


def why_apart(levels, steps):
    """The usual cause of steps that do not join, from where they land."""
    if levels.last is None:
        return "the level of another time than the next call's"
    lengths = {round(s.t - levels.landing(s.c0)) for s in steps}
    if lengths == {1} and len(steps) + 1 <= len(levels.table) // 2:
        return "steps that are one time long, on a list with fewer times"
    here = (
        f", here t - {lengths.pop()}" if len(lengths) == 1 else ", or from another list"
    )
    return "the previous time computed as t - T // n" + here


def spread(run, errors, family):
    """x_s has the noise of the time where the step lands."""
    steps, size = run.steps[:-1], np.abs(errors)
    if not steps:
        run.add("spread", "skipped", found="one step only")
    elif not size.any() and family == "eta":
        run.add("spread", "ok", found=f"{len(steps)} steps")
    elif not size.any():
        run.add(
            "spread",
            "note",
            found="DDPM's mean with a variance above beta_tilde, "
            "a choice of the paper, exact for data N(0, 1)",
        )
    else:
        n = int(np.argmax(size))
        s = steps[n]
        run.add(
            "spread",
            "BROKEN" if size[n] > SINGLE else run.degree,
            found=f"noise {np.hypot(s.ce, s.sigma):.4f} (eps_hat {s.ce:.4f}, z "
            f"{s.sigma:.4f})",
            expected=f"{landing(s)[1]:.4f}",
            cause=why_off(s),
            where=f"{np.count_nonzero(size)} of {len(steps)} steps; worst {s}",
        )


def why_off(step):
    """The usual cause of a wrong noise, from the formula that it fits."""
    a_s, b_s = landing(step)
    beta, tilde, post = legal(step.a, step.b, a_s, b_s)
    if step.ce < 0:
        return "a minus before eps_hat"
    if close(step.ce, post, b_s):
        if close(step.sigma, 0, b_s):
            return "no noise added back"
        for name, value in (("beta", beta), ("beta_tilde", tilde)):
            if close(step.sigma, value, b_s):
                return f"sigma = {name}, where its square root belongs"
    if close(step.ce, b_s, b_s) and step.sigma > 0:
        return "eps_hat keeps its whole share beside z: sigma^2 is not subtracted"
    if close(step.sigma, 0, b_s):
        return "eps_hat multiplied by something else than sqrt(1 - alpha_bar)"
    return "variance and mean from different times, or a square root left out"


def at_first(levels, last):
    """Does the last step land on the table's first noisy level, as some packages do?"""
    if levels.quietest is None:
        return False
    a, b = levels.quietest
    noise = np.hypot(last.ce, last.sigma)
    return abs(last.c0 - a) < min(1e-3, abs(last.c0 - 1)) and b / 2 < noise < 1.1 * b


def ends(run):
    """The last step is x0_hat, and adds no noise."""
    last, first = run.steps[-1], at_first(run.levels, run.steps[-1])
    found = f"x_0 = {last.c0:.4f} x0_hat + {last.ce:.4f} eps_hat"
    far = max(abs(last.c0 - 1), abs(last.ce), abs(last.shift))
    if run.measured.whole or (run.reordered and run.degree == "small"):
        why = "of integers" if run.measured.whole else "x_0 in another order"
        for law in ("ends", "quiet end"):
            run.add(law, "skipped", found="the output is " + why)
        return
    if last.t in run.levels.beyond:
        run.add(
            "ends",
            "BROKEN",
            found="a call below the first noisy step: " + found,
            expected="x0_hat of a noisy x_t",
            where=str(last),
            cause="a time too many",
        )
    elif first:
        run.add("ends", "note", found=found + ", the first alpha_bar", where=str(last))
    elif far < 1e-3 + slack(last):
        run.add("ends", "ok", found="on x0_hat")
    else:
        wrapped = run.levels.last is not None and (
            run.levels.landing(last.c0) == run.levels.last
        )
        run.add(
            "ends",
            graded(far),
            found=found,
            expected="x0_hat",
            where=str(last),
            cause="the table read at -1, its noisiest level"
            if wrapped
            else "the last step reads another level than alpha_bar = 1",
        )
    if last.sigma < 1e-3 or first:
        run.add("quiet end", "ok")
    else:
        run.add(
            "quiet end",
            graded(last.sigma),
            found=f"noise of std {last.sigma:.4f}",
            expected="none",
            where=str(last),
            cause="noise left out only at t = 0, or at no time",
        )
