"""What is the least possible loss on MNIST, and how many bits does a digit cost?

python examples/honest_loss.py             about four minutes
python examples/honest_loss.py --quick     two digits, a few seconds

For a finite set of digits the best predictor of the noise is known, so the loss has a
floor: about 0.001 for 500 digits, and less for a network that is told which digit it
is, as this one is. It stays above, as it must: at the floor it would only repeat the
digits it was shown. Then the variational bound of test digits given their labels, term
by term, in bits a pixel with its standard error.
"""

import argparse

import numpy as np
from limits import run, seed, whole

from nanodiff import data, exact, likelihood, trained
from nanodiff.guidance import guide
from nanodiff.progress import progress


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="mnist", help="mnist, or a checkpoint of train_mnist.py")
    add("--n", type=whole(2, 10_000), default=200, help="test digits to count bits of")
    add("--seed", type=seed, default=0, help="of times and noise")
    add("--quick", action="store_true", help="two digits: wide errors")
    args = parser.parse_args()
    if args.quick:
        args.n = 2
    return args


def network(found, labels):
    """A trained network as a model of the noise, for images of these labels.

    It is not shown its last guess: the bound is one of a function of x_t and t.
    """
    model = guide(found.network, data.one_hot(labels))
    return lambda xt, t: model(xt.astype(np.float32), t)


def main():
    args = options()
    found = trained.pretrained(args.model)
    noise = found.schedule
    images, labels = data.mnist(n=min(500, 4 * args.n))
    for name, model in (
        ("floor", exact.points(noise, images)),
        ("network", network(found, labels)),
    ):
        rng = np.random.default_rng(args.seed)  # the same draws for both
        loss, error = exact.empirical_floor(noise, model, images, rng)
        print(f"{name}: mean (eps - eps_hat)^2 {loss:.4f} +- {error:.4f} "
              f"on {len(images)} training digits")  # fmt: skip

    images, labels = data.mnist("test", n=args.n)
    model = network(found, labels)
    bar = progress(total=noise.T, desc="bits", leave=False)

    def watched(xt, t):
        bar.update()
        return model(xt, t)

    rng = np.random.default_rng(args.seed)
    terms = likelihood.terms(watched, noise, images, rng, "beta", bins=256)
    bar.close()
    for name, rows in (("L_0", terms[:1]), ("L_1 .. L_T-1", terms[1:-1]),
                       ("L_T", terms[-1:]), ("all", terms)):  # fmt: skip
        bits, error = likelihood.bits_per_dimension(rows, images)
        print(f"{name}: {bits:.4f} +- {error:.4f} bits a pixel, {args.n} test digits")


if __name__ == "__main__":
    run(main)
