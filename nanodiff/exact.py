"""An exact world: data with a best prediction in closed form, without a network.

If x_0 is drawn from a mixture of Gaussians, sum_i w_i N(m_i, s_i^2), x_t is drawn from
one with means a m_i and variances v_i = a^2 s_i^2 + b^2. The prediction of the noise
with the least squared error is
    E[eps | x_t] = b sum_i r_i (x_t - a m_i) / v_i
    E[x_0 | x_t] = sum_i r_i (m_i + a s_i^2 (x_t - a m_i) / v_i)
    r_i = w_i N(x_t; a m_i, v_i) / sum_j w_j N(x_t; a m_j, v_j)
with a^2 = alpha_bar_t, b^2 = 1 - a^2. The first is -b times the score (Song et al.
2020, arXiv 2011.13456); v and flow follow from both. One component is
Gaussian data; many with s_i = 0 are a finite data set. Each predictor is a `model(xt,
t)` in float64, for samplers and `likelihood`.

For Gaussian data a sampler's step is affine, x_s = slope x_t + level + spread z, so the
mean and the variance of its x_0 follow without drawing any. For any mixture on the
line, `carried` is where a sampler without noise should end.

Shapes: x, xt (N, ...); means (M, ...); stds, weights (M,).
"""

import math
from itertools import pairwise

import numpy as np

from nanodiff import check
from nanodiff.ddim import falling
from nanodiff.ddpm import VARIANCES
from nanodiff.prediction import KINDS, target
from nanodiff.schedule import at

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def gaussian(schedule, mean, std, predicts="eps"):
    """Return the exact predictor for data N(mean, std^2).

    mean: a float, or an array of an image's shape. std: a float of at least 0.
    predicts: what it says, one of `prediction.KINDS`. Raises ValueError otherwise; the
    predictor, for an xt or t that does not fit.

    >>> from nanodiff.schedule import linear
    >>> model = gaussian(linear(100), 0.0, 1.0)  # x_t is N(0, 1) at every t
    >>> schedule, xt = linear(100), np.ones((1, 2))
    >>> bool(np.allclose(model(xt, 60), np.sqrt(1 - schedule.alpha_bar[60])))
    True
    """
    schedule, std = check.schedule(schedule), check.number("std", std, 0, 1e100)
    mean = check.finite("mean", check.reals("mean", mean))
    check.choice("predicts", predicts, KINDS)

    def model(xt, t):
        xt = check.array("xt", xt, ("N", ...))
        if mean.shape not in ((), xt.shape[1:]):
            raise ValueError(f"xt has shape {xt.shape}, expected (N, *{mean.shape})")
        alpha_bar = at(schedule.alpha_bar, t, xt, first=1)
        variance = alpha_bar * std**2 + 1 - alpha_bar
        away = (xt - np.sqrt(alpha_bar) * mean) / variance
        x0_hat = mean + np.sqrt(alpha_bar) * std**2 * away
        return target(schedule, x0_hat, t, np.sqrt(1 - alpha_bar) * away, predicts)

    return model


def mixture(schedule, means, stds, weights=None, predicts="eps"):
    """Return the exact predictor for a mixture of round Gaussians.

    means: (M, ...), one image each. stds: (M,) or a float. weights: (M,), equal if not
    given; they need not sum to one. predicts: what it says, one of `prediction.KINDS`.
    Raises ValueError if they do not fit. The shares r_i are computed by their
    logarithms, so that nothing overflows at any t.

    >>> from nanodiff.schedule import linear
    >>> model = mixture(linear(100), np.array([[-1.0], [1.0]]), 0.1)
    >>> model(np.zeros((1, 1)), 60).item()  # halfway between the two
    0.0
    """
    schedule = check.schedule(schedule)
    means = check.finite("means", check.reals("means", means, ("M", ...)))
    M = len(means)
    weights = check.reals("weights", np.ones(M) if weights is None else weights)
    if weights.shape != (M,) or not ((weights > 0) & (weights < np.inf)).all():
        raise ValueError(f"weights is {weights}, expected {M} values above 0")
    stds = check.reals("stds", stds)
    stds = np.full(M, stds) if stds.ndim == 0 else stds
    if stds.shape != (M,) or not ((stds >= 0) & (stds < np.inf)).all():
        raise ValueError(f"stds is {stds}, expected {M} values of at least 0")
    check.choice("predicts", predicts, KINDS)
    flat = means.reshape(M, -1)

    def one_time(x, t):  # x (N, D)
        signal, noise = schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]
        variance = signal * stds**2 + noise
        away = x[:, None] - np.sqrt(signal) * flat  # (N, M, D)
        log_share = np.log(weights) - 0.5 * flat.shape[1] * np.log(variance)
        log_share = log_share - (away * away).sum(2) / (2 * variance)
        share = np.exp(log_share - log_share.max(1, keepdims=True))
        share = share / share.sum(1, keepdims=True)
        eps_hat = np.sqrt(noise) * np.einsum("nm,nmd->nd", share / variance, away)
        spread = share * np.sqrt(signal) * stds**2 / variance
        x0_hat = share @ flat + np.einsum("nm,nmd->nd", spread, away)
        return target(schedule, x0_hat, t, eps_hat, predicts)

    def model(xt, t):
        xt = check.array("xt", xt, ("N", *means.shape[1:]))
        at(schedule.alpha_bar, t, xt, first=1)  # or ValueError
        x, t = xt.reshape(len(xt), -1), np.broadcast_to(t, len(xt))
        said = np.empty(x.shape)
        for time in np.unique(t).tolist():
            said[t == time] = one_time(x[t == time], time)
        return said.reshape(xt.shape)

    return model


def points(schedule, x0, predicts="eps"):
    """Return the exact predictor for data that are the points x0 only.

    What a network with unlimited capacity and training would learn from a finite data
    set: sampling with it returns the data themselves. predicts: what it says, one of
    `prediction.KINDS`. Raises ValueError if x0 is not an array (M, ...) of floats.
    """
    x0 = check.array("x0", x0, ("M", ...))
    return mixture(schedule, check.finite("x0", x0), 0.0, predicts=predicts)


def carried(schedule, means, stds, x, t, s):
    """Return x_s, where DDIM's differential equation carries x_t = x, on the line.

    Data: a mixture in equal shares of N(means[i], stds[i]^2). Paths do not cross, so
    the share of x_t below x is that of x_s below x_s, and halving an interval finds it.
    means, stds: (M,), stds above 0. x: (N,), exact to 1e-9 within five deviations. t,
    s: in 0..T. Raises ValueError otherwise.

    >>> from nanodiff.schedule import linear
    >>> carried(linear(1000), [0.3], [0.5], np.array([0.0, 1.0]), 1000, 0).round(4)
    array([0.299 , 0.7991])
    """
    means = check.finite("means", check.reals("means", means, ("M",)))
    stds = check.finite("stds", check.reals("stds", stds, (len(means),)))
    if not (stds > 0).all():
        check.refuse("stds", stds, "values above 0")
    x = check.finite("x", check.reals("x", x, ("N",)))
    alpha_bar = check.schedule(schedule).alpha_bar

    def below(x, time):  # the share of x_time below x
        a, b2 = np.sqrt(alpha_bar[time]), 1 - alpha_bar[time]
        away = (x[:, None] - a * means) / np.sqrt(a**2 * stds**2 + b2)
        return _erfc(-away / np.sqrt(2)).mean(1) / 2

    at(alpha_bar, t, x), at(alpha_bar, s, x, name="s")  # or ValueError
    share, reach = below(x, t), np.abs(means).max() + 9 * max(1.0, stds.max())
    low, high = np.full(len(x), -reach), np.full(len(x), reach)
    for _ in range(64):  # reach / 2^64 is below rounding
        middle = (low + high) / 2
        under = below(middle, s) < share
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return middle


def ddpm_moments(schedule, mean, std, variance="beta_tilde"):
    """Return mean and variance of DDPM's x_0 for data N(mean, std^2), as floats.

    By Algorithm 2's line x_{t-1} = (x_t - beta / b eps) / sqrt(alpha) + sigma z, from
    x_T of N(0, 1). variance: "beta_tilde" or "beta". Raises ValueError for anything
    else, a mean or std that is no number, and a schedule whose alpha_bar[T] is 0.

    >>> from nanodiff.schedule import linear
    >>> [round(float(m), 4) for m in ddpm_moments(linear(1000), 3.0, 0.5)]
    [3.0, 0.2461]
    """
    check.choice("variance", variance, VARIANCES)
    mean, std = _gaussian(schedule, mean, std)
    m, v = 0.0, 1.0
    for t in range(schedule.T, 0, -1):
        slope, level = _eps_line(schedule, mean, std, t)
        beta, noise = schedule.beta[t], 1 - schedule.alpha_bar[t]
        keep = (1 - beta / np.sqrt(noise) * slope) / np.sqrt(schedule.alpha[t])
        m = keep * m - beta / np.sqrt(noise * schedule.alpha[t]) * level
        added = schedule.beta_tilde[t] if variance == "beta_tilde" else beta
        v = keep**2 * v + added * (t > 1)
    return m, v


def ddim_moments(schedule, mean, std, steps=50, eta=0.0):
    """Return mean and variance of DDIM's x_0 for data N(mean, std^2), as floats.

    steps, eta: as `ddim.sample` takes them (DDIM Eq. 12). Raises ValueError as
    `ddpm_moments` does.

    >>> from nanodiff.schedule import linear
    >>> [round(float(m), 4) for m in ddim_moments(linear(1000), 3.0, 0.5, steps=50)]
    [2.991, 0.2222]
    """
    times = falling(steps, check.schedule(schedule).T)
    (mean, std), eta = _gaussian(schedule, mean, std), check.number("eta", eta, 0, 1)
    m, v, ab = 0.0, 1.0, schedule.alpha_bar
    for t, s in pairwise(times):
        slope, level = _eps_line(schedule, mean, std, t)
        sigma2 = eta**2 * (1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[s])
        scale = np.sqrt(ab[s] / ab[t])
        toward = np.sqrt(max(1 - ab[s] - sigma2, 0)) - scale * np.sqrt(1 - ab[t])
        m = (scale + toward * slope) * m + toward * level
        v = (scale + toward * slope) ** 2 * v + sigma2
    return m, v


def loss_floor(schedule, std):
    """Return the least mean squared error of eps_hat at each t, for data N(., std^2).

    floor_t = a^2 std^2 / (a^2 std^2 + b^2), the variance of eps given x_t; floor_0 is
    1. No predictor's expected loss is below it. Raises ValueError for a std below 0.

    >>> from nanodiff.schedule import linear
    >>> loss_floor(linear(1000), 0.5)[[1, 500]].round(4).tolist()
    [0.9996, 0.0209]
    """
    std, floor = (
        check.number("std", std, 0, 1e100),
        np.ones(check.schedule(schedule).T + 1),
    )
    signal = schedule.alpha_bar[1:] * std**2
    floor[1:] = signal / (signal + 1 - schedule.alpha_bar[1:])
    return floor


def empirical_floor(schedule, model, x0, rng):
    """Return an estimate of the least mean squared error for data x0, with its error.

    E (eps - model(x_t, t))^2 and its standard error. model: the exact predictor of
    those data. rng draws one t, uniform in 1..T, and one eps for each of x0's rows.
    Raises ValueError if one does not fit, or for fewer than two rows.

    >>> from nanodiff.schedule import linear
    >>> schedule, rng = linear(100), np.random.default_rng(0)
    >>> x0 = 0.5 * rng.standard_normal((10_000, 1))
    >>> floor, error = empirical_floor(schedule, gaussian(schedule, 0.0, 0.5), x0, rng)
    >>> bool(abs(floor - loss_floor(schedule, 0.5)[1:].mean()) < 4 * error)
    True
    """
    check.function("model", model, takes=2)
    check.generator("rng", rng, "integers", "standard_normal")
    x0 = check.at_least_two("x0", check.array("x0", x0, ("N", ...)))
    t = rng.integers(1, check.schedule(schedule).T + 1, size=len(x0))
    eps = rng.standard_normal(x0.shape)
    alpha_bar = at(schedule.alpha_bar, t, x0)
    xt = np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps
    each = (
        ((eps - check.array("the model's output", model(xt, t), xt.shape)) ** 2)
        .reshape(len(x0), -1)
        .mean(1)
    )
    return each.mean(), each.std(ddof=1) / np.sqrt(len(x0))


def _gaussian(schedule, mean, std):
    """Mean and std as floats, for a schedule whose x_T has a finite x0_hat."""
    if check.schedule(schedule).alpha_bar[-1] == 0:
        raise ValueError(
            "schedule has alpha_bar[T] = 0, expected above 0: eps has no x0"
        )
    return check.number("mean", mean), check.number("std", std, 0, 1e100)


def _eps_line(schedule, mean, std, t):
    """Slope and level of the exact E[eps | x_t] = slope x_t + level."""
    ab = schedule.alpha_bar[t]
    slope = np.sqrt(1 - ab) / (ab * std**2 + 1 - ab)
    return slope, -slope * np.sqrt(ab) * mean
