"""Train a small U-Net on MNIST, then draw the digits that it makes.

python examples/train_mnist.py             about five minutes on two cores
python examples/train_mnist.py --quick     a try-out of under a minute; it draws mush
python examples/train_mnist.py --start mnist    goes on from the digits of the package
mpiexec -n 4 python examples/train_mnist.py     on four processes (docs/outgrow.md)
"""

import argparse
import time
from pathlib import Path

import numpy as np
from limits import (
    command,
    count,
    gamma,
    given,
    goes_on,
    number,
    rate,
    seed,
    steps,
    stopped,
)

from nanodiff import data, sampling, trained, viz
from nanodiff.optim import OPTIMIZERS
from nanodiff.parallel import ALONE, together
from nanodiff.prediction import KINDS
from nanodiff.run import Run, Stopped
from nanodiff.schedule import NAMED, named
from nanodiff.train import Recipe


def parser():
    """What the command line may say."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/mnist"), help="folder for the results")
    add("--steps", type=steps, default=4000, help="training steps")
    add("--batch", type=count, default=32, help="images a step")
    add("--optimizer", choices=OPTIMIZERS, default="muon", help="moves the weights")
    add("--lr", type=rate, default=2e-3, help="peak learning rate")
    add("--T", type=count, default=500, help="steps of noise")
    add("--schedule", nargs="+", default=["linear"], metavar="WORD",
        help=f"of the noise: one of {', '.join(NAMED)}, and its parameters, such as "
        "cosine offset=0.02 or sigmoid start=-2 end=4")  # fmt: skip
    add("--channels", type=count, nargs="+", default=[16, 32, 64], help="of each level")
    add("--middle", type=count, help="blocks at the coarsest level; with --start, at "
        "least as many as it has; None: 1, or as many")  # fmt: skip
    add("--attention", type=count, help="heads of self-attention there; None: without")
    add("--self-condition", action=argparse.BooleanOptionalAction, help="half of the "
        "time, show the network its own guess; None: yes, or as --start has "
        "it")  # fmt: skip
    add("--predicts", choices=KINDS, default="v", help="what the network learns to say")
    add("--min-snr", type=gamma, help="weigh errors of x0 by the signal-to-noise "
        "ratio, by so much at most, such as 5")  # fmt: skip
    add("--focus", type=number(0, 10_000), nargs=3, metavar=("SHARE", "FIRST", "LAST"),
        help="draw so many of the times from FIRST..LAST; None: 0.8 of them from T/10 "
        "to 0.6 T, for the linear schedule of a new run; 0 1 1: all alike")  # fmt: skip
    add("--start", help="mnist, or the path of a checkpoint: go on with its weights, "
        "T, schedule and channels, as a new run")  # fmt: skip
    add("--seed", type=seed, default=0, help="of weights, batches and noise")
    add("--every", type=steps, default=1000, help="steps from sheet to sheet")
    add("--data", help="folder of official MNIST files; None: 10,000 digits")
    add("--resume", action="store_true", help="go on in OUT, as it was begun and with "
        "the same --data; more --steps train it longer")  # fmt: skip
    add("--quick", action="store_true", help="a tiny run that only shows the way")
    return parser


def options():
    """What it does say, with the recipe; or it ends with the usage."""
    known = parser()
    args = known.parse_args()
    if args.start and (args.resume or args.quick):
        known.error("--start begins a run of its own: no --resume, no --quick")
    for name in ("T", "schedule", "channels"):
        if args.start and getattr(args, name) != known.get_default(name):
            known.error(f"--{name} is that of the run that --start goes on from")
    args.given = given(known)
    if args.quick:
        quick = {"steps": 8, "batch": 8, "T": 25, "every": 4, "channels": [8, 16, 16]}
        vars(args).update(quick)
        args.given |= quick
    if args.self_condition is None and not args.start:
        args.self_condition = True
    if args.focus:
        share, first, last = args.focus
        args.focus = (share, int(first), int(last)) if share else None
    elif args.schedule == ["linear"] and not args.start:
        args.focus = 0.8, max(1, args.T // 10), max(1, 6 * args.T // 10)
    try:
        args.schedule = schedule_of(args.schedule, args.T)
        args.recipe = Recipe(
            args.steps, args.batch, args.lr, warmup=min(50, args.steps // 2),
            predicts=args.predicts, focus=args.focus, optimizer=args.optimizer,
            min_snr=args.min_snr,
        )  # fmt: skip
    except ValueError as error:
        known.error(str(error))
    return args


def schedule_of(words, T):
    """The name and the parameters of words such as cosine offset=0.02."""
    parameters = {}
    for word in words[1:]:
        parameter, _, value = word.partition("=")
        try:
            parameters[parameter] = float(value)
        except ValueError:
            raise ValueError(
                f"--schedule: {word!r}, expected such as offset=0.02"
            ) from None
    try:
        named(words[0], T, **parameters)
    except ValueError as error:
        raise ValueError(f"--schedule: {error}") from None
    return words[0], parameters


def resume(args, path):
    """The run that was begun. An option that is named must be as it was then."""
    names = args.given.keys() - {"out", "data", "every", "resume", "quick", "schedule"}
    settings = {name: getattr(args, name) for name in names}
    if "schedule" in args.given:
        settings["schedule"], settings["schedule_parameters"] = args.schedule
    run = Run.resume(path, **settings)
    goes_on(run)
    return run


def begin(args):
    """A new run, as the options say."""
    growing = "self_condition", "middle", "attention"
    more = {name: getattr(args, name) for name in growing}
    more = {name: value for name, value in more.items() if value is not None}
    if args.start:
        found = trained.pretrained(args.start)
        return Run.beginning_with(found, args.recipe, seed=args.seed, **more)
    return Run(
        args.recipe, args.T, *args.schedule,
        seed=args.seed, shape=(1, 28, 28), context_features=10,
        channels=args.channels, **more,
    )  # fmt: skip


def draw(run, out, rows=4):
    """Write the loss curve, a sheet by each sampler, and a film, with EMA weights."""
    found, rng = run.trained(), np.random.default_rng(0)
    T, S = found.schedule.T, min(50, found.schedule.T)
    context = data.one_hot(np.tile(np.arange(10), rows))  # a column for each digit
    frames = [xt for _, xt in sampling.draw(found, context, steps=S, rng=rng)]
    steps = sampling.draw(found, context, steps=T, rng=rng, sampler="ddpm")
    *_, (_, x0) = steps
    viz.save_loss(out / "loss.png", run.losses)
    viz.save_sheet(out / "ddim.png", frames[-1], columns=10)
    viz.save_sheet(out / "ddpm.png", x0, columns=10)
    viz.save_film(out / "ddim.gif", frames[:: max(1, len(frames) // 25)], columns=10)


def main(team=ALONE):
    args, start = options(), time.time()
    viz.folder(args.out)
    path = args.out / "checkpoint.npz"
    if path.exists() and not args.resume:
        raise SystemExit(f"{path} exists: go on with --resume, or use another --out")
    try:
        run = resume(args, path) if args.resume else begin(args)
        images, labels = data.mnist(folder=args.data)
        context = data.one_hot(labels)
        run.learn(
            images, context, path, args.every, lambda run: draw(run, args.out), team
        )
    except Stopped as stop:
        words = ["--resume", "--out", args.out]
        words += ["--data", args.data] if args.data else []
        stopped(stop, team, "train_mnist", *words)
    except (ValueError, OSError) as error:
        raise SystemExit(f"train_mnist.py: error: {error}") from error
    files = ", ".join(sorted(file.name for file in args.out.iterdir()))
    print(f"{args.out} has {files} after {time.time() - start:.0f} s; next:")
    print(command("sample", "--model", path, "--classes", 2026))


if __name__ == "__main__":
    with together() as team:
        main(team)
