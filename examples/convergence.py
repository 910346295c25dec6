"""Measure how fast the samplers' errors fall with the number of network calls.

python examples/convergence.py             about ten seconds
python examples/convergence.py --quick     a few seconds

The data are N(0, 0.25), then two Gaussians on the line, for which the exact predictor
and answer are known, so nothing is left to chance. Expect slope -1 for DDIM, -2 for
Heun's method, in sigma and along the straight line, and for DPM-Solver++(2M). Inversion
and back is set beside Table 2 of the DDIM paper (CIFAR10, in the same unit).
"""

import argparse
from pathlib import Path
from statistics import NormalDist

import numpy as np
from limits import run, whole

from nanodiff import ddim, dpm, exact, flow, heun, schedule, viz

STD = 0.5
MEANS, STDS = np.array([-1.0, 1.0]), np.array([0.3, 0.5])
TABLE_2 = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009}  # arXiv 2010.02502
SAMPLERS = {  # and the calls a step
    "DDIM": (ddim, 1), "Heun": (heun, 2), "Heun on the line": (flow, 2),
    "DPM-Solver++(2M)": (dpm, 1),
}  # fmt: skip


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


def deviation_errors(sampler, noise, counts):
    """Errors of the deviation of N(0, STD^2) at T / 4, in so many steps from T.

    There, as a method's order is that of its steps: the last one, to x_0, is another.
    """
    end, variance = noise.T // 4, noise.alpha_bar * STD**2 + 1 - noise.alpha_bar
    model, errors = exact.gaussian(noise, 0.0, STD), []
    for n in counts:
        times = [noise.T - i * (noise.T - end) // n for i in range(n)] + [end, 0]
        xt = dict(sampler.sample(model, noise, np.ones((1, 1)), times))[end]
        right = np.sqrt(variance[end] / variance[noise.T])
        errors.append(abs(xt.item() - right))
    return errors


def mixture_errors(sampler, noise, counts):
    """Root mean square errors of x_0, from 101 quantiles of the noise."""
    xT = np.array([NormalDist().inv_cdf((i + 0.5) / 101) for i in range(101)])
    right = exact.carried(noise, MEANS, STDS, xT, noise.T, 0)
    model, errors = exact.mixture(noise, MEANS[:, None], STDS, predicts="v"), []
    for n in counts:
        *_, (_, x0) = sampler.sample(model, noise, xT[:, None], n, predicts="v")
        errors.append(np.sqrt(np.mean((x0[:, 0] - right) ** 2)))
    return errors


def there_and_back(model, noise, x0, steps):
    """The mean squared error of inversion and sampling, in [0, 1] units."""
    *_, (_, found) = ddim.invert(model, noise, x0, steps)
    *_, (_, back) = ddim.sample(model, noise, found, steps)
    return np.mean((back - x0) ** 2) / 4


def orders(noise, counts):
    """Print the slopes; return the curves, over calls."""
    curves = {}
    for name, (sampler, calls) in SAMPLERS.items():
        errors = deviation_errors(sampler, noise, counts)
        curves[name] = [calls * n for n in counts], errors
        slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
        print(
            f"{name}: slope {slope:.3f}, error {errors[-1]:.1e} at {counts[-1]} steps"
        )
    return curves


def table(noise, name, calls):
    """Print the errors on the mixture at equal calls, a row for each sampler."""
    print(f"\n| {name}, calls | {' | '.join(map(str, calls))} |")
    print("|---" * (1 + len(calls)) + "|")
    for sampler, (module, each) in SAMPLERS.items():  # the last step is one call
        errors = mixture_errors(module, noise, [(n + each - 1) // each for n in calls])
        print(f"| {sampler} | {' | '.join(f'{error:.4f}' for error in errors)} |")


def inversion(noise):
    """Print the errors there and back, beside the paper's; return the curves."""
    model = exact.gaussian(noise, 0.0, STD)
    x0, errors = STD * np.random.default_rng(0).standard_normal((10_000, 1)), []
    print("\ninversion and back, mean squared error in [0, 1] units (DDIM's Table 2):")
    for steps, theirs in TABLE_2.items():
        errors.append(there_and_back(model, noise, x0, steps))
        print(f"  {steps:4d} steps: {errors[-1]:.4f} ({theirs})")
    steps, theirs = zip(*TABLE_2.items(), strict=True)
    return {"here": (steps, errors), "DDIM Table 2": (steps, theirs)}


def main():
    args = options()
    viz.folder(args.out)
    noise, straight = schedule.linear(args.T), schedule.straight(args.T)
    curves = orders(noise, [20, 50, 100] if args.quick else [10, 20, 50, 100, 200])
    print("\nRoot mean square error of x_0 on two Gaussians, at equal calls:")
    calls = [9, 19] if args.quick else [5, 9, 19, 49, 99, 199]
    for name, one in (("linear", noise), ("straight", straight)):
        table(one, name, calls)
    back = inversion(noise)
    for file, found, across, what in (
        ("orders.png", curves, "calls", "error of the deviation at T / 4"),
        ("inversion.png", back, "steps", "mean squared error, there and back"),
    ):
        viz.save_orders(args.out / file, found, across, what)
    print(f"made {args.out / 'orders.png'} and {args.out / 'inversion.png'}")


if __name__ == "__main__":
    run(main)
