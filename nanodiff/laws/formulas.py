"""The formulas of named schedules, and the tables that follow from any."""

import numpy as np


def formulas(kind, T, start=None, end=None, offset=0.008, cap=0.999):
    """beta of a kind for t = 1..T; of "linear" and "quadratic" unscaled and scaled."""
    if kind in ("linear", "quadratic"):
        power = 1 if kind == "linear" else 2
        low, high = (1e-4, 0.02) if kind == "linear" else (0.00085, 0.012)
        low, high = start or low, end or high
        beta = np.linspace(low ** (1 / power), high ** (1 / power), T) ** power
        return [beta, np.minimum(beta * 1000 / T, cap)]
    if kind == "cosine":
        curve = np.cos((np.arange(T + 1) / T + offset) / (1 + offset) * np.pi / 2) ** 2
    else:
        low, high = -3 if start is None else start, 3 if end is None else end
        curve = 1 / (1 + np.exp(-np.linspace(low, high, T + 1)))
        curve = curve[-1] - curve
    return [np.minimum(1 - curve[1:] / curve[:-1], cap)]


def derived(beta, alpha_bar):
    """Tables that follow from beta and alpha_bar, by the names that they go by."""
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    beta = 1 - alpha_bar / before if beta is None else beta
    noise = 1 - alpha_bar
    tilde = beta * (1 - before) / noise
    known = {
        "alpha": 1 - beta,
        "alpha_bar_prev": before,
        "beta_tilde": tilde,
        "snr": alpha_bar / noise,
        "sqrt_alpha": np.sqrt(1 - beta),
        "sqrt_recip_alphas": 1 / np.sqrt(1 - beta),
        "sqrt_alphas_cumprod": np.sqrt(alpha_bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(noise),
        "log_one_minus_alphas_cumprod": np.log(noise),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / alpha_bar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / alpha_bar - 1),
        "posterior_mean_coef1": beta * np.sqrt(before) / noise,
        "posterior_mean_coef2": np.sqrt(1 - beta) * (1 - before) / noise,
        "posterior_log_variance_clipped": np.log(np.maximum(tilde, 1e-20)),
    }
    return known | {
        "alphas": known["alpha"],
        "alphas_cumprod_prev": before,
        "posterior_variance": tilde,
    }
