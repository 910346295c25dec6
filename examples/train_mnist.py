"""Train a small U-Net on MNIST, then draw the digits that it makes.

python examples/train_mnist.py             about six minutes on two cores
python examples/train_mnist.py --quick     a try-out of under a minute; it draws mush
"""

import argparse
import signal
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nanodiff import checkpoint, data, ddim, ddpm, schedule, viz
from nanodiff.optim import EMA, Adam
from nanodiff.prediction import KINDS
from nanodiff.train import Recipe, train
from nanodiff.unet import UNet


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/mnist"), help="folder for the results")
    add("--steps", type=int, default=2200, help="training steps")
    add("--batch", type=int, default=32, help="images a step")
    add("--lr", type=float, default=2e-3, help="peak learning rate")
    add("--T", type=int, default=500, help="steps of noise")
    add("--predicts", choices=KINDS, default="v", help="what the network learns to say")
    add("--seed", type=int, default=0, help="of weights, batches, noise and samples")
    add("--every", type=int, default=1000, help="steps from sheet to sheet")
    add(
        "--data",
        type=Path,
        help="folder of official IDX files (default: 10,000 digits)",
    )
    add("--resume", action="store_true", help="go on from OUT/checkpoint.npz")
    add("--quick", action="store_true", help="a tiny run that only shows the way")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.batch, args.T, args.every = 8, 8, 25, 4
    return args


def draw(run, config, out, rows):
    """Write the loss curve, a sheet by each sampler, and a film, with EMA weights."""
    unet = UNet(**config["unet"], rng=np.random.default_rng(0)).load(run["ema"].average)
    noise, rng = schedule.linear(config["T"]), np.random.default_rng(0)
    context = data.one_hot(np.tile(np.arange(10), rows))  # a column for each digit
    xT = rng.standard_normal((len(context), 1, 28, 28)).astype(np.float32)
    kw = {"clip": 1.0, "predicts": config["recipe"]["predicts"]}

    def model(xt, t):
        return unet(xt, t, context)

    steps = ddim.sample(model, noise, xT, min(50, noise.T), **kw)
    frames = [xT] + [xt for _, xt in tqdm(steps, "DDIM", min(50, noise.T), leave=False)]
    steps = tqdm(ddpm.sample(model, noise, xT, rng, **kw), "DDPM", noise.T, leave=False)
    *_, (_, x0) = steps
    viz.save_loss(out / "loss.png", config["losses"])
    viz.save_sheet(out / "ddim.png", frames[-1], columns=10)
    viz.save_sheet(out / "ddpm.png", x0, columns=10)
    viz.save_film(out / "ddim.gif", frames[:: max(1, len(frames) // 25)], columns=10)


def begin(args, path):
    """The parts of a run and its settings: new ones, or those of a checkpoint."""
    rng = np.random.default_rng(args.seed)
    recipe = Recipe(
        args.steps,
        args.batch,
        args.lr,
        min(50, args.steps // 2),
        predicts=args.predicts,
    )
    unet = UNet(context_features=10, rng=rng)
    params = unet.named_params()
    run = {"model": unet, "adam": Adam(params), "ema": EMA(params), "rng": rng}
    config = {"T": args.T, "unet": unet.config, "recipe": asdict(recipe), "losses": []}
    if args.resume:
        found = checkpoint.load(path)
        checkpoint.restore(found, **run)
        config = found.config
    return run, config


def main():
    args, start = options(), time.time()
    viz.folder(args.out)
    path = args.out / "checkpoint.npz"
    if path.exists() and not args.resume:
        raise SystemExit(f"{path} exists: go on with --resume, or use another --out")
    run, config = begin(args, path)
    losses, recipe = config["losses"], Recipe(**config["recipe"])
    images, labels = data.mnist(folder=args.data)
    noise, context = schedule.linear(config["T"]), data.one_hot(labels)
    stop = []  # Ctrl-C takes effect between two steps, where a run can be taken up
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))

    def save():
        checkpoint.save(path, step=len(losses), config=config, **run)

    loop = train(
        run["model"], noise, images, context, recipe,
        rng=run["rng"], adam=run["adam"], ema=run["ema"], first=len(losses),
    )  # fmt: skip
    bar = tqdm(
        loop, "compiling kernels", recipe.steps, initial=len(losses), unit="step"
    )
    for step, loss in bar:
        losses.append(loss)
        bar.set_description("training")
        speed = (bar.format_dict["rate"] or 0) * recipe.batch
        bar.set_postfix_str(f"loss {np.mean(losses[-100:]):.4f}, {speed:.0f} images/s")
        if stop:
            save()
            raise SystemExit(f"\nsaved {path}; go on with --resume")
        if (step + 1) % args.every == 0 and step + 1 < recipe.steps:
            save()
            draw(run, config, args.out, rows=2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    save()
    draw(run, config, args.out, rows=4)
    files = ", ".join(sorted(file.name for file in args.out.iterdir()))
    print(f"{args.out} has {files} after {time.time() - start:.0f} s; next:")
    print(f"python examples/sample_mnist.py --model {path} --digits 2026")


if __name__ == "__main__":
    main()
