"""Draw the digits one asks for, with the network that comes with the package.

    python examples/sample_mnist.py --digits 31415 --rows 4
    python examples/sample_mnist.py --digits 3,3+8,8 --w 1    half a 3 and half an 8
    python examples/sample_mnist.py --model runs/mnist/checkpoint.npz    your own

Seconds with DDIM; DDPM needs minutes, as many calls as the schedule has steps.
"""

import argparse
from pathlib import Path

import numpy as np
from limits import count, seed, share, weight
from tqdm import tqdm

from nanodiff import data, ddim, ddpm, trained, viz
from nanodiff.guidance import guide
from nanodiff.respace import respace


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="mnist", help="mnist, or a checkpoint of train_mnist.py")
    add("--out", type=Path, default=Path("digits.png"), help="the picture to write")
    add("--digits", default="0123456789", help="a column for each, or 3,3+8,8")
    add("--rows", type=count, default=4, help="samples of each digit")
    add("--sampler", choices=("ddim", "ddpm"), default="ddim", help="which one")
    add("--steps", type=count, help="network calls (default: 50 or T; DDPM: T)")
    add("--eta", type=share, default=0.0, help="noise added back, 0..1 (DDIM only)")
    add("--w", type=weight, default=0.0, help="weight of guidance; try 1")
    add("--seed", type=seed, default=0, help="of the noise")
    add("--quick", action="store_true", help="one row, two steps: it draws mush")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.steps = 1, 2
    if args.out.suffix != ".png":
        parser.error(f"--out is {str(args.out)!r}, expected a name that ends in .png")
    if args.rows < 1:
        parser.error(f"--rows is {args.rows}, expected at least 1")
    try:
        args.columns = contexts(args.digits)
    except ValueError:
        parser.error(
            f"--digits is {args.digits!r}, expected digits such as 2026 or 3,3+8,8"
        )
    return args


def contexts(text):
    """One context for each column: of a digit, or the mean of several joined by +."""
    columns = text.split(",") if set(text) & set(",+") else list(text)
    digits = [[int(digit) for digit in column.split("+")] for column in columns]
    return np.stack([data.one_hot(mixed).mean(0) for mixed in digits])


def main():
    args = options()
    viz.folder(args.out.parent)
    found, rng = trained.pretrained(args.model), np.random.default_rng(args.seed)
    model = guide(found.model, np.tile(args.columns, (args.rows, 1)), args.w)
    n = args.rows * len(args.columns)
    xT = rng.standard_normal((n, 1, 28, 28)).astype(np.float32)
    T = found.schedule.T
    calls = args.steps or (min(50, T) if args.sampler == "ddim" else T)
    if args.sampler == "ddim":
        loop = ddim.sample(model, found.schedule, xT, calls, args.eta, rng, clip=1.0)
    else:
        model, schedule = respace(model, found.schedule, calls)
        loop = ddpm.sample(model, schedule, xT, rng, clip=1.0)
    *_, (_, x0) = tqdm(loop, args.sampler, calls)
    viz.save_sheet(args.out, x0, columns=len(args.columns))
    print(f"made {args.out}")


if __name__ == "__main__":
    main()
