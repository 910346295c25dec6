"""What DDIM's noise x_T means: the same x_T, the way between two, the x_T of a digit.

    python examples/explore_latents.py             one minute on two cores
    python examples/explore_latents.py --quick     a try-out

consistency.png: the same x_T in 5 to 200 steps gives the same digits, only finer.
slerp.png, slerp.gif: on an arc between two x_T every stop is a digit. inversion.png:
real test digits, and what is left of them after DDIM to x_T and back, in more and more
steps. DDIM, arXiv 2010.02502, sections 5.2 to 5.4.
"""

import argparse
from pathlib import Path

import numpy as np
from limits import count, run, seed

from nanodiff import data, ddim, trained, viz
from nanodiff.guidance import guide
from nanodiff.latent import slerp
from nanodiff.progress import progress


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="mnist", help="mnist, or the path of a checkpoint")
    add("--out", type=Path, default=Path("runs/latents"), help="folder for the results")
    add("--steps", type=count, nargs="+", default=[5, 10, 20, 50, 100, 200])
    add("--stops", type=count, default=11, help="pictures along an arc")
    add("--seed", type=seed, default=0, help="of the noise")
    add("--quick", action="store_true", help="2 and 4 steps, three stops")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.stops = [2, 4], 3
    return args


def last(loop, calls, name):
    """The last image that a sampler yields."""
    *_, (_, x) = progress(loop, name, calls, leave=False)
    return x


def sample(found, labels, xT, steps):
    """DDIM's steps from xT to digits of these labels."""
    model = guide(found.model, data.one_hot(labels))
    return ddim.sample(model, found.schedule, xT, steps, clip=1.0)


def consistency(found, labels, xT, steps):
    """The same noise in more and more steps, and how far each is from the last."""
    made = {}
    for S in steps:
        made[f"{S} steps"] = last(sample(found, labels, xT, S), S, "same x_T")
    finest = made[f"{steps[-1]} steps"]
    for name, images in made.items():
        error = np.mean((images - finest) ** 2) / 4
        print(f"{name}: {error:.4f} from {steps[-1]} steps, mean square in [0, 1]")
    return made


def arcs(found, labels, xT, stops, calls):
    """Digits along arcs, an arc for each label, (stops, 5, 1, 28, 28)."""
    labels = labels[:5]  # from the first five noises to the last five
    way = [slerp(xT[:5], xT[5:], f) for f in np.linspace(0, 1, stops)]
    loop = sample(found, np.tile(labels, stops), np.concatenate(way), calls)
    return last(loop, calls, "arcs").reshape(stops, 5, *xT.shape[1:])


def inversion(found, steps):
    """Ten real digits to x_T and back, in more and more steps.

    By the network alone, without self-conditioning: a step up can then be read
    backwards, for it depends on its x_t and t alone.
    """
    images, labels = data.mnist("test")
    first = [int(np.argmax(labels == digit)) for digit in range(10)]
    x0, model = images[first], guide(found.network, data.one_hot(np.arange(10)))
    made = {"real": x0}
    for S in steps:
        xT = last(ddim.invert(model, found.schedule, x0, S), S, "to x_T")
        back = last(ddim.sample(model, found.schedule, xT, S), S, "and back")
        made[f"{S} steps"] = back
        error = np.mean((back - x0) ** 2) / 4
        print(f"to x_T and back in {S} steps: mean square {error:.4f} in [0, 1]")
    return made


def main():
    args = options()
    viz.folder(args.out)
    found, labels = trained.pretrained(args.model), np.arange(10)
    for steps in args.steps:  # ValueError now, not after the first pictures
        ddim.timesteps(found.schedule.T, steps)
    rng = np.random.default_rng(args.seed)
    xT = rng.standard_normal((10, 1, 28, 28)).astype(np.float32)
    same = consistency(found, labels, xT, args.steps)
    frames = arcs(found, labels, xT, args.stops, min(50, args.steps[-1]))
    back = inversion(found, args.steps)
    viz.save_grid(args.out / "consistency.png", {"same x_T": same}, columns=5)
    across = frames.swapaxes(0, 1).reshape(-1, *xT.shape[1:])
    viz.save_sheet(args.out / "slerp.png", across, columns=args.stops)
    film = [*frames, *frames[-2::-1]]  # there and back
    viz.save_film(args.out / "slerp.gif", film, columns=5, scale=2, hold=0.4)
    viz.save_grid(args.out / "inversion.png", {"inversion": back}, columns=5)
    print(f"{args.out} has consistency.png, slerp.png, slerp.gif and inversion.png")


if __name__ == "__main__":
    run(main)
