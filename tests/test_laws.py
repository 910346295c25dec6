"""The public checker: what is right passes, what is wrong is named, nothing is left over.

The cases are outsiders' code (`tests/strangers.py`) with data N(0.3, 0.5^2).
"""

import functools
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, ddpm, heun, laws
from nanodiff.prediction import KINDS
from nanodiff.respace import respace
from nanodiff.schedule import (
    NAMED,
    Schedule,
    cosine,
    linear,
    q_sample,
    zero_terminal,
)
from tests import strangers
from tests.strangers import ALPHA_BAR, BETA, T
from tests.strategies import falling_times, schedules

DOWN = list(range(T - 1, -1, -1))
LINSPACE = {n: np.linspace(0, T - 1, n).round().astype(int)[::-1] for n in (10, 30, 60)}


def ours(run, n=None):
    """A sampler of nanodiff, as the checker wants it."""

    def sample(model, shape):
        rng = np.random.default_rng(0)
        return run(model, rng.standard_normal(shape), rng)

    return sample


def moments(report):
    return round(report.mean, 3), round(report.std, 3)


# ------------------------------------------------------------------------ what is right
def nanodiffs_samplers():
    schedule = linear(100)
    for variance in ("beta_tilde", "beta"):
        yield laws.case(
            f"ddpm {variance}", laws.check_sampler,
            ours(lambda m, x, r, v=variance: ddpm.sample(m, schedule, x, r, v)),
            schedule.alpha_bar, steps=100,
        )  # fmt: skip
    for n in laws.steps_to_try(100):
        for eta in (0.0, 0.5, 1.0):
            yield laws.case(
                f"ddim {n} steps eta {eta}", laws.check_sampler,
                ours(lambda m, x, r, n=n, e=eta: ddim.sample(m, schedule, x, n, e, r)),
                schedule.alpha_bar, steps=n,
            )  # fmt: skip
        yield laws.case(
            f"heun {n} steps", laws.check_sampler,
            ours(lambda m, x, r, n=n: heun.sample(m, schedule, x, n)),
            schedule.alpha_bar,
        )  # fmt: skip
    for kind in KINDS:
        yield laws.case(
            f"ddpm of {kind}", laws.check_sampler,
            ours(lambda m, x, r, k=kind: ddpm.sample(m, cosine(50), x, r, predicts=k)),
            cosine(50).alpha_bar, predicts=kind,
        )  # fmt: skip
    for name in NAMED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quadratic leaves a signal, and says so
            table = NAMED[name](100)
        yield laws.case(
            f"schedule {name}", laws.check_schedule, table.beta, table.alpha_bar,
            kind=name, tables={"snr": table.snr, "beta_tilde": table.beta_tilde},
            q_sample=functools.partial(q_sample, table),
        )  # fmt: skip
    yield laws.case(
        "inversion", laws.check_inversion,
        lambda m, x0, n: list(ddim.invert(m, schedule, x0, n))[-1][1],
        lambda m, xT, n: ddim.sample(m, schedule, xT, n), schedule.alpha_bar,
    )  # fmt: skip
    yield laws.case(
        "eps, x0 and v", laws.check_predictions,
        {k: ours(lambda m, x, r, k=k: ddim.sample(m, schedule, x, 30, 0.5, r,
                                                  predicts=k)) for k in KINDS},
        schedule.alpha_bar,
    )  # fmt: skip


@laws.parametrize(*nanodiffs_samplers())
def test_nanodiff_keeps_every_law(law):
    law()


@given(schedules, st.data(), st.sampled_from(KINDS), st.floats(0, 1))
def test_any_times_kind_and_eta_keep_the_laws_of_ddim(schedule, data, kind, eta):
    times = data.draw(falling_times(schedule.T))
    sample = ours(lambda m, x, r: ddim.sample(m, schedule, x, times, eta, r,
                                              predicts=kind))  # fmt: skip
    report = laws.check_sampler(sample, schedule.alpha_bar, predicts=kind)
    assert set(report.broken) <= {"starts"}, report  # times may start below T


@given(st.integers(21, 200).map(linear), st.integers(1, 20))
def test_ddpm_on_a_respaced_schedule_keeps_the_laws(schedule, n):
    def sample(model, shape):
        rng = np.random.default_rng(0)
        short_model, short = respace(model, schedule, n)
        return ddpm.sample(short_model, short, rng.standard_normal(shape), rng)

    report = laws.check_sampler(sample, schedule.alpha_bar, steps=n)
    assert not report.broken, report
    assert n < 3 or report.kind == "DDPM, variance beta_tilde"


@given(st.integers(21, 400), st.sampled_from(sorted(NAMED)), st.booleans())
def test_schedules_are_told_apart_and_keep_the_laws(T, kind, leading):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = NAMED[kind](T)
    report = laws.check_schedule(alpha_bar=schedule.alpha_bar[1 - leading :], kind=kind)
    assert not report.broken, report
    assert f"T = {T}, first noisy step at index {int(leading)}" in report.kind
    float32 = schedule.beta[1:].astype("f"), schedule.alpha_bar[1:].astype("f")
    assert not laws.check_schedule(*float32).broken
    assert not laws.check_schedule(alpha_bar=zero_terminal(schedule).alpha_bar).broken


RIGHT = {
    "DDPM": (strangers.ddpm(), "DDPM, variance beta_tilde", 0.468),
    "DDPM, beta": (strangers.ddpm("beta"), "DDPM, variance beta", 0.508),
    "DDIM, eta 0.5": (strangers.ddim(LINSPACE[30], eta=0.5), "DDIM, eta 0.5", 0.447),
    "z before the model": (
        strangers.one_loop(lambda rng, shape, t: rng.standard_normal(shape)),
        "DDPM, variance beta_tilde", 0.468),
    "float32": (
        strangers.one_loop(lambda rng, shape, t: rng.standard_normal(shape),
                           np.float32), "DDPM, variance beta_tilde", 0.468),
    "noise image by image": (
        strangers.one_loop(lambda rng, shape, t: np.stack(
            [rng.standard_normal(shape[1:]) for _ in range(shape[0])])),
        "DDPM, variance beta_tilde", 0.468),
    "legacy noise": (
        strangers.one_loop(lambda rng, shape, t: np.random.RandomState(t).randn(*shape)),
        "DDPM, variance beta_tilde", 0.468),
    "x0_hat clipped": (strangers.ddim(strangers.every(50), final=lambda x: x.clip(-1, 1)),
                       "DDIM, eta 0", 0.472),
    "output in [0, 1]": (
        strangers.ddim(LINSPACE[30], final=lambda x: (x + 1) / 2), "DDIM, eta 0", 0.453),
    "uint8": (strangers.ddim(LINSPACE[30], final=lambda x: ((x + 1) * 127.5 + 0.5).clip(
        0, 255).astype(np.uint8)), "DDIM, eta 0", 0.453),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_code_is_named_and_its_moments_are_exact(name):
    sample, kind, std = RIGHT[name]
    report = laws.check_sampler(sample, ALPHA_BAR)
    assert not report.broken, report
    assert report.kind == kind and abs(report.std - std) < 2e-3


@pytest.mark.parametrize("n", [2, 3, 5, 10, 20, 50])
def test_solvers_of_second_order_are_no_false_alarm(n):
    report = laws.check_sampler(strangers.dpm_solver_2m(strangers.every(n)), ALPHA_BAR)
    assert not report.broken, report
    sigmas = (80 ** (1 / 7) + np.arange(n) / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7)))
    report = laws.check_sampler(strangers.heun(sigmas**7), lambda s: (1.0, s),
                                predicts="x0")  # fmt: skip
    assert not report.broken, report


@pytest.mark.parametrize("n", [1, 3, 10, 50])
def test_a_flow_is_eulers_method(n):
    report = laws.check_sampler(strangers.flow_euler(n), lambda t: (1 - t, t),
                                predicts="flow", steps=n)  # fmt: skip
    assert not report.broken and report.kind == "DDIM, eta 0"


def test_a_batch_in_another_order_is_judged_by_its_moments():
    sample = strangers.one_loop(lambda rng, shape, t: rng.standard_normal(shape),
                                order=True)  # fmt: skip
    report = laws.check_sampler(sample, ALPHA_BAR)
    assert not report.broken and abs(report.std - 0.468) < 0.03
    wrong = strangers.one_loop(lambda rng, shape, t: 0.0, order=True)
    assert laws.check_sampler(wrong, ALPHA_BAR).broken == ["moments"]
    final = strangers.ddim(DOWN, final=lambda x: x[::-1])
    assert not laws.check_sampler(final, ALPHA_BAR).broken


def test_guidance_hard_wired_shapes_and_other_times_are_understood():
    sample = strangers.ddim(LINSPACE[30], eta=0.3)

    def guided(model, shape):
        def both(x, t):
            out = model(np.concatenate([x, x]), np.concatenate([t, t])[:, None])
            return out[: len(x)] + 2 * (out[: len(x)] - out[len(x) :])

        return sample(both, shape)

    def twice(model, shape):
        return sample(lambda x, t: 2 * model(x, t) - model(x, t), shape)

    for run in (guided, twice, lambda model, shape: sample(model, (2, 3, 8, 8)),
                lambda model, shape: sample(model, (16, 2))):  # fmt: skip
        report = laws.check_sampler(run, ALPHA_BAR, steps=30)
        assert not report.broken and report.kind == "DDIM, eta 0.3", report
    for wrap, options in (
        (lambda t: t / T, {"time": lambda t: t * T}),
        (lambda t: t + 1, {}),
        (lambda t: t + 1, {"first": 1}),
    ):
        run = lambda model, shape, w=wrap: sample(lambda x, t: model(x, w(t)), shape)  # noqa: E731
        assert not laws.check_sampler(run, ALPHA_BAR, **options).broken


RNG = np.random.default_rng(5)


class Library:
    """A loop in a class, with Generators made before, and a network it asks things."""

    def __init__(self):
        self.rng, self.old = np.random.default_rng(1), np.random.RandomState(2)

    def noise(self, shape):
        return self.rng.standard_normal(shape)

    def sample(self, model, shape):
        model.eval()
        next(model.parameters())
        x = RNG.standard_normal(shape) if shape[0] % 2 else self.old.randn(*shape)
        for t in DOWN:
            ab, prev, beta = ALPHA_BAR[t], strangers.level(t - 1), BETA[t]
            x = (x - beta / np.sqrt(1 - ab) * model(x, t)) / np.sqrt(1 - beta)
            x = x + np.sqrt(beta * (1 - prev) / (1 - ab)) * self.noise(shape)
        return x


def test_generators_made_before_are_found_and_left_as_they_were():
    library, before = Library(), RNG.bit_generator.state
    functions = np.random.randn, np.random.default_rng, np.random.Generator
    state = np.random.get_state()[1].copy()
    report = laws.check_sampler(library.sample, ALPHA_BAR)
    assert not report.broken and report.kind == "DDPM, variance beta_tilde", report

    def fails(model, shape):
        np.random.seed(3)
        library.noise(shape)
        raise RuntimeError("out of luck")

    report = laws.check_sampler(fails, ALPHA_BAR)
    assert report["runs"].verdict == "crash" and "out of luck" in str(report)
    assert functions == (np.random.randn, np.random.default_rng, np.random.Generator)
    assert type(library.rng) is np.random.Generator and RNG.bit_generator.state == before
    fresh = np.random.default_rng(1).bit_generator.state
    assert library.rng.bit_generator.state == fresh
    np.testing.assert_array_equal(np.random.get_state()[1], state)


# ------------------------------------------------------------------------ what is wrong
def unscaled(model, shape):
    beta = np.linspace(1e-4, 0.02, 50)
    alpha_bar, x = np.cumprod(1 - beta), np.random.randn(*shape)
    for t in range(49, -1, -1):
        x = x - beta[t] / np.sqrt(1 - alpha_bar[t]) * model(x, t)
        x = x / np.sqrt(1 - beta[t]) + np.sqrt(beta[t]) * np.random.randn(*shape) * (t > 0)
    return x


def half(model, shape):
    x = 0.5 * np.random.randn(*shape)
    for t in DOWN:
        ab, prev = ALPHA_BAR[t], strangers.level(t - 1)
        eps = model(x, t)
        x0 = (x - np.sqrt(1 - ab) * eps) / np.sqrt(ab)
        x = np.sqrt(prev) * x0 + np.sqrt(1 - prev) * eps
    return x


def one_z():
    """Noise drawn at the first step only."""
    kept = {}

    def noise(rng, shape, t):
        if t == T - 1:
            kept["z"] = rng.standard_normal(shape)
        return kept["z"]

    return noise


FIVE = [99, 79, 59, 39, 19]
WRONG = {  # sampler, table, laws that must be broken, mean and std, those of right code
    "the previous time is t - T // n": (
        strangers.ddim(LINSPACE[60], previous=lambda t: t - 100 // 60), ALPHA_BAR,
        {"joins"}, (0.211, 0.650), (0.299, 0.476)),
    "steps one time long": (
        strangers.ddpm(steps=range(90, -1, -10)), ALPHA_BAR, {"joins"}, (0.077, 0.879),
        (0.299, 0.355)),
    "sigma = beta": (
        strangers.ddpm(sigma=lambda beta, tilde: beta), ALPHA_BAR, {"spread"},
        (0.300, 0.095), (0.300, 0.484)),
    "sigma = beta_tilde": (
        strangers.ddpm(sigma=lambda beta, tilde: tilde), ALPHA_BAR, {"spread"},
        (0.300, 0.088), None),
    "no noise added back": (
        strangers.ddpm(sigma=lambda beta, tilde: 0.0), ALPHA_BAR, {"spread"},
        (0.299, 0.001), (0.299, 0.486)),
    "a minus before eps_hat": (
        strangers.ddim(DOWN, sign=-1.0), ALPHA_BAR, {"spread"}, (0.300, 0.000),
        (0.299, 0.486)),
    "x_t clamped": (
        strangers.ddim(DOWN, clamp=1.0, eta=1.0), ALPHA_BAR, {"linear"}, (0.241, 0.389),
        (0.300, 0.468)),
    "noise at the end": (
        strangers.ddpm_between(FIVE, "beta"), ALPHA_BAR, {"quiet end"}, (0.300, 0.684),
        (0.300, 0.366)),
    "betas not scaled": (
        unscaled, np.cumprod(1 - np.linspace(1e-4, 0.02, 50)), {"starts"}, (0.217, 0.557),
        None),
    "the table read at -1": (
        strangers.ddim(DOWN, at=lambda s: ALPHA_BAR[s]), ALPHA_BAR, {"finite"}, None,
        None),
    "uniform noise": (
        strangers.one_loop(lambda rng, shape, t: rng.random(shape)), ALPHA_BAR,
        {"normal"}, None, None),
    "noise shared by the images": (
        strangers.one_loop(lambda rng, shape, t: rng.standard_normal(shape[1:])),
        ALPHA_BAR, {"normal"}, None, None),
    "noise shared by the pixels": (
        strangers.one_loop(lambda rng, shape, t: rng.standard_normal((shape[0], 1, 1, 1))),
        ALPHA_BAR, {"normal"}, None, None),
    "one z for all steps": (
        strangers.one_loop(one_z()),
        ALPHA_BAR, {"normal"}, (0.300, 3.383), (0.300, 0.468)),
    "half of x_T": (half, ALPHA_BAR, {"starts"}, None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_code_is_named_with_what_it_makes(name):
    sample, table, broken, made, right = WRONG[name]
    report = laws.check_sampler(sample, table)
    assert broken <= set(report.broken) <= broken | {"moments"}, report
    if made is not None:
        assert np.abs(np.subtract(moments(report), made)).max() < 1.5e-3, report
    if right is not None:
        assert np.abs(np.subtract(report.expected, right)).max() < 1.5e-3, report
    with pytest.raises(laws.Broken, match="Usual cause"):
        report.check()
