"""Diffusion models from scratch: NumPy, hand-written backprop, a few Numba loops.

Start with `schedule.py` and read on in the order of `READING_ORDER`, up to the wing
`fast`, which only makes the network faster.
"""

from nanodiff import data, ddim, ddpm, exact, schedule
from nanodiff.guidance import guide
from nanodiff.run import Run
from nanodiff.sampling import sample
from nanodiff.schedule import Schedule, cosine, linear, q_sample
from nanodiff.train import Recipe
from nanodiff.trained import pretrained
from nanodiff.unet import UNet

# Every file and folder once; each imports only from those before it, but for engine,
# which also imports fast. README's table has this order, and tests hold both.
READING_ORDER = (
    ("What an argument may be", ("check",)),
    ("The ideas",
     ("schedule", "prediction", "ddpm", "ddim", "heun", "flow", "dpm", "respace",
      "streams", "guidance", "latent", "self_conditioning", "exact", "likelihood",
      "laws")),
    ("The network",
     ("plain", "engine", "layers", "attention", "unet", "toy", "gradcheck")),
    ("The desk: data and pictures",
     ("files", "progress", "pictures", "data", "viz", "sprite_parts", "sprites")),
    ("Learning",
     ("optim", "parallel", "train", "checkpoint", "evaluate", "trained", "signals",
      "run", "sampling", "export")),
    ("For speed only, skip at first", ("fast",)),
)  # fmt: skip
__version__ = "0.1.0"

__all__ = [
    "READING_ORDER",
    "Recipe",
    "Run",
    "Schedule",
    "UNet",
    "__version__",
    "cosine",
    "data",
    "ddim",
    "ddpm",
    "exact",
    "guide",
    "linear",
    "pretrained",
    "q_sample",
    "sample",
    "schedule",
]
