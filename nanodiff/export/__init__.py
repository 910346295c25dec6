"""The network in two engines of others: PyTorch for a GPU, ONNX for anywhere else.

    found = pretrained("mnist")
    twin = to_torch(found)                    a torch.nn.Module: train it, or draw by it
    found.network.load(from_torch(twin))      and back: NumPy has its weights
    to_onnx(found, "digits.onnx")             a file for ONNX Runtime

To read: `mirror.py`, the U-Net as it is in both; then `pytorch.py`, `onnx_file.py`,
which have one short method for each kind of layer. Parameters keep their paths, shapes
and layout in both.

Shapes: xt, x0_hat, output (N, C, H, W); t an int or (N,); context (N, features).
"""

from nanodiff.export.onnx_file import to_onnx
from nanodiff.export.pytorch import from_torch, to_torch

__all__ = ["from_torch", "to_onnx", "to_torch"]
