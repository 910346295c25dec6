"""Draw what flow matching learns: straight lines, and the paths that follow their mean.

python examples/flow_paths.py             a few seconds
python examples/flow_paths.py --quick     the same, from fewer points

For data on the line, known in closed form. Above, lines from a noise to a datum, drawn
at random; below, the paths along their mean velocity. To one point all lines lead
without crossing, and are paths. Where lines to different data cross, the mean turns
them. Printed: how crooked paths are, and by how much one step of Euler's method, which
is straight, misses their end.
"""

import argparse
from pathlib import Path
from statistics import NormalDist

import numpy as np
from limits import run, seed

from nanodiff import exact, flow, schedule, viz

SETS = {  # means and deviations of Gaussians, in equal shares
    "one point": ([0.8], [0.0]),
    "one Gaussian": ([0.8], [0.4]),
    "two points": ([-1.0, 1.0], [0.0, 0.0]),
    "two Gaussians": ([-1.0, 1.0], [0.2, 0.4]),
}
NOISE = schedule.zero_terminal(schedule.straight(400))  # tau from 0 to 1


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/flow"), help="folder for the plot")
    add("--seed", type=seed, default=0, help="of the lines")
    add("--quick", action="store_true", help="fewer paths")
    return parser.parse_args()


def lines(means, stds, xT, rng):
    """For each noise a datum that was drawn at random, (n,)."""
    i = rng.integers(len(means), size=len(xT))
    return np.array(means)[i] + np.array(stds)[i] * rng.standard_normal(len(xT))


def paths(means, stds, xT, steps):
    """The states along the mean velocity, (steps + 1, n), on the line's scale."""
    model = exact.mixture(NOISE, np.array(means)[:, None], stds, predicts="flow")
    tau, scale = flow.coordinates(NOISE)
    run = list(flow.sample(model, NOISE, xT[:, None], steps, "flow"))
    states = [(NOISE.T, xT[:, None]), *run]
    return (
        np.array([tau[t] for t, _ in states]),
        np.array([xt[:, 0] / scale[t] for t, xt in states]),
    )


def crookedness(tau, y):
    """The mean of |dy / dtau - (y_1 - y_0)|^2 along the paths, 0 if they are straight.

    The measure of straightness of Liu, Gong, Liu 2022, arXiv 2209.03003, section 2.
    """
    h, rise = np.diff(tau)[:, None], np.diff(y, axis=0)
    off = (rise / h - (y[0] - y[-1])) ** 2
    return (off * np.abs(h)).sum(0).mean()


def save_figure(path, drawn):
    """Lines above, paths below, a column for each set of data."""
    figure = viz.Figure(figsize=(2.9 * len(drawn), 5.2), layout="constrained")
    grid = figure.subplots(2, len(drawn), sharex=True, sharey=True, squeeze=False)
    for column, (name, (xT, x0, tau, y)) in zip(grid.T, drawn.items(), strict=True):
        colours = {"color": "tab:blue", "linewidth": 0.9, "alpha": 0.7}
        column[0].plot([1, 0], [xT, x0], **colours)
        column[1].plot(tau, y, **colours)
        column[0].set(title=name, xlim=(1, 0), ylim=(-3, 3))
        column[1].set(xlabel="tau: from noise to data")
    grid[0, 0].set_ylabel("lines, drawn at random")
    grid[1, 0].set_ylabel("paths of the mean velocity")
    figure.savefig(path, dpi=90)


def main():
    args = options()
    viz.folder(args.out)
    n, rng, drawn = 11 if args.quick else 31, np.random.default_rng(args.seed), {}
    xT = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    for name, (means, stds) in SETS.items():
        tau, y = paths(means, stds, xT, NOISE.T)
        _, one = paths(means, stds, xT, 1)
        missed = np.sqrt(np.mean((one[-1] - y[-1]) ** 2))
        crooked = crookedness(tau, y)
        print(f"{name}: crookedness {crooked:.4f}, one step misses by {missed:.4f}")
        drawn[name] = xT, lines(means, stds, xT, rng), tau, y
    save_figure(args.out / "paths.png", drawn)
    print(f"made {args.out / 'paths.png'}")


if __name__ == "__main__":
    run(main)
