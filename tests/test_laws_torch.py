"""Samplers written in torch, as most are: the public checker takes tensors."""

import numpy as np
import pytest

from nanodiff import laws

torch = pytest.importorskip("torch", reason="torch is not installed")

T = 100
BETA = torch.linspace(1e-4, 0.02, T) * (1000 / T)
ALPHA = 1 - BETA
ALPHA_BAR = torch.cumprod(ALPHA, 0)  # float32, as people have it


class Diffusion(torch.nn.Module):
    """DDPM as a module with buffers, its time (N,) and its output (N, 1, H, W)."""

    def __init__(self, noise=torch.randn_like):
        super().__init__()
        self.register_buffer("alpha_bar", ALPHA_BAR)
        self.noise = noise
        self.generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def p_sample(self, model, x, t):
        previous = self.alpha_bar[t - 1] if t > 0 else torch.tensor(1.0)
        variance = BETA[t] * (1 - previous) / (1 - self.alpha_bar[t])
        eps = model(x, torch.full((len(x),), t, dtype=torch.long))
        mean = (x - BETA[t] / (1 - self.alpha_bar[t]).sqrt() * eps) / ALPHA[t].sqrt()
        return mean + variance.sqrt() * self.noise(x)

    def sample(self, model, shape):
        model.eval()
        x = torch.randn(
            shape, generator=self.generator, device=next(model.parameters()).device
        )
        for t in reversed(range(T)):
            x = self.p_sample(model, x, t)
        return x


def ddim(n, eta=0.0):
    def sample(model, shape):
        times = torch.linspace(0, T - 1, n).round().long().flip(0)
        x = torch.empty(shape).normal_()
        for i, t in enumerate(times):
            eps = model(x, t.repeat(shape[0])[:, None])
            last = i + 1 == len(times)
            previous = torch.tensor(1.0) if last else ALPHA_BAR[times[i + 1]]
            x0 = (x - (1 - ALPHA_BAR[t]).sqrt() * eps) / ALPHA_BAR[t].sqrt()
            sigma = eta * ((1 - previous) / (1 - ALPHA_BAR[t])).sqrt()
            sigma = sigma * (1 - ALPHA_BAR[t] / previous).sqrt()
            x = previous.sqrt() * x0 + (1 - previous - sigma**2).sqrt() * eps
            x = x + sigma * torch.normal(0.0, 1.0, size=shape)
        return ((x + 1) / 2).clamp(0, 1)

    return sample


@laws.parametrize(
    laws.case("ddpm", laws.check_sampler, Diffusion().sample, ALPHA_BAR),
    laws.case(
        "noise by normal_",
        laws.check_sampler,
        Diffusion(lambda x: torch.zeros_like(x).normal_()).sample,
        ALPHA_BAR,
    ),
    laws.case(
        "noise by a distribution",
        laws.check_sampler,
        Diffusion(
            lambda x: torch.distributions.Normal(0.0, 1.0).sample(x.shape)
        ).sample,
        ALPHA_BAR,
    ),
    *(
        laws.case(
            f"ddim {n} eta {eta}",
            laws.check_sampler,
            ddim(n, eta),
            ALPHA_BAR,
            undo=lambda y: 2 * y - 1,
        )
        for n in (3, 27, 51, 100)
        for eta in (0, 0.5)
    ),
    laws.case(
        "schedule",
        laws.check_schedule,
        BETA,
        ALPHA_BAR,
        kind="linear",
        q_sample=lambda x0, t: (
            ALPHA_BAR[t][:, None, None, None].sqrt() * x0
            + (1 - ALPHA_BAR[t][:, None, None, None]).sqrt() * torch.randn_like(x0)
        ),
    ),
)
def test_right_code_in_torch_keeps_every_law(law):
    law()


@pytest.mark.parametrize(
    "noise",
    [
        torch.rand_like,
        lambda x: torch.rand(x.shape),
        lambda x: torch.randn(x.shape[1:]),
        lambda x: torch.randn(len(x), 1, 1, 1),
    ],
)
def test_uniform_and_shared_noise_in_torch_is_named(noise):
    report = laws.check_sampler(Diffusion(noise).sample, ALPHA_BAR)
    assert report.broken == ["normal"], report


def test_a_step_in_torch_with_and_without_z():
    def step(eps, t, x, z):
        mean = (x - BETA[t] / (1 - ALPHA_BAR[t]).sqrt() * eps) / ALPHA[t].sqrt()
        return mean + (BETA[t].sqrt() * z if t > 0 else 0)

    def own(eps, t, x):
        return step(eps, t, x, torch.randn_like(x))

    for one in (step, own):
        for table in (ALPHA_BAR, ALPHA_BAR.numpy()):
            report = laws.check_step(one, range(T - 1, -1, -1), table)
            assert not report.broken and report.kind == "DDPM, variance beta", report


def test_a_seed_set_inside_the_loop_is_named_and_one_before_it_is_not():
    def seeded(x):
        torch.manual_seed(3)
        return torch.randn_like(x)

    assert laws.check_sampler(Diffusion(seeded).sample, ALPHA_BAR).broken == ["normal"]

    def sample(model, shape):
        torch.manual_seed(3)
        return Diffusion().sample(model, shape)

    assert not laws.check_sampler(sample, ALPHA_BAR).broken


def test_a_module_may_hold_the_model():
    class Held(Diffusion):
        def __init__(self):
            super().__init__()
            self.network = torch.nn.Linear(1, 1)

        def sample(self, model, shape):
            self.network = model
            self.eval()
            return super().sample(self.network, shape)

    assert not laws.check_sampler(Held().sample, ALPHA_BAR).broken


def test_the_functions_of_torch_are_put_back():
    names = "randn", "rand", "randn_like", "rand_like", "normal"
    before = [getattr(torch, name) for name in names]
    methods, state = torch.Tensor.normal_, torch.get_rng_state()

    def fails(model, shape):
        torch.randn(3)
        raise RuntimeError("out of luck")

    assert laws.check_sampler(fails, ALPHA_BAR).broken == ["runs"]
    assert before == [getattr(torch, name) for name in names]
    assert torch.Tensor.normal_ is methods
    np.testing.assert_array_equal(state, torch.get_rng_state())
