"""What else was tried, at equal time: schedule, T, batch, width, average, guidance.

    python benchmarks/choices.py [--seconds 120] [--n 500] [--data FOLDER]
    python benchmarks/choices.py --only "as it is" muon    no more than these

Each choice changes one setting of `examples/train_mnist.py --optimizer adam`. First a
few steps of each are timed in turn; then each trains as many steps as fit into the
time, which also tells its learning rate when to fall. Run nothing else while it times.
For each: held-out loss of eps (comparable only within a schedule), Frechet distance and
share read as asked of n digits by DDIM-50, with the averaged weights. The last rows are
the first run's, with other averages and with guidance.
"""

import argparse
import time

import numpy as np
from tqdm import tqdm

from nanodiff import data, ddim, exact, schedule, trained
from nanodiff.evaluate import ScoreCard, in_batches
from nanodiff.guidance import guide
from nanodiff.optim import EMA, OPTIMIZERS
from nanodiff.train import Recipe, train
from nanodiff.unet import UNet

BASE = {"make": schedule.linear, "T": 500, "batch": 32, "lr": 2e-3, "predicts": "v",
        "seed": 0, "channels": (32, 64, 64), "optimizer": "adam"}  # fmt: skip
CHOICES = {
    "as it is": {},
    "as it is, another seed": {"seed": 1},
    "cosine schedule": {"make": schedule.cosine},
    "T = 1000": {"T": 1000},
    "says eps": {"predicts": "eps"},
    "batch 16": {"batch": 16},
    "batch 64": {"batch": 64},
    "half as wide": {"channels": (16, 32, 32)},
    "half wider": {"channels": (48, 96, 96)},
    "twice as wide at 7x7": {"channels": (32, 64, 128)},
    "muon": {"optimizer": "muon"},
}
DECAYS = (0.99, 0.999, 0.9999)


class Trial:
    """A network in training with one choice made."""

    def __init__(self, images, context, steps, choice):
        self.set = BASE | choice
        rng = np.random.default_rng(self.set["seed"])
        self.unet = UNet(1, 10, self.set["channels"], rng=rng)
        params = self.unet.named_params()
        self.emas = {decay: EMA(params, decay) for decay in DECAYS}
        self.noise = self.set["make"](self.set["T"])
        recipe = Recipe(steps, self.set["batch"], self.set["lr"], min(50, steps - 1),
                        predicts=self.set["predicts"],
                        optimizer=self.set["optimizer"])  # fmt: skip
        self.loop = train(
            self.unet, self.noise, images, context, recipe,
            rng=rng, optimizer=OPTIMIZERS[recipe.optimizer](params), ema=self,
        )  # fmt: skip

    def update(self):
        """What `train` calls after each step: all averages."""
        for ema in self.emas.values():
            ema.update()

    def finished(self, params):
        """The network with these weights, saying eps."""
        network = UNet(**self.unet.config, rng=np.random.default_rng(0)).load(params)
        return trained.Eps(network, self.noise, self.set["predicts"])


def steps_in(seconds, images, context, chosen, timed=8):
    """How many steps of each choice fit: {name: steps}, timed in turn."""
    trials = {name: Trial(images, context, 1000, choice)
              for name, choice in chosen.items()}  # fmt: skip
    times = {name: [] for name in chosen}
    for i in tqdm(range(3 + timed), "timing a step of each"):
        for name, trial in trials.items():
            start = time.perf_counter()
            next(trial.loop)
            if i >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: int(seconds / np.median(values)) for name, values in times.items()}


def scores(model, noise, card, held_out, w=0.0):
    """Held-out loss and its error (without guidance); the score of n digits."""
    images, labels = held_out
    rng = np.random.default_rng(1)
    conditional = guide(model, data.one_hot(labels))
    loss = exact.empirical_floor(
        noise, lambda xt, t: conditional(xt.astype(np.float32), t), images, rng
    )
    xT = rng.standard_normal((len(card.labels), 1, 28, 28)).astype(np.float32)

    def make(xT, labels):
        guided = guide(model, data.one_hot(labels), w)
        *_, (_, x0) = ddim.sample(guided, noise, xT, 50, clip=1.0)
        return x0

    return loss, card.score(in_batches(make, xT, card.labels))


def row(name, steps, loss, score):
    mean, error = loss
    print(f"| {name} | {steps} | {mean:.4f} +- {error:.4f} "
          f"| {score['distance']:.1f} | {score['share']:.1%} "
          f"| {score['spread']:.2f} |", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="of each training")
    parser.add_argument("--n", type=int, default=500, help="digits to score")
    parser.add_argument("--data", help="official MNIST files (default: the subset)")
    parser.add_argument("--only", nargs="+", choices=CHOICES, metavar="CHOICE")
    args = parser.parse_args()
    chosen = {name: CHOICES[name] for name in args.only or CHOICES}
    images, labels = data.mnist(folder=args.data)
    context = data.one_hot(labels)
    card = ScoreCard.of_mnist(trained.judge(), args.n, args.data)
    held_out = data.mnist("test", 1000, folder=args.data)
    steps = steps_in(args.seconds, images, context, chosen)
    print(f"{args.seconds:g} s each, {args.n} digits, floor {card.floor:.1f}")
    print("| choice | steps | loss | distance | read as asked | spread |")
    print("|---|---|---|---|---|---|", flush=True)
    first = None
    for name, choice in chosen.items():
        trial = Trial(images, context, steps[name], choice)
        for _ in tqdm(trial.loop, name, steps[name], leave=False):
            pass
        first = first or trial
        model = trial.finished(trial.emas[0.999].average)
        row(name, steps[name], *scores(model, trial.noise, card, held_out))
    if not args.only:
        of_the_first(first, steps["as it is"], card, held_out)


def of_the_first(first, count, card, held_out):
    """Print rows of the first run with other averages and with guidance."""
    weights = {f"average {decay}": ema.average for decay, ema in first.emas.items()}
    weights["last weights"] = first.unet.named_params()
    for name, params in weights.items():
        model = first.finished(params)
        row(name, count, *scores(model, first.noise, card, held_out))
    model = first.finished(first.emas[0.999].average)
    for w in (0.5, 1, 2):
        row(f"guidance w = {w}", count, *scores(model, first.noise, card, held_out, w))


if __name__ == "__main__":
    main()
