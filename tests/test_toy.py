"""Toy points and their network: it learns them down to the exact floor."""

import numpy as np
import pytest

from nanodiff import exact, toy
from nanodiff.gradcheck import gradcheck
from nanodiff.optim import EMA, Adam
from nanodiff.schedule import linear
from nanodiff.train import Recipe, train


def test_backward_is_the_derivative(rng):
    xt, t = rng.standard_normal((5, 2)), np.array([1, 5, 9, 20, 100])
    mlp = toy.MLP(width=16, rng=rng)
    assert gradcheck(mlp, xt, t, rng=rng) == ["x0", *mlp.named_params()]


@pytest.mark.slow
def test_the_loss_comes_down_to_the_exact_floor(rng):
    schedule, steps = linear(100), 1500
    x0 = (0.3 + 0.5 * rng.standard_normal((20_000, 2))).astype(np.float32)
    mlp = toy.MLP(width=64, rng=rng)
    ema = EMA(mlp.named_params())
    recipe = Recipe(steps, batch=256, lr=3e-3, warmup=100)
    parts = {"rng": rng, "optimizer": Adam(mlp.named_params()), "ema": ema}
    for _ in train(mlp, schedule, x0, None, recipe, **parts):
        pass
    mlp.load(ema.average)

    def loss(model):  # of the same draws
        return exact.empirical_floor(schedule, model, x0, np.random.default_rng(1))[0]

    floor = loss(exact.gaussian(schedule, 0.3, 0.5))
    excess = loss(lambda xt, t: mlp(xt.astype(np.float32), t)) - floor
    assert 0 < excess < 0.01, excess


@pytest.mark.parametrize("name", toy.SETS)
def test_points_lie_where_they_should(name, rng):
    means, std = toy.centres(name)
    x0 = toy.points(name, 2000, rng)
    near = np.linalg.norm(x0[:, None] - means, axis=2).min(1)
    assert near.max() < 5 * std and np.abs(x0).max() < 1.3
    error = np.sqrt((means.var(0) + std**2) / 2000)
    assert (np.abs(x0.mean(0) - means.mean(0)) < 5 * error).all()


def test_bad_input_is_named(rng):
    with pytest.raises(ValueError, match="context is given, expected None"):
        toy.MLP(rng=rng)(np.zeros((1, 2), np.float32), 1, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="name is 'swirl', expected one of"):
        toy.points("swirl", 3, rng)
