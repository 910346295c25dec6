"""Put the averaged weights of checkpoints into the package, as float16.

Of several of one chain of runs it takes the mean of their weights (Wortsman et al.
2022, arXiv 2203.05482), and all else from the last.

python tools/ship.py runs/long/checkpoint.npz mnist --command "python examples/..."
    --seed 0 --seconds 3000 --score "..."
"""

import argparse
import time

from nanodiff import checkpoint, trained


def settings(found):
    """Of the U-Net in a checkpoint."""
    *_, settings, _ = trained.settings(found.config)
    return settings


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkpoint", nargs="+", help="made by train_mnist.py or train_sprites.py"
    )
    parser.add_argument("name", choices=trained.NAMES)
    parser.add_argument("--command", required=True, help="that made the checkpoint")
    parser.add_argument("--seed", type=int, required=True, help="of that command")
    parser.add_argument("--seconds", type=int, required=True, help="that it took")
    parser.add_argument("--score", required=True, help="measured, with its command")
    args = parser.parse_args()
    every = [checkpoint.load(path) for path in args.checkpoint]
    found = every[-1]
    if any(settings(one) != settings(found) for one in every):
        parser.error("the checkpoints are of different networks")
    C = {"mnist": 1, "sprites": 3}[args.name]
    for path, one in zip(args.checkpoint, every, strict=True):
        steps = one.config["recipe"]["steps"]
        channels = settings(one)["image_channels"]
        if (one.step, channels) != (steps, C):
            parser.error(
                f"{path} is after step {one.step} of {steps} and has {channels} "
                f"channels, expected a finished run and {C}"
            )
    kept = "T", "schedule", "schedule_parameters", "recipe"
    about = {key: found.config[key] for key in kept if key in found.config}
    about |= {"network": "UNet", "settings": settings(found)}
    about |= {key: vars(args)[key] for key in ("command", "seed", "seconds", "score")}
    about["date"] = time.strftime("%Y-%m-%d")
    path = trained.FOLDER / f"trained_{args.name}.npz"
    mean = {
        name: sum(one.average[name] for one in every) / len(every)
        for name in found.average
    }
    trained.write(path, mean, about)
    print(f"made {path}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
