"""How many bits an image costs: the variational bound, term by term.

    -log p(x0) <= L_T + sum_{t=2..T} L_{t-1} + L_0
    L_T     = KL(q(x_T | x0) || N(0, 1))
    L_{t-1} = KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t))
    L_0     = -log p(x0 | x_1)
Ho, Jain, Abbeel 2020, arXiv 2006.11239, Eq. 5. p has the sampler's mean mu_tilde(x_t,
x0_hat) and a variance that is chosen. With beta_tilde the KL is half of what the SNR
loses in the step, times the squared error of x0_hat (Kingma et al. 2021, arXiv
2107.00630, Eq. 13):
    L_{t-1} = (SNR_{t-1} - SNR_t) / 2 |x0 - x0_hat|^2

Shapes: x0 (N, ...); terms (T + 1, N) in nats an image, float64.
"""

import math

import numpy as np

from nanodiff import check
from nanodiff.prediction import KINDS, ask
from nanodiff.schedule import posterior, q_sample

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def terms(model, schedule, x0, rng, variance="beta_tilde", bins=None, predicts="eps"):
    """Return each image's terms: row 0 is L_0, row t - 1 is L_{t-1}, row T is L_T.

    model: any `model(xt, t)`. rng draws one eps for each t and image, to make x_t.
    variance: of p(x_{t-1} | x_t), "beta_tilde", "beta", or a table (T + 1,), as
    `exact_variance` makes. At t = 1, where beta_tilde is 0, p takes beta_1. bins: None
    for data with a density; k for images of k grey levels in [-1, 1]: L_0 is then -log
    of the probability of each pixel's bin (DDPM Eq. 13).

    Raises ValueError for an unknown variance or a table with values that are not above
    0 from t = 1 on, bins below 2, and whatever else does not fit.

    >>> from nanodiff.schedule import linear
    >>> from nanodiff.exact import gaussian
    >>> schedule, rng = linear(100), np.random.default_rng(0)
    >>> x0 = rng.standard_normal((4, 1))
    >>> terms(gaussian(schedule, 0.0, 1.0), schedule, x0, rng).shape
    (101, 4)
    """
    table = _variance(check.schedule(schedule), variance)
    check.function("model", model, takes=2)
    check.choice("predicts", predicts, KINDS)
    check.generator("rng", rng)
    x0 = check.finite("x0", check.array("x0", x0, ("N", ...)))
    bins = None if bins is None else check.integer("bins", bins, 2)
    found = np.empty((schedule.T + 1, len(x0)))
    found[schedule.T] = _sum(prior(schedule, x0))
    for t in range(schedule.T, 0, -1):
        eps = rng.standard_normal(x0.shape).astype(x0.dtype)
        xt = q_sample(schedule, x0, t, eps)
        x0_hat, _ = ask(model, schedule, xt, t, predicts)
        mean, _ = posterior(schedule, x0_hat.astype(np.float64), xt, t)
        if t == 1:
            found[0] = _sum(_reconstruction(x0, mean, table[1], bins))
        else:
            found[t - 1] = _sum(_step(schedule, x0, xt, t, mean, table[t]))
    return found


def bits_per_dimension(found, x0):
    """Return (mean, standard error) of the bound in bits a dimension, from `terms`.

    A dimension of an image is a channel of a pixel. found: from `terms` with bins for
    images, else the bits depend on the unit of x0. Raises ValueError unless found has a
    column for each image of x0, and these are at least two.

    >>> x0 = np.zeros((3, 2))
    >>> [float(v) for v in bits_per_dimension(np.full((5, 3), np.log(2)), x0)]
    [2.5, 0.0]
    """
    x0 = check.at_least_two("x0", check.array("x0", x0, ("N", "D", ...)))
    found = check.array("found", found, ("T + 1", len(x0)))
    each = found.sum(0) / np.log(2) / x0[0].size
    return each.mean(), each.std(ddof=1) / np.sqrt(len(each))


def prior(schedule, x0):
    """Return L_T by dimension: KL(N(a x0, b^2) || N(0, 1)) at t = T, in nats."""
    ab = check.schedule(schedule).alpha_bar[-1]
    x0 = check.array("x0", x0).astype(np.float64)
    return 0.5 * (ab * x0**2 + (1 - ab) - 1 - np.log(1 - ab))


def exact_variance(schedule, std):
    """Return the variance of q(x_{t-1} | x_t) for data N(., std^2), a table (T + 1,).

    beta_tilde_t + (a_{t-1} beta_t / b_t^2)^2 Var[x0 | xt]: the second term is there as
    x0 is not known. With it and the exact mean, the bound on Gaussian data is above the
    entropy by no more than L_T. Raises ValueError for a std below 0.
    """
    schedule, std = check.schedule(schedule), check.number("std", std, 0, 1e100)
    ab, table = schedule.alpha_bar, np.zeros(schedule.T + 1)
    weight = np.sqrt(ab[:-1]) * schedule.beta[1:] / (1 - ab[1:])
    unknown = std**2 * (1 - ab[1:]) / (ab[1:] * std**2 + 1 - ab[1:])
    table[1:] = schedule.beta_tilde[1:] + weight**2 * unknown
    return table


def _variance(schedule, variance):
    if isinstance(variance, str) and variance in ("beta", "beta_tilde"):
        table = np.array(getattr(schedule, variance))
        table[1] = schedule.beta[1]
        return table
    table = check.reals("variance", variance)
    if table.shape != (schedule.T + 1,) or not (table[1:] > 0).all():
        raise ValueError(
            f'variance is {table}, expected "beta_tilde", "beta" or a table of '
            f"{schedule.T + 1} values, above 0 from t = 1 on"
        )
    return table


def _step(schedule, x0, xt, t, mean, variance):
    """KL(N(mu_tilde, beta_tilde) || N(mean, variance)) by dimension."""
    true_mean, beta_tilde = posterior(schedule, x0.astype(np.float64), xt, t)
    ratio = beta_tilde / variance
    return 0.5 * (ratio - 1 - np.log(ratio) + (true_mean - mean) ** 2 / variance)


def _reconstruction(x0, mean, variance, bins):
    """-log p(x0 | x_1) by dimension: a density, or the chance of a bin."""
    x0 = np.asarray(x0, np.float64)
    if bins is None:
        return 0.5 * (np.log(2 * np.pi * variance) + (x0 - mean) ** 2 / variance)
    half, std = 1 / (bins - 1), np.sqrt(variance)
    upper = np.where(x0 > 1 - half, np.inf, (x0 + half - mean) / std)
    lower = np.where(x0 < half - 1, -np.inf, (x0 - half - mean) / std)
    # Phi(upper) - Phi(lower) keeps its digits where both are small, so mirror the bin
    turn = upper + lower > 0
    upper, lower = np.where(turn, -lower, upper), np.where(turn, -upper, lower)
    chance = (_erfc(-upper / np.sqrt(2)) - _erfc(-lower / np.sqrt(2))) / 2
    return -np.log(np.maximum(chance, 1e-300))


def _sum(each):
    return np.asarray(each, np.float64).reshape(len(each), -1).sum(1)
