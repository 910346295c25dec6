"""The laws of schedules: of the tables, of what is derived from them, of q_sample."""

import numpy as np

from nanodiff.laws.levels import FLAGRANT, VISIBLE, ask, measured_level, table_of
from nanodiff.laws.report import Report, allowed, law

SEEN = 0.015  # two grey levels of 256, in [-1, 1]
AGREES = 1e-2  # in sqrt(alpha_bar): how near a table is to its formula
KINDS = ("linear", "quadratic", "cosine", "sigmoid", "straight")
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
    "cosine", "sigmoid" or "straight", which is flow matching's; start, end, offset, cap
    change its formula. q_sample(x0, t, eps), or q_sample(x0, t), with t an index of the
    tables. tables: derived ones by name, such as posterior_variance. Raises ValueError
    for a kind that is not known, or arrays that are no tables.

    >>> from nanodiff import linear
    >>> check_schedule(alpha_bar=linear(100).alpha_bar, kind="linear").broken
    []
    >>> check_schedule(beta=np.linspace(1e-4, 0.02, 50)).broken
    ['terminal']
    """
    report = Report("schedule:", allowed(allow, LAWS))
    if beta is None and alpha_bar is None:
        raise ValueError("beta and alpha_bar are None, expected at least one")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {list(KINDS)}")
    if first not in (None, 0, 1):
        raise ValueError(f"first is {first!r}, expected 0 or 1")
    with np.errstate(all="ignore"):
        s = Tables(beta, alpha_bar, first, kind, formula)
        s.q_sample, s.tables = q_sample, tables or {}
        report.kind = f"T = {len(s.alpha_bar)}, first noisy step at index {s.first}"
        report.judge(LAWS, s)
    return report


class Tables:
    """beta (or None), alpha_bar and that before it for t = 1..T, t = 1 at `first`."""

    def __init__(self, beta, alpha_bar, first, kind, options):
        beta = None if beta is None else table_of(beta, "beta")
        alpha_bar = None if alpha_bar is None else table_of(alpha_bar)
        self.kind, self.options, self.first = kind, options, first
        if first is None:
            self.first = first = self._first(beta, alpha_bar)
        if beta is not None and first and (alpha_bar is None or beta[0] == 0):
            beta = beta[1:]
        self.beta = beta
        self.alpha_bar = (
            np.cumprod(1 - beta) if alpha_bar is None else alpha_bar[first:]
        )
        self.before = np.append(1.0, self.alpha_bar[:-1])

    def _first(self, beta, alpha_bar):
        """0 or 1: does the table start with the data, or with the first noisy step?"""
        if alpha_bar is None or alpha_bar[0] != 1:
            return int(alpha_bar is None and beta[0] == 0)
        if beta is not None:
            return int(len(alpha_bar) == len(beta) + 1 or beta[0] == 0)
        for kind in KINDS if self.kind is None else (self.kind,):
            for by in formulas(kind, len(alpha_bar), **self.options):
                kept = np.append(1.0, np.cumprod(1 - by)[:-1])  # T entries with the 1
                if np.abs(np.sqrt(alpha_bar) - np.sqrt(kept)).max() < 1e-4:
                    return 0
        return 1

    def at(self, i, name="alpha_bar"):
        return f"{name}[{i + self.first}] = {getattr(self, name)[i]:.6g}"


def formulas(kind, T, start=None, end=None, offset=0.008, cap=0.999):
    """beta of a kind for t = 1..T; of "linear" and "quadratic" unscaled and scaled."""
    if kind in ("linear", "quadratic"):
        power, low, high = (1, 1e-4, 0.02) if kind == "linear" else (2, 0.00085, 0.012)
        ends = (start or low) ** (1 / power), (end or high) ** (1 / power)
        beta = np.linspace(*ends, T) ** power
        return [beta, np.minimum(beta * 1000 / T, cap)]
    if kind == "cosine":
        curve = np.cos((np.arange(T + 1) / T + offset) / (1 + offset) * np.pi / 2) ** 2
    elif kind == "straight":
        u = np.arange(T + 1) / (T + 1)
        curve = (1 - u) ** 2 / ((1 - u) ** 2 + u**2)
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
        "alpha": alpha, "alphas": alpha, "sqrt_alpha": np.sqrt(alpha),
        "alpha_bar_prev": s.before, "alphas_cumprod_prev": s.before,
        "beta_tilde": tilde, "posterior_variance": tilde, "snr": s.alpha_bar / noise,
        "sqrt_recip_alphas": 1 / np.sqrt(alpha),
        "sqrt_alphas_cumprod": np.sqrt(s.alpha_bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(noise),
        "log_one_minus_alphas_cumprod": np.log(noise),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / s.alpha_bar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / s.alpha_bar - 1),
        "posterior_mean_coef1": beta * np.sqrt(s.before) / noise,
        "posterior_mean_coef2": np.sqrt(alpha) * (1 - s.before) / noise,
        "posterior_log_variance_clipped": np.log(np.maximum(tilde, 1e-20)),
    }  # fmt: skip


def unless(wrong, say, fine=""):
    """ok where no entry is wrong; or what say(i) says of the first that is."""
    if not wrong.any():
        return "ok", fine
    return "BROKEN", f"{wrong.sum()} of {len(wrong)}: {say(int(np.argmax(wrong)))}"


@law(LAWS, "range", "betas scaled by 1000 / T at a small T, or a limit left out")
def inside(s):
    if s.beta is not None:
        wrong = ~((s.beta > 0) & (s.beta < 1))  # NaN is
        wrong[-1:] &= s.beta[-1:] != 1  # zero terminal SNR
        fine = f"beta {s.beta[0]:.3g} .. {s.beta[-1]:.3g}"
        return unless(wrong, lambda i: f"{s.at(i, 'beta')}; expected in (0, 1)", fine)


@law(LAWS, "falls", KEPT + ", or a beta that is not in (0, 1)")
def falls(s):
    now, before = s.alpha_bar, s.before
    wrong = ~((now >= 0) & (now < before)) & ~((now == 0) & (before == 0))
    return unless(
        wrong, lambda i: f"{s.at(i)} after {before[i]:.6g}; expected less, and >= 0"
    )


@law(LAWS, "product", "a product that starts at another time, or a changed alpha_bar")
def product(s):
    if s.beta is None:
        return None
    if len(s.beta) != len(s.alpha_bar):
        return "BROKEN", f"{len(s.beta)} betas; expected {len(s.alpha_bar)}"
    ratio = s.alpha_bar / s.before
    # a float32 product is wrong by 2e-7, and 0 / 0 at the end says nothing
    room = 5e-3 * s.beta + 3e-7 / np.maximum(s.alpha_bar, 1e-2)
    wrong = ~(np.abs(ratio - (1 - s.beta)) <= room) & ~(s.before < 1e-10)
    noise = np.sqrt(np.maximum(1 - np.cumprod(1 - s.beta), 0))
    far = np.abs(noise - np.sqrt(1 - s.alpha_bar)).max()
    verdict, found = unless(
        wrong,
        lambda i: (
            f"{s.at(i)}, {ratio[i]:.6f} times the one before it; expected "
            f"1 - beta = {1 - s.beta[i]:.6f}; the noise is off by {far:.3g}"
        ),
    )
    return "small" if wrong.any() and far < SEEN else verdict, found


@law(LAWS, "terminal", "betas that are not scaled to this T")
def terminal(s):
    left = s.alpha_bar[-1]
    if left <= VISIBLE:
        return "ok", f"alpha_bar at T is {left:.3g}"
    signal = f"alpha_bar at T is {left:.3g}: x_T still holds {np.sqrt(left):.2f} x_0"
    verdict = "note" if left <= FLAGRANT else "BROKEN"
    return verdict, f"{signal}; expected at most {VISIBLE}"


@law(LAWS, "finite", KEPT)
def finite(s):
    wrong = ~np.isfinite(1 / (1 - s.alpha_bar))
    return unless(wrong, lambda i: f"{s.at(i)}; expected a finite 1 / (1 - alpha_bar)")


@law(LAWS, "tables")
def tables(s):
    known, names = derived(s), []
    for name, table in s.tables.items():
        table = table_of(table, name)
        table = table[1:] if s.first and len(table) == len(s.alpha_bar) + 1 else table
        want = known.get(name)
        if want is None or len(table) != len(want):  # that it is finite can be judged
            want = table
        off = np.abs(table - want) / np.maximum(np.abs(want), 1e-6)
        off[0] = 0 if "clipped" in name or "variance" in name else off[0]
        # what follows from 1 - alpha_bar loses digits in float32
        room = 5e-3 + 1e-6 / np.maximum(1 - np.resize(s.alpha_bar, len(want)), 1e-6)
        wrong = ~(off <= room) & ~(np.isinf(want) & (name in known))
        wrong |= ~np.isfinite(table) & np.isfinite(want)
        if wrong.any():
            i = int(np.argmax(wrong))
            found = f"{name}[{i + s.first}] = {table[i]:.5g}; expected {want[i]:.5g}"
            return "BROKEN", f"{wrong.sum()} of {len(want)}: {found}"
        names.append(name)
    return ("ok", ", ".join(names)) if names else None


@law(LAWS, "formula", "another limit of beta, a square left out, or roots for squares")
def formula(s):
    if s.kind is None:
        return None
    root, off = np.sqrt(s.alpha_bar), []
    for beta in formulas(s.kind, len(root), **s.options):
        want = np.sqrt(np.cumprod(1 - beta))
        i = int(np.argmax(np.abs(root - want)))
        found = (
            f"sqrt of {s.at(i)} is {root[i]:.4f}, alpha_bar at T {root[-1] ** 2:.2g}"
        )
        wanted = f"expected {want[i]:.4f}, {want[-1] ** 2:.2g}"
        off.append((abs(root[i] - want[i]), f"{found}; {wanted}"))
    far, found = min(off)
    return ("ok", s.kind) if far < AGREES else ("BROKEN", found)


@law(LAWS, "q_sample", "alpha_bar without its root, or of the time beside it")
def mixes(s):
    if s.q_sample is None:
        return None
    T, found = len(s.alpha_bar), []
    for i in sorted({0, 1, T // 4, T // 2, T - 1} & set(range(T))):
        try:
            a, b = measured_level(s.q_sample, i + s.first)
        except ValueError as error:
            return "crash", str(error)
        a_t, b_t = np.sqrt(s.alpha_bar[i]), np.sqrt(1 - s.alpha_bar[i])
        made = f"{a:.4f} x_0 + {b:.4f} eps; expected {a_t:.4f}, {b_t:.4f}"
        if not max(abs(a - a_t), abs(b - b_t)) < 1e-3:
            found.append(f"at t = {i + s.first}: {made}")
    return ("BROKEN", found[-1]) if found else ("ok", "")


@law(LAWS, "normal", "rand where randn belongs, or noise drawn once and broadcast")
def normal(s):
    """Of the noise that q_sample draws where it is given none."""
    answer = s.q_sample and ask(s.q_sample, s.first, given=False)
    log = answer[2].log if answer else []
    if any(uniform or shape != (3, 1, 2, 2) for shape, _, uniform in log):
        found = (
            f"q_sample draws {'uniform' if log[0][2] else 'normal'} numbers of shape"
        )
        return "BROKEN", f"{found} {log[0][0]}; expected a normal one for each pixel"
    return ("ok", "") if log else None


check_schedule.laws = tuple(LAWS)
