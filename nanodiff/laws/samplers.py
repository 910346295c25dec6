"""The laws of samplers, as statements about the three numbers of each step."""

import inspect
import sys

import numpy as np
from numpy.random import default_rng  # the real one, while a run has another

from nanodiff.laws.impulse import Loop, Unsteady, steps_of
from nanodiff.laws.levels import Levels
from nanodiff.laws.report import Report

MEAN, STD = 0.3, 0.5  # the data whose moments are told
POINT = 0.7  # and data that are one point
VISIBLE, FLAGRANT = 2e-3, 0.02  # alpha_bar at the first call
SEEN = 0.015  # two grey levels of 256, in [-1, 1]
SINGLE = 0.05  # an error of one step that no sum excuses
BEND = 5e-3  # a larger misfit is no rounding
FEW = 30  # calls

LAWS = ("runs", "finite", "count", "starts", "joins", "spread", "ends", "quiet end",
        "linear", "normal", "clip", "moments")  # fmt: skip


def check_sampler(
    sample, alpha_bar=None, *, predicts="eps", q_sample=None, steps=None, undo=None,
    image=(1, 2, 2), first=None, time=None, allow=(), title="sampler:",
):  # fmt: skip
    """Run a sampling loop with our model and our noise; return its `Report`.

    sample(model, shape) returns x_0 of that shape, calling model(xt, t); or, if it takes
    three arguments, sample(model, shape, steps). alpha_bar: the table that t indexes,
    or a function from t to (a, b) of x_t = a x_0 + b eps. predicts: what the model says,
    "eps", "x0", "v" (a eps - b x0), "flow" (eps - x0), "score", or a function (x0, eps,
    a, b). q_sample(x0, t, eps): the levels are taken from it. steps: how many calls were
    asked for. undo: of what the loop does to its output. image: the shape of one image.
    first: the time of alpha_bar's first entry. time: from what the model is called with
    to an index of alpha_bar. allow: laws that may be broken.

    >>> from nanodiff import ddim, linear
    >>> def sample(model, shape):
    ...     xT = np.random.default_rng(0).standard_normal(shape)
    ...     return ddim.sample(model, linear(100), xT, 30)
    >>> report = check_sampler(sample, linear(100).alpha_bar)
    >>> report.kind, round(report.std, 3), report.broken
    ('DDIM, eta 0', 0.452, [])
    """
    report = Report(title, allow=tuple(allow))
    if alpha_bar is None and q_sample is None:
        raise ValueError("alpha_bar is None, expected a table, a function, or q_sample")
    if steps is not None and _takes_steps(sample):
        call = lambda model, shape: sample(model, shape, steps)  # noqa: E731
    else:
        call = sample
    try:
        loop = Loop(call, predicts, undo, image)
        levels = Levels(alpha_bar, q_sample, loop.first.times, first, time)
        return _judge(report, loop, levels, steps)
    except Unsteady as error:
        report.add("runs", "note", f"the number of calls depends on the noise: {error}")
    except Exception as error:  # whatever the code of others raises
        report.add("runs", "crash", f"{type(error).__name__}: {str(error)[:300]}")
    return report


check_sampler.laws = LAWS


def check_step(step, times, alpha_bar=None, *, predicts="eps", **options):
    """Check a function of one step, called at each of the falling times.

    step(output, t, xt) returns the next x, or step(output, t, xt, z) with z standard
    normal. times: what the model is called with. All else as in `check_sampler`; arrays
    are NumPy's, or torch's where the step or its table is made for tensors.

    >>> from nanodiff import ddpm, linear
    >>> schedule = linear(100)
    >>> step = lambda eps_hat, t, xt, z: ddpm.step(schedule, xt, t, eps_hat, z)
    >>> check_step(step, range(100, 0, -1), schedule.alpha_bar).kind
    'DDPM, variance beta_tilde'
    """
    times = [t.item() if hasattr(t, "item") else t for t in times]
    if not times:
        raise ValueError("times is empty, expected at least one time")
    wants_z = _positional(step) >= 4
    torch = sys.modules.get("torch")

    def sample_with(tensors):
        def sample(model, shape):
            xt = _noise(shape, tensors) * start
            for t in times:
                z = (_noise(shape, tensors),) if wants_z else ()
                xt = step(model(xt, t), t, xt, *z)
                xt = getattr(xt, "prev_sample", xt)
                xt = xt[0] if isinstance(xt, tuple) else xt
            return xt

        return sample

    start, options = 1.0, options | {"predicts": predicts, "steps": len(times)}
    options.setdefault("title", "step:")
    if callable(alpha_bar):
        a, b = alpha_bar(times[0])
        start = 1.0 if abs(a * a + b * b - 1) < 1e-3 else float(b)
    kinds = [False] if torch is None else [False, True]
    if hasattr(alpha_bar, "detach"):
        kinds = [True]
    for tensors in kinds:
        report = check_sampler(sample_with(tensors), alpha_bar, **options)
        if report["runs"].verdict != "crash":
            break
    return report


check_step.laws = LAWS


def _noise(shape, tensors):
    """Standard normal noise, which the check then replaces: NumPy's or torch's."""
    if tensors:
        return sys.modules["torch"].randn(shape)
    return np.random.default_rng(0).standard_normal(shape)


def _positional(function):
    """How many positional arguments a function must or may be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 3
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in plain and p.default is p.empty for p in parameters)


def _takes_steps(sample):
    return _positional(sample) >= 3 or "steps" in getattr(
        inspect.signature(sample), "parameters", ()
    )


def legal(a, b, a_s, b_s):
    """beta, beta_tilde and the posterior's share of eps_hat, for a step between levels.

    With r = a / a_s: beta = b^2 - r^2 b_s^2, beta_tilde = beta b_s^2 / b^2 (DDPM Eq. 7).
    """
    r = a / a_s if a_s else np.inf
    beta = max(b * b - r * r * b_s * b_s, 0.0)  # 0 where the noise does not fall
    if b <= 0:
        return beta, 0.0, 0.0
    return beta, beta * b_s * b_s / (b * b), r * b_s * b_s / b


def _judge(report, loop, levels, asked):
    first = loop.first
    table = np.array([levels(t) for t in first.times], float)
    if levels.note:
        report.add("runs", "note", levels.note)
    else:
        report.add("runs", "ok", f"{len(first.times)} calls")
    measured = loop.measure(levels)
    if loop.undo is None and (unit := _unit_of(measured)):
        loop.undo = lambda y: 2 * y / unit - 1
        report.add("runs", "note", f"the output is read as {unit} (x + 1) / 2")
        measured = loop.measure(levels)
    if not _finite(report, measured, table, first, levels):
        return report
    steps = report.steps = steps_of(measured, table)
    bend = loop.misfit(levels, measured, 0.05, 0.3)
    local = bend[:-1].max() < BEND
    ends_bent = local and bend[-1] >= BEND and not measured.whole
    several = local and max((s.memory for s in steps), default=0) > 2e-3
    _starts(report, measured, table, levels, first.times)
    normal = _normal(report, loop, levels, measured, steps, local)
    if measured.whole:
        _round_last(measured, steps, table)
    if not local:
        report.kind = "no linear map of its noise"
        _whole_run(report, loop, levels, table, first.times)
    elif several:
        report.kind = "several calls a step, or earlier outputs remembered"
        _several(report, measured, table, levels)
    else:
        _one_call(report, loop, levels, measured, steps, table, asked, normal, ends_bent)
    return report


def _unit_of(measured):
    """1 or 255 if the loop ends with unit (x + 1) / 2, and nobody said so; else None."""
    for unit in (1, 255):
        centre, scale = measured.level[-1] / unit, measured.signal[-1, -1] / unit
        if abs(centre - 0.5) < 0.01 and abs(scale - 0.5) < 0.05:
            return unit


def _finite(report, measured, table, first, levels):
    rows = np.column_stack([measured.noise, measured.signal, measured.level])
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if not len(bad):
        report.add("finite", "ok")
        return True
    n = max(bad[0] - 1, 0)
    t = first.times[n]
    if table[0, 0] == 0 and n == 0:
        report.add("finite", "note", "NaN or infinity", where=f"after the call at t = {t:g}",
                   expected="a model of v or x0, as alpha_bar is 0 there: eps says "
                   "nothing about x_0")  # fmt: skip
    else:
        where = "in the output" if bad[0] == len(first.times) else f"after t = {t:g}"
        report.add("finite", "BROKEN", "NaN or infinity", where=where,
                   cause="the table read at -1, a division by 1 - alpha_bar = 0, or the "
                   "root of a negative number")  # fmt: skip
    return False


def _starts(report, measured, table, levels, times):
    a, b = table[0]
    unit, t = np.hypot(a, b), times[0]
    std = np.sqrt(np.sum(measured.noise[0] ** 2 * measured.variance))
    off = min(abs(std - b), abs(std - unit)) / unit
    if off > 0.01:
        report.add("starts", "BROKEN" if off > SINGLE else "small",
                   f"x has std {std:.3f}", f"{b:.3f}", f"at the first call, t = {t:g}",
                   "x_T not drawn, or not scaled as x_t is")  # fmt: skip
    left = (a / unit) ** 2
    if left <= VISIBLE:
        report.add("starts", "ok", f"alpha_bar {left:.2g} at t = {t:g}")
        return
    leading = _leading(levels, times)
    text = f"alpha_bar is {left:.3g}: x_t still holds {np.sqrt(left):.2f} x_0"
    if leading:
        report.add("starts", "note", text + ", with times that start a step early",
                   where=f"at the first call, t = {t:g}")  # fmt: skip
    else:
        report.add("starts", "BROKEN" if left > FLAGRANT else "note", text,
                   f"at most {VISIBLE}", f"at the first call, t = {t:g}",
                   "betas that are not scaled to this T, or a first time below T")  # fmt: skip


def _leading(levels, times):
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


def _normal(report, loop, levels, measured, steps, local):
    used = np.abs(measured.noise).max(0, initial=0) > 1e-6
    if (measured.uniform & used).any():
        k = int(np.flatnonzero(measured.uniform & used)[0])
        for step in steps:  # their mean is no other error
            step.shift = 0.0
        report.add("normal", "BROKEN", "uniform numbers reach x_t", "normal ones",
                   f"after {measured.made_at[k]} calls", "rand where randn belongs")  # fmt: skip
        return False
    shared = _shared(loop, levels)
    if shared is not None:
        report.add("normal", "BROKEN", f"a draw of shape {shared} reaches x_t",
                   "one number for each pixel of each image",
                   cause="noise drawn once and broadcast")  # fmt: skip
        return False
    again = [s for s in steps[2:] if s.reused > 2e-3]
    if local and again and not any(s.memory > 2e-3 for s in steps):
        report.add("normal", "BROKEN", f"noise of an earlier step is added again, "
                   f"{again[0].reused:.3f} times", "a fresh draw", str(again[0]),
                   "z drawn once before the loop, or a seed set inside it")  # fmt: skip
        return True
    report.add("normal", "ok", f"{int(used.sum())} draws")
    return True


def _shared(loop, levels):
    """The shape of a draw that is too small for x_t and yet reaches it, or None."""
    odd = loop.odd_draws()
    if not odd:
        return None
    still = lambda n, x, a, b: 0 * x  # noqa: E731
    size = loop.rows * loop.numbers
    noise = lambda k: default_rng(k).standard_normal(size)  # noqa: E731
    quiet, _ = loop.play(levels, still, noise)
    moved, _ = loop.play(levels, still, noise, odd=1.0)
    far = [np.abs(p - q).max() for p, q in zip(moved.x, quiet.x, strict=True)]
    return odd[0] if max(far) > 1e-6 else None


def _round_last(measured, steps, table):
    """An output of integers hides what is smaller than half a grey level."""
    for rows in (measured.noise, measured.signal, measured.level):
        near = np.round(rows[-1])
        rows[-1] = np.where(np.abs(rows[-1] - near) < 0.02, near, rows[-1])
    steps[-1] = steps_of(measured, table)[-1]


def _close(x, y, unit):
    return abs(x - y) < 2e-3 * max(unit, 1e-3)


def _landing(step):
    """The level where a step lands: the next call's, or that of its own c0."""
    on = abs(step.c0 - step.a_s) < _slack(step)
    if on or abs(step.a**2 + step.b**2 - 1) > 1e-4 or not 0 < step.c0 < 1:
        return step.a_s, step.b_s
    return step.c0, np.sqrt(1 - step.c0**2)


def _slack(step):
    """What float32 tables and arithmetic may do to c0."""
    return 1e-5 + 2e-7 / max(step.b**2, 1e-7) + 1e-6 * step.a_s / max(step.a, 1e-6)


def _noise_error(step):
    """(error of the noise, family) of a step: eta for DDIM's, beta and between."""
    a_s, b_s = _landing(step)
    beta, tilde, post = legal(step.a, step.b, a_s, b_s)
    error = np.hypot(step.ce, step.sigma) - b_s
    if step.ce < -2e-3 * max(b_s, 1e-3):  # eps_hat points away from x_t
        return step.ce - b_s, "eta"
    if abs(error) < 2e-3 * max(b_s, 1e-3):
        return 0.0, "eta"
    if _close(step.ce, post, b_s):
        if _close(step.sigma, np.sqrt(beta), b_s):
            return 0.0, "beta"
        if np.sqrt(tilde) < step.sigma < np.sqrt(beta):
            return 0.0, "between"
    return error, "eta"


def _family(steps):
    """(name, family, eta) of the sampler that these steps, but the last, belong to."""
    families = {_noise_error(s)[1] for s in steps}
    etas = []
    for s in steps:
        tilde = legal(s.a, s.b, *_landing(s))[1]
        if tilde > 1e-12:
            etas.append(s.sigma / np.sqrt(tilde))
    eta = float(np.median(etas)) if etas else 0.0
    if "beta" in families:
        return "DDPM, variance beta", "beta", eta
    if "between" in families:
        return "DDPM, variance between beta_tilde and beta", "between", eta
    if abs(eta - 1) < 5e-3 and np.ptp(etas) < 0.02:
        return "DDPM, variance beta_tilde", "eta", eta
    varies = ", which varies" if etas and np.ptp(etas) > 0.02 else ""
    return f"DDIM, eta {abs(round(eta, 3)):g}{varies}", "eta", eta


def correct(steps, family, eta):
    """(c0, ce, sigma) of the papers on the same times; eta None: each step's own."""
    made = []
    for n, s in enumerate(steps):
        beta, tilde, post = legal(s.a, s.b, s.a_s, s.b_s)
        last = n + 1 == len(steps)
        if family == "eta":
            var = s.sigma**2 if eta is None else min(eta, 1) ** 2 * tilde
            var = min(var, s.b_s**2)
            ce = np.sqrt(s.b_s**2 - var)
        else:
            var = 0.0 if last else beta if family == "beta" else min(
                max(s.sigma**2, tilde), beta)  # fmt: skip
            ce = post
        made.append((s.a_s, ce, np.sqrt(var)))
    return made


def recursion(steps, numbers, mean, std):
    """Mean and std of the output, for data N(mean, std^2), from three numbers a step."""
    m, v = 0.0, 1.0
    if abs(steps[0].a ** 2 + steps[0].b ** 2 - 1) > 1e-4:
        v = steps[0].b ** 2
    for s, (c0, ce, sigma) in zip(steps, numbers, strict=True):
        var = max(s.a**2 * std**2 + s.b**2, 1e-30)
        keep = c0 * s.a * std**2 / var + ce * s.b / var
        m, v = c0 * mean + keep * (m - s.a * mean), keep**2 * v + sigma**2
    return float(m), float(np.sqrt(v))


def _one_call(report, loop, levels, measured, steps, table, asked, normal, bent):
    report.kind, family, eta = _family(steps[:-1])
    errors = [_noise_error(s)[0] for s in steps[:-1]]
    if _at_first(levels, steps[-1]):  # where the loop means to end
        steps[-1].a_s, steps[-1].b_s = levels.quietest
    numbers = correct(steps, family, None if not any(errors) else eta)
    want = recursion(steps, numbers, MEAN, STD)
    right = recursion(steps, numbers, POINT, 0.0)
    if bent:  # an output that is clipped, or in another order
        got, point = monte_carlo(loop, levels)[:2], right
    else:
        got, point = measured.moments(table, MEAN, STD), measured.moments(table, POINT, 0.0)
    report.mean, report.std, report.expected = *got, want
    impact = np.abs(np.subtract([got, point], [want, right])).max()
    degree = "BROKEN" if not impact < SEEN else "small"
    _count(report, levels, steps, asked, loop.first.calls, degree)
    _joins(report, levels, steps[:-1], degree)
    if bent and degree == "small":
        report.add("ends", "skipped", "the output is x_0 in another order")
    else:
        _ends(report, levels, steps[-1], measured.whole)
    if not normal:  # sigma is not what the loop meant, nor all that follows from it
        report.expected = ()
        return
    _spread(report, steps[:-1], errors, degree, family)
    if _linear(report, loop, levels, measured, want):
        _clip(report, loop, levels, steps)
        _moments(report, want)


def _count(report, levels, steps, asked, calls, degree):
    times = [s.t for s in steps]
    if levels.beyond:
        report.add("count", "BROKEN", f"the model is called with t = {min(levels.beyond):g}",
                   "no time below the first", cause="times made by arange with a step "
                   "that is no whole number")  # fmt: skip
    elif asked is not None and asked not in (len(times), calls):
        report.add("count", "small", f"{len(times)} calls", f"{asked}",
                   cause="times made with T // n where n does not divide T")  # fmt: skip
    else:
        noise = [s.b / np.hypot(s.a, s.b) for s in steps]
        rises = [n for n in range(len(noise) - 1) if noise[n + 1] > noise[n] + 1e-9]
        again = [n for n in range(len(times) - 1) if times[n + 1] == times[n]]
        if rises:
            n = rises[0]
            report.add("count", "BROKEN" if degree == "BROKEN" else "note",
                       "the next call is noisier", "times that fall", str(steps[n]))  # fmt: skip
        elif again:
            report.add("count", "small", "a time is repeated", "times that fall",
                       str(steps[again[0]]))  # fmt: skip
        else:
            report.add("count", "ok", f"{len(times)} calls, t = {times[0]:g} .. "
                       f"{times[-1]:g}")  # fmt: skip


def _joins(report, levels, steps, degree):
    errors = np.array([max(abs(s.c0 - s.a_s), abs(s.shift)) for s in steps])
    over = np.array([e > _slack(s) for e, s in zip(errors, steps, strict=True)], bool)
    if not len(steps):
        report.add("joins", "skipped", "one step only")
    elif not over.any():
        report.add("joins", "ok", f"{len(steps)} steps, worst {errors.max():.1e}")
    else:
        n = int(np.argmax(errors * over))
        worst = steps[n]
        if errors[n] > SINGLE:
            degree = "BROKEN"
        report.add("joins", degree, f"signal {worst.c0:.4f}",
                   f"{worst.a_s:.4f} of the next call",
                   f"{over.sum()} of {len(steps)} steps; worst {worst}",
                   _why_apart(levels, steps))  # fmt: skip


def _why_apart(levels, steps):
    landed = [levels.landing(s.c0) for s in steps]
    if None in landed:
        return "the level of another time than the next call's"
    lengths = {round(s.t - u) for s, u in zip(steps, landed, strict=True)}
    if lengths == {1} and len(steps) + 1 <= len(levels.table) // 2:
        return "steps that are one time long, on a list with fewer times"
    if len(lengths) == 1:
        return f"the previous time computed as t - T // n, here t - {lengths.pop()}"
    return "the previous time computed as t - T // n, or from another list"


def _spread(report, steps, errors, degree, family):
    if not steps:
        report.add("spread", "skipped", "one step only")
        return
    size = np.abs(errors)
    if not size.any():
        if family != "eta":
            report.add("spread", "note", "DDPM's mean with a variance above beta_tilde, a "
                       "choice of the paper: exact for data N(0, 1)")  # fmt: skip
        else:
            report.add("spread", "ok", f"{len(steps)} steps")
        return
    n = int(np.argmax(size))
    worst = steps[n]
    b_s = _landing(worst)[1]
    if size[n] > SINGLE:
        degree = "BROKEN"
    report.add("spread", degree,
               f"noise {np.hypot(worst.ce, worst.sigma):.4f} (eps_hat {worst.ce:.4f}, "
               f"z {worst.sigma:.4f})", f"{b_s:.4f}",
               f"{np.count_nonzero(size)} of {len(steps)} steps; worst {worst}",
               _why_off(worst))  # fmt: skip


def _why_off(step):
    a_s, b_s = _landing(step)
    beta, tilde, post = legal(step.a, step.b, a_s, b_s)
    at_mean = _close(step.ce, post, b_s)
    if step.ce < 0 or _close(step.ce, -b_s, b_s):
        return "a minus before eps_hat"
    if at_mean and _close(step.sigma, 0, b_s):
        return "no noise added back"
    if at_mean and _close(step.sigma, beta, b_s):
        return "sigma = beta, where its square root belongs"
    if at_mean and _close(step.sigma, tilde, b_s):
        return "sigma = beta_tilde, where its square root belongs"
    if _close(step.ce, b_s, b_s) and step.sigma > 0:
        return "eps_hat keeps its whole share beside the noise: sigma^2 is not subtracted"
    if step.sigma == 0 or _close(step.sigma, 0, b_s):
        return "eps_hat multiplied by something else than sqrt(1 - alpha_bar)"
    return "variance and mean from different times, or a square root left out"


def _at_first(levels, last):
    """Does the last step land on the table's first noisy level, as some packages do?"""
    if levels.quietest is None:
        return False
    a, b = levels.quietest
    noise = np.hypot(last.ce, last.sigma)
    return 1 - last.c0 > (1 - a) / 2 and abs(last.c0 - a) < 1e-3 and noise < 1.1 * b


def _ends(report, levels, last, whole):
    if whole:
        report.add("ends", "skipped", "the output is of integers")
        report.add("quiet end", "skipped", "the output is of integers")
        return
    far = max(abs(last.c0 - 1), abs(last.ce), abs(last.shift))
    text = f"x_0 = {last.c0:.4f} x0_hat + {last.ce:.4f} eps_hat"
    at_first = _at_first(levels, last)
    if last.t in levels.beyond:
        report.add("ends", "BROKEN", "the last call is below the first noisy step: " + text,
                   "x0_hat of a noisy x_t", str(last), "a time too many")  # fmt: skip
    elif at_first:
        report.add("ends", "note", text + ", the first alpha_bar", where=str(last))
    elif far < 1e-3 + _slack(last):
        report.add("ends", "ok", "on x0_hat")
    else:
        report.add("ends", "small" if far < SEEN else "BROKEN", text, "x0_hat", str(last),
                   "the last step reads another level than alpha_bar = 1")  # fmt: skip
    if last.sigma < 1e-3 or at_first:
        report.add("quiet end", "ok")
    else:
        report.add("quiet end", "small" if last.sigma < SEEN else "BROKEN",
                   f"noise of std {last.sigma:.4f}", "none", str(last),
                   "noise left out only at t = 0, or at no time")  # fmt: skip


def _linear(report, loop, levels, measured, want):
    """Is a loop with three times the noise the same linear map? Else real noise tells."""
    bend = loop.misfit(levels, measured, 3.0, 0.9)
    inside, end = bend[:-1].max(), bend[-1]
    if inside < BEND:
        clamped = end >= BEND and not measured.whole
        report.add("linear", "note" if clamped else "ok",
                   "the output is clamped" if clamped else "")  # fmt: skip
        return True
    n = max(int(np.argmax(bend[:-1] >= BEND)) - 1, 0)
    mean, std, errors = monte_carlo(loop, levels)
    report.mean, report.std = mean, std
    off = np.abs([mean - want[0], std - want[1]])
    bad = ((off > 5 * errors) & (off > SEEN)).any()
    report.add("linear", "BROKEN" if bad else "note", "three times the noise is not three "
               "times the response", where=f"after t = {loop.first.times[n]:g}",
               cause="x_t clamped, where only x0_hat may be")  # fmt: skip
    report.add("moments", "BROKEN" if bad else "ok",
               f"{mean:.4f} / {std:.4f} with real noise", f"{want[0]:.4f} / {want[1]:.4f}")
    return False


def best_guess(n, x, a, b):
    """The best x0_hat of x_t for data N(MEAN, STD^2)."""
    return MEAN + a * STD**2 / (a**2 * STD**2 + b**2) * (x - a * MEAN)


def monte_carlo(loop, levels, numbers=4000):
    """Mean, std and their standard errors with real noise, data N(MEAN, STD^2)."""
    rng = default_rng(0)
    rows = -(-numbers // loop.numbers)
    size = (rows if loop.free else loop.rows) * loop.numbers
    run, _ = loop.play(levels, best_guess, lambda k: rng.standard_normal(size), rows)
    x = run.x[-1]
    return x.mean(), x.std(), x.std() / np.sqrt([len(x), 2 * len(x)])


def _clip(report, loop, levels, steps):
    """Say x0_hat = 5 once: is it clipped, and does eps_hat follow?"""
    n = len(steps) // 2
    s = steps[n]
    if s.s is None or s.b <= 0:
        report.add("clip", "skipped", "one step only")
        return
    size = loop.rows * loop.numbers
    noise = lambda k: np.full(size, 0.1) if k == 0 else np.zeros(size)  # noqa: E731

    def rule(m, x, a, b):
        return np.full(len(x), 5.0) if m == n else 0 * x

    run, _ = loop.play(levels, rule, noise)
    x, found = run.x[n][0], run.x[n + 1][0] - s.shift
    eps = lambda x0: (x - s.a * x0) / s.b  # noqa: E731
    whole = s.c0 * 5 + s.ce * eps(5)
    near = lambda y: abs(found - y) < 1e-2 * max(abs(y), 0.1)  # noqa: E731
    if near(whole):
        report.add("clip", "ok", "x0_hat is not clipped")
    elif any(near(s.c0 * c + s.ce * eps(c)) for c in (0.5, 1.0)):
        report.add("clip", "ok", "x0_hat is clipped, eps_hat follows")
    else:
        report.add("clip", "note", "x0_hat is clipped, eps_hat is left as it was: x_s is "
                   "off the line through x_t", where=str(s))  # fmt: skip


def _moments(report, want):
    off = max(abs(report.mean - want[0]), abs(report.std - want[1]))
    verdict = "ok" if off < 2e-3 else "small" if off < SEEN else "BROKEN"
    report.add("moments", verdict, f"{report.mean:.4f} / {report.std:.4f}",
               f"{want[0]:.4f} / {want[1]:.4f}")  # fmt: skip


def _several(report, measured, table, levels):
    """Laws of the whole run, for samplers that look at more than one output a step."""
    got, point = (measured.moments(table, m, s) for m, s in ((MEAN, STD), (POINT, 0.0)))
    report.mean, report.std, report.expected = *got, (MEAN, STD)
    quiet = levels.quietest[1] if levels.quietest else 0.0
    off = max(abs(point[0] - POINT), point[1] - 1.2 * quiet)
    report.add("ends", "ok" if off < 1e-3 else "small" if off < SEEN else "BROKEN",
               f"data that are one point, {POINT}, come out as {point[0]:.4f} / "
               f"{point[1]:.4f}")  # fmt: skip
    first_order = _first_order(table)
    # with few steps a right solver of high order may be far off, further than DDIM
    limit = max(0.1, 2 * np.abs(np.subtract(first_order, (MEAN, STD))).max())
    limit = np.inf if len(table) < FEW else limit
    away = np.abs(np.subtract(got, (MEAN, STD))).max()
    report.add("moments", "ok" if away < SEEN else "note" if away < limit else "BROKEN",
               f"{got[0]:.4f} / {got[1]:.4f}", f"{MEAN} / {STD}, and first order gives "
               f"{first_order[0]:.4f} / {first_order[1]:.4f}")  # fmt: skip


def _first_order(table):
    """Moments of DDIM, eta 0, on the levels that were visited, each once."""
    falling = [table[0]]
    for a, b in table[1:]:
        if b * falling[-1][0] < falling[-1][1] * a - 1e-9:
            falling.append((a, b))
    m, v = 0.0, falling[0][0] ** 2 + falling[0][1] ** 2
    if v > 1.01:
        v = falling[0][1] ** 2
    for (a, b), (a_s, b_s) in zip(falling, [*falling[1:], (1.0, 0.0)], strict=True):
        var = max(a**2 * STD**2 + b**2, 1e-30)
        keep = (a_s * a * STD**2 + b_s * b) / var
        m, v = a_s * MEAN + keep * (m - a * MEAN), keep**2 * v
    return float(m), float(np.sqrt(v))


def _whole_run(report, loop, levels, table, times):
    """Moments with real noise, where no single step can be read off."""
    mean, std, errors = monte_carlo(loop, levels)
    report.mean, report.std, report.expected = mean, std, (MEAN, STD)
    ddim = _first_order(table)
    low, high = min(ddim[1], STD) - 0.05, max(ddim[1], STD) + 0.15
    bad = not (low - 5 * errors[1] < std < high + 5 * errors[1]
               and abs(mean - MEAN) < abs(ddim[0] - MEAN) + 0.02 + 5 * errors[0])  # fmt: skip
    report.add("linear", "note", "x_t is no linear map of the noise, so only the whole "
               "run is judged")  # fmt: skip
    report.add("moments", "BROKEN" if bad else "ok",
               f"{mean:.4f} / {std:.4f} with real noise", f"near {MEAN} / {STD}")  # fmt: skip
