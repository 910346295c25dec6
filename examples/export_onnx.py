"""Write a trained network to an ONNX file, then draw four digits by ONNX Runtime.

    pip install 'nanodiff[onnx]' onnxruntime
    python examples/export_onnx.py                           2, 0, 2, 6
    python examples/export_onnx.py --model sprites           hero, non-hero, food, spell
    python examples/export_onnx.py --model runs/mine/checkpoint.npz --half

Seconds. `draw` uses NumPy and ONNX Runtime alone, so it can be copied into a program
without nanodiff: the file knows the noise, the shape of a picture and the classes.
"""

import argparse
import json
from pathlib import Path

import limits
import numpy as np

from nanodiff import trained, viz
from nanodiff.export import to_onnx


def options():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="mnist", help="mnist, sprites or a checkpoint's path")
    add("--out", type=Path, default=Path("runs/onnx"), help="folder for the results")
    add(
        "--half", action="store_true", help="keep the weights as float16: half the size"
    )
    add("--steps", type=limits.count, default=50, help="network calls")
    add("--seed", type=limits.seed, default=0, help="of the noise")
    add("--quick", action="store_true", help="two steps: it draws mush")
    args = parser.parse_args()
    if args.quick:
        args.steps = 2
    return args


def draw(session, labels, steps, seed):
    """Pictures of these classes by DDIM (arXiv 2010.02502, Eq. 12 with sigma = 0)."""
    about = session.get_modelmeta().custom_metadata_map
    about = {name: json.loads(text) for name, text in about.items()}
    alpha_bar = np.float32(about["alpha_bar"])
    rng, shape = np.random.default_rng(seed), (len(labels), *about["shape"])
    xt, T = rng.standard_normal(shape).astype(np.float32), len(alpha_bar) - 1
    given = {"context": np.eye(len(about["classes"]), dtype=np.float32)[labels]}
    inputs, x0_hat = [value.name for value in session.get_inputs()], np.zeros_like(xt)
    times = [T - i * T // steps for i in range(steps)] + [0]
    for t, s in zip(times[:-1], times[1:], strict=True):
        given |= {"xt": xt, "t": np.full(len(xt), t), "x0_hat": x0_hat}
        (eps_hat,) = session.run(None, {name: given[name] for name in inputs})
        x0_hat = (xt - np.sqrt(1 - alpha_bar[t]) * eps_hat) / np.sqrt(alpha_bar[t])
        x0 = x0_hat.clip(-1, 1)
        eps_hat = (xt - np.sqrt(alpha_bar[t]) * x0) / np.sqrt(1 - alpha_bar[t])
        xt = np.sqrt(alpha_bar[s]) * x0 + np.sqrt(1 - alpha_bar[s]) * eps_hat
    return xt


def main():
    args = options()
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("this draws by ONNX: pip install onnxruntime") from error
    found = trained.pretrained(args.model)
    viz.folder(args.out)
    to_onnx(found, args.out / "network.onnx", half=args.half)
    session = onnxruntime.InferenceSession(args.out / "network.onnx")
    digits = len(found.classes) == 10
    labels = [2, 0, 2, 6] if digits else [k % len(found.classes) for k in range(4)]
    made = draw(session, labels, args.steps, args.seed)
    viz.save_sheet(args.out / "onnx.png", made, columns=4)
    print(f"made {args.out}/network.onnx and {args.out}/onnx.png")


if __name__ == "__main__":
    limits.run(main)
