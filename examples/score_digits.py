"""How good are a network's digits, and what does guidance buy?

    python examples/score_digits.py --data FOLDER --n 10000    an hour on two cores
    python examples/score_digits.py                            1,000 of the subset
    python examples/score_digits.py --quick                    a try-out

Asks for the digits that n test images show, drawn at random, by DDIM, with every weight
of guidance. For each: the Frechet distance to those images in the judge's features,
beside the floor, which is that of as many training images of the same classes; the
share read as asked; and how varied a class is, beside real ones. FOLDER holds the
official MNIST files. Under mpiexec -n 4 each process draws a quarter of the digits.
"""

import argparse
import time

import numpy as np
from limits import count, run, seed, weight, whole

from nanodiff import data, ddim, trained
from nanodiff.evaluate import ScoreCard, in_batches
from nanodiff.guidance import guide
from nanodiff.parallel import ALONE, together
from nanodiff.progress import progress
from nanodiff.streams import Streams


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="mnist", help="mnist, or the path of a checkpoint")
    add("--data", help="folder of official MNIST files; None: the subset")
    add("--n", type=whole(2, 10_000), default=1000, help="digits for each weight")
    add("--steps", type=count, default=50, help="of DDIM")
    add("--w", type=weight, nargs="+", default=[0, 0.5, 1, 2, 4], help="of guidance")
    add("--without-guess", action="store_true", help="do not show the network its "
        "last guess, though it was trained to look at it")  # fmt: skip
    add("--seed", type=seed, default=0, help="of the test digits drawn, and the noise")
    add("--one-generator", action="store_true", help="draw the noise of all digits at "
        "once, as for the older figures of docs/scorecard.md")  # fmt: skip
    add("--quick", action="store_true", help="eight digits, two steps, two weights")
    args = parser.parse_args()
    if args.quick:
        args.n, args.steps, args.w = 8, 2, [0, 1]
    return args


def noise(args):
    """x_T of all digits."""
    rng = Streams(args.seed, range(args.n))
    if args.one_generator:
        rng = np.random.default_rng(args.seed)
    return rng.standard_normal((args.n, 1, 28, 28)).astype(np.float32)


def main(team=ALONE):
    args = options()
    found = trained.pretrained(args.model)
    network = found.network if args.without_guess else found.model
    card = ScoreCard.of_mnist(trained.judge(), args.n, args.data, args.seed)
    xT, mine = noise(args), team.rows("n", args.n)
    print(f"{args.n} digits, DDIM-{args.steps}, floor {card.floor:.2f}")
    print("| w | distance | / floor | read as asked | spread | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    for w in args.w:
        bar = progress(total=len(xT[mine]), desc=f"w = {w:g}", leave=False)

        def make(xT, labels, w=w, bar=bar):
            model = guide(network, data.one_hot(labels), w)
            *_, (_, x0) = ddim.sample(model, found.schedule, xT, args.steps, clip=1.0)
            bar.update(len(x0))
            return x0

        start = time.perf_counter()
        images = team.gather(in_batches(make, xT[mine], card.labels[mine]))
        seconds = time.perf_counter() - start
        bar.close()
        score = card.score(images)
        cells = (f"{w:g}", f"{score['distance']:.2f}",
                 f"{score['distance'] / card.floor:.2f}", f"{score['share']:.2%}",
                 f"{score['spread']:.2f}", f"{seconds:.0f}")  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    with together() as team:
        run(lambda: main(team))
