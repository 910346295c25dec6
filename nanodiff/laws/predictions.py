"""The laws of prediction types and of inversion: the same run, and the way back."""

import sys

import numpy as np

from nanodiff.laws.impulse import encoder, last_array, play
from nanodiff.laws.levels import Levels
from nanodiff.laws.randomness import Draws
from nanodiff.laws.report import Report, allowed
from nanodiff.laws.samplers import LAWS, check_sampler
from nanodiff.laws.verdicts import MEAN, STD
from nanodiff.laws.whole import best_guess

SAME = 1e-3


def check_predictions(samples, alpha_bar, **options):
    """Check that eps, x0, v (and flow) give the same run; return a `Report`.

    samples: {"eps": sample, "v": sample, ...}, each as for `check_sampler`, which
    judges the first. All else as there.

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
        if second["runs"].verdict == "crash":
            report.add("same run", "crash", f"{other}: {second['runs'].found}")
            continue
        times = [[s.t for s in r.steps] for r in (report, second)]
        if times[0] != times[1]:
            report.add("same run", "BROKEN", f"{other} visits other times than {kind}")
            continue
        numbers = [
            np.array([(s.c0, s.ce, s.sigma) for s in r.steps]) for r in (report, second)
        ]
        off = np.abs(numbers[0] - numbers[1]).max(1, initial=0)
        n = int(np.argmax(off))
        good = off[n] < SAME
        report.add(
            "same run",
            "ok" if good else "BROKEN",
            f"{other} and {kind} differ by {off[n]:.1e}",
            "" if good else f"at most {SAME}",
            str(report.steps[n]),
            f"{other} turned into x0_hat or eps_hat by another formula",
        )
    return report


check_predictions.laws = (*LAWS, "same run")


def check_inversion(
    invert,
    sample,
    alpha_bar,
    *,
    steps=(20, 40, 80),
    predicts="eps",
    first=None,
    time=None,
    allow=(),
    title="inversion:",
):
    """Check that sampling from an inverted x_T comes back, with an error as 1 / n.

    invert(model, x0, n) returns x_T, sample(model, xT, n) returns x_0; both call
    model(xt, t), which knows data N(0.3, 0.5^2) exactly. All else: `check_sampler`.

    >>> from nanodiff import ddim, linear
    >>> schedule = linear(100)
    >>> report = check_inversion(
    ...     lambda model, x0, n: list(ddim.invert(model, schedule, x0, n))[-1][1],
    ...     lambda model, xT, n: ddim.sample(model, schedule, xT, n),
    ...     schedule.alpha_bar, steps=(10, 20, 40))
    >>> report["goes back"].verdict
    'ok'
    """
    encode = encoder(predicts)
    report = Report(title, allow=allowed(allow, ("goes back",)))
    x0 = (MEAN + STD * np.linspace(-2, 2, 12)).astype(np.float32).reshape(3, 1, 2, 2)
    levels, errors = Levels(alpha_bar, None, [], first, time), []
    try:
        for n in steps:
            back = _there_and_back(invert, sample, levels, encode, x0, n)
            errors.append(np.sqrt(np.mean((back - x0.reshape(-1)) ** 2)))
    except Exception as error:  # whatever the code of others raises
        report.add("goes back", "crash", f"{type(error).__name__}: {str(error)[:300]}")
        return report
    order = -np.polyfit(np.log(steps), np.log(np.maximum(errors, 1e-12)), 1)[0]
    good = errors[-1] < 1e-3 or (order > 0.7 and errors[-1] < 0.2)
    report.add(
        "goes back",
        "ok" if good else "BROKEN",
        "error "
        + ", ".join(f"{e:.4f}" for e in errors)
        + " with "
        + ", ".join(str(n) for n in steps)
        + " steps",
        "one that falls as 1 / n",
        cause="eps_hat taken at another time than x_s, or steps that do not join",
    )
    return report


check_inversion.laws = ("goes back",)


def _there_and_back(invert, sample, levels, encode, x0, n):
    """x_0 after inversion and sampling, with arrays of NumPy or else tensors."""
    for tensors in (False, True)[: 1 + ("torch" in sys.modules)]:
        given = sys.modules["torch"].from_numpy(x0) if tensors else x0

        def both(model, shape, given=given):
            return sample(model, last_array(invert(model, given, n)), n)

        try:
            run = play(
                both, x0.shape, levels, encode, best_guess, Draws(), size=x0.size
            )
        except (TypeError, AttributeError):
            if tensors or "torch" not in sys.modules:
                raise
            continue
        return run.x[-1]
