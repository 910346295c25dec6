"""The doors for samplers: run a loop, measure it, and hold it against each law."""

import inspect
import sys

import numpy as np

from nanodiff.laws import verdicts, whole
from nanodiff.laws.impulse import Loop, Unsteady, encoder
from nanodiff.laws.levels import Levels, levels_table
from nanodiff.laws.report import Report, allowed
from nanodiff.laws.steps import correct, family_of, noise_error, recursion, steps_of
from nanodiff.laws.verdicts import MEAN, POINT, SEEN, STD, Evidence

LAWS = (
    "runs",
    "finite",
    "count",
    "starts",
    "shares",
    "joins",
    "spread",
    "ends",
    "quiet end",
    "linear",
    "normal",
    "clip",
    "moments",
)


def check_sampler(
    sample,
    alpha_bar=None,
    *,
    predicts="eps",
    q_sample=None,
    steps=None,
    undo=None,
    image=None,
    first=None,
    time=None,
    allow=(),
    title="sampler:",
):
    """Run a sampling loop with our model and our noise; return its `Report`.

    sample(model, shape) returns x_0 of that shape and calls model(xt, t); or, if it
    takes steps, sample(model, shape, steps). alpha_bar: the table that t indexes, or a
    function from t to (a, b) of x_t = a x_0 + b eps. predicts: what the model says,
    "eps", "x0", "v" (a eps - b x0), "flow" (eps - x0), "score", or a function (x0, eps,
    a, b). q_sample(x0, t, eps): must have the levels of alpha_bar, or gives them if
    there is none. steps: how many calls are asked for. undo: of what the loop does to
    its output. image: the shape of one image, (1, 2, 2) if not given. first: the time
    of alpha_bar's first entry. time: from what the model is called with to an index of
    alpha_bar. allow: laws that may be broken. Raises ValueError for arguments that do
    not fit; what the loop raises is reported.

    >>> from nanodiff import ddim, linear
    >>> def sample(model, shape):
    ...     xT = np.random.default_rng(0).standard_normal(shape)
    ...     return ddim.sample(model, linear(100), xT, 30)
    >>> report = check_sampler(sample, linear(100).alpha_bar)
    >>> report.kind, round(report.std, 3), report.broken
    ('DDIM, eta 0', 0.452, [])
    """
    report = Report(title, allow=allowed(allow, LAWS))
    if alpha_bar is None and q_sample is None:
        raise ValueError("alpha_bar is None, expected a table, a function, or q_sample")
    if alpha_bar is not None and not callable(alpha_bar):
        alpha_bar = levels_table(alpha_bar)
    encode = encoder(predicts)
    if steps is not None and _takes_steps(sample):
        call = lambda model, shape: sample(model, shape, steps)  # noqa: E731
    else:
        call = sample
    try:
        loop = Loop(call, encode, undo, image)
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
    return np.random.default_rng().standard_normal(shape)


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


def _judge(report, loop, levels, asked):
    table = np.array([levels(t) for t in loop.first.times], float)
    report.add(
        "runs", "note" if levels.note else "ok", levels.note or f"{len(table)} calls"
    )
    measured = loop.measure(levels)
    if loop.undo is None and (unit := _unit_of(measured)):
        loop.undo = lambda y: 2 * y / unit - 1
        report.add("runs", "note", f"the output is read as {unit} times (x + 1) / 2")
        measured = loop.measure(levels)
    run = Evidence(report, loop, levels, table, measured, [], asked, np.zeros(2))
    if not verdicts.finite(run):
        return report
    if measured.whole:
        _round_last(measured)
    run.steps = report.steps = steps_of(measured, table)
    run.bend = loop.misfit(levels, measured, 0.05, 0.3)
    verdicts.starts(run)
    verdicts.shares(run)
    normal = verdicts.normal(run)
    if not run.linear:
        report.kind = "no linear map of its noise"
        whole.output_only(run)
    elif run.several:
        report.kind = "several calls a step, or earlier outputs remembered"
        whole.several_calls(run)
    else:
        _one_call_a_step(run, normal)
    report.findings.sort(key=lambda finding: LAWS.index(finding.law))
    return report


def _unit_of(measured):
    """1 or 255 if the loop ends with unit (x + 1) / 2 and nobody said so, or None."""
    for unit in (1, 255):
        centre, scale = measured.level[-1] / unit, measured.signal[-1, -1] / unit
        if abs(centre - 0.5) < 0.01 and abs(scale - 0.5) < 0.05:
            return unit


def _round_last(measured):
    """An output of integers hides what is smaller than half a grey level."""
    for rows in (measured.noise, measured.signal, measured.level):
        near = np.round(rows[-1])
        rows[-1] = np.where(np.abs(rows[-1] - near) < 0.02, near, rows[-1])


def _one_call_a_step(run, normal):
    """All laws of one step, and the run beside a correct one on the same times."""
    report, steps, measured = run.report, run.steps, run.measured
    report.kind, family, eta = family_of(steps[:-1])
    errors = [noise_error(s)[0] for s in steps[:-1]]
    if verdicts.at_first(run.levels, steps[-1]):  # where the loop means to end
        steps[-1].a_s, steps[-1].b_s = run.levels.quietest
    numbers = correct(steps, family, eta if any(errors) else None)
    want, point = (
        recursion(steps, numbers, *data) for data in ((MEAN, STD), (POINT, 0))
    )
    made, off, room = measured.moments(run.table, MEAN, STD), 0.0, 0.0
    if run.reordered:
        *made, room = whole.real_noise(run)
    else:
        off = np.subtract(measured.moments(run.table, POINT, 0.0), point)
    off = np.max(np.abs([*np.atleast_1d(off), *np.subtract(made, want)]))
    run.degree = "small" if off < SEEN + 5 * np.max(room) else "BROKEN"
    report.mean, report.std, report.expected = *made, want
    verdicts.count(run)
    verdicts.ends(run)
    if not normal:  # neither sigma nor what follows from it is what the loop meant
        report.expected = ()
        return
    verdicts.joins(run)
    verdicts.spread(run, errors, family)
    if whole.same_for_large(run, want):
        whole.clip(run)
        whole.moments(run, want)
