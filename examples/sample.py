"""Draw the classes one asks for, by a network of the package or by your own.

    python examples/sample.py --classes 31415 --rows 4
    python examples/sample.py --classes 3,3+8,8 --w 1    half a 3 and half an 8
    python examples/sample.py --model sprites --classes hero,hero+food --w 1
    python examples/sample.py --model runs/mine/checkpoint.npz --w 1    your own

Seconds with DDIM; DDPM needs minutes, as many calls as the schedule has steps. Under
mpiexec -n 4 each process draws a quarter of the pictures; they are the same.
"""

import argparse
from pathlib import Path

from limits import count, seed, share, weight

from nanodiff import trained, viz
from nanodiff.parallel import ALONE, together
from nanodiff.sampling import SAMPLERS, contexts, sample
from nanodiff.streams import Streams


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="mnist", help="mnist, sprites or a checkpoint's path")
    add("--out", type=Path, default=Path("samples.png"), help="the picture to write")
    add("--classes", help="a column for each: names or numbers, mixed by +, such as "
        "circle,star+circle; None: all")  # fmt: skip
    add("--rows", type=count, default=4, help="samples of each class")
    add("--sampler", choices=SAMPLERS, default="ddim", help="which one")
    add(
        "--steps",
        type=count,
        help="as many as network calls, of flow half; None: 50 or T, with ddpm T",
    )
    add("--eta", type=share, default=0.0, help="noise added back, 0..1 (ddim only)")
    add("--w", type=weight, default=0.0, help="weight of guidance; try 1")
    add("--shape", type=count, nargs=3, metavar=("C", "H", "W"), help="of a picture, "
        "for a checkpoint that does not know it")  # fmt: skip
    add("--seed", type=seed, default=0, help="of the noise")
    add("--quick", action="store_true", help="one row, two steps: it draws mush")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.steps = 1, 2
    if args.out.suffix != ".png":
        parser.error(f"--out is {str(args.out)!r}, expected a name that ends in .png")
    return parser, args


def columns(text, known):
    """The classes in a text: between commas, or each letter if all are classes."""
    if text is None:
        return None
    letters = text not in known and set(text) <= set(known)
    return list(text) if letters else [name.strip() for name in text.split(",")]


def main(team=ALONE):
    parser, args = options()
    try:
        viz.folder(args.out.parent)
        found = trained.pretrained(args.model)
        classes = columns(args.classes, found.classes)
        context = contexts(found, classes)
        across = args.rows if context is None else len(context)
        T = found.schedule.T
        steps = args.steps or (T if args.sampler == "ddpm" else min(50, T))
        made = sample(
            found, classes, args.rows * (across if context is None else 1), args.w,
            steps, rng=Streams(args.seed, range(args.rows * across)),
            sampler=args.sampler, eta=args.eta, shape=args.shape, team=team,
        )  # fmt: skip
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    if made.ndim != 4:
        parser.error(f"--model makes arrays {made.shape[1:]}, expected pictures")
    rows = made.reshape(across, args.rows, *made.shape[1:]).swapaxes(0, 1)
    if team.first:
        viz.save_sheet(args.out, rows.reshape(made.shape), columns=across)
    print(f"made {args.out}")


if __name__ == "__main__":
    with together() as team:
        main(team)
