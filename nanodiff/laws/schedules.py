"""The laws of schedules: of the tables, of what is derived from them, of q_sample."""

import warnings

import numpy as np

from nanodiff.laws.levels import ask, measured_level, table_of
from nanodiff.laws.report import Report, allowed

VISIBLE, FLAGRANT = 2e-3, 0.02  # alpha_bar at T
SEEN = 0.015  # two grey levels of 256, in [-1, 1]
AGREES = 1e-2  # in sqrt(alpha_bar): how near a table is to its formula
KINDS = ("linear", "quadratic", "cosine", "sigmoid")
KEPT = "the 1 of the data kept as the first noisy step"
LAWS = {}  # name: (judge, usual cause)


def check_schedule(
    beta=None,
    alpha_bar=None,
    *,
    kind=None,
    q_sample=None,
    tables=None,
    first=None,
    allow=(),
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
    report = Report("schedule:", allowed(allow, tuple(LAWS)))
    if beta is None and alpha_bar is None:
        raise ValueError("beta and alpha_bar are None, expected at least one")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {list(KINDS)}")
    if first not in (None, 0, 1):
        raise ValueError(f"first is {first!r}, expected 0 or 1")
    beta = None if beta is None else table_of(beta, "beta")
    alpha_bar = None if alpha_bar is None else table_of(alpha_bar)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if first is None:
            first = _first(beta, alpha_bar, kind, formula)
        s = Tables(beta, alpha_bar, first)
        s.kind, s.formula, s.q_sample, s.tables = kind, formula, q_sample, tables or {}
        report.kind = f"T = {len(s.alpha_bar)}, first noisy step at index {first}"
        for name, (judge, cause) in LAWS.items():
            for said in judge(s):
                report.add(name, *said[:2], said[2] if len(said) > 2 else cause)
    return report


class Tables:
    """beta (or None) and alpha_bar for t = 1..T; first: the index of t = 1."""

    def __init__(self, beta, alpha_bar, first):
        if beta is not None and first and (alpha_bar is None or beta[0] == 0):
            beta = beta[1:]
        self.beta, self.first = beta, first
        self.alpha_bar = (
            np.cumprod(1 - beta) if alpha_bar is None else alpha_bar[first:]
        )
        self.before = np.concatenate([[1.0], self.alpha_bar[:-1]])


def _first(beta, alpha_bar, kind, formula):
    """0 or 1: does the table start with the data, or with the first noisy step?"""
    if alpha_bar is None:
        return int(beta[0] == 0)
    if alpha_bar[0] != 1:
        return 0
    if beta is not None:
        return int(len(alpha_bar) == len(beta) + 1 or beta[0] == 0)
    for name in KINDS if kind is None else (kind,):  # T entries with the 1 kept?
        for by in formulas(name, len(alpha_bar), **formula):
            kept = np.concatenate([[1.0], np.cumprod(1 - by)[:-1]])
            if np.abs(np.sqrt(alpha_bar) - np.sqrt(kept)).max() < 1e-4:
                return 0
    return 1


def formulas(kind, T, start=None, end=None, offset=0.008, cap=0.999):
    """beta of a kind for t = 1..T; of "linear" and "quadratic" unscaled and scaled."""
    if kind in ("linear", "quadratic"):
        power = 1 if kind == "linear" else 2
        low, high = (1e-4, 0.02) if kind == "linear" else (0.00085, 0.012)
        low, high = (
            (end or v) ** (1 / power) for end, v in ((start, low), (end, high))
        )
        beta = np.linspace(low, high, T) ** power
        return [beta, np.minimum(beta * 1000 / T, cap)]
    if kind == "cosine":
        curve = np.cos((np.arange(T + 1) / T + offset) / (1 + offset) * np.pi / 2) ** 2
    else:
        low, high = -3 if start is None else start, 3 if end is None else end
        curve = 1 / (1 + np.exp(-np.linspace(low, high, T + 1)))
        curve = curve[-1] - curve
    return [np.minimum(1 - curve[1:] / curve[:-1], cap)]


def derived(s):
    """Tables that follow from beta and alpha_bar, by the names that they go by."""
    given = s.beta is not None and len(s.beta) == len(s.alpha_bar)
    beta = s.beta if given else 1 - s.alpha_bar / s.before
    alpha, noise = 1 - beta, 1 - s.alpha_bar
    tilde = beta * (1 - s.before) / noise
    return {
        "alpha": alpha,
        "alphas": alpha,
        "alpha_bar_prev": s.before,
        "alphas_cumprod_prev": s.before,
        "beta_tilde": tilde,
        "posterior_variance": tilde,
        "snr": s.alpha_bar / noise,
        "sqrt_alpha": np.sqrt(alpha),
        "sqrt_recip_alphas": 1 / np.sqrt(alpha),
        "sqrt_alphas_cumprod": np.sqrt(s.alpha_bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(noise),
        "log_one_minus_alphas_cumprod": np.log(noise),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / s.alpha_bar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / s.alpha_bar - 1),
        "posterior_mean_coef1": beta * np.sqrt(s.before) / noise,
        "posterior_mean_coef2": np.sqrt(alpha) * (1 - s.before) / noise,
        "posterior_log_variance_clipped": np.log(np.maximum(tilde, 1e-20)),
    }


def law(name, cause=""):
    """Enter a judge, which yields (verdict, found), or with a cause of its own."""

    def enter(judge):
        LAWS[name] = judge, cause
        return judge

    return enter


@law("range", "betas scaled by 1000 / T at a small T, or a formula without its limit")
def _range(s):
    if s.beta is None:
        return
    fine = (s.beta > 0) & (s.beta < 1)  # NaN is not
    fine[-1:] |= s.beta[-1:] == 1  # zero terminal SNR
    if fine.all():
        yield "ok", f"beta {s.beta[0]:.3g} .. {s.beta[-1]:.3g}"
        return
    i, many = int(np.argmin(fine)), f"{np.sum(~fine)} of {len(fine)}"
    yield "BROKEN", f"{many}: beta[{i + s.first}] = {s.beta[i]:.4g}; expected in (0, 1)"


@law("falls")
def _falls(s):
    now = s.alpha_bar
    outside = np.flatnonzero(~((now >= 0) & (now <= 1)))
    wrong = np.flatnonzero(~(now < s.before) & ~((now == 0) & (s.before == 0)))
    if not len(outside) and not len(wrong):
        yield "ok", ""
        return
    i = int((outside if len(outside) else wrong)[0])
    entry = f"alpha_bar[{i + s.first}] = {now[i]:.6g}"
    if len(outside):
        yield "BROKEN", f"{entry}; expected inside 0..1"
    else:
        after = f"{entry} after {s.before[i]:.6g}; expected less"
        yield "BROKEN", f"{len(wrong)} of {len(now)}: {after}", "" if i else KEPT


@law(
    "product",
    "a product that starts at another time than beta, or alpha_bar changed afterwards",
)
def _product(s):
    if s.beta is None:
        return
    if len(s.beta) != len(s.alpha_bar):
        found = f"{len(s.beta)} betas, {len(s.alpha_bar)} alpha_bars"
        yield "BROKEN", f"{found}; expected as many"
        return
    ratio = s.alpha_bar / s.before
    # a float32 product is wrong by 2e-7, and 0 / 0 at the end says nothing
    room = 5e-3 * s.beta + 3e-7 / np.maximum(s.alpha_bar, 1e-2)
    off = ~(np.abs(ratio - (1 - s.beta)) <= room) & ~(s.before < 1e-10)
    if not off.any():
        yield "ok", ""
        return
    i, noise = int(np.argmax(off)), np.sqrt(1 - s.alpha_bar)
    far = np.abs(np.sqrt(np.maximum(1 - np.cumprod(1 - s.beta), 0)) - noise).max()
    before = f"alpha_bar[{i + s.first - 1}]" if i else "1"
    where = f"{off.sum()} of {len(off)} steps; the noise is off by {far:.3g}"
    found = f"alpha_bar[{i + s.first}] / {before} = {ratio[i]:.6f}"
    want = f"expected 1 - beta = {1 - s.beta[i]:.6f}"
    yield "small" if far < SEEN else "BROKEN", f"{where}: {found}; {want}"


@law("terminal", "betas that are not scaled to this T")
def _terminal(s):
    left = s.alpha_bar[-1]
    found = f"alpha_bar at T is {left:.3g}"
    if left <= VISIBLE:
        yield "ok", found
        return
    verdict = "note" if left <= FLAGRANT else "BROKEN"
    signal = f"x_T still holds {np.sqrt(left):.2f} x_0"
    yield verdict, f"{found}: {signal}; expected at most {VISIBLE}"


@law("finite", KEPT)
def _finite(s):
    bad = ~np.isfinite(1 / (1 - s.alpha_bar))
    if not bad.any():
        yield "ok", ""
        return
    found = f"1 / (1 - alpha_bar[{np.argmax(bad) + s.first}]) is not finite"
    yield "BROKEN", f"{bad.sum()} of {len(bad)}: {found}; expected alpha_bar below 1"


@law("tables")
def _tables(s):
    known = derived(s)
    for name, table in s.tables.items():
        table = table_of(table, name)
        table = table[1:] if s.first and len(table) == len(s.alpha_bar) + 1 else table
        bad = ~np.isfinite(table)
        if bad.any() and not (name in known and np.isinf(known[name][bad]).all()):
            i = int(np.argmax(bad))
            yield "BROKEN", f"{name}[{i + s.first}] = {table[i]}; expected finite"
        elif name not in known or len(table) != len(s.alpha_bar):
            yield "skipped", f"{name} is no table that the check knows"
        else:
            yield _compared(s, name, table, known[name])


def _compared(s, name, table, want):
    off = np.abs(table - want) / np.maximum(np.abs(want), 1e-6)
    off[0] = 0 if "clipped" in name or "variance" in name else off[0]
    # what follows from 1 - alpha_bar loses digits in float32
    wrong = off > 5e-3 + 1e-6 / np.maximum(1 - s.alpha_bar, 1e-6)
    if not wrong.any():
        return "ok", name
    i, many = int(np.argmax(wrong)), f"{wrong.sum()} of {len(want)}"
    entry = f"{name}[{i + s.first}] = {table[i]:.5g}"
    return "BROKEN", f"{many}: {entry}; expected {want[i]:.5g}"


@law("formula", "another limit of beta, a square left out, or roots for squares")
def _formula(s):
    if s.kind is None:
        return
    wanted = [
        np.cumprod(1 - b) for b in formulas(s.kind, len(s.alpha_bar), **s.formula)
    ]
    offs = [np.abs(np.sqrt(s.alpha_bar) - np.sqrt(want)) for want in wanted]
    off, want = min(zip(offs, wanted, strict=True), key=lambda pair: pair[0].max())
    if off.max() < AGREES:
        yield "ok", s.kind
        return
    i, root = int(np.argmax(off)), np.sqrt(s.alpha_bar)
    found = f"sqrt(alpha_bar[{i + s.first}]) = {root[i]:.4f}, alpha_bar at T "
    found += f"{s.alpha_bar[-1]:.2g}; expected {np.sqrt(want[i]):.4f}, {want[-1]:.2g}"
    yield "BROKEN", found


@law("q_sample", "alpha_bar without its root, or of the time beside it")
def _q_sample(s):
    if s.q_sample is None:
        return
    T, worst = len(s.alpha_bar), (-1.0, "")
    for i in sorted({0, 1, T // 4, T // 2, T - 1} & set(range(T))):
        try:
            a, b = measured_level(s.q_sample, i + s.first)
        except ValueError as error:
            yield "crash", str(error)
            return
        a_t, b_t = np.sqrt(s.alpha_bar[i]), np.sqrt(1 - s.alpha_bar[i])
        off = np.nan_to_num(max(abs(a - a_t), abs(b - b_t)), nan=np.inf)
        made = f"{a:.4f} x_0 + {b:.4f} eps; expected {a_t:.4f}, {b_t:.4f}"
        worst = max(worst, (off, f"at t = {i + s.first}: {made}"))
    right = worst[0] < 1e-3
    yield ("ok", f"worst {worst[0]:.1e}") if right else ("BROKEN", worst[1])


@law("normal", "noise drawn once and broadcast")
def _normal(s):
    """The noise that q_sample draws where it is given none."""
    answer = s.q_sample and ask(s.q_sample, s.first, given=False)
    log = answer[2].log if answer else []
    if any(uniform for *_, uniform in log):
        found = "q_sample draws uniform numbers; expected normal ones"
        yield "BROKEN", found, "rand where randn belongs"
    elif any(shape != (3, 1, 2, 2) for shape, *_ in log):
        found = f"q_sample draws noise of shape {log[0][0]}"
        yield "BROKEN", f"{found}; expected one number for each pixel of each image"
    elif log:
        yield "ok", ""


check_schedule.laws = tuple(LAWS)
