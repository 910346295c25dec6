"""Diffusion models from scratch: NumPy, hand-written backprop, a few Numba loops.

Start with `schedule.py`, then `ddpm.py`, `train.py`, `ddim.py`; the network is
`unet.py` over `layers.py`, and `kernels.py` makes it fast.
"""

from nanodiff import data, ddim, ddpm, exact, schedule
from nanodiff.guidance import guide
from nanodiff.schedule import Schedule, cosine, linear, q_sample
from nanodiff.trained import pretrained
from nanodiff.unet import UNet

__version__ = "0.1.0"

__all__ = [
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
    "schedule",
]
