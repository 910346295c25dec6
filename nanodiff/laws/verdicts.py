"""The laws of samplers: each looks at the evidence and says its verdict."""

import numpy as np

from nanodiff.laws.evidence import BEND, MEAN, POINT, SEEN, SINGLE, STD, far
from nanodiff.laws.levels import FLAGRANT, VISIBLE, measured_level
from nanodiff.laws.report import law
from nanodiff.laws.steps import first_order, why_apart, why_off

FEW = 30  # calls
LAWS = {}  # name: (judge, usual cause)


def graded(off):
    """The verdict on an error of the output, or of the last step."""
    return "small" if off < SEEN else "BROKEN"


@law(LAWS, "runs")
def runs(run):
    """Nothing raises, and each time is an index."""
    note = run.levels.note
    if run.unit:
        note = f"the output is read as {run.unit} times (x + 1) / 2"
    return ("note", note) if note else ("ok", f"{len(run.times)} calls")


@law(LAWS, "finite", "the table read at -1, or a division by 1 - alpha_bar = 0")
def finite(run):
    """No NaN."""
    m = run.measured
    rows = np.column_stack([m.noise, m.signal, m.level])
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if not len(bad):
        return "ok", ""
    t = run.times[max(bad[0] - 1, 0)]
    where = "in the output" if bad[0] == len(run.times) else f"after t = {t:g}"
    if run.table[0, 0] == 0 and bad[0] <= 1:
        why = "alpha_bar is 0 there, and eps says nothing about x_0: use v or x0"
        return "note", f"{where}: NaN or infinity; {why}", ""
    return "BROKEN", f"{where}: NaN or infinity"


@law(LAWS, "count", "times made with T // n where n does not divide T", ["one_call"])
def count(run):
    """As many calls as asked for, at times that fall."""
    times, beyond, steps = run.times, run.levels.beyond, run.steps
    noise = run.table[:, 1] / np.hypot(*run.table.T)
    rises = np.flatnonzero(np.diff(noise) > 1e-9)
    again = np.flatnonzero(np.diff(times) == 0)
    if beyond:
        found = f"a call at t = {min(beyond):g}; expected no time below the first"
        cause = "times made by arange with a step that is no whole number"
        return "BROKEN", found, cause
    if run.asked is not None and run.asked not in (len(times), run.loop.first.calls):
        return "small", f"{len(times)} calls; expected {run.asked}"
    if len(rises):
        verdict = "BROKEN" if run.degree == "BROKEN" else "note"
        return verdict, f"{steps[rises[0]]}: the next call is noisier", ""
    if len(again):
        return "small", f"{steps[again[0]]}: a time is repeated", ""
    return "ok", f"{len(times)} calls, t = {times[0]:g} .. {times[-1]:g}"


@law(LAWS, "starts", "betas not scaled to this T, or a first time below T")
def starts(run):
    """x at the first call is noise of the level that the model is told."""
    (a, b), t, m = run.table[0], run.times[0], run.measured
    unit = np.hypot(a, b)
    std = np.sqrt(np.sum(m.noise[0] ** 2 * m.variance))
    off, left = min(abs(std - b), abs(std - unit)) / unit, (a / unit) ** 2
    signal = f"alpha_bar is {left:.2g}: x_t still holds {np.sqrt(left):.2f} x_0"
    lead = left > VISIBLE and run.levels.leading(run.times)
    signal = f"at the first call, t = {t:g}: {signal}"
    if left > FLAGRANT and not lead:
        return "BROKEN", f"{signal}; expected at most {VISIBLE}"
    if off > 0.01 and run.linear:
        verdict = "BROKEN" if off > SINGLE else "small"
        found = f"at the first call, t = {t:g}: std {std:.3f}; expected {b:.3f}"
        return verdict, found, "x_T not drawn, or not scaled as x_t is"
    if left > VISIBLE:
        return "note", signal + (", as times lead to 0" if lead else ""), ""
    return "ok", f"alpha_bar {left:.2g} at t = {t:g}"


@law(LAWS, "shares", "two schedules, or times counted from 0 in one and 1 in the other")
def shares(run):
    """q_sample, if given beside alpha_bar, has the levels that the sampler assumes."""
    if run.levels.q_sample is None:
        return None
    trained = np.array([measured_level(run.levels.q_sample, t) for t in run.times])
    off = np.abs(trained - run.table).max(1)
    n = int(np.argmax(off))
    if off[n] < 1e-3:
        return "ok", f"worst {off[n]:.1e}"
    made, want = (f"{a:.4f} x_0 + {b:.4f} eps" for a, b in (trained[n], run.table[n]))
    where = f"at t = {run.times[n]:g}"
    return "BROKEN", f"{where}: q_sample makes {made}; expected {want}"


@law(LAWS, "joins", needs=["one_call", "normal"])
def joins(run):
    """x_s has the signal of the time at which the model is called next."""
    steps = run.steps[:-1]
    if not steps:
        return "skipped", "one step only"
    errors = np.array([max(abs(s.c0 - s.a_s), abs(s.shift)) for s in steps])
    over = errors > [s.slack for s in steps]
    if not over.any():
        return "ok", f"{len(steps)} steps, worst {errors.max():.1e}"
    n = int(np.argmax(errors * over))
    where = f"{over.sum()} of {len(steps)} steps; worst {steps[n]}"
    want = f"expected {steps[n].a_s:.4f} of the next call"
    found = f"{where}: signal {steps[n].c0:.4f}; {want}"
    verdict = "BROKEN" if errors[n] > SINGLE else run.degree
    return verdict, found, "" if run.discrete else why_apart(run.levels, steps)


@law(LAWS, "spread", needs=["one_call", "normal"])
def spread(run):
    """x_s has the noise of the time where the step lands."""
    steps, size = run.steps[:-1], np.abs(run.errors)
    if not steps:
        return "skipped", "one step only"
    if not size.any() and run.family[1] == "eta":
        return "ok", f"{len(steps)} steps"
    if not size.any():
        found = "DDPM's mean with a variance above beta_tilde, a choice of the paper"
        return "note", f"{found}, exact for data N(0, 1)"
    n = int(np.argmax(size))
    s, where = steps[n], f"{np.count_nonzero(size)} of {len(steps)} steps"
    parts = f"(eps_hat {s.ce:.4f}, z {s.sigma:.4f})"
    found = f"{where}; worst {s}: noise {s.noise:.4f} {parts}"
    verdict = "BROKEN" if size[n] > SINGLE else run.degree
    cause = "" if run.discrete else why_off(s)
    return verdict, f"{found}; expected {s.landing[1]:.4f}", cause


@law(LAWS, "ends", "the last step reads another level than alpha_bar = 1")
def ends(run):
    """The last step is x0_hat."""
    if run.several:
        return ends_on_a_point(run)
    if not run.linear or hidden(run):
        return hidden(run) if run.linear else None
    last, shift = run.steps[-1], run.steps[-1].shift if run.normal else 0.0
    found = f"{last}: x_0 = {last.c0:.4f} x0_hat + {last.ce:.4f} eps_hat"
    off = max(abs(last.c0 - 1), abs(last.ce), abs(shift))
    if last.t in run.levels.beyond:
        return "BROKEN", f"{found}; expected x0_hat of a noisy x_t", "a time too many"
    if run.at_first(last):
        return "note", f"{found}, the first alpha_bar", ""
    if off < 1e-3 + last.slack:
        return "ok", "on x0_hat"
    said = graded(off), f"{found}; expected x0_hat"
    end = run.levels.last
    if end is not None and run.levels.landing(last.c0) == end:
        return *said, "the table read at -1, its noisiest level"
    return said


def hidden(run):
    """That the last step cannot be read off, or None."""
    if run.whole:
        return "skipped", "the output is of integers"
    if run.reordered and run.degree == "small":
        return "skipped", "the output is x_0 in another order"


def ends_on_a_point(run):
    """Data that are one point come out as it, whatever the solver."""
    mean, std = run.measured.moments(run.table, POINT, 0.0)
    quiet = run.levels.quietest[1] if run.levels.quietest else 0.0
    off = max(abs(mean - POINT), std - 1.2 * quiet)
    found = f"data that are one point come out as {mean:.4f} / {std:.4f}"
    cause = "a last step that does not end on x0_hat, or steps that do not join"
    verdict = "ok" if off < 1e-3 else graded(off)
    return verdict, f"{found}; expected {POINT} / 0", cause


@law(LAWS, "quiet end", "noise left out only at t = 0, or at no time", ["one_call"])
def quiet_end(run):
    """The last step adds no noise."""
    last = run.steps[-1]
    if hidden(run):
        return hidden(run)
    if last.sigma < 1e-3 or run.at_first(last):
        return "ok", ""
    verdict = "small" if run.discrete else graded(last.sigma)
    return verdict, f"{last}: noise of std {last.sigma:.4f}; expected none"


@law(LAWS, "linear", "x_t clamped, where only x0_hat may be")
def linear(run):
    """Three times the noise, three times the response."""
    if not run.linear:
        return "note", "x_t is no linear map of the noise: its output is judged", ""
    if run.several or not run.normal:
        return None
    large = run.bend_of_large >= BEND
    if run.clamped:
        t = run.times[max(int(np.argmax(large[:-1])) - 1, 0)]
        found = "three times the noise is not three times the response"
        return moments(run)[0], f"after t = {t:g}: {found}"
    if large[-1] and not run.whole:
        return "note", "the output is clipped, or in another order", ""
    return "ok", ""


@law(LAWS, "normal", "noise drawn once and broadcast")
def normal(run):
    """Fresh normal numbers, one for each pixel and step."""
    if run.uniform:
        return "BROKEN", "uniform numbers reach x_t", "rand where randn belongs"
    if run.shared is not None:
        found = f"a draw of shape {run.shared} reaches x_t"
        return "BROKEN", f"{found}; expected one number for each pixel of each image"
    marks = [m for m, used in zip(run.measured.marks, run.used, strict=True) if used]
    if len(set(marks)) < len(marks):
        found = f"{len(marks)} draws, of which {len(set(marks))} differ"
        return "BROKEN", found, "a seed set inside the loop"
    again = [s for s in run.steps[2:-1] if s.reused > 0.02]
    if run.one_call and again:
        found = f"noise of earlier steps is added, {again[0].reused:.3f} times"
        return "BROKEN", f"{again[0]}: {found}", "z drawn once before the loop"
    return "ok", f"{len(marks)} draws"


@law(LAWS, "clip", needs=["one_call", "normal"])
def clip(run):
    """An x0_hat of 5, once: is it clipped, and does eps_hat follow?"""
    n = len(run.steps) // 2
    s, size = run.steps[n], run.loop.rows * run.loop.numbers
    if s.s is None or s.b <= 0:
        return "skipped", "one step only"
    if run.clamped:
        return None

    def says_5(m, x, a, b):
        return np.full(len(x), 5.0 if m == n else 0.0)

    def noise(k):
        return np.full(size, 0.1 if k == 0 else 0.0)

    played, _ = run.loop.play(run.levels, says_5, noise)
    x, found = played.x[n][0], played.x[n + 1][0] - s.shift

    def fits(x0):
        made = s.c0 * x0 + s.ce * (x - s.a * x0) / s.b
        return abs(found - made) < 1e-2 * max(abs(made), 0.1)

    if fits(5):
        return "ok", "x0_hat is not clipped"
    if fits(0.5) or fits(1.0):
        return "ok", "x0_hat is clipped, eps_hat follows"
    left = "x0_hat is clipped, eps_hat is left as it was"
    return "note", f"{s}: {left}: x_s is off the line through x_t"


@law(LAWS, "moments")
def moments(run):
    """Mean and std of the whole run, beside those of a correct sampler."""
    made, data = run.made, (MEAN, STD)
    want, off = run.right(data), far(made, run.right(data))
    near = "" if run.linear else "near "
    right = f"expected {near}{want[0]:.4f} / {want[1]:.4f}"
    found = f"{made[0]:.4f} / {made[1]:.4f}; {right}"
    if not run.linear:
        return ("ok" if plausible(run) else "BROKEN"), found
    if run.several:
        ddim = first_order(run.table, *data)
        # with few steps a right solver of high order may be further off than DDIM
        fine = off < max(0.1, 2 * far(ddim, data)) or len(run.times) < FEW
        found = f"{found} or so; DDIM makes {ddim[0]:.4f} / {ddim[1]:.4f}"
        return ("ok" if off < SEEN else "note" if fine else "BROKEN"), found
    if not run.normal:
        return None
    if run.clamped:
        beyond = np.abs(np.subtract(made, want)) > np.maximum(SEEN, run.room)
        return ("BROKEN" if beyond.any() else "note"), f"{found}, with real noise"
    wrong = run.degree if run.reordered or run.discrete else graded(off)
    return ("ok" if off < 2e-3 else wrong), found


def plausible(run):
    """Is an output with real noise near the data, or what DDIM makes of them?"""
    (mean, std), ddim = run.made, first_order(run.table, MEAN, STD)
    low, high = min(ddim[1], STD) - 0.05, max(ddim[1], STD) + 0.15
    room = run.room
    fine = low - room[1] < std < high + room[1]
    return fine and abs(mean - MEAN) < abs(ddim[0] - MEAN) + 0.02 + room[0]
