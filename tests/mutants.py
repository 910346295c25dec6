"""Errors of published teaching code, as edits of our own source; all must be noticed.

A row: the module, a piece of its source, what the error makes of it, and who made it.
"""

# ruff: noqa: E501
MUTANTS = [
    # the schedule and the jump of q_sample
    ("schedule", "times(np.sqrt(1 - alpha_bar), eps)", "times(1 - alpha_bar, eps)",
     "course lab 2, perturb_input: no square root"),
    ("schedule", "self.alpha_bar = np.cumprod(self.alpha)",
     "self.alpha_bar = np.cumprod(np.append(self.alpha[1], self.alpha[1:]) ** 1.0)\n"
     "        self.alpha_bar = np.append(1, self.alpha_bar[1:] * self.alpha[1])",
     "course schedule: ab_0 overwritten with 1 after a product that had a_0"),
    ("schedule", "VISIBLE = 2e-3", "VISIBLE = 7e-3",
     "course, T = 500: ab_T = .0064 passes for noise"),
    ("schedule", "np.linspace(1e-4, 0.02, T) * (1000 / T)", "np.linspace(1e-4, 0.02, T)",
     "tiny-diffusion, HF annotated, NeuroZero: betas not scaled to a small T"),
    ("schedule", "np.linspace(0.00085**0.5, 0.012**0.5, T) ** 2 * (1000 / T)",
     "np.linspace(0.00085**2, 0.012**2, T) ** 2 * (1000 / T)",
     "HF annotated (2022), lucidrains DALLE2 #141: squares instead of roots"),
    ("schedule", "(time + offset) / (1 + offset)) ** 2",
     "(time + offset) / (1 + offset))", "Lil'Log: the cosine without its square"),
    ("schedule", "    if T <= 20:", "    if T <= 0:",
     "OpenAI, lucidrains: linear x1000/T with beta of 1 and more for T up to 20"),
    ("schedule", "at(schedule.alpha_bar, np.asarray(t) - 1, xt)",
     "at(schedule.alpha_bar, np.maximum(np.asarray(t) - 1, 1), xt)",
     "diffusers #6068, #10003: the last step does not arrive at alpha_bar = 1"),
    ("schedule", "beta[1:] * noise[:-1] / noise[1:]", "beta[1:]",
     "course, labml: beta where the paper has beta_tilde"),
    ("schedule", "np.sqrt(alpha_bar_prev) * beta / (1 - alpha_bar)",
     "np.sqrt(alpha_bar) * beta / (1 - alpha_bar)",
     "DDPM Eq. 7 copied with alpha_bar_t for alpha_bar_{t-1}"),
    # DDPM
    ("ddpm", "np.sqrt(at(schedule.beta, t, xt)) * (beta_tilde > 0)",
     "np.sqrt(at(schedule.beta, t, xt))", "labml, Burak599: noise at the last step"),
    ("ddpm", "range(schedule.T, 0, -1)", "range(schedule.T, 1, -1)",
     "smalldiffusion: ends at the smallest noise, never at none"),
    ("ddpm", "range(schedule.T, 0, -1)", "range(schedule.T - 1, 0, -1)",
     "AkiRusProd: ranges of steps off by one"),
    ("ddpm", "return mean + times(sigma, z)", "return mean",
     "course lab 1's wrong way: no noise added back, samples collapse"),
    ("ddpm", 'np.sqrt(beta_tilde)\n', "beta_tilde\n",
     "a variance where a deviation belongs (diffusers #14569's fixed-large log)"),
    # DDIM
    ("ddim", "[T - i * T // steps for i in range(steps)] + [0]",
     "[T - i * (T // steps) for i in range(steps)] + [0]",
     "diffusers #12633, #11347: steps of T // N end with a leap"),
    ("ddim", "        x0_hat, eps_hat = split(schedule, xt, t, model(xt, t), predicts)\n",
     "        s = t - schedule.T // (len(times_) - 1)\n"
     "        x0_hat, eps_hat = split(schedule, xt, t, model(xt, t), predicts)\n",
     "course sample_ddim: t_prev from T // n, negative where n does not divide T"),
    ("ddim", "+ times(direction, eps_hat)", "- times(direction, eps_hat)",
     "AkiRusProd: minus before the direction that points to x_t"),
    ("ddim", "1 - alpha_bar_s - sigma**2", "1 - alpha_bar_s - sigma",
     "sigma for sigma squared in DDIM Eq. 12"),
    ("ddim", "        eps_hat = predict_eps(schedule, xt, t, x0_hat)\n", "        pass\n",
     "lucidrains #53, #65: x0_hat clipped and eps_hat left as it was"),
    ("ddim", "return xs if z is None else xs + times(sigma, z)", "return xs",
     "eta takes noise away and adds none"),
    # training
    ("train", "rng.integers(1, schedule.T + 1, size", "rng.integers(1, schedule.T, size",
     "minDiffusion: t drawn from 1..T-1, sampling starts at T"),
    ("optim", "rate = lr / (1 - self.b1**self.k)", "rate = lr * lr / (1 - self.b1**self.k)",
     "Burak599: the learning rate applied twice"),
    ("optim", "        self.k += 1\n        rate", "        self.k = 1\n        rate",
     "Burak599: bias correction starts anew at each step"),
    ("optim", "min(self.decay, (1 + self.k) / (10 + self.k))", "self.decay",
     "improved-diffusion #59: an average that remembers its start"),
    ("checkpoint", "    adam.k, ema.k = found.adam_k, found.ema_k\n", "",
     "DiT PR #23: the loss jumps after resuming"),
    ("checkpoint", "    rng.bit_generator.state = found.rng\n", "",
     "lucidrains #27: resumed without its random state"),
    # network, data, pictures
    ("unet", 'y += self.skip(x) if hasattr(self, "skip") else x',
     "y += Conv2d(x.shape[1], y.shape[1], 1, rng=np.random.default_rng())"
     ".cast(x.dtype)(x)", "course residual block: a fresh random 1x1 at each call"),
    ("data", "np.float32(2 / 255) - np.float32(1)", "np.float32(1 / 255) - np.float32(0.5)",
     "minDiffusion: data in [-.5, .5]"),
    ("viz", "(images + 1) * 127.5 + 0.5",
     "(images - images.min()) / np.ptp(images) * 255", "course plots: min-max a frame"),
]  # fmt: skip
