"""The three numbers of a step, and what the papers say that they are.

    x_s = c0 x0_hat + ce eps_hat + sigma z         x_t = a x0_hat + b eps_hat
DDIM (Eq. 12, any eta): c0 = a_s, ce^2 + sigma^2 = b_s^2. DDPM: c0 = a_s, ce that of the
posterior's mean, sigma^2 = beta_tilde, which is eta = 1, or beta, or one between.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Step:
    """One step of a sampler: x_s = c0 x0_hat + ce eps_hat + sigma z.

    t, s: what the model is called with now and next (None: the output). a, b and a_s,
    b_s: the signal and the noise there. memory: what earlier outputs add, which is 0 if
    the model is called once a step; reused: what noise used before adds.
    """

    t: float
    s: float | None
    a: float
    b: float
    a_s: float
    b_s: float
    c0: float = np.nan
    ce: float = np.nan
    sigma: float = np.nan
    shift: float = 0.0
    memory: float = 0.0
    reused: float = 0.0

    def __str__(self):
        there = "the output" if self.s is None else f"{self.s:g}"
        return f"t = {self.t:g} -> {there}"


def steps_of(measured, levels):
    """Read the three numbers of each step off the measured rows."""
    N, found = len(measured.times), []
    initial = np.append(np.abs(measured.noise[0]) > 1e-9, np.zeros(N, bool))
    for n in range(N):
        (a, b), end = levels[n], n + 1 == N
        a_s, b_s = (1.0, 0.0) if end else levels[n + 1]
        step = Step(
            measured.times[n],
            None if end else measured.times[n + 1],
            a,
            b,
            float(a_s),
            float(b_s),
        )
        old = np.concatenate([measured.noise[n], measured.signal[n, :n]])
        new = np.concatenate([measured.noise[n + 1], measured.signal[n + 1, :n]])
        K = measured.noise.shape[1]
        # what the model said before acts through x_t only; so does the first noise
        through = np.arange(len(old)) >= K if n >= 2 else old * initial[: len(old)] != 0
        keep = _common_ratio(new[through], old[through], np.abs(old).max(initial=0))
        if np.isnan(keep):
            keep = np.nan_to_num(_common_ratio(new, old, 0.0))
        rest = new - keep * old
        was = np.abs(old[:K]) > 1e-6 * max(1.0, b)
        unit = np.hypot(a_s, b_s)
        step.c0 = measured.signal[n + 1, n] + keep * a
        step.ce = keep * b
        step.sigma = float(np.sqrt(np.sum(rest[:K] ** 2 * measured.variance)))
        step.shift = measured.level[n + 1] - keep * measured.level[n]
        if n >= 2 or N <= 3:
            step.memory = np.abs(rest[K:]).max(initial=0.0) / unit
        step.reused = np.abs(rest[:K] * was).max(initial=0.0) / unit
        found.append(step)
    return found


def _common_ratio(new, old, largest):
    """The ratio new / old that most numbers agree on."""
    some = np.abs(old) > max(1e-2 * np.abs(old).max(initial=0), 1e-6 * largest, 1e-9)
    return float(np.median(new[some] / old[some])) if some.any() else np.nan


def legal(a, b, a_s, b_s):
    """beta, beta_tilde and the posterior's share of eps_hat, between two levels.

    r = a / a_s, beta = b^2 - r^2 b_s^2, beta_tilde = beta b_s^2 / b^2 (DDPM Eq. 7).
    """
    r = a / a_s if a_s else np.inf
    beta = max(b * b - r * r * b_s * b_s, 0.0)  # 0 where the noise does not fall
    if b <= 0:
        return beta, 0.0, 0.0
    return beta, beta * b_s * b_s / (b * b), r * b_s * b_s / b


def close(x, y, unit):
    return abs(x - y) < 2e-3 * max(unit, 1e-3)


def landing(step):
    """The level where a step lands: the next call's, or that of its own c0."""
    on = abs(step.c0 - step.a_s) < slack(step)
    if on or abs(step.a**2 + step.b**2 - 1) > 1e-4 or not 0 < step.c0 < 1:
        return step.a_s, step.b_s
    return step.c0, np.sqrt(1 - step.c0**2)


def slack(step):
    """What float32 tables and arithmetic may do to c0."""
    return 1e-5 + 2e-7 / max(step.b**2, 1e-7) + 1e-6 * step.a_s / max(step.a, 1e-6)


def noise_error(step):
    """(error of the noise, family) of a step: eta for DDIM's, beta and between."""
    a_s, b_s = landing(step)
    beta, tilde, post = legal(step.a, step.b, a_s, b_s)
    error = np.hypot(step.ce, step.sigma) - b_s
    if step.ce < -2e-3 * max(b_s, 1e-3):  # eps_hat points away from x_t
        return step.ce - b_s, "eta"
    if abs(error) < 2e-3 * max(b_s, 1e-3):
        return 0.0, "eta"
    if close(step.ce, post, b_s):
        if close(step.sigma, np.sqrt(beta), b_s):
            return 0.0, "beta"
        if np.sqrt(tilde) < step.sigma < np.sqrt(beta):
            return 0.0, "between"
    return error, "eta"


def family_of(steps):
    """(name, family, eta) of the sampler that these steps, but the last, belong to."""
    families = {noise_error(s)[1] for s in steps}
    etas = []
    for s in steps:
        tilde = legal(s.a, s.b, *landing(s))[1]
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
            var = (
                0.0
                if last
                else beta
                if family == "beta"
                else min(max(s.sigma**2, tilde), beta)
            )
            ce = post
        made.append((s.a_s, ce, np.sqrt(var)))
    return made


def recursion(steps, numbers, mean, std):
    """Mean and std of the output for data N(mean, std^2), from numbers a step."""
    m, v = 0.0, 1.0
    if abs(steps[0].a ** 2 + steps[0].b ** 2 - 1) > 1e-4:
        v = steps[0].b ** 2
    for s, (c0, ce, sigma) in zip(steps, numbers, strict=True):
        var = max(s.a**2 * std**2 + s.b**2, 1e-30)
        keep = c0 * s.a * std**2 / var + ce * s.b / var
        m, v = c0 * mean + keep * (m - s.a * mean), keep**2 * v + sigma**2
    return float(m), float(np.sqrt(v))
