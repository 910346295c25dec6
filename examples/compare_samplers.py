"""DDPM and DDIM on the same network: quality, seconds, network calls.

    python examples/compare_samplers.py --data FOLDER --n 500   an hour on two cores
    python examples/compare_samplers.py --quick                 a try-out

Every sampler takes 5 to 1000 steps from the same x_T and is asked for the same digits.
Under mpiexec -n 4 each process draws a quarter of them.
The tables give the Frechet distance to real test digits in the judge's features (the
floor: of real training digits) and the share read as asked, both with their standard
errors over images. A step is one call of the network with every sampler, so seconds are
calls times the seconds of a call. Those are measured at the end: run a finished command
again where nothing else runs. Ctrl-C loses one cell at most: run the command again and
it goes on. `--only` and `--steps` choose cells; the tables and the picture show all
that are in the folder. FOLDER holds the official MNIST files; without it, the subset of
the package.
"""

import argparse
import time
import zlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from limits import count, run, seed

from nanodiff import data, ddim, ddpm, dpm, files, flow, trained, viz
from nanodiff.evaluate import ScoreCard, in_batches
from nanodiff.guidance import guide
from nanodiff.parallel import ALONE, together
from nanodiff.progress import progress
from nanodiff.respace import respace
from nanodiff.streams import Streams

SAMPLERS = {  # DDPM with beta_tilde is DDIM with eta = 1 (tests/test_respace.py)
    "DDIM, eta 0": ("ddim", 0.0),
    "DDIM, eta 0.2": ("ddim", 0.2),
    "DDIM, eta 0.5": ("ddim", 0.5),
    "DDIM, eta 1 = DDPM, beta_tilde": ("ddpm", "beta_tilde"),
    "DDPM, beta": ("ddpm", "beta"),
    "DPM-Solver++(2M)": ("dpm", None),
    "Heun on the line": ("flow", None),
}


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="mnist", help="mnist, or the path of a checkpoint")
    add("--out", type=Path, default=Path("runs/compare"), help="folder for the results")
    add("--data", help="folder of official MNIST files; None: the subset")
    add("--n", type=count, default=500, help="digits for each sampler")
    add("--steps", type=count, nargs="+", default=[5, 10, 20, 50, 100, 200, 1000])
    add("--only", nargs="+", default=list(SAMPLERS), choices=SAMPLERS, help="samplers")
    add("--seed", type=seed, default=0, help="of the noise")
    add("--quick", action="store_true", help="ten digits in 2 and 3 steps")
    args = parser.parse_args()
    if args.quick:
        args.n, args.steps = 10, [2, 3]
    if args.n < 10:
        parser.error(f"--n is {args.n}, expected at least 10, which are shown")
    return args


def draw(found, labels, rng, kind, knob, steps):
    """Digits of these labels; rng: their streams; kind, knob: a value of SAMPLERS."""
    model = guide(found.model, data.one_hot(labels))
    xT = rng.standard_normal((len(labels), 1, 28, 28)).astype(np.float32)
    if kind == "ddim":
        loop = ddim.sample(model, found.schedule, xT, steps, knob, rng, clip=1.0)
    elif kind == "dpm":
        loop = dpm.sample(model, found.schedule, xT, steps, clip=1.0)
    elif kind == "flow":  # two calls a step, but the last: so many calls, or one fewer
        loop = flow.sample(model, found.schedule, xT, (steps + 1) // 2, clip=1.0)
    else:
        model, schedule = respace(model, found.schedule, steps)
        loop = ddpm.sample(model, schedule, xT, rng, knob, clip=1.0)
    *_, (_, x0) = loop
    return x0


def seconds_of_a_call(found):
    """What a step of DDIM takes for 100 digits: the median of twenty."""
    model = guide(found.model, data.one_hot(np.arange(100) % 10))
    xT = np.random.default_rng(0).standard_normal((100, 1, 28, 28)).astype(np.float32)
    loop = ddim.sample(model, found.schedule, xT, 21, clip=1.0)
    return np.median(np.diff([time.perf_counter() for _ in loop]))


def cell(args, found, card, team, name, steps):
    """One sampler with so many steps: its scores and time, and ten digits to show."""
    mine = np.arange(args.n)[team.rows("n", args.n)]
    bar = progress(total=len(mine), desc=f"{name}, {steps} steps", leave=False)

    def make(i, labels):
        x0 = draw(found, labels, Streams(args.seed, i), *SAMPLERS[name], steps)
        bar.update(len(x0))
        return x0

    start = time.perf_counter()
    images = team.gather(in_batches(make, mine, card.labels[mine], batch=100))
    seconds = time.perf_counter() - start
    bar.close()
    errors = np.random.default_rng(args.seed + 2)
    return card.score(images, errors) | {"seconds": seconds}, images[:10]


def begin(path, settings):
    """The cells and pictures of an earlier run with the same settings, if any."""
    if not path.exists():
        return {}, {}
    pictures, about = files.read_npz(path, f"{path} is damaged; use another --out")
    if about.get("settings") != settings:
        raise ValueError(f"{path} is of other settings; use another --out")
    cells = about.get("cells")
    if not isinstance(cells, dict) or cells.keys() != pictures.keys():
        raise ValueError(f"{path} has not a picture of each cell; use another --out")
    return cells, pictures


def fill(cells, pictures, path, settings, args, found, card, team):
    """Make the cells that are missing, and save each."""
    few = card.labels[:100]  # with which the kernels are loaded
    draw(found, few, Streams(args.seed, range(len(few))), "ddim", 0.0, 2)
    team.agree("cells", zlib.crc32(repr(sorted(cells)).encode()))
    for steps in args.steps:
        for name in args.only:
            key = f"{name}, {steps}"
            if key not in cells:
                cells[key], pictures[key] = cell(args, found, card, team, name, steps)
                about = {"settings": settings, "cells": cells}
                if team.first:
                    files.write_npz(path, pictures, about)


def checksum(network):
    """A number that tells one network's weights from another's."""
    weights = [w.tobytes() for w in network.named_params().values()]
    return zlib.crc32(b"".join(weights))


def rows_of(cells):
    """The cells by sampler and number of steps: {sampler: {steps: key}}."""
    counts = sorted({int(key.rsplit(", ")[-1]) for key in cells})
    rows = {name: {n: f"{name}, {n}" for n in counts if f"{name}, {n}" in cells}
            for name in SAMPLERS}  # fmt: skip
    return {name: row for name, row in rows.items() if row}


def table(cells, value):
    """A table in Markdown: a row for each sampler, a column for so many steps."""
    rows = rows_of(cells)
    columns = sorted({steps for row in rows.values() for steps in row})
    lines = [
        f"| | {' | '.join(map(str, columns))} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name, row in rows.items():
        found = [value.format(**cells[row[n]]) if n in row else "" for n in columns]
        lines.append(f"| {name} | {' | '.join(found)} |")
    return "\n".join(lines)


def report(cells, pictures, card, args, seconds):
    """Print the tables, draw the plot and the sheet. seconds: of a call."""
    for title, value in (
        (f"Frechet distance (floor {card.floor:.2f})",
         "{distance:.2f} ± {distance_error:.2f}"),
        ("read as the digit asked for", "{share:.1%} ± {share_error:.1%}"),
    ):  # fmt: skip
        print(f"\n{title}, {args.n} digits, steps across:\n")
        print(table(cells, value))
    print(f"\na call of the network takes {seconds:.3f} s for 100 digits")
    rows = rows_of(cells)
    curves = {
        name: [list(row), *([cells[at][key] for at in row.values()]
                            for key in ("distance", "distance_error"))]
        for name, row in rows.items() if len(row) > 1
    }  # fmt: skip
    viz.save_quality(args.out / "quality.png", curves, card.floor, args.n, seconds)
    everywhere = sorted(set.intersection(*(set(row) for row in rows.values())))
    sheets = {
        name: {f"{n} steps": pictures[row[n]] for n in everywhere}
        for name, row in rows.items()
    }
    viz.save_grid(args.out / "samplers.png", sheets, columns=5)
    print(f"\nmade {args.out / 'quality.png'} and {args.out / 'samplers.png'}")


def main(team=ALONE):
    args = options()
    viz.folder(args.out)
    found, path = trained.pretrained(args.model), args.out / "cells.npz"
    for steps in args.steps:  # ValueError now, not after an hour
        ddim.timesteps(found.schedule.T, steps)
    card = ScoreCard.of_mnist(trained.judge(), args.n, args.data, args.seed)
    settings = {
        "n": args.n, "seed": args.seed, "errors": True,
        "all digits": args.data is not None,
        "weights": checksum(found.network), "judge": checksum(card.judge),
        "noise": "a stream for each digit",
    }  # fmt: skip
    try:
        with files.alone(path) if team.first else nullcontext():
            cells, pictures = begin(path, settings)
            fill(cells, pictures, path, settings, args, found, card, team)
            if team.first:
                report(cells, pictures, card, args, seconds_of_a_call(found))
    except (ValueError, OSError) as error:
        raise SystemExit(error) from error


if __name__ == "__main__":
    with together() as team:
        run(lambda: main(team))
