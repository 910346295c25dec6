"""The doors for samplers: run a loop, measure it, and hold it against each law."""

import inspect

import numpy as np

from nanodiff.laws.evidence import MEAN, STD, Evidence, best_guess
from nanodiff.laws.impulse import (
    Loop,
    Unsteady,
    arrays_or_tensors,
    encoder,
    last_array,
    play,
)
from nanodiff.laws.levels import Levels, levels_table
from nanodiff.laws.randomness import Draws
from nanodiff.laws.report import Report, allowed
from nanodiff.laws.verdicts import LAWS

SAME = 1e-3  # in the numbers of a step, between prediction types


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
    report = Report("sampler:", allowed(allow, tuple(LAWS)))
    if alpha_bar is None and q_sample is None:
        raise ValueError("alpha_bar is None, expected a table, a function, or q_sample")
    if alpha_bar is not None and not callable(alpha_bar):
        alpha_bar = levels_table(alpha_bar)
    encode, call = encoder(predicts), sample
    must, names = _parameters(sample)
    if steps is not None and (must >= 3 or "steps" in names):
        call = lambda model, shape: sample(model, shape, steps)  # noqa: E731
    try:
        loop = Loop(call, encode, undo, image)
        levels = Levels(alpha_bar, q_sample, loop.times, first, time)
        _judge(report, Evidence(loop, levels, steps))
    except Unsteady as error:
        report.add("runs", "note", f"the number of calls depends on the noise: {error}")
    except Exception as error:  # whatever the code of others raises
        report.add("runs", "crash", f"{type(error).__name__}: {str(error)[:300]}")
    return report


check_sampler.laws = tuple(LAWS)


def _judge(report, run):
    if not run.finite:  # then nothing else can be said
        report.judge({name: LAWS[name] for name in ("runs", "finite")}, run)
        return
    report.judge(LAWS, run)
    report.kind, report.steps, (report.mean, report.std) = run.kind, run.steps, run.made
    report.expected = run.right((MEAN, STD)) if run.normal or not run.one_call else ()


def check_step(step, times, alpha_bar=None, **options):
    """Check a function of one step, called at each of the falling times.

    step(output, t, xt) returns the next x, or step(output, t, xt, z) with z standard
    normal. times: what the model is called with. All else as in `check_sampler`; arrays
    are NumPy's, or torch's where the step or its table is made for tensors. Raises
    ValueError if times is empty, and as `check_sampler` does.

    >>> from nanodiff import ddpm, linear
    >>> schedule = linear(100)
    >>> step = lambda eps_hat, t, xt, z: ddpm.step(schedule, xt, t, eps_hat, z)
    >>> check_step(step, range(100, 0, -1), schedule.alpha_bar).kind
    'DDPM, variance beta_tilde'
    """
    times = [t.item() if hasattr(t, "item") else t for t in times]
    if not times:
        raise ValueError("times is empty, expected at least one time")
    wants_z, start = _parameters(step)[0] >= 4, 1.0
    if callable(alpha_bar) and abs(np.hypot(*alpha_bar(times[0])) - 1) > 1e-3:
        start = float(alpha_bar(times[0])[1])

    def sample(model, shape, like):
        dtype = np.float64 if like is np.asarray else np.float32

        def noise():  # which the check replaces
            return like(np.random.default_rng().standard_normal(shape, dtype))

        xt = start * noise()
        for t in times:
            xt = step(model(xt, t), t, xt, *[noise()] * wants_z)
            xt = getattr(xt, "prev_sample", xt)
            xt = xt[0] if isinstance(xt, tuple) else xt
        return xt

    kinds = arrays_or_tensors()
    for like in kinds[-1:] if hasattr(alpha_bar, "detach") else kinds:
        call = lambda model, shape, like=like: sample(model, shape, like)  # noqa: E731
        report = check_sampler(call, alpha_bar, steps=len(times), **options)
        report.title = "step:"
        if report["runs"].verdict != "crash":
            break
    return report


check_step.laws = tuple(LAWS)


def _parameters(function):
    """How many positional arguments a function must be given, and all names."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return 0, ()
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    must = [p for p in parameters.values() if p.kind in kinds and p.default is p.empty]
    return len(must), tuple(parameters)


def check_predictions(samples, alpha_bar, **options):
    """Check that eps, x0, v (and flow) give the same run; return a `Report`.

    samples: {"eps": sample, "v": sample, ...}, each as for `check_sampler`, which
    judges the first. All else as there. Raises ValueError for fewer than two.

    >>> from nanodiff import ddim, linear
    >>> schedule = linear(100)
    >>> def saying(kind):
    ...     return lambda model, shape: ddim.sample(
    ...         model, schedule, np.random.randn(*shape), 20, predicts=kind)
    >>> samples = {kind: saying(kind) for kind in ("eps", "x0", "v")}
    >>> check_predictions(samples, schedule.alpha_bar)["same run"].verdict
    'ok'
    """
    if len(samples) < 2:
        raise ValueError(f"samples has {len(samples)} entries, expected at least two")
    reports = {
        kind: check_sampler(sample, alpha_bar, predicts=kind, **options)
        for kind, sample in samples.items()
    }
    (kind, report), *others = reports.items()
    for other, second in others:
        runs = [[(s.t, s.c0, s.ce, s.sigma) for s in r.steps] for r in (report, second)]
        if len(runs[0]) != len(runs[1]) or not runs[0]:
            found = f"{len(runs[0])} steps of {kind}, {len(runs[1])} of {other}"
            report.add("same run", "BROKEN", found, second["runs"].found)
            continue
        off = np.abs(np.subtract(*runs)).max(1)
        n = int(np.argmax(off))
        found = f"{report.steps[n]}: {other} and {kind} differ by {off[n]:.1e}"
        cause = f"{other} turned into x0_hat or eps_hat by another formula"
        report.add("same run", "ok" if off[n] < SAME else "BROKEN", found, cause)
    return report


check_predictions.laws = (*LAWS, "same run")


def check_inversion(invert, sample, alpha_bar, *, steps=(20, 40, 80), **options):
    """Check that sampling from an inverted x_T comes back, with an error as 1 / n.

    invert(model, x0, n) returns x_T, sample(model, xT, n) returns x_0; both call
    model(xt, t), which knows data N(0.3, 0.5^2) exactly. steps: the n that are tried.
    Of `check_sampler`'s options: predicts, first, time, allow. Raises ValueError for
    arguments that do not fit.

    >>> from nanodiff import ddim, linear
    >>> schedule = linear(100)
    >>> report = check_inversion(
    ...     lambda model, x0, n: list(ddim.invert(model, schedule, x0, n))[-1][1],
    ...     lambda model, xT, n: ddim.sample(model, schedule, xT, n),
    ...     schedule.alpha_bar, steps=(10, 20, 40))
    >>> report["goes back"].verdict
    'ok'
    """
    allow, predicts = options.pop("allow", ()), options.pop("predicts", "eps")
    report = Report("inversion:", allowed(allow, check_inversion.laws))
    levels, encode = Levels(alpha_bar, **options), encoder(predicts)
    x0 = (MEAN + STD * np.linspace(-2, 2, 12)).astype(np.float32).reshape(3, 1, 2, 2)
    how = {"encode": encode, "level": levels, "rule": best_guess, "size": x0.size}

    def back(n, like):
        def both(model, shape):
            return sample(model, last_array(invert(model, like(x0), n)), n)

        return play(both, x0.shape, Draws(), **how).x[-1] - x0.reshape(-1)

    for like in arrays_or_tensors():
        try:
            errors = [float(np.sqrt(np.mean(back(n, like) ** 2))) for n in steps]
        except Exception as error:  # whatever the code of others raises
            said = "crash", f"{type(error).__name__}: {str(error)[:300]}"
            continue
        order = -np.polyfit(np.log(steps), np.log(np.maximum(errors, 1e-12)), 1)[0]
        good = errors[-1] < 1e-3 or (order > 0.7 and errors[-1] < 0.2)
        pairs = zip(errors, steps, strict=True)
        found = ", ".join(f"{error:.4f} with {n} steps" for error, n in pairs)
        said = "ok" if good else "BROKEN", f"error {found}; expected to fall as 1 / n"
        break
    report.add("goes back", *said, "eps_hat taken at another time than x_s")
    return report


check_inversion.laws = ("goes back",)
