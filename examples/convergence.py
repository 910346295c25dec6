"""Measure how fast the samplers' errors fall with the number of steps.

python examples/convergence.py             about half a minute
python examples/convergence.py --quick     a few seconds

The data are N(0, 0.25), for which the exact predictor and answer are known, so nothing
is left to chance. Expect slope -1 for DDIM, -2 for Heun's method. Inversion
and back is set beside Table 2 of the DDIM paper (CIFAR10, in the same unit).
"""

import argparse
from pathlib import Path

import numpy as np
from limits import run, whole

from nanodiff import ddim, exact, heun, schedule, viz

STD = 0.5
TABLE_2 = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009}  # arXiv 2010.02502


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--out", type=Path, default=Path("runs/convergence"), help="folder for the plot"
    )
    add("--T", type=whole(1000, 100_000), default=1000, help="steps of the schedule")
    add("--quick", action="store_true", help="fewer points")
    return parser.parse_args()


def there_and_back(model, noise, x0, steps):
    """The mean squared error of inversion and sampling, in [0, 1] units."""
    *_, (_, found) = ddim.invert(model, noise, x0, steps)
    *_, (_, back) = ddim.sample(model, noise, found, steps)
    return np.mean((back - x0) ** 2) / 4


def main():
    args = options()
    viz.folder(args.out)
    noise = schedule.linear(args.T)
    model, xT = exact.gaussian(noise, 0.0, STD), np.ones((1, 1))
    alpha_bar = noise.alpha_bar[noise.T]
    answer = STD / np.sqrt(alpha_bar * STD**2 + 1 - alpha_bar)
    counts = [100, 200, 500] if args.quick else [100, 125, 200, 250, 500, 1000]

    curves = {}
    for name, sampler in (("DDIM", ddim), ("Heun", heun)):
        errors = []
        for steps in counts:
            *_, (_, x0) = sampler.sample(model, noise, xT, steps)
            errors.append(abs(x0.item() - answer))
        curves[name] = counts, errors
        slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
        print(
            f"{name}: slope {slope:.3f}, error {errors[-1]:.1e} at {counts[-1]} steps"
        )

    x0 = STD * np.random.default_rng(0).standard_normal((10_000, 1))
    print("inversion and back, mean squared error in [0, 1] units (DDIM's Table 2):")
    errors = []
    for steps, theirs in TABLE_2.items():
        errors.append(there_and_back(model, noise, x0, steps))
        print(f"  {steps:4d} steps: {errors[-1]:.4f} ({theirs})")
    steps, theirs = zip(*TABLE_2.items(), strict=True)
    back = {"here": (steps, errors), "DDIM Table 2": (steps, theirs)}
    for file, found, what in (
        ("orders.png", curves, "error of the deviation of x_0"),
        ("inversion.png", back, "mean squared error, there and back"),
    ):
        viz.save_orders(args.out / file, found, "steps", what)
    print(f"made {args.out / 'orders.png'} and {args.out / 'inversion.png'}")


if __name__ == "__main__":
    run(main)
