"""Self-conditioning: whose guess is shown, when, and when none is."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import ddim, ddpm, heun, likelihood
from nanodiff.exact import gaussian
from nanodiff.guidance import guide
from nanodiff.prediction import KINDS, split, target
from nanodiff.respace import respace
from nanodiff.schedule import linear
from nanodiff.self_conditioning import WithFirstGuess, WithLastGuess
from tests.strategies import falling_times, seeds

SCHEDULE = linear(50)


class Network:
    """It says what its guess and context make of xt, and keeps what it is told."""

    def __init__(self, predicts="eps"):
        self.predicts, self.calls = predicts, []

    def __call__(self, xt, t, context=None, x0_hat=None):
        best = gaussian(SCHEDULE, 0.4, 0.5)(xt, t)
        if x0_hat is not None:
            best = best + 0.1 * np.tanh(x0_hat)
        if context is not None:
            best = best + 0.1 * context.sum(1, keepdims=True)
        self.calls.append((xt, t, context, x0_hat))
        x0_hat, eps_hat = split(SCHEDULE, xt, t, best)
        return target(SCHEDULE, x0_hat, t, eps_hat, self.predicts)

    forward = __call__

    def shown(self):
        """What each call was shown, and forget them."""
        shown, self.calls = [x0_hat for *_, x0_hat in self.calls], []
        return shown


def wrapped(predicts="eps"):
    network = Network(predicts)
    return network, WithLastGuess(network, SCHEDULE, predicts)


def last(steps):
    return list(steps)[-1][1]


def by_hand(network, xT, times, eta, rng, clip):
    """DDIM with Chen et al.'s Algorithm 2 written out: each x0_hat goes to the next."""
    xt, x0_hat = xT, None
    for t, s in zip(times, times[1:], strict=False):
        z = rng.standard_normal(xt.shape) if eta > 0 else None
        output = network(xt, t, None, x0_hat)
        x0_hat, eps_hat = split(SCHEDULE, xt, t, output, network.predicts)
        xt = ddim.step(SCHEDULE, xt, t, s, eps_hat, eta, z, clip)
    return xt


@given(st.data(), st.sampled_from(KINDS), st.floats(0, 1), st.sampled_from([None, 0.3]))
def test_each_call_is_shown_the_x0_hat_of_the_one_before(data, predicts, eta, clip):
    xT, times = np.array([[0.3, -1.2]]), data.draw(falling_times(SCHEDULE.T))
    network, model = wrapped(predicts)
    want = by_hand(network, xT, times, eta, np.random.default_rng(3), clip)
    rng = np.random.default_rng(3)
    found = last(
        ddim.sample(model, SCHEDULE, xT, times, eta, rng, clip, predicts=predicts)
    )
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-9)


def runs(model, xT):
    """Every way to sample a network, guided or bare."""
    rng = np.random.default_rng(5)
    yield ddim.sample(model, SCHEDULE, xT, 7)
    yield ddpm.sample(model, SCHEDULE, xT, rng)
    yield heun.sample(model, SCHEDULE, xT, 7)
    yield ddpm.sample(*respace(model, SCHEDULE, 7), xT, rng)
    guided = guide(model, np.ones((len(xT), 2)), 0.5)
    yield ddim.sample(guided, SCHEDULE, xT, 7)


@given(seeds, st.integers(0, 4), st.integers(0, 4), st.integers(1, 6))
def test_a_run_is_the_same_whatever_was_left_half_way_before(seed, first, then, steps):
    xT, other = np.random.default_rng(seed).standard_normal((2, 3, 2))
    _, model = wrapped()
    want = last(list(runs(wrapped()[1], xT))[then])
    left = list(runs(model, other))[first]
    for _ in range(steps):
        next(left)
    np.testing.assert_array_equal(last(list(runs(model, xT))[then]), want)


@pytest.mark.parametrize("again", [
    {"t": 40}, {"t": 41}, {"t": np.array([39, 40])}, {"xt": np.ones((3, 2))},
    {"xt": np.ones((2, 3))}, {"xt": np.ones((2, 2), np.float32)},
    {"context": np.ones((2, 3))},
])  # fmt: skip
def test_another_time_size_dtype_or_context_begins_a_run(again):
    network, model = wrapped()
    call = {"xt": np.ones((2, 2)), "t": 40}
    model(**call)
    model(**call | {"t": 39})
    model(**call)
    model(**call | {"t": 39} | again)
    shown = [x0_hat is not None for x0_hat in network.shown()]
    assert shown == [False, True, False, False]


def test_a_call_that_fails_ends_the_run():
    network, model = wrapped()
    model(np.ones((2, 2)), 40)
    with pytest.raises(ValueError, match="t is 99, expected"):
        model(np.ones((2, 2)), 99)
    network.shown()
    model(np.ones((2, 2)), 30)
    assert network.shown() == [None]


def test_times_and_contexts_that_the_caller_changes_in_place_are_no_matter():
    network, model = wrapped()
    xt, t, context = np.ones((2, 2)), np.array([40, 40]), np.ones((2, 3))
    model(xt, t, context)
    t -= 1
    model(xt, t, context)
    context[...] = 0
    t -= 1
    model(xt, t, context)
    first, second, third = network.shown()
    assert first is None and second is not None and third is None


def test_runs_that_take_turns_with_other_contexts_are_shown_no_guess():
    network, model = wrapped()
    one, two = (guide(model, np.full((2, 3), value)) for value in (1.0, 2.0))
    xT = np.ones((2, 2))
    for _ in zip(*(ddim.sample(m, SCHEDULE, xT, 5) for m in (one, two)), strict=True):
        pass
    assert network.shown() == [None] * 10


def test_runs_that_take_turns_each_with_its_own_wrapper_are_as_alone(rng):
    network = Network()
    xT, other = rng.standard_normal((2, 2, 2))

    def loop(x):
        return ddim.sample(WithLastGuess(network, SCHEDULE), SCHEDULE, x, 5)

    for one, two in zip(loop(xT), loop(other), strict=True):
        found = one[1], two[1]
    for x, x0 in zip((xT, other), found, strict=True):
        np.testing.assert_array_equal(x0, last(loop(x)))


def test_threads_that_take_turns_are_as_alone(rng):
    # a barrier before each call: the guesses of all threads are there by then
    network, barrier, found = Network(), threading.Barrier(4), {}
    model, xTs = WithLastGuess(network, SCHEDULE), rng.standard_normal((4, 3, 2))

    def in_step(xt, t):
        barrier.wait(timeout=60)
        return model(xt, t)

    def work(i):
        found[i] = last(ddim.sample(in_step, SCHEDULE, xTs[i], 10))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, xT in enumerate(xTs):
        alone = WithLastGuess(network, SCHEDULE)
        want = last(ddim.sample(alone, SCHEDULE, xT, 10))
        np.testing.assert_array_equal(found[i], want)


def test_with_guidance_each_half_has_its_own_guess(rng):
    network, model = wrapped()
    xt, context = rng.standard_normal((2, 2)), np.ones((2, 3))
    guided = guide(model, context, 0.5)
    guided(xt, 40), guided(xt, 30)
    (_, _, _, none), (_, _, _, shown) = network.calls
    halves = [network(xt, 40, half) for half in (context, 0 * context)]
    want = np.concatenate([split(SCHEDULE, xt, 40, half)[0] for half in halves])
    assert none is None
    np.testing.assert_array_equal(shown, want)


def test_inversion_is_shown_no_guess(rng):
    network, model = wrapped()
    last(ddim.invert(model, SCHEDULE, rng.standard_normal((2, 2)), [50, 20, 5, 1, 0]))
    assert network.shown() == [None] * 4


def test_a_bound_of_the_network_is_shown_no_guess_and_one_of_the_model_is(rng):
    # L_t may not know the x_{t+1} of the same x_0: that is why `network` is there
    network, model = wrapped()
    x0 = rng.standard_normal((2, 2))
    likelihood.terms(model, SCHEDULE, x0, np.random.default_rng(0))
    assert any(x0_hat is not None for x0_hat in network.shown())
    likelihood.terms(model.network, SCHEDULE, x0, np.random.default_rng(0))
    assert not any(x0_hat is not None for x0_hat in network.shown())


def test_a_copy_remembers_nothing():
    _, model = wrapped()
    model(np.ones((2, 2)), 40)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other(np.ones((2, 2)), 30)
        assert other.network.shown()[-1] is None


@given(seeds, st.sampled_from(KINDS))
def test_a_training_step_is_shown_its_first_guess_or_none(seed, predicts):
    network, rng = Network(predicts), np.random.default_rng(seed)
    model = WithFirstGuess(network, SCHEDULE, predicts, np.random.default_rng(seed))
    xt, t, context = np.ones((2, 2)), np.array([3, 40]), np.ones((2, 3))
    for _ in range(8):
        found, twice = model.forward(xt, t, context), rng.random() < 0.5
        guess = network(xt, t, context)
        want, _ = split(SCHEDULE, xt, t, guess, predicts)
        first, *then = network.shown()[:-1]
        assert first is None and len(then) == twice
        if twice:
            np.testing.assert_array_equal(then[0], want)
            guess = network(xt, t, context, want)
        np.testing.assert_array_equal(found, guess)
        network.shown()
