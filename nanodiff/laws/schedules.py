"""The laws of schedules: of the tables, of what is derived from them, of q_sample."""

import sys
import warnings

import numpy as np

from nanodiff.laws.formulas import derived, formulas
from nanodiff.laws.impulse import as_numpy
from nanodiff.laws.levels import measured_level, table_of
from nanodiff.laws.randomness import Draws, replaced
from nanodiff.laws.report import Report, allowed
from nanodiff.laws.verdicts import FLAGRANT, SEEN, VISIBLE

LAWS = (
    "range",
    "falls",
    "product",
    "terminal",
    "finite",
    "tables",
    "formula",
    "q_sample",
    "normal",
)
KINDS = ("linear", "quadratic", "cosine", "sigmoid")
AGREES = 1e-2  # in sqrt(alpha_bar): how near a table is to its formula


def check_schedule(
    beta=None,
    alpha_bar=None,
    *,
    kind=None,
    q_sample=None,
    tables=None,
    first=None,
    allow=(),
    title="schedule:",
    **formula,
):
    """Check the tables of a schedule; return a `Report`.

    beta, alpha_bar: either or both, for t = 1..T, or T + 1 values that start with the
    data's, 0 and 1. first: the index of the first noisy step, 0 or 1, told apart if not
    given. kind: "linear" (1e-4 to 0.02 at T = 1000, scaled or not), "quadratic",
    "cosine" or "sigmoid"; start, end, offset, cap change its formula. q_sample(x0, t,
    eps), or q_sample(x0, t), with t an index of the tables. tables: derived ones by
    name, such as posterior_variance. Raises ValueError for a kind that is not known, or
    arrays that are no tables.

    >>> from nanodiff import linear
    >>> check_schedule(alpha_bar=linear(100).alpha_bar, kind="linear").broken
    []
    >>> check_schedule(beta=np.linspace(1e-4, 0.02, 50)).broken
    ['terminal']
    """
    report = Report(title, allow=allowed(allow, LAWS))
    if beta is None and alpha_bar is None:
        raise ValueError("beta and alpha_bar are None, expected at least one")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {list(KINDS)}")
    if first not in (None, 0, 1):
        raise ValueError(f"first is {first!r}, expected 0 or 1")
    beta = None if beta is None else table_of(beta, "beta")
    alpha_bar = None if alpha_bar is None else table_of(alpha_bar)
    if first is None:
        first = _first(beta, alpha_bar, kind, formula)
    if beta is not None and first and (alpha_bar is None or beta[0] == 0):
        beta = beta[1:]
    if alpha_bar is not None:
        alpha_bar = alpha_bar[first:]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if beta is not None:
            _range(report, beta, first)
        if alpha_bar is None:
            alpha_bar = np.cumprod(1 - beta)
        report.kind = f"T = {len(alpha_bar)}, first noisy step at index {first}"
        _falls(report, alpha_bar, first)
        if beta is not None:
            _product(report, beta, alpha_bar, first)
        _terminal(report, alpha_bar)
        _finite(report, alpha_bar, first)
        _tables(report, beta, alpha_bar, tables or {}, first)
        if kind is not None:
            _formula(report, alpha_bar, kind, formula, first)
        if q_sample is not None:
            _q_sample(report, alpha_bar, q_sample, first)
    return report


check_schedule.laws = LAWS


def _first(beta, alpha_bar, kind, formula):
    """0 or 1: does the table start with the data, or with the first noisy step?"""
    if alpha_bar is None:
        return int(beta[0] == 0)
    if alpha_bar[0] != 1:
        return 0
    if beta is not None:
        return int(len(alpha_bar) == len(beta) + 1 or beta[0] == 0)
    T = len(alpha_bar)
    for name in KINDS if kind is None else (kind,):  # T entries with the 1 kept?
        for by in formulas(name, T, **formula):
            kept = np.concatenate([[1.0], np.cumprod(1 - by)[:-1]])
            if np.abs(np.sqrt(alpha_bar) - np.sqrt(kept)).max() < 1e-4:
                return 0
    return 1


def _range(report, beta, first):
    fine = (beta > 0) & (beta < 1)  # NaN is not
    fine[-1:] |= beta[-1:] == 1  # zero terminal SNR
    if fine.all():
        report.add("range", "ok", f"beta {beta[0]:.3g} .. {beta[-1]:.3g}")
        return
    i = int(np.flatnonzero(~fine)[0])
    report.add(
        "range",
        "BROKEN",
        f"beta[{i + first}] = {beta[i]:.4g}",
        "inside (0, 1)",
        f"{np.count_nonzero(~fine)} of {len(beta)}",
        "betas scaled by 1000 / T at a small T, or a formula without its limit",
    )


def _falls(report, alpha_bar, first):
    full = np.concatenate([[1.0], alpha_bar])
    wrong = np.flatnonzero(~(np.diff(full) < 0))
    wrong = [i for i in wrong if not full[i] == full[i + 1] == 0]
    outside = np.flatnonzero(~((alpha_bar >= 0) & (alpha_bar <= 1)))
    if len(outside):
        i = int(outside[0])
        report.add(
            "falls",
            "BROKEN",
            f"alpha_bar[{i + first}] = {alpha_bar[i]:.6g}",
            "inside 0..1",
        )
    elif not len(wrong):
        report.add("falls", "ok")
    else:
        i = int(wrong[0])
        report.add(
            "falls",
            "BROKEN",
            f"alpha_bar[{i + first}] = {full[i + 1]:.6g} after {full[i]:.6g}",
            "less",
            f"{len(wrong)} of {len(alpha_bar)}",
            "the 1 of the data kept as the first noisy step" if i == 0 else "",
        )


def _product(report, beta, alpha_bar, first):
    if len(beta) != len(alpha_bar):
        report.add(
            "product",
            "BROKEN",
            f"{len(beta)} betas, {len(alpha_bar)} alpha_bars",
            "as many",
        )
        return
    ratio = alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]])
    # a float32 product is wrong by 2e-7, and 0 / 0 at the end says nothing
    off = np.abs(ratio - (1 - beta)) > 5e-3 * beta + 3e-7 / np.maximum(alpha_bar, 1e-2)
    tiny = np.concatenate([[1.0], alpha_bar[:-1]]) < 1e-10
    wrong = np.flatnonzero((off | np.isnan(ratio)) & ~tiny)
    if not len(wrong):
        report.add("product", "ok")
        return
    i = int(wrong[0])
    noise = np.sqrt(np.maximum(1 - np.cumprod(1 - beta), 0)), np.sqrt(1 - alpha_bar)
    far = np.abs(noise[0] - noise[1]).max()
    before = f"alpha_bar[{i + first - 1}]" if i else "1"
    report.add(
        "product",
        "small" if far < SEEN else "BROKEN",
        f"alpha_bar[{i + first}] / {before} = {ratio[i]:.6f}",
        f"1 - beta = {1 - beta[i]:.6f}",
        f"{len(wrong)} of {len(beta)} steps; the noise is off by {far:.3g}",
        "a product that starts at another time than "
        "beta, or alpha_bar changed afterwards",
    )


def _terminal(report, alpha_bar):
    left = alpha_bar[-1]
    if left <= VISIBLE:
        report.add("terminal", "ok", f"alpha_bar at T is {left:.2g}")
        return
    report.add(
        "terminal",
        "BROKEN" if not left <= FLAGRANT else "note",
        f"alpha_bar at T is {left:.3g}: x_T still holds {np.sqrt(left):.2f} x_0",
        f"at most {VISIBLE}",
        cause="betas that are not scaled to this T",
    )


def _finite(report, alpha_bar, first):
    bad = np.flatnonzero(~np.isfinite(1 / (1 - alpha_bar)))
    if not len(bad):
        report.add("finite", "ok")
        return
    i = int(bad[0])
    report.add(
        "finite",
        "BROKEN",
        f"1 / (1 - alpha_bar[{i + first}]) is not finite",
        "alpha_bar below 1 at each noisy step",
        f"{len(bad)} of {len(alpha_bar)}",
        "the 1 of the data kept as the first noisy step",
    )


def _tables(report, beta, alpha_bar, tables, first):
    beta = beta if beta is not None and len(beta) == len(alpha_bar) else None
    known = derived(beta, alpha_bar)
    for name, table in tables.items():
        table = table_of(table, name)
        table = table[1:] if first and len(table) == len(alpha_bar) + 1 else table
        bad = np.flatnonzero(~np.isfinite(table))
        if len(bad) and not (name in known and np.isinf(known[name][bad]).all()):
            report.add(
                "tables",
                "BROKEN",
                f"{name}[{bad[0] + first}] = {table[bad[0]]}",
                "finite",
            )
            continue
        if name not in known or len(table) != len(alpha_bar):
            report.add("tables", "skipped", f"{name} is no table that the check knows")
            continue
        want = known[name]
        off = np.abs(table - want) / np.maximum(np.abs(want), 1e-6)
        off[0] = 0 if "clipped" in name or "variance" in name else off[0]
        # what follows from 1 - alpha_bar loses digits in float32
        wrong = np.flatnonzero(off > 5e-3 + 1e-6 / np.maximum(1 - alpha_bar, 1e-6))
        if len(wrong):
            i = int(wrong[0])
            report.add(
                "tables",
                "BROKEN",
                f"{name}[{i + first}] = {table[i]:.5g}",
                f"{want[i]:.5g}",
                f"{len(wrong)} of {len(want)}",
            )
        else:
            report.add("tables", "ok", name)


def _formula(report, alpha_bar, kind, options, first):
    nearest = np.inf, 0, None
    for beta in formulas(kind, len(alpha_bar), **options):
        want = np.cumprod(1 - beta)
        off = np.abs(np.sqrt(alpha_bar) - np.sqrt(want))
        i = int(np.argmax(off))
        if off[i] < nearest[0]:
            nearest = off[i], i, want
    far, i, want = nearest
    if far < AGREES:
        report.add("formula", "ok", kind)
    elif want is None:
        report.add("formula", "BROKEN", "NaN", f"the formula of {kind}")
    else:
        report.add(
            "formula",
            "BROKEN",
            f"sqrt(alpha_bar[{i + first}]) = {np.sqrt(alpha_bar[i]):.4f}, alpha_bar "
            f"at T {alpha_bar[-1]:.2g}",
            f"{np.sqrt(want[i]):.4f}, {want[-1]:.2g}",
            cause="another limit of beta, a square left out, or roots for squares",
        )


def _q_sample(report, alpha_bar, q_sample, first):
    T = len(alpha_bar)
    worst, text = 0.0, ("", "", "")
    for i in sorted({0, 1, T // 4, T // 2, T - 1} & set(range(T))):
        try:
            a, b = measured_level(q_sample, i + first)
        except ValueError as error:
            report.add("q_sample", "crash", str(error))
            return
        want = np.sqrt(alpha_bar[i]), np.sqrt(1 - alpha_bar[i])
        off = max(abs(a - want[0]), abs(b - want[1]))
        if not off <= worst:
            worst = off
            text = (
                f"{a:.4f} x_0 + {b:.4f} eps",
                f"{want[0]:.4f}, {want[1]:.4f}",
                f"at t = {i + first}",
            )
    if worst < 1e-3:
        report.add("q_sample", "ok", f"worst {worst:.1e}")
    else:
        report.add(
            "q_sample",
            "BROKEN",
            *text,
            "alpha_bar without its root, or of the time beside it",
        )
    _own_noise(report, q_sample, first)


def _own_noise(report, q_sample, t):
    """If q_sample draws its own noise: is it normal?"""
    for tensors in (False, True)[: 1 + ("torch" in sys.modules)]:
        x0, times = np.zeros((3, 1, 2, 2), np.float32), np.full(3, t)
        if tensors:
            torch = sys.modules["torch"]
            x0, times = torch.from_numpy(x0), torch.from_numpy(times)
        draws = Draws(12)
        try:
            with replaced(draws, q_sample):
                made = q_sample(x0, times)
        except Exception:  # it wants eps, or tensors
            continue
        as_numpy(made[0] if isinstance(made, tuple | list) else made)
        if any(uniform for _, _, uniform, _ in draws.log):
            report.add(
                "normal",
                "BROKEN",
                "q_sample draws uniform numbers",
                "normal ones",
                cause="rand where randn belongs",
            )
        elif any(shape != tuple(x0.shape) for shape, *_ in draws.log):
            report.add(
                "normal",
                "BROKEN",
                f"q_sample draws noise of shape {draws.log[0][0]}",
                "one number for each pixel of each image",
            )
        elif draws.log:
            report.add("normal", "ok")
        return
