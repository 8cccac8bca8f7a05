"""SMIF-NET: spectral attention across modalities at the coarse scale, interactive fusion at the fine one.

M. Xu, J. Mao, Z. Mo, X. Fu, S. Jia: "Spectral Modality-Aware Interactive Fusion Network for HSI Super-Resolution",
Shenzhen University. No code or weights were published.

One reading of the paper, calibrated on its multiply-adds (1.167e12 for its 1.200e12 at 512 x 512 x 31). Where the text
is silent: four layers of attention blocks, each ending with the first features added; features of 64 channels; 3 x 3
convolutions in the fusion; a skip from the upsampled HSI. The paper splits heads along space, which cuts every image
into strips, even an untiled one: `heads="spatial"` does this, cannot be frozen and is for comparison only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.errors import ModelError
from scenefuse.models.feature_maps import shrink
from scenefuse.models.full_precision import ChannelNorm, FullPrecision, full
from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import upsample
from scenefuse.models.sizes import require_size
from scenefuse.models.spatial_statistics import Cosines, Mean, SpatialStatistics, apply_maps

STRIPS = 4
"""Number of strips of the spatial heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SMIFNetOptions:
    """Sizes of SMIF-NET and its ablations."""

    width: int = 64
    """Channels of all features."""
    layers: int = 4
    """SMAT layers (N1)."""
    blocks: int = 5
    """SMAT blocks per layer (N2)."""
    stages: int = 4
    """Fusion stages (S); also determines the kernels of the multiscale features, 1 to 2 S - 3."""
    cross: bool = True
    """Attention from the HSI to the MSI; False is `w/o CSCA`."""
    multiscale: bool = True
    """Multiscale features of the MSI; False is `w/o MSFE`."""
    interactive: bool = True
    """Interactive fusion; False is `w/o IS2F2`: concatenation and a convolution."""
    heads: Literal["channel", "spatial"] = "channel"
    """Cosine heads over channels, or the paper's literal strips."""
    channel_heads: int = 1
    """Groups of channels, each attending separately."""

    def __post_init__(self) -> None:
        require_size("width", self.width, least=4, multiple=4)
        for name in ("layers", "blocks"):
            require_size(name, getattr(self, name))
        require_size("stages", self.stages, least=2)
        require_size("channel_heads", self.channel_heads)
        if self.width % self.channel_heads or (self.heads == "spatial" and self.channel_heads > 1):
            raise ValueError(
                f"channel_heads is {self.channel_heads}, and must divide the width {self.width}; 1 with spatial heads"
            )


def conv(inputs: int, outputs: int, kernel: int = 3, dilation: int = 1) -> nn.Conv2d:
    """Size-preserving convolution."""
    return nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)


class ResidualBlock(nn.Module):
    """x + C3(ReLU(C3(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        out: Tensor = x + self.body(x)
        return out


class DualAttention(nn.Module):
    """SMMA: channel attention of the HSI to itself (ISSA) and to the MSI (CSCA) (Eqs. 1 to 6)."""

    def __init__(self, options: SMIFNetOptions) -> None:
        super().__init__()
        c = options.width
        self.spatial_heads = options.heads == "spatial"
        self.query, self.key, self.value = conv(c, c, 1), conv(c, c, 1), conv(c, c, 1)
        heads = options.channel_heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.cosines = None if self.spatial_heads else Cosines(heads)
        self.ms_key = self.ms_value = self.ms_cosines = None
        if options.cross:
            self.ms_key, self.ms_value = conv(c, c, 1), conv(c, c, 1)
            self.ms_temperature = nn.Parameter(torch.ones(heads, 1, 1))
            self.ms_cosines = None if self.spatial_heads else Cosines(heads)
        self.out = conv(c, c, 1)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """(n, c, y, x) from normed features of both images."""
        attended = self._attend(self.cosines, self.temperature, (self.query, hs), (self.key, hs), self.value(hs + ms))
        if self.ms_key is not None and self.ms_value is not None:
            attended = attended + self._attend(
                self.ms_cosines, self.ms_temperature, (self.query, hs), (self.ms_key, ms), self.ms_value(ms)
            )
        out: Tensor = self.out(attended)
        return out

    def _attend(
        self,
        cosines: Cosines | None,
        temperature: Tensor,
        query: tuple[nn.Module, Tensor],
        key: tuple[nn.Module, Tensor],
        value: Tensor,
    ) -> Tensor:
        """A v, A = softmax over the keys' channels."""
        if cosines is None:
            return strip_attention(query[0](query[1]), key[0](key[1]), value)
        maps = cosines(lambda: (query[0](query[1]), key[0](key[1])))  # (n, heads, c / heads, c / heads)
        return apply_maps((temperature * maps).softmax(-1), value)


def strip_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Eqs. 3 and 4 taken literally: pixels in raster order cut into STRIPS heads, logits over sqrt(pixels)."""
    n, c, height, width = query.shape
    pixels = height * width
    if pixels % STRIPS:
        raise ModelError(
            f"{height} x {width} pixels cannot be cut into {STRIPS} strips",
            "spatial heads need equal strips",
            'use an image of another size, or heads="channel"',
        )
    q, k, v = (full(x).reshape(n, c, STRIPS, pixels // STRIPS).transpose(1, 2) for x in (query, key, value))
    maps = (q @ k.mT / sqrt(pixels / STRIPS)).softmax(-1)  # (n, strips, c, c)
    return (maps @ v).transpose(1, 2).reshape(n, c, height, width).to(value.dtype)


def feed_forward(channels: int) -> nn.Sequential:
    """C1(GELU(C1(LN x))), four times as wide inside."""
    return nn.Sequential(
        ChannelNorm(channels), conv(channels, 4 * channels, 1), nn.GELU(), conv(4 * channels, channels, 1)
    )


class AttentionBlock(nn.Module):
    """SMAT block: attention and feed-forward on the HSI, feed-forward on the MSI."""

    def __init__(self, options: SMIFNetOptions) -> None:
        super().__init__()
        c = options.width
        self.hs_norm, self.ms_norm = ChannelNorm(c), ChannelNorm(c)
        self.attention = DualAttention(options)
        self.hs_forward, self.ms_forward = feed_forward(c), feed_forward(c)

    def forward(self, hs: Tensor, ms: Tensor) -> tuple[Tensor, Tensor]:
        """HSI and MSI features, (n, c, y / ratio, x / ratio) each."""
        hs = hs + self.attention(self.hs_norm(hs), self.ms_norm(ms))
        return hs + self.hs_forward(hs), ms + self.ms_forward(ms)


class MultiscaleFeatures(nn.Module):
    """MSFE: kernels 1, 3, 5 and dilations 1, 2, 3 side by side."""

    def __init__(self, channels: int, stages: int) -> None:
        super().__init__()
        kernels = [conv(channels, channels, 2 * j - 1) for j in range(1, stages)]
        dilated = [conv(channels, channels, 3, dilation=j) for j in range(1, stages)]
        self.sides = nn.ModuleList([*kernels, *dilated])
        self.join = nn.Sequential(conv(len(self.sides) * channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Sum x + C3(ReLU(C3(cat of ReLU of all sides))), (n, c, y, x)."""
        out: Tensor = x + self.join(torch.cat([functional.relu(side(x)) for side in self.sides], 1))
        return out


class InteractiveFusion(nn.Module):
    """IS2F2: HSI channels and MSI pixels are weighted, then each modality is added to the other (Eqs. 7 to 13)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.hs_in, self.ms_in = conv(c, c), conv(c, c)
        self.pool = Mean()
        self.spectral = FullPrecision(conv(c, c // 4, 1), nn.ReLU(), conv(c // 4, c, 1), nn.Sigmoid())
        self.spatial = nn.Sequential(conv(1, 1, 1), nn.Sigmoid())
        self.hs_excite, self.ms_excite = conv(c, c), conv(c, c)
        self.hs_cross, self.ms_cross = conv(c, c), conv(c, c)
        self.hs_out, self.ms_out = conv(c, c), conv(c, c)
        self.join = nn.Sequential(conv(2 * c, c), ResidualBlock(c), ResidualBlock(c))

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Fused features (n, c, y, x)."""
        hs, ms = self.hs_in(hs), self.ms_in(ms)
        excited_hs = self.hs_excite(hs) * self.spectral(self.pool(lambda: (hs,)))
        excited_ms = self.ms_excite(ms) * self.spatial(ms.mean(1, keepdim=True))
        first = self.hs_out(excited_hs + self.ms_cross(ms))
        second = self.ms_out(excited_ms + self.hs_cross(hs))
        out: Tensor = self.join(torch.cat([first, second], 1))
        return out


class Concatenation(nn.Module):
    """Replaces the interactive fusion in its ablation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join = conv(2 * channels, channels)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """C3(cat[hs, ms])."""
        out: Tensor = self.join(torch.cat([hs, ms], 1))
        return out


class SMIFNet(FusionNetwork):
    """SMIF-NET: attention blocks on the coarse grid, pixel shuffle, fusion stages on the fine one."""

    halo_px: ClassVar[int] = 48
    effective_px: ClassVar[int] = 16
    activation_values_per_pixel: ClassVar[int] = 1750

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int, options: SMIFNetOptions | None = None) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        options = options or SMIFNetOptions()
        c = options.width
        self.stages = options.stages
        self.freezable = options.heads == "channel"
        self.lattice_px = 1 if self.freezable else 2 * ratio  # even coarse sides give a multiple of STRIPS pixels
        self.unused_parameters = (f"layers.{options.layers - 1}.{options.blocks - 1}.ms_forward",)
        self.hs_in, self.ms_in = conv(hs_bands, c), conv(ms_bands, c)
        self.layers = nn.ModuleList(
            nn.ModuleList(AttentionBlock(options) for _ in range(options.blocks)) for _ in range(options.layers)
        )
        self.up = nn.Sequential(conv(c, c * ratio**2), nn.PixelShuffle(ratio))
        self.features = nn.ModuleList(
            MultiscaleFeatures(c, options.stages) if options.multiscale else nn.Identity()
            for _ in range(options.stages)
        )
        self.fusions = nn.ModuleList(
            InteractiveFusion(c) if options.interactive else Concatenation(c) for _ in range(options.stages)
        )
        self.out = nn.Sequential(ResidualBlock(c), ResidualBlock(c))
        self.tail = FullPrecision(conv(c, hs_bands))
        self.statistics = SpatialStatistics(self)

    @property
    def support_px(self) -> int:
        """Fine pixels on each side that can influence a pixel at all, with frozen statistics.

        A stage reaches 8 pixels in the fused features and S + 1 in the MSI's, the reconstruction 5, and the coarse
        convolutions 2 coarse pixels beyond the pixel's own.
        """
        fused = 8 * self.stages + 5
        from_ms = max((self.stages + 1) * s + 8 * (self.stages - s + 1) for s in range(1, self.stages + 1)) + 5 + 1
        return max(fused + 3 * self.ratio - 1, from_ms)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Fused image (n, hs band, y, x) from hs with its margin and ms (n, ms band, y, x)."""
        upsampled = upsample(full(hs), self.ratio)  # (n, hs band, y, x)
        fine = self.ms_in(ms)  # (n, c, y, x)
        first = self.hs_in(self.central(hs))  # (n, c, y / ratio, x / ratio)
        coarse, coarse_ms = first, shrink(fine, self.ratio, "linear", antialias=True)
        for layer in self.layers:
            for block in layer:  # type: ignore[attr-defined]  # a ModuleList in a ModuleList
                coarse, coarse_ms = block(coarse, coarse_ms)
            coarse = coarse + first
        fused = self.up(coarse)
        for features, fusion in zip(self.features, self.fusions, strict=True):
            fine = features(fine)
            fused = fusion(fused, fine)
        residual: Tensor = self.tail(self.out(fused))
        return residual + upsampled
