"""Layers that compute in float32 regardless of autocast: norms, pooled vectors, last convolutions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def full(x: Tensor) -> Tensor:
    """The tensor in float32, or unchanged if its type is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A context in which operations on x keep their inputs' types."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class FullPrecision(nn.Sequential):
    """Layers in sequence, in float32 under autocast: a 12-bit step is 2.4e-4, a bfloat16 step at 1 is 3.9e-3."""

    def forward(self, x: Tensor) -> Tensor:
        """The layers' output for x, in float32."""
        with without_autocast(x):
            x = full(x)
            for layer in self:
                x = layer(x)
            return x


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel: local, so tiles agree. Computed in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean_c) / sqrt(var_c + 1e-5) * weight + bias, (n, c, y, x)."""
        with without_autocast(x):
            x = full(x)
            variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
            scale, shift = self.weight[:, None, None], self.bias[:, None, None]
            return (x - mean) * torch.rsqrt(variance + 1e-5) * scale + shift
