"""Samplers as others write them, right and wrong: what `nanodiff.laws` must tell apart.

None of this uses nanodiff. T = 100, the linear schedule scaled to it, and alpha_bar of
length T, from the first noisy step: index T - 1 is the noisiest.
"""

import numpy as np

T = 100
BETA = np.linspace(1e-4, 0.02, T) * (1000 / T)
ALPHA_BAR = np.cumprod(1 - BETA)


def level(t):
    """alpha_bar, where a time below the first is the data."""
    return ALPHA_BAR[t] if t >= 0 else 1.0


def every(n, T=T):
    """n rising times that end in T - 1, spaced as evenly as integers allow."""
    return np.linspace(T / n, T, n).round().astype(int)[::-1] - 1


def ddpm(variance="beta_tilde", sigma=None, steps=range(T - 1, -1, -1), quiet=True):
    """DDPM, one time long each step; sigma(beta, beta_tilde) replaces its noise."""

    def sample(model, shape):
        rng = np.random.default_rng(0)
        x = rng.standard_normal(shape)
        for t in steps:
            ab, prev, beta = level(t), level(t - 1), BETA[t]
            tilde = beta * (1 - prev) / (1 - ab)
            eps = model(x, t)
            mean = (x - beta / np.sqrt(1 - ab) * eps) / np.sqrt(1 - beta)
            if sigma is not None:
                std = sigma(beta, tilde)
            else:
                std = np.sqrt(tilde if variance == "beta_tilde" else beta)
            x = mean + std * rng.standard_normal(shape) * (t > 0 or not quiet)
        return x

    return sample


def ddpm_between(times, variance="beta_tilde", noise_at=lambda t: t > 0):
    """DDPM over any falling times, by the betas between them."""

    def sample(model, shape):
        x = np.random.standard_normal(shape)
        for t, s in zip(times, [*times[1:], -1], strict=True):
            ab, prev = level(t), level(s)
            beta = 1 - ab / prev
            tilde = beta * (1 - prev) / (1 - ab)
            x0 = (x - np.sqrt(1 - ab) * model(x, t)) / np.sqrt(ab)
            x = np.sqrt(prev) * beta / (1 - ab) * x0 + (
                np.sqrt(1 - beta) * (1 - prev) / (1 - ab) * x
            )
            if noise_at(t):
                std = np.sqrt(tilde if variance == "beta_tilde" else beta)
                x = x + std * np.random.randn(*shape)
        return x

    return sample


def ddim(times, previous=None, sign=1.0, eta=0.0, at=level, clamp=None, final=None):
    """DDIM over falling times; previous(t) replaces the next of the list."""

    def sample(model, shape):
        x = np.random.normal(size=shape)
        for t, s in zip(times, [*times[1:], -1], strict=True):
            s = s if previous is None else previous(t)
            ab, prev = level(t), at(s)
            eps = model(x, np.full(shape[0], t))
            x0 = (x - np.sqrt(1 - ab) * eps) / np.sqrt(ab)
            sigma = eta * np.sqrt((1 - prev) / (1 - ab) * (1 - ab / prev))
            x = np.sqrt(prev) * x0 + sign * np.sqrt(1 - prev - sigma**2) * eps
            if eta:
                x = x + sigma * np.random.normal(0.0, 1.0, shape)
            if clamp:
                x = np.clip(x, -clamp, clamp)
        return x if final is None else final(x)

    return sample


def euler_maruyama(drift=0.5, score_by=1.0, sigma=np.sqrt, quiet=True):
    """The VP-SDE of Song et al. 2021 (arXiv 2011.13456), a step of one time each."""

    def sample(model, shape):
        x = np.random.randn(*shape)
        for t in range(T - 1, -1, -1):
            score = -score_by * model(x, t) / np.sqrt(1 - ALPHA_BAR[t])
            x = x + BETA[t] * (drift * x + score)
            x = x + sigma(BETA[t]) * np.random.randn(*shape) * (t > 0 or not quiet)
        return x

    return sample


def one_loop(make_noise, dtype=np.float64, order=False):
    """DDPM whose z is make_noise(rng, shape, t), drawn before the model is asked."""

    def sample(model, shape):
        rng = np.random.default_rng(0)
        x = rng.standard_normal(shape).astype(dtype)
        for t in range(T - 1, -1, -1):
            z = make_noise(rng, shape, t)
            if order:
                x = x[np.argsort(x.reshape(len(x), -1)[:, 0])]
            ab, prev, beta = level(t), level(t - 1), BETA[t]
            sigma = np.sqrt(beta * (1 - prev) / (1 - ab))
            x = (x - beta / np.sqrt(1 - ab) * model(x, t)) / np.sqrt(
                1 - beta
            ) + sigma * z
            x = x.astype(dtype)
        return x

    return sample


def dpm_solver_2m(times):
    """DPM-Solver++(2M): the x0_hat of two calls; Lu et al. 2022, arXiv 2211.01095."""

    def sample(model, shape):
        a = np.sqrt(np.append(ALPHA_BAR, 1.0))  # index -1 is the data
        b = np.sqrt(np.append(1 - ALPHA_BAR, 0.0))
        half_log_snr = np.log(a) - np.log(np.maximum(b, 1e-12))
        x, before, h_before = np.random.randn(*shape), None, None
        for t, s in zip(times, [*times[1:], -1], strict=True):
            x0 = (x - b[t] * model(x, t)) / a[t]
            h = half_log_snr[s] - half_log_snr[t]
            d = x0
            if before is not None and s >= 0:
                r = h_before / h
                d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
            x = b[s] / b[t] * x - a[s] * np.expm1(-h) * d
            before, h_before = x0, h
        return x

    return sample


def heun(sigmas, churn=0.0):
    """Karras et al. 2022, Algorithm 2 without churn: a = 1, b = sigma; predicts x0."""

    def sample(model, shape):
        x = sigmas[0] * np.random.randn(*shape)
        for s, r in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            d = (x - model(x, s)) / s
            euler = x + (r - s) * d
            if r > 0:
                d = (d + (euler - model(euler, r)) / r) / 2
            x = x + (r - s) * d
        return x

    return sample


def flow_euler(n):
    """Euler's method on dx/dt = v, x_t = (1 - t) x_0 + t eps."""

    def sample(model, shape):
        x = np.random.randn(*shape)
        for i in range(n, 0, -1):
            x = x - model(x, np.full((shape[0], 1), i / n)) / n
        return x

    return sample
