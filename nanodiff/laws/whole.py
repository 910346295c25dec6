"""The laws of samplers that look at the whole run."""

import numpy as np
from numpy.random import default_rng  # the real one, while a run has another

from nanodiff.laws.verdicts import BEND, MEAN, POINT, SEEN, STD, graded

FEW = 30  # calls


def same_for_large(run, want):
    """Three times the noise, three times the response; else real noise is the judge."""
    bend = run.loop.misfit(run.levels, run.measured, 3.0, 0.9)
    if bend[:-1].max() < BEND:
        clipped = bend[-1] >= BEND and not run.measured.whole
        run.add(
            "linear",
            "note" if clipped else "ok",
            found="the output is clipped, or in another order" if clipped else "",
        )
        return True
    n = max(int(np.argmax(bend[:-1] >= BEND)) - 1, 0)
    mean, std, errors = real_noise(run)
    run.report.mean, run.report.std = mean, std
    off = np.abs([mean - want[0], std - want[1]])
    verdict = "BROKEN" if ((off > 5 * errors) & (off > SEEN)).any() else "note"
    run.add(
        "linear",
        verdict,
        where=f"after t = {run.measured.times[n]:g}",
        found="three times the noise is not three times the response",
        cause="x_t clamped, where only x0_hat may be",
    )
    run.add(
        "moments",
        verdict,
        found=f"{mean:.4f} / {std:.4f} with real noise",
        expected=f"{want[0]:.4f} / {want[1]:.4f}",
    )
    return False


def best_guess(n, x, a, b):
    """The best x0_hat of x_t for data N(MEAN, STD^2)."""
    return MEAN + a * STD**2 / (a**2 * STD**2 + b**2) * (x - a * MEAN)


def real_noise(run, numbers=4000):
    """Mean, std and their standard errors from a run with normal noise."""
    rng, loop = default_rng(0), run.loop
    rows = -(-numbers // loop.numbers)
    size = (rows if loop.free else loop.rows) * loop.numbers
    played, _ = loop.play(
        run.levels, best_guess, lambda k: rng.standard_normal(size), rows
    )
    x = played.x[-1]
    return x.mean(), x.std(), x.std() / np.sqrt([len(x), 2 * len(x)])


def clip(run):
    """An x0_hat of 5, once: is it clipped, and does eps_hat follow?"""
    n = len(run.steps) // 2
    s, size = run.steps[n], run.loop.rows * run.loop.numbers
    if s.s is None or s.b <= 0:
        run.add("clip", "skipped", found="one step only")
        return

    def says_5(m, x, a, b):
        return np.full(len(x), 5.0) if m == n else 0 * x

    def noise(k):
        return np.full(size, 0.1 if k == 0 else 0.0)

    played, _ = run.loop.play(run.levels, says_5, noise)
    x, found = played.x[n][0], played.x[n + 1][0] - s.shift

    def fits(x0):
        made = s.c0 * x0 + s.ce * (x - s.a * x0) / s.b
        return abs(found - made) < 1e-2 * max(abs(made), 0.1)

    if fits(5):
        run.add("clip", "ok", found="x0_hat is not clipped")
    elif fits(0.5) or fits(1.0):
        run.add("clip", "ok", found="x0_hat is clipped, eps_hat follows")
    else:
        run.add(
            "clip",
            "note",
            where=str(s),
            found="x0_hat is clipped, eps_hat is left "
            "as it was: x_s is off the line through x_t",
        )


def moments(run, want):
    """Mean and std of the whole run, beside those of a correct sampler."""
    made = run.report.mean, run.report.std
    off = np.abs(np.subtract(made, want)).max()
    wrong = run.degree if run.reordered else graded(off)
    run.add(
        "moments",
        "ok" if off < 2e-3 else wrong,
        found=f"{made[0]:.4f} / {made[1]:.4f}",
        expected=f"{want[0]:.4f} / {want[1]:.4f}",
    )


def several_calls(run):
    """Laws of the whole run, for samplers that look at more than one output a step."""
    made, point = (
        run.measured.moments(run.table, m, s) for m, s in ((MEAN, STD), (POINT, 0.0))
    )
    run.report.mean, run.report.std = made
    run.report.expected = MEAN, STD
    quiet = run.levels.quietest[1] if run.levels.quietest else 0.0
    off = max(abs(point[0] - POINT), point[1] - 1.2 * quiet)
    run.add(
        "ends",
        "ok" if off < 1e-3 else graded(off),
        expected=f"{POINT} / 0",
        found=f"data that are one point come out as {point[0]:.4f} / {point[1]:.4f}",
        cause="a last step that does not end on x0_hat, or steps that do not join",
    )
    ddim = first_order(run.table)
    # with few steps a right solver of high order may be further off than DDIM
    limit = max(0.1, 2 * np.abs(np.subtract(ddim, (MEAN, STD))).max())
    away = np.abs(np.subtract(made, (MEAN, STD))).max()
    fine = away < limit or len(run.table) < FEW
    run.add(
        "moments",
        "ok" if away < SEEN else "note" if fine else "BROKEN",
        found=f"{made[0]:.4f} / {made[1]:.4f}",
        expected=f"about {MEAN} / {STD}; DDIM makes {ddim[0]:.4f} / {ddim[1]:.4f}",
    )


def first_order(table):
    """Moments of DDIM, eta 0, on the levels that were visited, each once."""
    falling = [table[0]]
    for a, b in table[1:]:
        if b * falling[-1][0] < falling[-1][1] * a - 1e-9:
            falling.append((a, b))
    m, s = (
        0.0,
        np.hypot(*table[0]) if abs(np.hypot(*table[0]) - 1) < 1e-2 else table[0, 1],
    )
    for (a, b), (a_s, b_s) in zip(falling, [*falling[1:], (1.0, 0.0)], strict=True):
        var = max(a**2 * STD**2 + b**2, 1e-30)
        keep = (a_s * a * STD**2 + b_s * b) / var
        m, s = a_s * MEAN + keep * (m - a * MEAN), keep * s
    return float(m), float(s)


def output_only(run):
    """The moments with real noise, where no single step can be read off."""
    mean, std, errors = real_noise(run)
    run.report.mean, run.report.std, run.report.expected = mean, std, (MEAN, STD)
    ddim = first_order(run.table)
    low, high = min(ddim[1], STD) - 0.05, max(ddim[1], STD) + 0.15
    fine = low - 5 * errors[1] < std < high + 5 * errors[1]
    fine &= abs(mean - MEAN) < abs(ddim[0] - MEAN) + 0.02 + 5 * errors[0]
    run.add(
        "linear",
        "note",
        found="x_t is no linear map of the noise, so only the output is judged",
    )
    run.add(
        "moments",
        "ok" if fine else "BROKEN",
        found=f"{mean:.4f} / {std:.4f} with real noise",
        expected=f"near {MEAN} / {STD}",
    )
