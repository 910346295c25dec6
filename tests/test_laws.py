"""The public checker: right code passes, wrong code is named, nothing is left over.

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

from nanodiff import ddim, ddpm, dpm, flow, heun, laws
from nanodiff.prediction import KINDS
from nanodiff.respace import respace
from nanodiff.schedule import (
    NAMED,
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
            f"ddpm {variance}",
            laws.check_sampler,
            ours(lambda m, x, r, v=variance: ddpm.sample(m, schedule, x, r, v)),
            schedule.alpha_bar,
            steps=100,
        )
    for n in laws.steps_to_try(100):
        for eta in (0.0, 0.5, 1.0):
            yield laws.case(
                f"ddim {n} steps eta {eta}",
                laws.check_sampler,
                ours(lambda m, x, r, n=n, e=eta: ddim.sample(m, schedule, x, n, e, r)),
                schedule.alpha_bar,
                steps=n,
            )
        for module in (heun, flow, dpm):
            yield laws.case(
                f"{module.__name__[9:]} {n} steps",
                laws.check_sampler,
                ours(lambda m, x, r, n=n, by=module: by.sample(m, schedule, x, n)),
                schedule.alpha_bar,
            )
    for kind in KINDS:
        yield laws.case(
            f"ddpm of {kind}",
            laws.check_sampler,
            ours(lambda m, x, r, k=kind: ddpm.sample(m, cosine(50), x, r, predicts=k)),
            cosine(50).alpha_bar,
            predicts=kind,
        )
    for name in NAMED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quadratic leaves a signal, and says so
            table = NAMED[name](100)
        yield laws.case(
            f"schedule {name}",
            laws.check_schedule,
            table.beta,
            table.alpha_bar,
            kind=name,
            tables={"snr": table.snr, "beta_tilde": table.beta_tilde},
            q_sample=functools.partial(q_sample, table),
        )
    yield laws.case(
        "inversion",
        laws.check_inversion,
        lambda m, x0, n: list(ddim.invert(m, schedule, x0, n))[-1][1],
        lambda m, xT, n: ddim.sample(m, schedule, xT, n),
        schedule.alpha_bar,
    )
    yield laws.case(
        "eps, x0, v and flow",
        laws.check_predictions,
        {
            k: ours(
                lambda m, x, r, k=k: ddim.sample(m, schedule, x, 30, 0.5, r, predicts=k)
            )
            for k in KINDS
        },
        schedule.alpha_bar,
    )


@laws.parametrize(*nanodiffs_samplers())
def test_nanodiff_keeps_every_law(law):
    law()


@given(schedules, st.data(), st.sampled_from(KINDS), st.floats(0, 1))
def test_any_times_kind_and_eta_keep_the_laws_of_ddim(schedule, data, kind, eta):
    times = data.draw(falling_times(schedule.T))
    sample = ours(
        lambda m, x, r: ddim.sample(m, schedule, x, times, eta, r, predicts=kind)
    )
    report = laws.check_sampler(sample, schedule.alpha_bar, predicts=kind)
    assert set(report.broken) <= {"starts"}, report  # times may start below T
    found = [(s.c0, s.ce**2 + s.sigma**2) for s in report.steps]
    wanted = [(s.a_s, s.b_s**2) for s in report.steps]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


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
        "DDPM, variance beta_tilde",
        0.468,
    ),
    "float32": (
        strangers.one_loop(
            lambda rng, shape, t: rng.standard_normal(shape), np.float32
        ),
        "DDPM, variance beta_tilde",
        0.468,
    ),
    "noise image by image": (
        strangers.one_loop(
            lambda rng, shape, t: np.stack(
                [rng.standard_normal(shape[1:]) for _ in range(shape[0])]
            )
        ),
        "DDPM, variance beta_tilde",
        0.468,
    ),
    "legacy noise": (
        strangers.one_loop(
            lambda rng, shape, t: np.random.RandomState(t).randn(*shape)
        ),
        "DDPM, variance beta_tilde",
        0.468,
    ),
    "x0_hat clipped": (
        strangers.ddim(strangers.every(50), final=lambda x: x.clip(-1, 1)),
        "DDIM, eta 0",
        0.472,
    ),
    "output in [0, 1]": (
        strangers.ddim(LINSPACE[30], final=lambda x: (x + 1) / 2),
        "DDIM, eta 0",
        0.453,
    ),
    "uint8": (
        strangers.ddim(
            LINSPACE[30],
            final=lambda x: ((x + 1) * 127.5 + 0.5).clip(0, 255).astype(np.uint8),
        ),
        "DDIM, eta 0",
        0.453,
    ),
}


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
    sigmas = 80 ** (1 / 7) + np.arange(n) / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))
    report = laws.check_sampler(
        strangers.heun(sigmas**7), lambda s: (1.0, s), predicts="x0"
    )
    assert not report.broken, report


@pytest.mark.parametrize("n", [1, 3, 10, 50])
def test_a_flow_is_eulers_method(n):
    report = laws.check_sampler(
        strangers.flow_euler(n), lambda t: (1 - t, t), predicts="flow", steps=n
    )
    assert not report.broken and report.kind == "DDIM, eta 0"


def test_levels_may_be_a_function_of_an_index():
    def levels(t):
        return np.sqrt(ALPHA_BAR[t]), np.sqrt(1 - ALPHA_BAR[t])

    report = laws.check_sampler(strangers.ddim(strangers.every(20)), levels)
    assert not report.broken, report
    report = laws.check_sampler(strangers.ddim(DOWN), lambda t: ALPHA_BAR[t])
    assert report.broken == ["runs"] and "expected (a, b)" in str(report)


def test_a_batch_in_another_order_is_judged_by_its_moments():
    sample = strangers.one_loop(
        lambda rng, shape, t: rng.standard_normal(shape), order=True
    )
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

    for run in (
        guided,
        twice,
        lambda model, shape: sample(model, (2, 3, 8, 8)),
        lambda model, shape: sample(model, (16, 2)),
        lambda model, shape: np.concatenate(
            [sample(model, (1, *shape[1:])) for _ in range(shape[0])]
        ),
    ):
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
    assert (
        type(library.rng) is np.random.Generator and RNG.bit_generator.state == before
    )
    fresh = np.random.default_rng(1).bit_generator.state
    assert library.rng.bit_generator.state == fresh
    np.testing.assert_array_equal(np.random.get_state()[1], state)


# ------------------------------------------------------------------------ what is wrong
def unscaled(model, shape):
    beta = np.linspace(1e-4, 0.02, 50)
    alpha_bar, x = np.cumprod(1 - beta), np.random.randn(*shape)
    for t in range(49, -1, -1):
        x = x - beta[t] / np.sqrt(1 - alpha_bar[t]) * model(x, t)
        x = x / np.sqrt(1 - beta[t]) + np.sqrt(beta[t]) * np.random.randn(*shape) * (
            t > 0
        )
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
        strangers.ddim(LINSPACE[60], previous=lambda t: t - 100 // 60),
        ALPHA_BAR,
        {"joins"},
        (0.211, 0.650),
        (0.299, 0.476),
    ),
    "steps one time long": (
        strangers.ddpm(steps=range(90, -1, -10)),
        ALPHA_BAR,
        {"joins"},
        (0.077, 0.879),
        (0.299, 0.355),
    ),
    "sigma = beta": (
        strangers.ddpm(sigma=lambda beta, tilde: beta),
        ALPHA_BAR,
        {"spread"},
        (0.300, 0.095),
        (0.300, 0.484),
    ),
    "sigma = beta_tilde": (
        strangers.ddpm(sigma=lambda beta, tilde: tilde),
        ALPHA_BAR,
        {"spread"},
        (0.300, 0.088),
        None,
    ),
    "no noise added back": (
        strangers.ddpm(sigma=lambda beta, tilde: 0.0),
        ALPHA_BAR,
        {"spread"},
        (0.299, 0.001),
        (0.299, 0.486),
    ),
    "a minus before eps_hat": (
        strangers.ddim(DOWN, sign=-1.0),
        ALPHA_BAR,
        {"spread"},
        (0.300, 0.000),
        (0.299, 0.486),
    ),
    "x_t clamped": (
        strangers.ddim(DOWN, clamp=1.0, eta=1.0),
        ALPHA_BAR,
        {"linear"},
        (0.241, 0.389),
        (0.300, 0.468),
    ),
    "noise at the end": (
        strangers.ddpm_between(FIVE, "beta"),
        ALPHA_BAR,
        {"quiet end"},
        (0.300, 0.684),
        (0.300, 0.366),
    ),
    "betas not scaled": (
        unscaled,
        np.cumprod(1 - np.linspace(1e-4, 0.02, 50)),
        {"starts"},
        (0.217, 0.557),
        None,
    ),
    "the table read at -1": (
        strangers.ddim(DOWN, at=lambda s: ALPHA_BAR[s]),
        ALPHA_BAR,
        {"finite"},
        None,
        None,
    ),
    "uniform noise": (
        strangers.one_loop(lambda rng, shape, t: rng.random(shape)),
        ALPHA_BAR,
        {"normal"},
        None,
        None,
    ),
    "noise shared by the images": (
        strangers.one_loop(lambda rng, shape, t: rng.standard_normal(shape[1:])),
        ALPHA_BAR,
        {"normal"},
        None,
        None,
    ),
    "noise shared by the pixels": (
        strangers.one_loop(
            lambda rng, shape, t: rng.standard_normal((shape[0], 1, 1, 1))
        ),
        ALPHA_BAR,
        {"normal"},
        None,
        None,
    ),
    "a seed in the loop": (
        strangers.one_loop(
            lambda rng, shape, t: np.random.default_rng(7).standard_normal(shape)
        ),
        ALPHA_BAR,
        {"normal"},
        None,
        None,
    ),
    "a seed of old in the loop": (
        strangers.one_loop(
            lambda rng, shape, t: np.random.seed(7) or np.random.randn(*shape)
        ),
        ALPHA_BAR,
        {"normal"},
        None,
        None,
    ),
    "one z for all steps": (
        strangers.one_loop(one_z()),
        ALPHA_BAR,
        {"normal"},
        (0.300, 3.383),
        (0.300, 0.468),
    ),
    "half of x_T": (half, ALPHA_BAR, {"starts"}, None, None),
}


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


TABLES = {  # arguments, laws that must be broken
    "cosine with the leading 1 kept": (
        lambda: {
            "alpha_bar": np.cos((np.arange(T) / T + 0.008) / 1.008 * np.pi / 2) ** 2
            / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
        },
        {"falls", "finite"},
    ),
    "the same, with its betas": (
        lambda: {"beta": cosine(T).beta[1:], "alpha_bar": cosine(T).alpha_bar[:-1]},
        {"falls", "finite", "product"},
    ),
    "cosine with beta at most 0.02": (
        lambda: {"beta": np.minimum(cosine(1000).beta[1:], 0.02), "kind": "cosine"},
        {"formula"},
    ),
    "betas not scaled": (lambda: {"beta": np.linspace(1e-4, 0.02, 50)}, {"terminal"}),
    "beta of 1 and more": (
        lambda: {"beta": np.linspace(1e-4, 0.02, 10) * 100},
        {"range", "falls"},
    ),
    "squares for roots": (
        lambda: {
            "beta": np.linspace(0.00085**2, 0.012**2, 1000) ** 2,
            "kind": "quadratic",
        },
        {"terminal", "formula"},
    ),
    "a product that starts late": (
        lambda: {"beta": BETA, "alpha_bar": np.append(ALPHA_BAR[1:], 1e-5)},
        {"product"},
    ),
    "beta for beta_tilde": (
        lambda: {"beta": BETA, "tables": {"posterior_variance": BETA}},
        {"tables"},
    ),
    "q_sample without the root": (
        lambda: {
            "alpha_bar": ALPHA_BAR,
            "q_sample": lambda x0, t, eps: _root(t) * x0 + (1 - _root(t) ** 2) * eps,
        },
        {"q_sample"},
    ),
    "q_sample one time late": (
        lambda: {
            "alpha_bar": ALPHA_BAR,
            "q_sample": lambda x0, t, eps: (
                _root(t - 1) * x0 + np.sqrt(1 - _root(t - 1) ** 2) * eps
            ),
        },
        {"q_sample"},
    ),
    "q_sample with uniform noise": (
        lambda: {
            "alpha_bar": ALPHA_BAR,
            "q_sample": lambda x0, t: (
                _root(t) * x0 + np.sqrt(1 - _root(t) ** 2) * np.random.rand(*x0.shape)
            ),
        },
        {"normal"},
    ),
}


def _root(t):
    return np.sqrt(ALPHA_BAR[t]).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("name", TABLES)
def test_wrong_tables_are_named(name):
    options, broken = TABLES[name]
    report = laws.check_schedule(**options())
    assert set(report.broken) == broken, report


def test_conventions_are_notes():
    first = strangers.ddim(strangers.every(30), at=lambda s: ALPHA_BAR[max(s, 0)])
    report = laws.check_sampler(first, ALPHA_BAR)
    assert not report.broken and report["ends"].verdict == "note"
    report = laws.check_sampler(strangers.ddpm("beta"), ALPHA_BAR)
    assert not report.broken and report["spread"].verdict == "note"
    for n in (2, 4, 10):
        report = laws.check_sampler(
            strangers.ddim(DOWN[T // n - 1 :: T // n]), ALPHA_BAR
        )
        assert not report.broken, report
    none = np.append(ALPHA_BAR[:-1], 0.0)  # zero terminal SNR, and a model of eps

    def sample(model, shape):
        x = np.random.randn(*shape)
        for t in DOWN:
            x = (x - np.sqrt(1 - none[t]) * model(x, t)) / np.sqrt(none[t])
        return x

    report = laws.check_sampler(sample, none)
    assert not report.broken and report["finite"].verdict == "note"

    def clipped(model, shape):
        x = np.random.randn(*shape)
        for t in DOWN:
            eps, previous = model(x, t), strangers.level(t - 1)
            x0 = (x - np.sqrt(1 - ALPHA_BAR[t]) * eps) / np.sqrt(ALPHA_BAR[t])
            x = np.sqrt(previous) * x0.clip(-1, 1) + np.sqrt(1 - previous) * eps
        return x

    report = laws.check_sampler(clipped, ALPHA_BAR)
    assert not report.broken and report["clip"].verdict == "note"


@pytest.mark.parametrize("quiet", [True, False])
def test_a_discretisation_of_the_sde_is_a_note(quiet):
    report = laws.check_sampler(strangers.euler_maruyama(quiet=quiet), ALPHA_BAR)
    assert not report.broken and report.kind == "a discretisation of the SDE", report
    verdicts = [report[law].verdict for law in ("joins", "spread", "quiet end")]
    assert verdicts == ["note", "note", "ok" if quiet else "small"]
    assert report.expected == (0.3, 0.5) and abs(report.std - 0.513) < 2e-3


@pytest.mark.parametrize(
    "wrong",
    [{"drift": 1.0}, {"drift": 0.0}, {"score_by": 0.9}, {"sigma": lambda beta: beta}],
)
def test_a_wrong_discretisation_of_the_sde_is_broken(wrong):
    report = laws.check_sampler(strangers.euler_maruyama(**wrong), ALPHA_BAR)
    assert {"joins", "spread", "moments"} <= set(report.broken), report


def test_training_and_sampling_must_share_a_schedule():
    other = cosine(T)

    def trained_with(x0, t, eps):
        return q_sample(other, x0, t + 1, eps)

    sample = strangers.ddim(strangers.every(20))
    assert not laws.check_sampler(
        sample,
        q_sample=lambda x0, t, eps: _root(t) * x0 + np.sqrt(1 - _root(t) ** 2) * eps,
    ).broken
    report = laws.check_sampler(sample, q_sample=trained_with)
    assert {"joins", "moments"} <= set(report.broken), report
    report = laws.check_sampler(sample, ALPHA_BAR, q_sample=trained_with)
    assert "shares" in report.broken, report


def test_times_that_are_no_index_are_refused_and_never_wrapped():
    for t, words in ((100.5, "t = 100.5"), (250, "t = 250"), (0.37, "t = 0.37")):
        report = laws.check_sampler(
            lambda m, s, t=t: m(np.random.randn(*s), t), ALPHA_BAR
        )
        assert report.broken == ["runs"] and words in str(report["runs"])
        assert "expected an index 0..99" in str(report["runs"])

    def wraps(model, shape):  # NumPy reads ALPHA_BAR[-1] without a word
        x = np.random.randn(*shape)
        for t, s in ((99, 50), (50, 0), (0, -1), (-1, None)):
            x0 = (x - np.sqrt(1 - ALPHA_BAR[t]) * (eps := model(x, t))) / _root([t])[0]
            previous = 1.0 if s in (None, -1) else ALPHA_BAR[s]
            x = np.sqrt(previous) * x0 + np.sqrt(1 - previous) * eps
        return x

    report = laws.check_sampler(wraps, ALPHA_BAR)
    assert {"count", "ends"} <= set(report.broken)


def test_a_step_is_checked_with_its_own_noise_or_with_z():
    schedule = linear(100)

    def with_z(eps_hat, t, xt, z):
        return ddpm.step(schedule, xt, t, eps_hat, z)

    def own(eps_hat, t, xt):
        return with_z(eps_hat, t, xt, np.random.standard_normal(xt.shape))

    for step in (with_z, own):
        report = laws.check_step(step, range(100, 0, -1), schedule.alpha_bar).check()
        assert report.kind == "DDPM, variance beta_tilde" and len(report.steps) == 100
    report = laws.check_step(own, range(90, 0, -10), schedule.alpha_bar)
    assert "joins" in report.broken


def test_a_law_that_one_stands_by_can_be_allowed():
    sample, table, *_ = WRONG["noise at the end"]
    report = laws.check_sampler(sample, table, allow=("quiet end", "moments"))
    assert report.check() is report and report["quiet end"].verdict == "allowed"


def test_parametrize_makes_one_test_a_law_and_runs_each_check_once():
    runs = []

    def sample(model, shape):
        runs.append(shape)
        return strangers.ddim(LINSPACE[60], previous=lambda t: t - 1)(model, shape)

    mark = laws.parametrize(laws.case("mine", laws.check_sampler, sample, ALPHA_BAR))
    names, values = mark.mark.args
    assert names == "law" and [v.id for v in values] == [
        f"mine-{law}" for law in laws.check_sampler.laws
    ]
    assert not runs  # nothing is run while tests are collected
    tests = {value.id: value.values[0] for value in values}
    tests["mine-ends"]()
    made = len(runs)
    with pytest.raises(laws.Broken, match="mine: joins: .* worst t = "):
        tests["mine-joins"]()
    assert len(runs) == made


@given(st.integers(1, 2000))
def test_steps_to_try_are_numbers_of_steps_that_differ_in_kind(T):
    tried = laws.steps_to_try(T)
    assert tried == sorted(set(tried)) and tried[0] >= 1 and tried[-1] == T
    assert {n for n in (3, 27, T // 2 + 1) if n <= T} <= set(tried)
    if T > 10 and any(T % n == 0 for n in range(2, T)):
        assert any(T % n == 0 for n in tried if 1 < n < T)
    assert T < 4 or any(T % n for n in tried)


def test_the_message_names_step_found_expected_consequence_and_cause():
    report = laws.check_sampler(*WRONG["the previous time is t - T // n"][:2])
    words = str(report)
    for part in (
        "joins      BROKEN",
        "of 59 steps; worst t = ",
        "-> 30: signal 0.5910",
        "expected 0.6107 of the next call",
        "come out as 0.211 / 0.650",
        "correct 0.299 / 0.476",
        "computed as t - T // n",
    ):
        assert part in words, words


def test_the_shell_checks_what_it_is_told_to(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from tests.strangers import ALPHA_BAR, ddim, every\n"
        "def sample(model, shape, steps):\n"
        "    return ddim(every(steps))(model, shape)\n"
        "broken = ddim(every(30), sign=-1.0)\n"
    )
    root = str(Path(__file__).parent.parent)

    def shell(*words):
        code = (
            "import sys; sys.path[:0] = sys.argv.pop(1).split(); import runpy; "
            "runpy.run_module('nanodiff.laws', run_name='__main__', alter_sys=True)"
        )
        return subprocess.run(
            [sys.executable, "-c", code, root, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    table = ("--alpha-bar", "mine:ALPHA_BAR")
    right = shell("mine:sample", *table, "--steps", "30")
    assert right.returncode == 0 and "DDIM, eta 0" in right.stdout, right.stderr
    wrong = shell("mine:broken", *table)
    assert wrong.returncode == 1 and "a minus before eps_hat" in wrong.stdout
    for words, told in (
        (("mine.sample", *table), "has no colon, expected module:name"),
        (("mine:nothing", *table), "mine has no 'nothing'"),
        (("mine:sample",), "expected module:sample with --alpha-bar"),
    ):
        bad = shell(*words)
        assert bad.returncode == 2 and told in bad.stderr, bad.stderr


def test_laws_know_nothing_of_the_rest_of_nanodiff():
    folder = Path(laws.__file__).parent
    for path in folder.glob("*.py"):
        lines = path.read_text(encoding="utf-8").split("\n")
        imported = [
            line for line in lines if line.startswith(("from nanodiff", "import nano"))
        ]
        assert all(line.startswith("from nanodiff.laws") for line in imported), path


def test_bad_input_is_named():
    sample = RIGHT["DDPM"][0]
    for call, words in (
        (lambda: laws.check_sampler(sample), "alpha_bar is None, expected a table"),
        (
            lambda: laws.check_sampler(sample, ALPHA_BAR, predicts="noise"),
            "predicts is 'noise', expected one of",
        ),
        (lambda: laws.check_sampler(sample, ALPHA_BAR[None]), "alpha_bar has shape"),
        (lambda: laws.check_sampler(sample, ALPHA_BAR + 1), "alpha_bar holds 1.99"),
        (
            lambda: laws.check_sampler(sample, ALPHA_BAR, allow=("end",)),
            "allow holds 'end', expected laws such as",
        ),
        (lambda: laws.check_schedule(), "beta and alpha_bar are None"),
        (lambda: laws.check_schedule(BETA, kind="cubic"), "kind is 'cubic', expected"),
        (lambda: laws.check_schedule(BETA, first=2), "first is 2, expected 0 or 1"),
        (lambda: laws.check_step(lambda o, t, x: x, [], ALPHA_BAR), "times is empty"),
        (lambda: laws.check_predictions({"eps": sample}, ALPHA_BAR), "samples has 1"),
        (lambda: laws.steps_to_try(0), "T is 0, expected an integer"),
    ):
        with pytest.raises(ValueError, match=words.replace("[", r"\[")):
            call()
