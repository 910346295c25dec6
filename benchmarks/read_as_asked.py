"""How many of a checkpoint's digits does an independent classifier read as asked?

    pip install torch==2.13.0
    python benchmarks/read_as_asked.py runs/mnist/checkpoint.npz --data FOLDER

FOLDER holds the official MNIST files. The classifier, a small PyTorch network, learns
from all 60,000 digits (a few minutes, kept in --judge) and should read over 99 % of the
test set. Then 1,000 digits, 100 of each class, are made without guidance by DDIM with
50 steps and by DDPM with all, and read.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from nanodiff import checkpoint, data, ddim, ddpm, schedule
from nanodiff.unet import UNet


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(64)
        self.full1 = nn.Linear(64 * 7 * 7, 128)
        self.norm3 = nn.BatchNorm1d(128)
        self.full2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv2(F.relu(self.conv1(x)))))
        x = F.dropout2d(F.max_pool2d(x, 2), 0.25, self.training)
        x = F.relu(self.norm2(self.conv4(F.relu(self.conv3(x)))))
        x = F.dropout(F.max_pool2d(x, 2).flatten(1), 0.4, self.training)
        x = F.relu(self.norm3(self.full1(x)))
        return self.full2(F.dropout(x, 0.3, self.training))


def read(judge, images):
    """The digits that the judge reads in images (n, 1, 28, 28)."""
    judge.eval()
    images = torch.from_numpy(np.clip(images, -1, 1))
    with torch.no_grad():
        return torch.cat([judge(x).argmax(1) for x in images.split(500)]).numpy()


def trained(path, folder, epochs=4, batch=128):
    """A judge: from its file, or trained now."""
    torch.manual_seed(0)
    rng, judge = np.random.default_rng(0), Judge()
    if path.exists():
        judge.load_state_dict(torch.load(path))
        return judge
    images, labels = map(torch.from_numpy, data.mnist(folder=folder))
    steps = epochs * (len(images) // batch)
    adam = torch.optim.Adam(judge.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, total_steps=steps)
    for _ in tqdm(range(steps), "the judge learns"):
        i = torch.from_numpy(rng.integers(len(images), size=batch))
        shift = tuple(rng.integers(-2, 3, size=2).tolist())
        x = torch.roll(images[i], shift, (2, 3))
        judge.train()
        adam.zero_grad()
        F.cross_entropy(judge(x), labels[i]).backward()
        adam.step()
        rate.step()
    torch.save(judge.state_dict(), path)
    return judge


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="official MNIST files")
    parser.add_argument("--judge", type=Path, default=Path("runs/judge.pt"))
    parser.add_argument("--n", type=int, default=1000, help="digits by each sampler")
    args = parser.parse_args()
    judge = trained(args.judge, args.data)
    images, labels = data.mnist("test", folder=args.data)
    print(
        f"the judge reads {(read(judge, images) == labels).mean():.2%} of the test set"
    )

    found = checkpoint.load(args.checkpoint)
    rng = np.random.default_rng(0)
    unet = UNet(**found.config["unet"], rng=rng).load(found.average)
    noise = schedule.linear(found.config["T"])
    kw = {"clip": 1.0, "predicts": found.config["recipe"]["predicts"]}
    asked = np.arange(args.n) % 10
    for name in ("DDIM-50", f"DDPM-{noise.T}"):
        made = []
        for labels in tqdm(np.array_split(asked, -(-args.n // 100)), name):
            xT = rng.standard_normal((len(labels), 1, 28, 28)).astype(np.float32)
            context = data.one_hot(labels)

            def model(xt, t, context=context):
                return unet(xt, t, context)

            if name == "DDIM-50":
                steps = ddim.sample(model, noise, xT, 50, **kw)
            else:
                steps = ddpm.sample(model, noise, xT, rng, **kw)
            *_, (_, x0) = steps
            made.append(x0)
        share = read(judge, np.concatenate(made)) == asked
        by_class = [f"{share[asked == c].mean():.0%}" for c in range(10)]
        print(f"{name}: {share.mean():.1%} of {args.n} read as asked; {by_class}")


if __name__ == "__main__":
    main()
