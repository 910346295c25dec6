"""Toy points and their network: it learns them down to the exact floor."""

import numpy as np
import pytest

from nanodiff import exact, toy
from nanodiff.gradcheck import gradcheck
from nanodiff.optim import EMA, Adam
from nanodiff.schedule import linear
from nanodiff.train import Recipe, train


@pytest.mark.parametrize("features, C", [(2, 0), (1, 0), (5, 3)])
def test_backward_is_the_derivative(rng, features, C):
    xt, t = rng.standard_normal((5, features)), np.array([1, 5, 9, 20, 100])
    context = rng.standard_normal((5, C)) if C else None
    mlp = toy.MLP(features, C, width=16, rng=rng)
    found = gradcheck(mlp, xt, t, context, rng=rng)
    assert found == ["x0", "x1"][: 1 + (C > 0)] + [*mlp.named_params()]


def test_no_context_is_a_context_of_zeros(rng):
    mlp, xt = toy.MLP(3, 4, rng=rng), rng.standard_normal((2, 3)).astype(np.float32)
    mlp.l4.w[...] = 1
    np.testing.assert_array_equal(mlp(xt, 7), mlp(xt, 7, np.zeros((2, 4))))
    assert (mlp(xt, 7) != mlp(xt, 7, np.ones((2, 4)))).any()


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
    xt = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match="context is .* of shape .*, expected None"):
        toy.MLP(rng=rng)(xt, 1, np.zeros((1, 3)))
    with pytest.raises(
        ValueError, match=r"context has shape \(1, 3\), expected \(1, 4"
    ):
        toy.MLP(context_features=4, rng=rng)(xt, 1, np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"xt has shape \(1, 2\), expected \(N, 5\)"):
        toy.MLP(5, rng=rng)(xt, 1)
    with pytest.raises(ValueError, match="name is 'swirl', expected one of"):
        toy.points("swirl", 3, rng)
