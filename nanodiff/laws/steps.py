"""The three numbers of a step, and what the papers say that they are.

    x_s = c0 x0_hat + ce eps_hat + sigma z         x_t = a x0_hat + b eps_hat
DDIM (Eq. 12, any eta): c0 = a_s, ce^2 + sigma^2 = b_s^2. DDPM: c0 = a_s, ce that of the
posterior's mean, sigma^2 = beta_tilde, which is eta = 1, or beta, or one between.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Step:
    """One step of a sampler: x_s = c0 x0_hat + ce eps_hat + sigma z + shift.

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

    @property
    def noise(self):
        """Of x_s, if eps_hat is right."""
        return float(np.hypot(self.ce, self.sigma))

    @property
    def slack(self):
        """What float32 tables and arithmetic may do to c0."""
        relative = 1e-6 * self.a_s / max(self.a, 1e-6)
        return 1e-5 + 2e-7 / max(self.b**2, 1e-7) + relative

    @property
    def landing(self):
        """(a, b) where the step lands: the next call's, or that of its own c0."""
        on = abs(self.c0 - self.a_s) < self.slack
        if on or abs(self.a**2 + self.b**2 - 1) > 1e-4 or not 0 < self.c0 < 1:
            return self.a_s, self.b_s
        return self.c0, np.sqrt(1 - self.c0**2)


def steps_of(times, measured, levels):
    """Read the three numbers of each step off the measured rows."""
    levels = np.vstack([levels, [1.0, 0.0]])
    after = [*times[1:], None]
    steps = [
        Step(t, s, *map(float, (*here, *there)))
        for t, s, here, there in zip(times, after, levels, levels[1:], strict=False)
    ]
    for n, step in enumerate(steps):
        _read(step, n, measured)
    return steps


def _read(step, n, measured):
    noise, signal, level = measured.noise, measured.signal, measured.level
    N, K = len(signal) - 1, noise.shape[1]
    old, new = (np.concatenate([noise[m], signal[m, :n]]) for m in (n, n + 1))
    # what the model said before acts through x_t only; so does the first noise
    if n >= 2:
        through = np.arange(len(old)) >= K
    else:
        first = np.append(np.abs(noise[0]) > 1e-9, np.zeros(n, bool))
        through = first & (old != 0)
    keep = _common_ratio(new[through], old[through], np.abs(old).max(initial=0))
    if np.isnan(keep):
        keep = np.nan_to_num(_common_ratio(new, old, 0.0))
    rest, unit = new - keep * old, np.hypot(step.a_s, step.b_s)
    used = np.abs(old[:K]) > 1e-6 * max(1.0, step.b)
    step.c0 = signal[n + 1, n] + keep * step.a
    step.ce = keep * step.b
    step.sigma = float(np.sqrt(np.sum(rest[:K] ** 2 * measured.variance)))
    step.shift = level[n + 1] - keep * level[n]
    if n >= 2 or N <= 3:
        step.memory = np.abs(rest[K:]).max(initial=0.0) / unit
    step.reused = np.abs(rest[:K] * used).max(initial=0.0) / unit


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


def noise_error(step):
    """(error of the noise, family) of a step: eta for DDIM's, beta and between."""
    a_s, b_s = step.landing
    beta, tilde, post = legal(step.a, step.b, a_s, b_s)
    if step.ce < -2e-3 * max(b_s, 1e-3):  # eps_hat points away from x_t
        return step.ce - b_s, "eta"
    if close(step.noise, b_s, b_s):
        return 0.0, "eta"
    if close(step.ce, post, b_s) and close(step.sigma, np.sqrt(beta), b_s):
        return 0.0, "beta"
    if close(step.ce, post, b_s) and np.sqrt(tilde) < step.sigma < np.sqrt(beta):
        return 0.0, "between"
    return step.noise - b_s, "eta"


def family_of(steps):
    """(name, family, eta) of the sampler that these steps, but the last, belong to."""
    families = {noise_error(s)[1] for s in steps}
    tildes = [legal(s.a, s.b, *s.landing)[1] for s in steps]
    pairs = zip(steps, tildes, strict=True)
    etas = [s.sigma / np.sqrt(tilde) for s, tilde in pairs if tilde > 1e-12] or [0.0]
    eta = float(np.median(etas))
    if "beta" in families:
        return "DDPM, variance beta", "beta", eta
    if "between" in families:
        return "DDPM, variance between beta_tilde and beta", "between", eta
    if abs(eta - 1) < 5e-3 and np.ptp(etas) < 0.02:
        return "DDPM, variance beta_tilde", "eta", eta
    varies = ", which varies" if np.ptp(etas) > 0.02 else ""
    return f"DDIM, eta {abs(round(eta, 3)):g}{varies}", "eta", eta


def correct(step, family, eta):
    """(c0, ce, sigma) of the papers on the same times; eta None: the step's own."""
    beta, tilde, post = legal(step.a, step.b, step.a_s, step.b_s)
    if family == "eta":
        var = step.sigma**2 if eta is None else min(eta, 1) ** 2 * tilde
        var = min(var, step.b_s**2)
        return step.a_s, np.sqrt(step.b_s**2 - var), np.sqrt(var)
    var = beta if family == "beta" else np.clip(step.sigma**2, tilde, beta)
    return step.a_s, post, 0.0 if step.s is None else np.sqrt(var)


def recursion(levels, numbers, mean, std):
    """Mean and std of the output for data N(mean, std^2), from numbers a step.

    The best x0_hat is mean + a std^2 / var (x_t - a mean), with var = a^2 std^2 + b^2,
    and eps_hat is b / var (x_t - a mean).
    """
    preserving = abs(np.hypot(*levels[0]) - 1) < 1e-3
    m, v = 0.0, 1.0 if preserving else levels[0][1] ** 2
    for (a, b), (c0, ce, sigma) in zip(levels, numbers, strict=True):
        var = max(a**2 * std**2 + b**2, 1e-30)
        keep = (c0 * a * std**2 + ce * b) / var
        m, v = c0 * mean + keep * (m - a * mean), keep**2 * v + sigma**2
    return float(m), float(np.sqrt(v))


def first_order(levels, mean, std):
    """The same for DDIM, eta 0, on the levels that were visited, each once."""
    falling = [levels[0]]
    for a, b in levels[1:]:
        if b * falling[-1][0] < falling[-1][1] * a - 1e-9:
            falling.append((a, b))
    numbers = [(a, b, 0.0) for a, b in [*falling[1:], (1.0, 0.0)]]
    return recursion(falling, numbers, mean, std)


def discretises(steps):
    """Are these steps, but the last, near the SDE, as Euler-Maruyama's are?

    x_s = x_t + beta (x_t / 2 + score) + sqrt(beta) z is wrong by order beta^2 in its
    signal and beta^2 / b^2 in its variance, or by what beta changes from step to step,
    and lands on no level; a step to a wrong time does.
    """
    beta = np.array([legal(s.a, s.b, s.a_s, s.b_s)[0] for s in steps])
    change = np.abs(np.diff(beta, append=beta[-1:]))
    change = np.maximum(change, np.roll(change, 1))
    signal = np.array([abs(s.c0 - s.a_s) / s.a_s for s in steps])
    variance = np.array([abs(s.noise**2 - s.b_s**2) for s in steps])
    b = np.array([s.b for s in steps])
    near = (signal < beta**2 + change) & (variance < 1.5 * beta**2 / b**2 + change)
    return bool(near.all())


def why_apart(levels, steps):
    """The usual cause of steps that do not join, from where they land."""
    if levels.last is None:
        return "the level of another time than the next call's"
    lengths = {round(s.t - levels.landing(s.c0)) for s in steps}
    if lengths == {1} and len(steps) + 1 <= len(levels.table) // 2:
        return "steps that are one time long, on a list with fewer times"
    one = len(lengths) == 1
    here = f", here t - {lengths.pop()}" if one else ", or from another list"
    return "the previous time computed as t - T // n" + here


def why_off(step):
    """The usual cause of a wrong noise, from the formula that it fits."""
    b_s = step.landing[1]
    beta, tilde, post = legal(step.a, step.b, *step.landing)
    if step.ce < 0:
        return "a minus before eps_hat"
    if close(step.ce, post, b_s):
        if close(step.sigma, 0, b_s):
            return "no noise added back"
        for name, value in (("beta", beta), ("beta_tilde", tilde)):
            if close(step.sigma, value, b_s):
                return f"sigma = {name}, where its square root belongs"
    if close(step.ce, b_s, b_s) and step.sigma > 0:
        return "eps_hat keeps its whole share beside z: sigma^2 is not subtracted"
    if close(step.sigma, 0, b_s):
        return "eps_hat multiplied by something else than sqrt(1 - alpha_bar)"
    return "variance and mean from different times, or a square root left out"
