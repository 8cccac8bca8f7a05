"""Networks of the benchmark: one per way in which a pixel depends on others. Random weights, ratio 4 in mind."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import upsample
from scenefuse.models.spatial_statistics import Mean, Reduction, SpatialStatistics, Sums

WIDTH = 24
"""Channels of all features, the U-Net's deeper scales excepted."""
NORM_GROUPS = 4
"""Groups of channels that the norm looks at together."""


class BenchNetwork(FusionNetwork):
    """A network that sees the HSI upsampled only, so that rivals can be given it upsampled beforehand."""

    halo_px: ClassVar[int] = 8
    effective_px: ClassVar[int] = 8
    activation_values_per_pixel: ClassVar[int] = 5 * WIDTH
    reach_px: ClassVar[int]
    """Fine pixels of both images, the HSI upsampled, that can influence a pixel."""
    body: nn.Sequential
    """What makes the residual, where it is one sequence."""

    @property
    def support_px(self) -> int:
        """Fine pixels on each side that can influence a pixel at all, with frozen statistics."""
        return self.reach_px + 3 * self.ratio - 1  # three coarse pixels: the pixel's own and two under the kernel

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Fused image (n, hs band, y, x) from hs with its margin and ms (n, ms band, y, x)."""
        return self.on_fine(upsample(hs, self.ratio), ms)

    def on_fine(self, upsampled: Tensor, ms: Tensor) -> Tensor:
        """Fused image (n, hs band, y, x) from both images on the fine grid: the upsampled HSI plus a residual."""
        residual: Tensor = self.body(torch.cat([upsampled, ms], 1))
        return upsampled + residual


class PerPixel(BenchNetwork):
    """1 x 1 convolutions: no pixel depends on its neighbours, but for the upsampling."""

    halo_px: ClassVar[int] = 0
    reach_px: ClassVar[int] = 0

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        self.body = nn.Sequential(
            *(nn.Conv2d(hs_bands + ms_bands, WIDTH, 1), nn.ReLU()),
            *(nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU()),
            nn.Conv2d(WIDTH, hs_bands, 1),
        )
        self.statistics = SpatialStatistics(self)


class Convolutions(BenchNetwork):
    """Four 3 x 3 convolutions."""

    reach_px: ClassVar[int] = 4

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        widths = (hs_bands + ms_bands, *(WIDTH,) * 3)
        inner = [layer for i in range(3) for layer in (conv(widths[i], widths[i + 1]), nn.ReLU())]
        self.body = nn.Sequential(*inner, conv(WIDTH, hs_bands))
        self.statistics = SpatialStatistics(self)


class UNet(BenchNetwork):
    """Three halvings and their way back: windows must start on multiples of 8."""

    lattice_px = 8
    halo_px: ClassVar[int] = 24
    effective_px: ClassVar[int] = 16
    reach_px: ClassVar[int] = 30
    """3 x 3 convolutions at scales 1, 2, 4, 8, 4, 2, 1, 1 reach 23; a pixel's cell at scale 8 has 7 more."""

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        widths = (WIDTH, 32, 48, 64)
        self.enter = conv(hs_bands + ms_bands, WIDTH)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.encode = nn.ModuleList(conv(b, b) for _, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.decode = nn.ModuleList(conv(a, a) for a, _ in reversed(pairs))
        self.leave = conv(WIDTH, hs_bands)
        self.statistics = SpatialStatistics(self)

    def on_fine(self, upsampled: Tensor, ms: Tensor) -> Tensor:
        """The upsampled HSI plus what comes back through the scales."""
        x = functional.relu(self.enter(torch.cat([upsampled, ms], 1)))
        scales = [x]
        for down, encode in zip(self.down, self.encode, strict=True):
            scales.append(functional.relu(encode(down(scales[-1]))))
        x = scales.pop()
        for up, decode in zip(self.up, self.decode, strict=True):
            x = functional.relu(decode(up(x) + scales.pop()))
        residual: Tensor = self.leave(x)
        return upsampled + residual


class SqueezeExcitation(BenchNetwork):
    """Channels weighted by their means over the image (Hu et al. 2018): every pixel depends on all."""

    reach_px: ClassVar[int] = 3

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        self.enter, self.inner, self.leave = (
            conv(hs_bands + ms_bands, WIDTH),
            conv(WIDTH, WIDTH),
            conv(WIDTH, hs_bands),
        )
        self.means = nn.ModuleList(Mean() for _ in range(2))
        self.weigh = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, 8, 1), nn.ReLU(), nn.Conv2d(8, WIDTH, 1), nn.Sigmoid()) for _ in range(2)
        )
        self.statistics = SpatialStatistics(self)

    def on_fine(self, upsampled: Tensor, ms: Tensor) -> Tensor:
        """The upsampled HSI plus the residual of weighted features."""
        x = functional.relu(self.enter(torch.cat([upsampled, ms], 1)))
        x = self._weighted(0, x)
        x = self._weighted(1, functional.relu(self.inner(x)))
        residual: Tensor = self.leave(x)
        return upsampled + residual

    def _weighted(self, index: int, x: Tensor) -> Tensor:
        weighted: Tensor = x * self.weigh[index](self.means[index](lambda: (x,)))
        return weighted


class GroupMoments(Reduction):
    """Mean and 1 / standard deviation of each group of channels over space, (n, 2, c, 1, 1)."""

    names = ("sum", "squares", "values")

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.channels, self.groups = channels, groups

    def sums(self, *features: Tensor) -> Sums:
        """Sums and sums of squares (n, group), number of values in a group (n)."""
        (x,) = features
        grouped = x.reshape(x.shape[0], self.groups, -1)  # (n, group, values)
        count = x.new_full((x.shape[0],), grouped.shape[2])
        return {"sum": grouped.sum(2), "squares": grouped.square().sum(2), "values": count}

    def conclude(self, sums: Sums) -> Tensor:
        """Quotients sum / values, and 1 / sqrt(squares / values - mean^2 + 1e-5)."""
        mean = sums["sum"] / sums["values"][:, None]
        variance = sums["squares"] / sums["values"][:, None] - mean.square()
        moments = torch.stack([mean, torch.rsqrt(variance + 1e-5)], 1)  # (n, 2, group)
        return moments.repeat_interleave(self.channels // self.groups, 2)[..., None, None]


class GroupNormed(BenchNetwork):
    """Features normed over groups of channels and the whole image (Wu and He 2018)."""

    reach_px: ClassVar[int] = 3

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        self.enter, self.inner, self.leave = (
            conv(hs_bands + ms_bands, WIDTH),
            conv(WIDTH, WIDTH),
            conv(WIDTH, hs_bands),
        )
        self.moments = nn.ModuleList(GroupMoments(WIDTH, NORM_GROUPS) for _ in range(2))
        self.statistics = SpatialStatistics(self)

    def on_fine(self, upsampled: Tensor, ms: Tensor) -> Tensor:
        """The upsampled HSI plus the residual of normed features."""
        x = functional.relu(self._normed(0, self.enter(torch.cat([upsampled, ms], 1))))
        x = functional.relu(self._normed(1, self.inner(x)))
        residual: Tensor = self.leave(x)
        return upsampled + residual

    def _normed(self, index: int, x: Tensor) -> Tensor:
        mean, scale = self.moments[index](lambda: (x,)).unbind(1)
        normed: Tensor = (x - mean) * scale
        return normed


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """3 x 3 convolution that keeps the size; zeros outside."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


NETWORKS: dict[str, type[BenchNetwork]] = {
    "per-pixel": PerPixel,
    "conv": Convolutions,
    "unet-8": UNet,
    "se": SqueezeExcitation,
    "groupnorm": GroupNormed,
}
"""Networks of the benchmark by name."""
