"""The schedulers of the package diffusers, by their configuration, against the laws;
and the samplers of denoising-diffusion-pytorch, where it is installed.

What is wrong there at version 0.42.1 is written down here: if a later version repairs
it, the test that says so goes.
"""

import subprocess
import sys

import numpy as np
import pytest

from nanodiff import dpm, exact
from nanodiff.laws import check_sampler
from nanodiff.laws.diffusers import check_scheduler
from nanodiff.schedule import linear

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

DIVISORS = [n for n in range(1, 201) if 1000 % n == 0]


@pytest.mark.parametrize("n", DIVISORS)
@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
def test_leading_times_that_divide_break_nothing(name, n):
    report = check_scheduler(name, n, timestep_spacing="leading")
    assert not report.broken, report


@pytest.mark.parametrize(
    "name, config",
    [
        ("DDIMScheduler", {"set_alpha_to_one": False, "steps_offset": 1}),
        (
            "DDIMScheduler",
            {
                "rescale_betas_zero_snr": True,
                "timestep_spacing": "trailing",
                "prediction_type": "v_prediction",
            },
        ),
        (
            "DDIMScheduler",
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        ),
        ("DDPMScheduler", {"variance_type": "fixed_large"}),
        ("DDPMScheduler", {"prediction_type": "sample", "clip_sample": False}),
        ("EulerDiscreteScheduler", {}),
        ("EulerAncestralDiscreteScheduler", {}),
        ("HeunDiscreteScheduler", {}),
        ("KDPM2DiscreteScheduler", {}),
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("UniPCMultistepScheduler", {}),
        ("DEISMultistepScheduler", {}),
        ("PNDMScheduler", {}),
        ("LCMScheduler", {}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        ("FlowMatchHeunDiscreteScheduler", {}),
    ],
)
@pytest.mark.parametrize("n", [5, 20])
def test_conventions_and_solvers_of_higher_order_are_no_false_alarm(name, config, n):
    report = check_scheduler(name, n, **config)
    assert not report.broken, report


@pytest.mark.parametrize(
    "name, n, config, laws, made, right",
    [
        (
            "DDIMScheduler",
            61,
            {"timestep_spacing": "trailing", "clip_sample": False},
            {"count", "ends"},
            (46.416, 76.433),
            (0.299, 0.476),
        ),
        (
            "DDPMScheduler",
            61,
            {"timestep_spacing": "trailing", "clip_sample": False},
            {"count", "ends"},
            (47.223, 71.171),
            (0.300, 0.452),
        ),
        (
            "DDIMScheduler",
            30,
            {"timestep_spacing": "linspace"},
            {"joins"},
            (0.292, 0.471),
            (0.299, 0.454),
        ),
        (
            "DDIMScheduler",
            600,
            {"timestep_spacing": "linspace"},
            {"joins"},
            (0.211, 0.659),
            (0.299, 0.497),
        ),
        (
            "DDPMScheduler",
            50,
            {"timestep_spacing": "trailing", "variance_type": "fixed_large"},
            {"quiet end"},
            (0.300, 0.517),
            (0.300, 0.512),
        ),
        (
            "DDPMScheduler",
            50,
            {"variance_type": "fixed_large_log"},
            {"finite"},
            None,
            None,
        ),
    ],
)
def test_what_is_wrong_in_0_42_1_is_named(name, n, config, laws, made, right):
    if diffusers.__version__ != "0.42.1":
        pytest.skip(f"diffusers is {diffusers.__version__}, the figures are of 0.42.1")
    report = check_scheduler(name, n, **config)
    assert laws <= set(report.broken), report
    if made is not None:
        assert (report.mean, report.std) == pytest.approx(made, abs=2e-3), report
        assert report.expected == pytest.approx(right, abs=2e-3)
    if "quiet end" in laws:
        assert "0.0760" in report["quiet end"].found


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # theirs
@pytest.mark.parametrize("times", [[400, 300, 140, 90, 10], [400, 1], [7]])
@pytest.mark.parametrize("says, kind", [("epsilon", "eps"), ("v_prediction", "v")])
def test_dpm_solver_multistep_makes_the_states_of_our_dpm(times, says, kind):
    # their time t is our t + 1; they compute in float32
    schedule = linear(400)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        trained_betas=schedule.beta[1:], prediction_type=says, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(timesteps=[t - 1 for t in times])
    x = np.random.default_rng(0).standard_normal((3, 2))
    model = exact.gaussian(schedule, 0.3, 0.5, kind)
    theirs = torch.from_numpy(x)
    for t, (_, ours) in zip(
        scheduler.timesteps, dpm.sample(model, schedule, x, [*times, 0], kind),
        strict=True,
    ):  # fmt: skip
        output = torch.from_numpy(model(theirs.numpy(), int(t) + 1))
        theirs = scheduler.step(output, t, theirs).prev_sample
        np.testing.assert_allclose(theirs.numpy(), ours, rtol=0, atol=2e-5)


@pytest.mark.parametrize("n, schedule", [(1000, "sigmoid"), (30, "linear")])
def test_denoising_diffusion_pytorch_breaks_nothing(n, schedule):
    why = "denoising-diffusion-pytorch is not installed"
    package = pytest.importorskip(
        "denoising_diffusion_pytorch", reason=why, exc_type=ImportError
    )

    class Network(torch.nn.Module):
        channels, out_dim, self_condition = 1, 1, False
        random_or_learned_sinusoidal_cond = False

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x, t, x0_hat=None):
            return self.model(x, t)

    def make(model):
        return package.GaussianDiffusion(
            Network(model),
            image_size=2,
            sampling_timesteps=n,
            beta_schedule=schedule,
            objective="pred_noise",
        )

    table = make(torch.nn.Identity()).alphas_cumprod
    report = check_sampler(lambda model, shape: make(model).sample(shape[0]), table)
    assert not report.broken, report


def test_the_shell_says_it_with_its_exit_status():
    shell = [sys.executable, "-m", "nanodiff.laws", "--diffusers", "DDIMScheduler"]
    wrong = subprocess.run(
        [*shell, "timestep_spacing=trailing", "--steps", "61"],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 1 and "t = -1" in wrong.stdout, wrong.stderr
    right = subprocess.run([*shell, "--steps", "50"], capture_output=True, text=True)
    assert right.returncode == 0 and "DDIM, eta 0" in right.stdout, right.stderr


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="name is 'Nothing', expected a scheduler"):
        check_scheduler("Nothing")
    with pytest.raises(ValueError, match="which has no alphas_cumprod"):
        check_scheduler("EDMEulerScheduler")
