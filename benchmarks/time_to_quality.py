"""Loss on held-out digits against seconds: nanodiff and PyTorch, the same training.

    pip install torch==2.13.0
    python benchmarks/time_to_quality.py [--steps 400] [--out time_to_quality.png]

Both start from the same weights and see the same batches, times and noise, so their
losses run together step by step; what differs is when they get there. They train in
turn, 50 steps each; the time of the held-out loss is not counted.
"""

import argparse
import time

import harness
import numpy as np
import peer
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from nanodiff import data, schedule
from nanodiff.optim import Adam
from nanodiff.unet import UNet

LR = 2e-3


def batches(images, labels, N, rng):
    """Endless (xt, t, context, eps), as training gives them."""
    noise, one_hot = schedule.linear(500), data.one_hot(labels)
    while True:
        i, t = rng.integers(len(images), size=N), rng.integers(1, 501, size=N)
        eps = rng.standard_normal(images[i].shape).astype(np.float32)
        yield schedule.q_sample(noise, images[i], t, eps), t, one_hot[i], eps


class Ours:
    """A nanodiff U-Net in training."""

    def __init__(self, unet):
        self.unet, self.grads = unet, unet.named_grads()
        self.adam = Adam(unet.named_params())

    def step(self, batch):
        error = self.unet(*batch[:3]) - batch[3]
        self.unet.backward(2 / error.size * error)
        self.adam.step(self.grads, LR)

    def loss(self, batch):
        return float(np.mean((self.unet(*batch[:3]) - batch[3]) ** 2))


class Torch:
    """The same in PyTorch, channels_last, its best eager mode at these batches."""

    def __init__(self, unet):
        self.net = peer.to_torch(unet).to(memory_format=torch.channels_last)
        self.adam = torch.optim.Adam(
            self.net.parameters(), lr=LR, betas=(0.9, 0.99), fused=True
        )

    def error(self, batch):
        xt, t, context, eps = peer.torch_batch(*batch)
        xt = xt.to(memory_format=torch.channels_last)
        return F.mse_loss(self.net(xt, t, context), eps)

    def step(self, batch):
        self.adam.zero_grad()
        self.error(batch).backward()
        self.adam.step()

    def loss(self, batch):
        with torch.no_grad():
            return self.error(batch).item()


def race(sides, stream, held_out, steps, every):
    """{name: [(seconds, held-out loss)]}, each side trained on the same batches."""
    seconds = dict.fromkeys(sides, 0.0)
    curves = {name: [(0.0, side.loss(held_out))] for name, side in sides.items()}
    for _ in range(steps // every):
        chunk = [next(stream) for _ in range(every)]
        for name, side in sides.items():
            time.sleep(harness.PAUSE)
            start = time.perf_counter()
            for batch in chunk:
                side.step(batch)
            seconds[name] += time.perf_counter() - start
            curves[name].append((seconds[name], side.loss(held_out)))
    return curves


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--out", default="time_to_quality.png")
    args = parser.parse_args()
    harness.machine()
    print("equal:", peer.compare(np.float32))
    stream = batches(*data.mnist(), args.batch, np.random.default_rng(0))
    held_out = next(batches(*data.mnist("test"), 500, np.random.default_rng(1)))
    unet = UNet(context_features=10, rng=np.random.default_rng(0))
    sides = {"PyTorch": Torch(unet), "nanodiff": Ours(unet)}  # copies the weights first
    warm = next(batches(*data.mnist(n=64), args.batch, np.random.default_rng(2)))
    for make in (Torch, Ours):  # compile, on networks that are then forgotten
        side = make(UNet(context_features=10, rng=np.random.default_rng(0)))
        for _ in range(5):
            side.step(warm)
    curves = race(sides, stream, held_out, args.steps, args.every)
    print("| step | nanodiff: s, loss | PyTorch: s, loss | ratio of seconds |")
    print("|---|---|---|---|")
    for i, (theirs, ours) in enumerate(zip(*curves.values(), strict=True)):
        ratio = ours[0] / theirs[0] if i else float("nan")
        print(f"| {i * args.every} | {ours[0]:.1f}, {ours[1]:.4f} | "
              f"{theirs[0]:.1f}, {theirs[1]:.4f} | {ratio:.2f} |")  # fmt: skip
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.semilogy(*np.transpose(curve), "o-", markersize=3, label=name)
    axes.set(xlabel="seconds of training", ylabel="held-out loss")
    axes.legend()
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
