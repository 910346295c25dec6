"""The forward pass, and DDIM with 50 steps, against PyTorch's best mode.

    pip install torch==2.13.0
    python benchmarks/sampling.py [--batch 1 16 64]

The sampler is nanodiff's on both sides; only the network differs. The images that come
out are compared first.
"""

import argparse

import harness
import numpy as np
import peer
import torch

from nanodiff import ddim, schedule


def torch_model(unet, context, channels_last=False, compiled=False):
    """A `model(xt, t)` that asks PyTorch."""
    net = peer.to_torch(unet)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    run = torch.compile(net) if compiled else net
    context = torch.from_numpy(context)

    def model(xt, t):
        with torch.no_grad():
            x = torch.from_numpy(xt)
            if channels_last:
                x = x.to(memory_format=torch.channels_last)
            return run(x, t, context).numpy()

    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    harness.machine()
    noise, unet = schedule.linear(500), peer.random_unet()
    for N in args.batch:
        xT, _, context, _ = peer.random_batch(N, unet)
        models = {
            "nanodiff": lambda xt, t, context=context: unet(xt, t, context),
            "PyTorch eager": torch_model(unet, context),
            "PyTorch channels_last": torch_model(unet, context, True),
        }
        if args.compile:
            models["PyTorch compiled"] = torch_model(unet, context, compiled=True)

        def draw(model, xT=xT):
            *_, (_, x0) = ddim.sample(model, noise, xT, 50, clip=1.0)
            return x0

        made = {name: draw(model) for name, model in models.items()}
        apart = max(np.abs(x - made["nanodiff"]).max() for x in made.values())
        assert apart < 1e-2, f"the images differ by {apart}"
        print(f"\nbatch {N}: the images differ by at most {apart:.1e}")
        sides = {n: lambda m=m, xT=xT: m(xT, 250) for n, m in models.items()}
        harness.report(f"forward, batch {N}", harness.alternate(sides, args.rounds * 5))
        sides = {n: lambda m=m: draw(m) for n, m in models.items()}
        harness.report(f"DDIM-50, batch {N}", harness.alternate(sides, args.rounds, 1))


if __name__ == "__main__":
    main()
