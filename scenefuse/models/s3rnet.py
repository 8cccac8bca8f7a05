"""S3RNet: four convolutional branches at two resolutions, weighted pixel by pixel.

C.-M. Lee, Y.-F. Lin, L.-W. Kang, C.-C. Hsu: "Robust Hyperspectral Image Panshapring via Sparse Spatial-Spectral
Representation", IGARSS 2025, doi 10.1109/IGARSS55030.2025.11243541, arXiv:2501.07953.

Written from the paper, with kernel sizes from its parameter count (26.81 M needs 3 x 3 where the formula prints
1 x 1, and no groups in the "grouped" branch). The authors' code is under the MIT licence; their weights are not public.

As released, the paper's attention has no effect: the map and the values are contracted over different indices, so each
row of the softmax multiplies the sum of its head's values. `attention="released"` reproduces that, and the network then
has no operation over the whole image. `attention="paper"` follows the formula, with logits divided by the number of
pixels relative to the training crop, because they otherwise grow with the image until the softmax is an arg-max.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.errors import ModelError
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.feature_maps import enlarge, repeat, shrink
from scenefuse.models.full_precision import FullPrecision, full
from scenefuse.models.network import FusionNetwork
from scenefuse.models.sizes import require_size
from scenefuse.models.spatial_statistics import MeanProduct, SpatialStatistics, apply_maps

HEADS = 4
"""Heads of the attention."""

HEAD_CHANNELS = 16
"""Channels of a head."""

TRAINING_PIXELS = 128**2
"""Pixels of a training crop: the size at which the paper's logits apply unchanged."""

INITIAL_SCALE = 0.1
"""Factor on Kaiming's initial weights inside dense blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3RNetOptions:
    """Sizes of S3RNet, and the kind of attention."""

    depths: tuple[int, int, int, int] = (4, 4, 6, 6)
    """Residual groups in branches Q, K, V and Z. The student of the authors' later paper (README of their code: 7.44
    M parameters) is (4, 1, 4, 0) with 43 query groups."""
    fusion: Literal["weighted", "sum"] = "weighted"
    """`weighted`: branches weighted pixel by pixel (SSAWB); `sum`: simply added, the public code's own default."""
    attention: Literal["released", "paper"] = "released"
    """Attention as computed by the public code (inert), or as written in the paper."""
    query_groups: int = 1
    """Groups of the convolutions in branch Q; the published count needs 1."""

    def __post_init__(self) -> None:
        if len(self.depths) != 4 or min(self.depths) < 0:
            raise ValueError(f"depths is {self.depths}, and must be four numbers, none negative")
        require_size("query_groups", self.query_groups)


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    """Size-preserving 3 x 3 convolution."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


class DenseBlock(nn.Module):
    """DFAB: x + 0.2 * C3(cat[x, f1..f4]), f_j = LeakyReLU(C3(cat[x, f1..f_{j-1}]))."""

    def __init__(self, channels: int, growth: int, groups: int) -> None:
        super().__init__()
        self.grow = nn.ModuleList(conv(channels + j * growth, growth, groups) for j in range(4))
        self.out = conv(channels + 4 * growth, channels, groups)
        for layer in (*self.grow, self.out):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in")
            nn.init.zeros_(layer.bias)
            with torch.no_grad():
                layer.weight.mul_(INITIAL_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        features = [x]
        for layer in self.grow:
            features.append(functional.leaky_relu(layer(torch.cat(features, 1)), 0.2))
        out: Tensor = x + 0.2 * self.out(torch.cat(features, 1))
        return out


class ResidualGroup(nn.Module):
    """RG: x + 0.2 * three dense blocks."""

    def __init__(self, channels: int, growth: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(channels, growth, groups) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        out: Tensor = x + 0.2 * self.blocks(x)
        return out


class Branch(nn.Sequential):
    """LeakyReLU(C3), then residual groups: (n, band, y, x) to (n, c, y, x)."""

    def __init__(self, bands: int, channels: int, depth: int, groups: int = 1) -> None:
        growth = channels // 2
        super().__init__(
            conv(bands, channels),
            nn.LeakyReLU(0.2),
            *(ResidualGroup(channels, growth, groups) for _ in range(depth)),
        )


class WeightBlock(nn.Module):
    """SSAWB: attention of Q and K on V, added to Z; then the four branches weighted pixel by pixel (Eq. 6)."""

    def __init__(self, channels: int, attention: Literal["released", "paper"]) -> None:
        super().__init__()
        inner = HEADS * HEAD_CHANNELS
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.products = MeanProduct(HEADS) if attention == "paper" else None
        self.out = nn.Conv2d(inner, channels, 1)
        self.weigh = nn.Conv2d(4 * channels, 4, 1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, z: Tensor) -> Tensor:
        """Weighted sum of four branches, (n, c, y, x)."""
        values = self.value(v)  # (n, heads * 16, y, x)
        if self.products is None:
            heads = [head.sum(1, keepdim=True).expand_as(head) for head in values.chunk(HEADS, dim=1)]
            attended = torch.cat(heads, 1)
        else:
            products = self.products(lambda: (self.query(q), self.key(k)))  # (n, heads, 16, 16)
            attended = apply_maps((products * (TRAINING_PIXELS / sqrt(HEAD_CHANNELS))).softmax(-1), values)
        z = z + self.out(attended)
        weights = torch.sigmoid(self.weigh(torch.cat([q, k, v, z], 1)))  # (n, 4, y, x)
        return weights[:, 0:1] * q + weights[:, 1:2] * k + weights[:, 2:3] * v + weights[:, 3:4] * z


class S3RNet(FusionNetwork):
    """S3RNet: HSI and MSI, separately and jointly, at both resolutions."""

    halo_px: ClassVar[int] = 64
    effective_px: ClassVar[int] = 24
    activation_images: ClassVar[int] = 13
    activation_values_per_pixel: ClassVar[int] = 0

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int, options: S3RNetOptions | None = None) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        options = options or S3RNetOptions()
        self.depths = options.depths
        channels = hs_bands // 2
        if channels < 2 or channels % options.query_groups or channels // 2 % options.query_groups:
            raise ModelError(
                f"{hs_bands} HSI bands and {options.query_groups} query groups",
                f"S3RNet has a half and a quarter of the bands as channels, {channels} and {channels // 2}, in groups",
                "Give four bands or more, and groups that divide both",
            )
        if options.attention == "released" and options.fusion == "weighted":
            self.unused_parameters = ("weigh.query", "weigh.key")
        deep_q, deep_k, deep_v, deep_z = options.depths
        self.hs_branch = Branch(hs_bands, channels, deep_q, options.query_groups)
        self.ms_branch = Branch(ms_bands, channels, deep_k)
        self.coarse_branch = Branch(hs_bands + ms_bands, channels, deep_v)
        self.fine_branch = Branch(hs_bands + ms_bands, channels, deep_z)
        self.weigh = WeightBlock(channels, options.attention) if options.fusion == "weighted" else None
        self.out = nn.Sequential(conv(channels, hs_bands), nn.LeakyReLU(0.2))
        self.tail = FullPrecision(nn.Conv2d(hs_bands, hs_bands, 3, padding=1, bias=False))
        self.statistics = SpatialStatistics(self)

    @property
    def support_px(self) -> int:
        """Fine pixels on each side that can influence a pixel at all, with frozen statistics.

        A group reaches 15 pixels; two convolutions at the end reach 2; the MSI's cubic kernel 1 more at ratio 2.
        """
        deep_q, deep_k, deep_v, deep_z = self.depths
        coarse = (1 + 15 * max(deep_q, deep_v)) * self.ratio + self.ratio - 1 + (1 if self.ratio == 2 else 0)
        fine = 1 + 15 * max(deep_k, deep_z) + (3 * self.ratio - 2) // 2
        return 2 + max(coarse, fine)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Fused image (n, hs band, y, x) from hs with its margin and ms (n, ms band, y, x)."""
        hs, ms = full(hs), full(ms)
        coarse_hs, coarse_ms = self.central(hs), shrink(ms, self.ratio, "cubic", antialias=False)
        fine_hs = enlarge(hs, self.ratio, margin=UPSAMPLE_MARGIN)
        q = repeat(self.hs_branch(coarse_hs), self.ratio)  # (n, c, y, x), like the other three
        k = self.ms_branch(ms)
        v = repeat(self.coarse_branch(torch.cat([coarse_hs, coarse_ms], 1)), self.ratio)
        z = self.fine_branch(torch.cat([fine_hs, ms], 1))
        joined = q + k + v + z if self.weigh is None else self.weigh(q, k, v, z)
        fused: Tensor = self.tail(self.out(joined))
        return fused
