"""What tests/test_parallel.py starts by mpiexec: python ranks.py WHAT OUT [STEPS].

Each function below is a WHAT. OUT is a folder.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from nanodiff import files
from nanodiff.parallel import together
from nanodiff.run import Run
from nanodiff.train import Recipe

SMALL = {"channels": [8, 8], "features": 8, "groups": 2, "context_features": 2}


def digits(n=40):
    """Pictures that are no digits, and their contexts."""
    rng = np.random.default_rng(1)
    context = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    images = np.sign(rng.standard_normal((n, 1, 8, 8))).astype(np.float32)
    return images, context


def start(optimizer="adam", steps=50, batch=8, seed=3):
    """A run that asks its network twice in half of the steps; 3 does not divide 8."""
    recipe = Recipe(steps, batch, warmup=5, predicts="v", optimizer=optimizer)
    return Run(recipe, T=25, seed=seed, self_condition=True, **SMALL)


def refuse_to_write(*arguments):
    raise AssertionError("a process that is not the first writes a file")


def runs(team, out, steps):
    """A run by each optimiser, to its end."""
    for optimizer in ("adam", "muon"):
        run = start(optimizer, steps)
        run.learn(*digits(), out / f"{optimizer}.npz", steps, team=team)


def goes_on(team, out, steps):
    """The run that lies there, to its end or until somebody stops it."""
    path = out / "run.npz"
    run = Run.resume(path, steps=steps) if path.exists() else start("muon", steps)
    run.learn(*digits(), path, 10, lambda run: print("ten more", flush=True), team)


def bad_data(team, out, steps):
    """The last process has read a picture of pixels 0..255."""
    images, context = digits()
    if team.rank == team.size - 1:
        images = 255 * images
    start(steps=steps).learn(images, context, out / "run.npz", 5, team=team)


def other_data(team, out, steps):
    """The last process has read other pictures."""
    images, context = digits()
    images = images[:: -1 if team.rank == team.size - 1 else 1].copy()
    start(steps=steps).learn(images, context, out / "run.npz", 5, team=team)


def other_seed(team, out, steps):
    """The last process was given another seed."""
    run = start(steps=steps, seed=3 + (team.rank == team.size - 1))
    run.learn(*digits(), out / "run.npz", 5, team=team)


def few_images(team, out, steps):
    """A batch of one image for all processes."""
    start(steps=steps, batch=1).learn(*digits(), out / "run.npz", 5, team=team)


def at_step_7(act):
    """A run of whose last process the optimiser does something else once."""

    def run(team, out, steps):
        run = start(steps=steps)
        step = run.optimizer.step

        def acts(grads, lr):
            if len(run.losses) == 7 and team.rank == team.size - 1:
                act(run)
            step(grads, lr)

        run.optimizer.step = acts
        run.learn(*digits(), out / "run.npz", 5, team=team)

    return run


def weight_is_nan(run):
    run.model.conv_in.w[...] = np.nan


WHAT = {
    "runs": runs, "goes_on": goes_on, "bad_data": bad_data, "other_data": other_data,
    "other_seed": other_seed, "few_images": few_images, "nan": at_step_7(weight_is_nan),
    "killed": at_step_7(lambda run: os.kill(os.getpid(), signal.SIGKILL)),
    "leaves": at_step_7(lambda run: sys.exit("I had enough")),
    "raises": at_step_7(lambda run: 1 / 0),
}  # fmt: skip

if __name__ == "__main__":
    what, out, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with together() as team:
        if not team.first:
            files.write = refuse_to_write
        WHAT[what](team, out, steps)
