"""Draw the digits one asks for, with a checkpoint of train_mnist.py.

    python examples/sample_mnist.py --digits 31415 --rows 4

Seconds with DDIM; with DDPM, as many network calls as the schedule has steps.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nanodiff import checkpoint, data, ddim, ddpm, schedule, viz
from nanodiff.unet import UNet


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    path = Path("runs/mnist/checkpoint.npz")
    add("--checkpoint", type=Path, default=path, help="made by train_mnist.py")
    add("--out", type=Path, default=Path("digits.png"), help="the picture to write")
    add("--digits", default="0123456789", help="one column for each")
    add("--rows", type=int, default=4, help="samples of each digit")
    add("--sampler", choices=("ddim", "ddpm"), default="ddim", help="which one")
    add("--steps", type=int, default=50, help="network calls (DDIM only)")
    add("--eta", type=float, default=0.0, help="noise added back, 0..1 (DDIM only)")
    add("--seed", type=int, default=0, help="of the noise")
    add("--quick", action="store_true", help="one row, two steps: it draws mush")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.steps = 1, 2
    if not args.digits.isdigit():
        parser.error(f"--digits is {args.digits!r}, expected digits such as 2026")
    if args.rows < 1:
        parser.error(f"--rows is {args.rows}, expected at least 1")
    return args


def main():
    args = options()
    found = checkpoint.load(args.checkpoint)
    rng = np.random.default_rng(args.seed)
    unet = UNet(**found.config["unet"], rng=rng).load(found.average)
    noise = schedule.linear(found.config["T"])
    context = data.one_hot([int(digit) for digit in args.digits] * args.rows)
    xT = rng.standard_normal((len(context), 1, 28, 28)).astype(np.float32)

    def model(xt, t):
        return unet(xt, t, context)

    kw = {"clip": 1.0, "predicts": found.config["recipe"]["predicts"]}
    if args.sampler == "ddim":
        steps = ddim.sample(model, noise, xT, args.steps, args.eta, rng, **kw)
    else:
        steps = ddpm.sample(model, noise, xT, rng, **kw)
    calls = args.steps if args.sampler == "ddim" else noise.T
    *_, (_, x0) = tqdm(steps, args.sampler, calls)
    viz.save_sheet(args.out, x0, columns=len(args.digits))
    print(f"made {args.out}")


if __name__ == "__main__":
    main()
