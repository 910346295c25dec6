"""Seconds a training step takes on one process and on more, and what goes on the wire.

    python benchmarks/processes.py                 1 process of 2 threads
    mpiexec -n 2 python benchmarks/processes.py    2 processes of 1 thread each

The network, the data and the recipe are those of `examples/train_mnist.py`; --batch is
that of the whole team. It prints medians: of a step, of the all-reduce in it without
the wait for slower processes, of Muon's own step and of its orthogonalisations, which
every process repeats. Run nothing else meanwhile.
"""

import argparse
import time

import numpy as np

from nanodiff import data, optim
from nanodiff.parallel import together
from nanodiff.run import Run
from nanodiff.train import Recipe, train


class Clock:
    """How long the calls of a function took, step by step."""

    def __init__(self, function):
        self.function, self.spent = function, [0.0]

    def __call__(self, *arguments):
        start = time.perf_counter()
        found = self.function(*arguments)
        self.spent[-1] += time.perf_counter() - start
        return found


def timed_steps(run, team, steps):
    """Medians over steps, without the first five: {name: milliseconds}."""
    images, labels = data.mnist()
    clocks = {"step": Clock(None)}
    optim.orthogonal = clocks["orthogonalisations"] = Clock(optim.orthogonal)
    run.optimizer.step = clocks["optimiser, with these"] = Clock(run.optimizer.step)
    start = time.perf_counter()
    for _ in train(
        run.model, run.schedule, images, data.one_hot(labels), run.recipe,
        rng=run.rng, optimizer=run.optimizer, ema=run.ema, team=team,
    ):  # fmt: skip
        clocks["step"].spent[-1] = time.perf_counter() - start
        for clock in clocks.values():
            clock.spent.append(0.0)
        start = time.perf_counter()
    found = {name: clock.spent[5:steps] for name, clock in clocks.items()}
    found["all-reduce"] = all_reduce(run.model.named_grads(), team, steps)
    return {name: 1e3 * np.median(spent) for name, spent in found.items()}


def all_reduce(grads, team, steps):
    """Seconds of each of some sums, begun at the same time in all processes."""
    spent = []
    for _ in range(steps):
        team.agree("steps", steps)
        start = time.perf_counter()
        team.mean(0.5, grads, 1 / team.size)
        spent.append(time.perf_counter() - start)
    return spent


def main(team):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64, help="of all processes")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    recipe = Recipe(args.steps, args.batch, warmup=0, predicts="v", optimizer="muon")
    run = Run(recipe, 500, seed=0, context_features=10)
    numbers = 1 + sum(g.size for g in run.model.named_grads().values())
    sent = 2 * (team.size - 1) / team.size * 4 * numbers
    print(f"{team.size} processes, {args.batch} images a step, {numbers:,} float32 "
          f"numbers; a process sends {sent / 1e6:.2f} MB a step")  # fmt: skip
    for name, milliseconds in timed_steps(run, team, args.steps).items():
        print(f"  {name:24s} {milliseconds:8.1f} ms")


if __name__ == "__main__":
    with together() as team:
        main(team)
