"""Train the judge, a small classifier of digits, and see what it misreads.

    python examples/train_judge.py --data FOLDER    about four minutes on two cores
    python examples/train_judge.py --quick          a few steps, which teach it little

FOLDER holds the official MNIST files. It reads over 99 % of the official test set;
nanodiff/trained_judge.npz was made by the first of these commands.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from limits import count, rate, run, seed

from nanodiff import data, trained, viz
from nanodiff.engine import turn
from nanodiff.evaluate import Judge, confusion, cross_entropy, look
from nanodiff.optim import EMA, Adam, learning_rate
from nanodiff.progress import progress


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/judge"), help="folder for the result")
    add("--data", type=Path, help="official MNIST files; None: the subset")
    add("--epochs", type=count, default=6, help="times through the training set")
    add("--batch", type=count, default=128, help="images a step")
    add("--lr", type=rate, default=3e-3, help="peak learning rate")
    add("--seed", type=seed, default=0, help="of weights, batches and shifts")
    add("--quick", action="store_true", help="a few steps that only show the way")
    args = parser.parse_args()
    return args


def shifted(images, rng, most=2):
    """The images, each moved by up to `most` pixels in each direction."""
    N, _, H, W = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    n = np.arange(N)[:, None, None]
    down, right = rng.integers(0, 2 * most + 1, size=(2, N, 1, 1))
    p, q = np.arange(H)[:, None], np.arange(W)
    return padded[n, 0, down + p, right + q][:, None]


@turn
def learn(images, labels, steps, args):
    """Return a judge with averaged weights."""
    rng = np.random.default_rng(args.seed)
    judge = Judge(rng=rng)
    adam, ema = Adam(judge.named_params()), EMA(judge.named_params())
    grads = judge.named_grads()
    for step in progress(range(steps), "the judge learns"):
        i = rng.integers(len(images), size=args.batch)
        _, dlogits = cross_entropy(judge(shifted(images[i], rng)), labels[i])
        judge.backward(dlogits)
        adam.step(grads, learning_rate(step, steps, args.lr, min(100, steps // 2)))
        ema.update()
    return judge.load(ema.average)


def main():
    args, start = options(), time.time()
    viz.folder(args.out)
    images, labels = data.mnist(folder=args.data)
    test_images, test_labels = data.mnist("test", folder=args.data)
    steps = 10 if args.quick else args.epochs * len(images) // args.batch
    judge = learn(images, labels, steps, args)
    seconds = round(time.time() - start)
    _, read = look(judge, test_images)
    score = float((read == test_labels).mean())
    table = confusion(test_labels, read)
    about = {
        "judge": "nanodiff.evaluate.Judge", "seed": args.seed, "steps": steps,
        "command": f"python examples/train_judge.py {'--quick ' * args.quick}--data "
        f"{'FOLDER' if args.data else 'SUBSET'} --epochs {args.epochs} --batch "
        f"{args.batch} --lr {args.lr} --seed {args.seed}",
        "date": time.strftime("%Y-%m-%d"), "seconds": seconds,
        "score": f"{score:.2%} of {len(read)} test digits",
    }  # fmt: skip
    trained.write(args.out / "trained_judge.npz", judge.named_params(), about)
    print(table)
    print(f"{score:.2%} of {len(read)} test digits, after {seconds} s")


if __name__ == "__main__":
    run(main)
