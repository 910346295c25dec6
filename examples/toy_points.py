"""Learn points in the plane, and see how near the network comes to the exact answer.

python examples/toy_points.py             about twenty seconds on two cores
python examples/toy_points.py --quick     a try-out of a few seconds
python examples/toy_points.py --predicts flow --schedule straight    flow matching

Trains a small network on a ring of eight Gaussians, a spiral and two moons. The best
possible prediction is known for each: the loss less its floor goes to 0 (below 0.02),
and the learned field is drawn beside the exact one.
"""

import argparse
from pathlib import Path

import numpy as np
from limits import run, seed, steps

from nanodiff import ddpm, exact, schedule, toy, viz
from nanodiff.optim import EMA, Adam
from nanodiff.prediction import KINDS, split
from nanodiff.progress import progress
from nanodiff.train import Recipe, train


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/toy"), help="folder for the results")
    add("--predicts", choices=KINDS, default="eps", help="what the network learns")
    add("--schedule", choices=schedule.NAMED, default="linear", help="of the noise")
    add("--steps", type=steps, default=4000, help="training steps for each set")
    add("--seed", type=seed, default=0, help="of data, weights, noise and samples")
    add("--quick", action="store_true", help="a tiny run that only shows the way")
    args = parser.parse_args()
    if args.quick:
        args.steps = 60
    return args


def learn(x0, noise, args, rng, name):
    """Train an MLP on points; return it with its averaged weights."""
    mlp, steps = toy.MLP(rng=rng), args.steps
    recipe = Recipe(
        steps, batch=512, lr=3e-3, warmup=steps // 10, predicts=args.predicts
    )
    ema = EMA(mlp.named_params())
    loop = train(
        mlp, noise, x0, None, recipe,
        rng=rng, optimizer=Adam(mlp.named_params()), ema=ema,
    )  # fmt: skip
    for _ in progress(loop, name, steps):
        pass
    return mlp.load(ema.average)


def main():
    args = options()
    viz.folder(args.out)
    rng, noise = np.random.default_rng(args.seed), schedule.NAMED[args.schedule](200)
    sets, fields = {}, {}
    for name in toy.SETS:
        x0 = toy.points(name, 10_000, rng)
        mlp = learn(x0, noise, args, rng, name)
        best = exact.mixture(noise, *toy.centres(name))
        xT = rng.standard_normal((2000, 2)).astype(np.float32)
        *_, (_, found) = ddpm.sample(mlp, noise, xT, rng, predicts=args.predicts)

        def single(xt, t, mlp=mlp):  # eps_hat, whatever it was trained to say
            xt = xt.astype(np.float32)
            return split(noise, xt, t, mlp(xt, t), args.predicts)[1]

        sets[name], fields[name] = (x0[:2000], found), (single, best)

        loss, floor = (  # of the same draws
            exact.empirical_floor(noise, model, x0[:2000], np.random.default_rng(1))[0]
            for model in (single, best)
        )
        print(f"{name}: loss {loss:.4f}, floor {floor:.4f}, excess {loss - floor:.4f}")
    viz.save_points(args.out / "points.png", sets)
    viz.save_fields(args.out / "fields.png", *fields["ring"], times=(150, 50, 10))
    print(f"made {args.out / 'points.png'} and {args.out / 'fields.png'}")


if __name__ == "__main__":
    run(main)
