"""Hold public packages against the laws: those that are installed, and no others.

    pip install '.[diffusers]' monai denoising-diffusion-pytorch k-diffusion
    python examples/check_packages.py

Under a minute for all four; each line is one check with data N(0.3, 0.5^2). With --all,
also how many n of diffusers' DDIM have a wrong list of times. k-diffusion 0.1.1 needs
setuptools below 81 beside it.
"""

import argparse
import importlib.metadata
import os
import warnings

from nanodiff import laws


def row(what, report):
    """One line of the table in docs/laws.md."""
    made = (
        f"{report.mean:.3f} / {report.std:.3f}" if report.mean == report.mean else "-"
    )
    right = " / ".join(f"{value:.3f}" for value in report.expected) or "-"
    notes = [f.law for f in report.findings if f.verdict in ("note", "small")]
    broken = ", ".join(report.broken) or "nothing"
    print(
        f"| {what} | {broken} | {', '.join(dict.fromkeys(notes))} | {made} | {right} |"
    )


def diffusers():
    from nanodiff.laws.diffusers import check_scheduler

    for name, n, config in (
        ("DDIM", 50, {}),
        ("DDPM", 50, {}),
        ("DDIM", 61, {"timestep_spacing": "trailing"}),
        ("DDIM", 61, {"timestep_spacing": "trailing", "clip_sample": False}),
        ("DDPM", 61, {"timestep_spacing": "trailing", "clip_sample": False}),
        ("DDIM", 30, {"timestep_spacing": "linspace"}),
        ("DDIM", 600, {"timestep_spacing": "linspace"}),
        ("DDPM", 50, {"timestep_spacing": "trailing", "variance_type": "fixed_large"}),
        ("DDPM", 50, {"variance_type": "fixed_large_log"}),
        ("DDIM", 50, {"set_alpha_to_one": False, "steps_offset": 1}),
        ("PNDM", 50, {"timestep_spacing": "linspace"}),
        ("PNDM", 5, {"timestep_spacing": "linspace"}),
        ("PNDM", 1, {}),
        ("EulerDiscrete", 30, {}),
        ("EulerAncestralDiscrete", 30, {}),
        ("HeunDiscrete", 30, {}),
        ("DPMSolverMultistep", 30, {}),
        ("UniPCMultistep", 30, {}),
        ("LCM", 4, {}),
        ("FlowMatchEulerDiscrete", 30, {"shift": 3.0}),
    ):
        words = ", ".join(f"{key} {value}" for key, value in config.items())
        what = f"{name}, n = {n}" + (f", {words}" if words else "")
        row(what, check_scheduler(f"{name}Scheduler", n, **config))


def every_n_of_diffusers():
    """Two things that DDIM's list of times must be, for each n: no run is needed."""
    import diffusers

    print(
        "\n| DDIM | a time below the first | the step t - T // n misses the next time |"
    )
    print("|---|---|---|")
    for spacing in ("leading", "linspace", "trailing"):
        scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing)
        below, apart = [], []
        for n in range(2, 1001):
            scheduler.set_timesteps(n)
            times = scheduler.timesteps.numpy()
            below += [n] * bool(times.min() < 0)
            apart += [n] * bool((times[:-1] - 1000 // n != times[1:]).any())
        print(f"| {spacing} | {len(below)} n: {below[:5]} ... | {len(apart)} n |")


def monai():
    from monai.networks import schedulers

    def check(name, n, **config):
        def sample(model, shape):
            import torch

            scheduler = getattr(schedulers, name)(num_train_timesteps=1000, **config)
            scheduler.set_timesteps(n)
            x = torch.randn(shape)
            for t in scheduler.timesteps:
                x, _ = scheduler.step(model(x, t), t, x)
            return x

        table = getattr(schedulers, name)(num_train_timesteps=1000).alphas_cumprod
        return laws.check_sampler(sample, table)

    for name, n in (
        ("DDPMScheduler", 1000),
        ("DDPMScheduler", 50),
        ("DDIMScheduler", 1000),
        ("DDIMScheduler", 300),
        ("DDIMScheduler", 50),
    ):
        row(f"{name[:4]}, n = {n}", check(name, n))


def denoising_diffusion_pytorch():
    import torch
    from denoising_diffusion_pytorch import GaussianDiffusion

    class Network(torch.nn.Module):
        channels, out_dim, self_condition = 1, 1, False
        random_or_learned_sinusoidal_cond = False

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x, t, x0_hat=None):
            return self.model(x, t)

    for n, schedule in (
        (1000, "sigmoid"),
        (1000, "linear"),
        (250, "linear"),
        (30, "linear"),
        (61, "cosine"),
    ):

        def make(model, n=n, schedule=schedule):
            return GaussianDiffusion(
                Network(model),
                image_size=2,
                timesteps=1000,
                sampling_timesteps=n,
                beta_schedule=schedule,
                objective="pred_noise",
            )

        report = laws.check_sampler(
            lambda model, shape, make=make: make(model).sample(shape[0]),
            make(torch.nn.Identity()).alphas_cumprod,
        )
        row(f"{'DDPM' if n == 1000 else 'DDIM'}, n = {n}, {schedule}", report)


def k_diffusion():
    import torch
    from k_diffusion import sampling

    sigmas = sampling.get_sigmas_karras(30, 0.002, 80.0)
    for name in ("euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2m", "lms"):

        def sample(model, shape, name=name):
            x = torch.randn(shape) * sigmas[0]
            return getattr(sampling, f"sample_{name}")(model, x, sigmas, disable=True)

        report = laws.check_sampler(sample, lambda sigma: (1.0, sigma), predicts="x0")
        row(f"sample_{name}, n = 30", report)


PACKAGES = {
    "diffusers": diffusers,
    "monai": monai,
    "denoising-diffusion-pytorch": denoising_diffusion_pytorch,
    "k-diffusion": k_diffusion,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true", help="each n of diffusers")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    for package, check in PACKAGES.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"\n{package} is not installed: pip install {package}")
            continue
        print(
            f"\n{package} {version}\n\n| what | broken | notes | mean / std | right |"
        )
        print("|---|---|---|---|---|")
        check()
    if given.all:
        every_n_of_diffusers()


if __name__ == "__main__":
    main()
