"""Draw coloured circles, squares, triangles and stars, as a folder of pictures.

    python examples/draw_shapes.py                    600 of 32x32, in runs/shapes/data
    python examples/draw_shapes.py --judge runs/shapes/checkpoint.npz

A subfolder for each class, as examples/train_pictures.py takes it. --judge asks a
trained network for shapes and prints how many a rule reads as asked. The rule: with z =
x + i y from the centre of what differs from the background, in units of its root mean
square, |mean z^k| is large for a shape of k equal corners and 0 for a circle.
"""

import argparse
from pathlib import Path

import numpy as np
from limits import count, run, seed, steps, weight
from PIL import Image, ImageDraw

from nanodiff import sample, trained, viz

CORNERS = {"circle": 0, "square": 4, "star": 5, "triangle": 3}  # in names' order
LEVEL = {"square": 0.6, "star": 1.76, "triangle": 0.79}  # |mean z^k| of the drawn ones
FINE = 8  # drawn so many times finer, then averaged


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/shapes/data"), help="folder to write to")
    add("--n", type=steps, default=600, help="pictures")
    add("--size", type=count, default=32, help="pixels a side")
    add("--seed", type=seed, default=0, help="of the shapes, and of --judge's noise")
    add("--judge", metavar="CHECKPOINT", help="draw nothing; read what it makes")
    add("--w", type=weight, default=1.0, help="weight of guidance for --judge")
    add("--each", type=count, default=25, help="of each class for --judge")
    add("--steps", type=count, default=50, help="of DDIM for --judge")
    args = parser.parse_args()
    return args


def shape(name, size, rng):
    """One picture: a shape of any colour, place and size, tilted, on a pale ground."""
    side, corners = size * FINE, CORNERS[name]
    ground = tuple(int(v) for v in rng.integers(232, 256, size=3))
    colour = f"hsv({rng.integers(360)}, {rng.integers(65, 100)}%, 80%)"
    radius, tilt = side * rng.uniform(0.3, 0.42), rng.uniform(-0.25, 0.25)
    centre = side / 2 + rng.uniform(-0.7, 0.7, size=2) * (side / 2 - radius)
    if name == "circle":
        radii = np.full(90, 0.85)
    elif name == "star":
        radii = np.tile([1.0, 0.45], corners)
    else:
        radii = np.ones(corners)
    upright = np.pi / 4 if name == "square" else -np.pi / 2  # the first corner
    angles = upright + tilt + 2 * np.pi * np.arange(len(radii)) / len(radii)
    points = centre + radius * (radii * [np.cos(angles), np.sin(angles)]).T
    image = Image.new("RGB", (side, side), ground)
    ImageDraw.Draw(image).polygon([tuple(p) for p in points], fill=colour)
    return image.resize((size, size), Image.Resampling.BOX)


def read(images):
    """Return the class of each image (n, 3, H, W) by its corners, (n,)."""
    y, x = np.mgrid[: images.shape[2], : images.shape[3]]
    kinds = []
    for image in images:
        edge = [image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]]
        ground = np.median(np.concatenate(edge, axis=1), axis=1)[:, None, None]
        mass = np.clip(np.abs(image - ground).max(axis=0) - 0.25, 1e-9, 0.5)
        mass /= mass.sum()
        z = x + 1j * y - (mass * (x + 1j * y)).sum()
        z /= np.sqrt((mass * abs(z) ** 2).sum())
        size = {name: abs((mass * z ** CORNERS[name]).sum()) / LEVEL[name]
                for name in LEVEL}  # fmt: skip
        name = max(size, key=size.get)
        kinds.append(list(CORNERS).index(name if size[name] > 0.5 else "circle"))
    return np.array(kinds)


def judge(args):
    """Print how many of each class that a network was asked for are read as asked."""
    found, rng = trained.pretrained(args.judge), np.random.default_rng(args.seed)
    names = list(CORNERS)
    images = sample(found, names, args.each, args.w, args.steps, rng=rng)
    asked, seen = np.repeat(np.arange(len(names)), args.each), read(images)
    print(f"{(asked == seen).mean():.1%} of {len(asked)} read as asked; rows: asked")
    print(f"{'':>10}" + "".join(f"{name:>10}" for name in names))
    for label, name in enumerate(names):
        counts = np.bincount(seen[asked == label], minlength=len(names))
        print(f"{name:>10}" + "".join(f"{count:>10}" for count in counts))


def main():
    args = options()
    if args.judge:
        return judge(args)
    viz.folder(args.out)
    rng = np.random.default_rng(args.seed)
    for i in range(args.n):
        name = list(CORNERS)[i % len(CORNERS)]
        viz.folder(args.out / name)
        path = args.out / name / f"{i:04d}.png"
        shape(name, args.size, rng).save(path)
    print(f"made {args.n} pictures in {args.out}")


if __name__ == "__main__":
    run(main)
