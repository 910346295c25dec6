"""A training step of the default U-Net, against PyTorch's best mode on the same cores.

    pip install torch==2.13.0
    python benchmarks/training_step.py [--compile] [--batch 16 64 128 256]

Forward, loss, backward and Adam; same weights, same batch. First output, loss and every
gradient are compared, and a mismatch stops the run. --compile adds torch.compile's two
modes (a C++ compiler is needed; about two minutes).
"""

import argparse

import harness
import numpy as np
import peer
import torch
from torch.nn import functional as F

from nanodiff.optim import Adam


def our_step(unet, batch):
    """A function that does one training step."""
    adam, grads = Adam(unet.named_params()), unet.named_grads()

    def step():
        error = unet(*batch[:3]) - batch[3]
        unet.backward(2 / error.size * error)
        adam.step(grads, 1e-5)

    return step


def torch_step(unet, batch, channels_last=False, compiled=False):
    """The same in PyTorch, in one of its modes."""
    net = peer.to_torch(unet)
    xt, t, context, eps = peer.torch_batch(*batch)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        xt = xt.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), lr=1e-5, betas=(0.9, 0.99), fused=True)
    run = torch.compile(net) if compiled else net

    def step():
        adam.zero_grad()
        F.mse_loss(run(xt, t, context), eps).backward()
        adam.step()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 128, 256])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    harness.machine()
    for dtype in (np.float32, np.float64):
        name, error = peer.compare(dtype)
        print(f"equal in {np.dtype(dtype).name}: worst is {name}, {error:.1e}")
    for N in args.batch:
        unet = peer.random_unet()
        batch = peer.random_batch(N, unet)
        sides = {
            "nanodiff": our_step(unet, batch),
            "PyTorch eager": torch_step(unet, batch),
            "PyTorch channels_last": torch_step(unet, batch, channels_last=True),
        }
        if args.compile:
            sides["PyTorch compiled"] = torch_step(unet, batch, compiled=True)
            sides["PyTorch compiled, cl"] = torch_step(unet, batch, True, True)
        harness.report(f"batch {N}", harness.alternate(sides, args.rounds))


if __name__ == "__main__":
    main()
