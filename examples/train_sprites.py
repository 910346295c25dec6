"""Train a U-Net on pixel-art sprites of five kinds, and steer it with the context.

python examples/train_sprites.py             about four minutes on two cores
python examples/train_sprites.py --steps 8000 --batch 64    twelve minutes, clearer ones
python examples/train_sprites.py --quick     a try-out of under a minute; it draws mush

Writes kinds.png (a row for each kind: one context), mixed.png (half of one kind, half
of another, with more and more guidance), free.png (no context), kinds.gif, loss.png,
checkpoint.npz; and prints how many sprites are of the kind asked for, by the rule of
nanodiff/sprites.py: 99 % after twelve minutes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from limits import command, count, given, goes_on, seed, steps, stopped

from nanodiff import data, sampling, sprites, viz
from nanodiff.evaluate import confusion
from nanodiff.parallel import ALONE, together
from nanodiff.run import Run, Stopped
from nanodiff.train import Recipe

KINDS = len(sprites.CLASSES)
PAIRS = [(0, 1), (0, 4), (1, 3), (2, 3), (1, 2)]  # halves that are mixed


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/sprites"), help="folder for the results")
    add("--n", type=steps, default=20_000, help="sprites to learn from")
    add("--steps", type=steps, default=5000, help="training steps")
    add("--batch", type=count, default=32, help="images a step")
    add("--seed", type=seed, default=0, help="of sprites, weights and batches")
    add("--every", type=steps, default=2500, help="steps from sheet to sheet")
    add("--resume", action="store_true", help="go on in OUT, as it was begun and with "
        "the same --n; more --steps train it longer")  # fmt: skip
    add("--quick", action="store_true", help="a tiny run that only shows the way")
    args = parser.parse_args()
    args.given = given(parser)
    if args.quick:
        quick = {"n": 100, "steps": 8, "batch": 8, "every": 4}
        vars(args).update(quick)
        args.given |= quick
    return args


def resume(args, path):
    """The run that was begun. An option that is named must be as it was then."""
    names = args.given.keys() - {"out", "n", "every", "resume", "quick"}
    run = Run.resume(path, **{name: getattr(args, name) for name in names})
    goes_on(run)
    return run


def begin(args):
    """A new run, as the options say."""
    recipe = Recipe(
        args.steps, args.batch, warmup=min(50, args.steps // 2), predicts="v"
    )
    return Run(
        recipe, 500, seed=args.seed, shape=(3, 16, 16), classes=sprites.CLASSES,
        image_channels=3, context_features=KINDS,
    )  # fmt: skip


def sample(found, context, steps, w=0.0):
    """Sprites of these contexts, by DDIM: the frames, the last of them finished."""
    rng = np.random.default_rng(1)
    return [xt for _, xt in sampling.draw(found, context, w, steps, rng=rng)]


def draw(run, out, steps, columns=12):
    """Write the pictures, and print how well the context is obeyed."""
    found, kinds = run.trained(), np.arange(KINDS)
    context = data.one_hot(np.repeat(kinds, columns), KINDS)
    frames = sample(found, context, steps)
    free = sample(found, 0 * context, steps)[-1]
    rows = {f"w={w}": mixtures(found, steps, w) for w in (0, 1, 3)}
    viz.save_loss(out / "loss.png", run.losses)
    viz.save_sheet(out / "kinds.png", frames[-1], columns, scale=3)
    viz.save_film(out / "kinds.gif", frames[::2] + frames[-1:], columns, scale=2)
    viz.save_sheet(out / "free.png", free, columns, scale=3)
    viz.save_grid(out / "mixed.png", rows, columns=3)
    asked = np.repeat(kinds, 40)
    for w in (0, 1):
        made = sample(found, data.one_hot(asked, KINDS), steps, w)[-1]
        read = sprites.read(made)
        print(f"\n{(read == asked).mean():.1%} of {len(asked)} are as asked, w = {w}")
        print(confusion(asked, read, KINDS))


def mixtures(found, steps, w, each=6):
    """Six sprites of each pair of kinds, half of the one and half of the other."""
    halves = np.stack([data.one_hot(pair, KINDS).mean(0) for pair in PAIRS])
    made = sample(found, np.repeat(halves, each, axis=0), steps, w)[-1]
    names = [" + ".join(sprites.CLASSES[kind] for kind in pair) for pair in PAIRS]
    return dict(zip(names, np.split(made, len(PAIRS)), strict=True))


def main(team=ALONE):
    args, start = options(), time.time()
    viz.folder(args.out)
    path = args.out / "checkpoint.npz"
    if path.exists() and not args.resume:
        raise SystemExit(f"{path} exists: go on with --resume, or use another --out")
    try:
        run = resume(args, path) if args.resume else begin(args)
        seed = args.seed if run.seed is None else run.seed
        images, labels = sprites.sprites(args.n, np.random.default_rng(seed))
        context, calls = data.one_hot(labels, KINDS), 2 if args.quick else 50
        run.learn(
            images, context, path, args.every, lambda run: draw(run, args.out, calls),
            team,
        )  # fmt: skip
    except Stopped as stop:
        words = ["--resume", "--out", args.out, "--n", args.n]
        stopped(stop, team, "train_sprites", *words)
    except (ValueError, OSError) as error:
        raise SystemExit(f"train_sprites.py: error: {error}") from error
    files = ", ".join(sorted(file.name for file in args.out.iterdir()))
    print(f"{args.out} has {files} after {time.time() - start:.0f} s; next:")
    print(command("sample", "--model", path, "--classes", "hero,hero+food", "--w", 1))


if __name__ == "__main__":
    with together() as team:
        main(team)
