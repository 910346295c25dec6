"""The network as a module of PyTorch, and its weights back as arrays."""

from nanodiff import check
from nanodiff.export.mirror import Mirror, installed, network_of
from nanodiff.unet import frequencies


def to_torch(found):
    """Return a network as a `torch.nn.Module`, twin(xt, t, context=None, x0_hat=None).

    found: a `Pretrained`, whose twin says eps_hat as `found.network` does; or a `UNet`,
    such as the `model` of a `Run`, whose twin says what the U-Net says. Output and
    gradients are the same to rounding, on any device. Its `state_dict()` has the names
    and shapes of `named_params()`, with the transposed weights of `Linear` that
    nanodiff has, so it can be loaded with weights of `checkpoint.load`. Raises
    ValueError for a layer that is not in `LAYERS`, and ImportError without torch.

    >>> import pytest, numpy as np
    >>> from nanodiff.unet import UNet
    >>> torch = pytest.importorskip("torch")
    >>> twin = to_torch(UNet(channels=[8, 8], rng=np.random.default_rng(0)))
    >>> twin(torch.zeros(2, 1, 8, 8), 5).shape
    torch.Size([2, 1, 8, 8])
    """
    network, tables = network_of(found)
    torch = installed("torch")
    twin = _module(torch)(network)
    if tables is not None:
        twin.kind = "Eps"
        for name, table in tables.items():  # no part of the state_dict
            table = torch.tensor(table, dtype=twin.conv_in.w.dtype)
            twin.register_buffer(name, table, persistent=False)
    return twin


class _Layers(Mirror):
    """What a layer of each kind computes. F: torch.nn.functional."""

    def Linear(self, x):
        return self.F.linear(x, self.w.T, getattr(self, "b", None))

    def Conv2d(self, x):
        x = self.F.interpolate(x, scale_factor=2.0) if self.up else x
        b = getattr(self, "b", None)
        return self.F.conv2d(x, self.w, b, self.stride, self.w.shape[-1] // 2)

    def Attention(self, x):
        h, layers = self.norm(x), (self.q, self.k, self.v)
        q, k, v = (layer(h).unflatten(1, (self.heads, -1)) for layer in layers)
        q, k, v = (a.flatten(3).mT for a in (q, k, v))  # (N, heads, pixels, d)
        y = self.F.scaled_dot_product_attention(q, k, v)
        return self.out(y.mT.reshape(x.shape)) + x

    def GroupNorm(self, x, modulation=None):
        if modulation is None:
            y = self.F.group_norm(x, self.groups, self.gamma, self.beta, self.tiny)
        else:
            scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
            xhat = self.F.group_norm(x, self.groups, eps=self.tiny)
            y = (self.gamma[:, None, None] + scale) * xhat
            y = y + (self.beta[:, None, None] + shift)
        return self.F.silu(y) if self.silu else y

    def SiLU(self, x):
        return self.F.silu(x)


def _module(torch):
    """The class of these layers as modules; made here, as torch may be missing."""

    class Twin(_Layers, torch.nn.Module):
        F = torch.nn.functional

        def __init__(self, layer):
            super().__init__()
            self.reflect(layer)

        def child(self, value, name):
            if isinstance(value, list):
                return torch.nn.ModuleList(Twin(layer) for layer in value)
            return Twin(value)

        def parameter(self, array, name):
            return torch.nn.Parameter(torch.tensor(array))

        def forward(self, *inputs, **named):
            return self.run(*inputs, **named)

        def time_features(self, t, size):
            t = torch.as_tensor(t).reshape(-1, 1)
            angle = t * torch.as_tensor(frequencies(size), device=t.device)
            return torch.cat([angle.cos(), angle.sin()], 1).to(self.conv_in.w)

    return Twin


def from_torch(twin):
    """Return the weights of a twin as arrays by name, for `load` of its network.

    twin: a module of `to_torch`, on any device, or another with the same names. Raises
    ValueError for anything else.

    >>> import pytest, numpy as np
    >>> from nanodiff.unet import UNet
    >>> torch = pytest.importorskip("torch")
    >>> unet = UNet(channels=[8, 8], rng=np.random.default_rng(0))
    >>> twin = to_torch(unet)  # ... and train it
    >>> unet.load(from_torch(twin))
    UNet(image_channels=1, context_features=0, channels=[8, 8], ...)
    """
    what = "a module of to_torch"
    named = check.thing("twin", twin, what, "named_parameters").named_parameters()
    return {name: w.detach().cpu().numpy().copy() for name, w in named}
