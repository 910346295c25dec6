"""Train a small U-Net on your own pictures: a folder, with a subfolder for each class.

    python examples/train_pictures.py FOLDER              it says how many minutes first
    python examples/train_pictures.py FOLDER --quick      a try-out, which draws mush
    python examples/draw_shapes.py                        a folder to begin with

FOLDER may also be an .npz or .npy of images (see nanodiff/pictures.py). Size, channels
and classes are those of the pictures. Writes sheet.png (a row for each class),
film.gif, loss.png with the loss of pictures that were held out, and checkpoint.npz, for
examples/sample.py. Ctrl-C saves; --resume goes on, with the same FOLDER, --size,
--channels, --flips and --held-out.
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
    weight,
)

from nanodiff import data, viz
from nanodiff.parallel import ALONE, together
from nanodiff.run import Run, Stopped
from nanodiff.sampling import contexts, draw
from nanodiff.train import loss_of, train


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, help="of pictures, or an .npz or .npy of them")
    add("--out", type=Path, default=Path("runs/mine"), help="folder for the results")
    add("--size", type=count, help="pixels a side; None: of the pictures, at most 32")
    add("--channels", type=int, choices=(1, 3), help="None: 1 if all are grey")
    add("--flips", action="store_true", help="learn the mirrored pictures, too")
    add("--steps", type=steps, help="training steps; None: by the number of pictures")
    add("--batch", type=count, default=16, help="pictures a step")
    add("--lr", type=rate, default=2e-3, help="peak learning rate")
    add("--levels", type=count, nargs="+", help="channels of each level of the "
        "network; None: by the size")  # fmt: skip
    add("--attention", type=count, help="heads of self-attention at the coarsest level")
    add("--min-snr", type=gamma, help="weigh errors of x0 by the signal-to-noise "
        "ratio, by so much at most, such as 5")  # fmt: skip
    add("--held-out", type=number(0, 0.5), default=0.1,
        help="share of pictures not learned")  # fmt: skip
    add("--every", type=steps, default=1000, help="steps from sheet to sheet")
    add("--columns", type=count, default=8, help="pictures of each class on the sheet")
    add("--w", type=weight, default=1.0, help="weight of guidance on the sheet")
    add("--seed", type=seed, default=0, help="of weights, batches and noise")
    add("--resume", action="store_true", help="go on in OUT, as it was begun "
        "and with the same pictures; more --steps train it longer")  # fmt: skip
    add("--quick", action="store_true", help="a tiny run that only shows the way")
    args = parser.parse_args()
    args.given = given(parser, "folder")
    if args.quick:
        vars(args).update(steps=8, batch=8, every=4, columns=2)
        args.given |= {"steps": 8, "batch": 8}
    return parser, args


def suggested(n, size):
    """Steps and channels of each level for n pictures of so many pixels a side.

    More steps and wider levels for more pictures; a level more where sides are large,
    so that the coarsest has 8 pixels a side or fewer and sees the whole picture.
    """
    steps = int(np.clip(2000 + n // 2, 2500, 8000)) // 100 * 100
    levels = [24, 48, 64] if n < 2000 else [32, 64, 64]
    if size > 32:
        levels.append(64)
    while size % 2 ** (len(levels) - 1):
        levels.pop()
    return steps, levels


def divided(images, context, share, flips):
    """(learned, held out), each (images, context): a share is held out, by chance."""
    order = np.random.default_rng(0).permutation(len(images))
    held, learned = np.split(order, [round(share * len(images))])
    held, learned = ((images[i], context[i]) for i in (held, learned))
    if flips:
        mirrored = np.concatenate([learned[0], learned[0][..., ::-1]])
        learned = mirrored, np.concatenate([learned[1]] * 2)
    return learned, held


def minutes(run, data, team):
    """How long the rest of a run will take, by five steps of a copy of it."""
    left = run.recipe.steps - len(run.losses)
    copy = Run(run.recipe, run.schedule.T, seed=0, **run.options)
    parts = {"rng": copy.rng, "optimizer": copy.optimizer, "ema": copy.ema}
    loop = train(copy.model, copy.schedule, *data, run.recipe, team=team, **parts)
    times = [time.perf_counter() for _ in zip(range(6), loop, strict=False)]
    return np.median(np.diff(times)) * left / 60 if len(times) > 1 else 0.0


def report(run, learned, held, args):
    """Draw what it makes, and say its loss on both kinds of pictures."""
    found, rng = run.trained(), np.random.default_rng(args.seed)
    rows = max(1, 4 // len(found.classes))  # of each class
    context = np.repeat(contexts(found), args.columns * rows, axis=0)
    steps = 2 if args.quick else min(50, found.schedule.T)
    frames = [xt for _, xt in draw(found, context, args.w, steps, rng=rng)]
    viz.save_sheet(args.out / "sheet.png", frames[-1], args.columns, scale=3)
    viz.save_film(args.out / "film.gif", frames[::2] + frames[-1:], args.columns, 2)
    if len(held[0]):
        one, other = (mean_loss(run, *data, len(held[0])) for data in (learned, held))
        step = len(run.losses)
        run.held_out = [pair for pair in run.held_out if pair[0] < step]
        run.held_out.append((step, other))
        print(f"\nstep {step}: loss {one:.4f}, held out {other:.4f}")
    viz.save_loss(args.out / "loss.png", run.losses, run.held_out)


def mean_loss(run, images, context, n, draws=256):
    """The averaged network's loss of n images, at the same t and eps for any images."""
    i, rng = np.resize(np.arange(n), max(n, draws)), np.random.default_rng(0)
    kind = run.recipe.predicts
    return loss_of(run.averaged(), run.schedule, images[i], context[i], kind, rng)


def begin(args, images, names, learned):
    """A new run, as the options and the pictures say."""
    steps, levels = suggested(len(learned[0]), images.shape[2])
    return Run.of_pictures(
        images, names, args.steps or steps, args.batch, args.lr,
        T=25 if args.quick else 500, seed=args.seed, channels=args.levels or levels,
        attention=args.attention or 0, min_snr=args.min_snr,
    )  # fmt: skip


def resume(args, path, images, names):
    """The run that was begun. An option that is named must be as it was then."""
    kept = "steps", "batch", "lr", "seed", "attention", "min_snr", "levels"
    asked = {name: args.given[name] for name in kept if name in args.given}
    if "levels" in asked:
        asked["channels"] = asked.pop("levels")
    run = Run.resume(path, **asked)
    if (run.shape, run.classes) != (images.shape[1:], names):
        raise ValueError(
            f"the pictures are {images.shape[1:]} of {names}, expected those of "
            f"{path}, {run.shape} of {run.classes}"
        )
    goes_on(run)
    return run


def to_resume(args):
    """The words that go on with a run that was stopped."""
    words = [args.folder, "--resume", "--out", args.out]
    words += ["--flips"] if args.flips else []
    for name in ("size", "channels", "held_out"):
        if name in args.given:
            words += [f"--{name.replace('_', '-')}", args.given[name]]
    return words


def learn(args, team):
    """Read the pictures and train, to the end."""
    path = args.out / "checkpoint.npz"
    images, labels, names = data.pictures(args.folder, args.size, args.channels)
    context = data.one_hot(labels, len(names))
    learned, held = divided(images, context, args.held_out, args.flips)
    if args.resume:
        run = resume(args, path, images, names)
    else:
        run = begin(args, images, names, learned)
    n, C, H, W = images.shape
    each = zip(np.bincount(labels), names, strict=True)
    counts = ", ".join(f"{count} {name}" for count, name in each)
    print(f"{n} pictures, {C} x {H} x {W}: {counts}; {len(held[0])} are held out")
    print(
        f"{run.recipe.steps} steps of {run.recipe.batch}, channels of the levels "
        f"{run.options['channels']}: about {minutes(run, learned, team):.1f} minutes",
        flush=True,
    )
    run.learn(
        *learned, path, args.every, lambda run: report(run, learned, held, args), team
    )
    return path, names


def main(team=ALONE):
    parser, args = options()
    start, path = time.time(), args.out / "checkpoint.npz"
    if path.exists() and not args.resume:
        parser.error(f"{path} exists: go on with --resume, or use another --out")
    try:
        viz.folder(args.out)
        path, names = learn(args, team)
    except Stopped as stop:
        stopped(stop, team, "train_pictures", *to_resume(args))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    files = ", ".join(sorted(file.name for file in args.out.iterdir()))
    spent = (time.time() - start) / 60
    print(f"{args.out} has {files} after {spent:.1f} minutes; next:")
    words = ["--model", path, "--classes", ",".join(names), "--w", 1]
    print(command("sample", *words))


if __name__ == "__main__":
    with together() as team:
        main(team)
