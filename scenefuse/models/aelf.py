"""AELF and AELF-t: adaptive expert learning for hyperspectral and multispectral image fusion.

W. He, Y. Cai, Q. Ren, A. Ruze, S. Jia: "Adaptive Expert Learning for Hyperspectral and Multispectral Image Fusion",
IEEE Transactions on Geoscience and Remote Sensing 63, 2025. Equations are cited by their number there.

Written from the paper; parameter counts match its tables to the last digit (Tables VI and VII; 6.8378 M in total). The
authors' public code has no licence, so neither it nor weights made with it may be shipped. Where paper and code
disagree, this follows the code, because the published counts and results come from it: one PReLU shared by all residual
blocks, the query from the own modality, no layer norm in the attention. Unlike the code, bilinear grids use half-pixel
centres (align_corners=True makes the sampling grid depend on the tile's size).

AELF-t is "the same structure with fewer parameters"; the paper does not give its widths. Ours: 32, 48, 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.models.feature_maps import enlarge
from scenefuse.models.full_precision import FullPrecision, full
from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import upsample
from scenefuse.models.sizes import require_size
from scenefuse.models.spatial_statistics import Cosines, Mean, MeanPlusMaximum, SpatialStatistics, apply_maps

Expert = Literal["spatial", "spectral", "edge"]

HEADS = 4
"""Heads of the mutual cross attention."""

POOL_SCALES = ((8, 4, 2), (4, 2), (2,), (8, 4), (4,), (8,))
"""Allowed scales of the guidance module: coarsest first, each half of the one before, none beyond the lattice."""

REACH_PX = 157
"""Pixels of the upsampled HSI on each side that can influence a pixel (of the MSI: 117)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AELFOptions:
    """Sizes of AELF and its ablations."""

    width: int = 64
    """Channels at full resolution."""
    step: int = 32
    """Additional channels at each of the two coarser scales."""
    pool_scales: tuple[int, ...] = (8, 4, 2)
    """Scales of the guidance module, coarsest first, each half of the one before (Table VI)."""
    experts: tuple[Expert, ...] = ("spatial", "spectral", "edge")
    """Experts of the mixture (Table VII)."""
    supervision: bool = True
    """First-stage super-resolution network with its own loss; False is Table V `w/o SR` (also without cross_stage)."""
    cross_stage: bool = True
    """Add first-stage features in the second stage; False is Table V `w/o CSFF`."""
    guidance: bool = True
    """Mutual guidance of the modalities; False is Table V `w/o MGCM`."""
    mixture: bool = True
    """Mixture of experts; False is Table V `w/o AMoFE`: a 1 x 1 convolution of both modalities instead."""
    query: Literal["own", "other"] = "own"
    """Modality that provides the query: `own` as in the authors' code; `other`, with a residual, as in Eq. 7."""

    def __post_init__(self) -> None:
        require_size("width", self.width, least=HEADS, multiple=HEADS)
        require_size("step", self.step, least=0, multiple=4)  # pixel unshuffling works on a quarter of each width
        if self.pool_scales not in POOL_SCALES:
            raise ValueError(f"pool_scales is {self.pool_scales}, and must be one of {POOL_SCALES}")
        if not self.experts or len(set(self.experts)) < len(self.experts):
            raise ValueError(f"experts is {self.experts}, and must name at least one, none twice")

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels at scales 1, 1/2 and 1/4."""
        return self.width, self.width + self.step, self.width + 2 * self.step


TINY = AELFOptions(width=32, step=16)
"""AELF-t."""


class AELFOutput(NamedTuple):
    """The outputs that AELF's loss needs."""

    fused: Tensor
    """(n, hs band, y, x)."""
    first_stage: Tensor
    """Super-resolved HSI without the MSI, (n, hs band, y, x)."""
    gates: tuple[Tensor, ...]
    """Weight of each expert at each of three scales, (n, experts), rows summing to 1; empty without a mixture."""


def conv(inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """Size-preserving convolution of stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


class ResidualBlock(nn.Module):
    """x + C3(act(C3(x)))."""

    def __init__(self, channels: int, activation: nn.PReLU) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), activation, conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        out: Tensor = x + self.body(x)
        return out


def down(widths: Sequence[int], scale: int) -> nn.Sequential:
    """Halve the size: C3 to a quarter of the next width, then pixel unshuffle."""
    return nn.Sequential(conv(widths[scale], widths[scale + 1] // 4, bias=False), nn.PixelUnshuffle(2))


class Encoder(nn.Module):
    """Three residual blocks, at scales 1, 1/2 and 1/4."""

    def __init__(self, widths: Sequence[int], activation: nn.PReLU) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(c, activation) for c in widths)
        self.downs = nn.ModuleList(down(widths, scale) for scale in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features at scales 1, 1/2 and 1/4."""
        features = [self.blocks[0](x)]
        for shrink, block in zip(self.downs, self.blocks[1:], strict=True):
            features.append(block(shrink(features[-1])))
        return features


class Decoder(nn.Module):
    """Three residual blocks from scale 1/4 up to 1, with additive skips."""

    def __init__(self, widths: Sequence[int], activation: nn.PReLU) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(c, activation) for c in widths)
        self.ups = nn.ModuleList(
            nn.Sequential(conv(widths[i + 1], 4 * widths[i], bias=False), nn.PixelShuffle(2)) for i in range(2)
        )
        self.skips = nn.ModuleList(conv(widths[i], widths[i]) for i in range(2))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decoded features at scales 1, 1/2 and 1/4."""
        decoded = [self.blocks[2](features[2])]
        for scale in (1, 0):
            up, skip = self.ups[scale](decoded[0]), self.skips[scale](features[scale])
            decoded.insert(0, self.blocks[scale](up + skip))
        return decoded


class ResidualSupervision(nn.Module):
    """First-stage image, and features weighted by the residual it predicts."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.predict = FullPrecision(conv(channels, bands, 1))
        self.pool = Mean()
        self.weigh = FullPrecision(conv(bands, channels, 1), nn.Sigmoid())

    def forward(self, decoded: Tensor, upsampled: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted features (n, c, y, x) and the first-stage image (n, hs band, y, x)."""
        residual = self.predict(decoded)
        return decoded * (1 + self.weigh(self.pool(lambda: (residual,)))), residual + upsampled


def projection(channels: int) -> nn.Sequential:
    """dw3(C1(x)): a query, key or value."""
    return nn.Sequential(conv(channels, channels, 1), nn.Conv2d(channels, channels, 3, padding=1, groups=channels))


class MutualAttention(nn.Module):
    """Channel attention in both directions with the same weights (Eq. 7)."""

    def __init__(self, channels: int, query: Literal["own", "other"]) -> None:
        super().__init__()
        self.query_modality = query
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.query, self.key, self.value = projection(channels), projection(channels), projection(channels)
        self.out = conv(channels, channels, 1)
        self.hs_cosines, self.ms_cosines = Cosines(HEADS), Cosines(HEADS)

    def forward(self, hs: Tensor, ms: Tensor) -> tuple[Tensor, Tensor]:
        """The attended HSI and MSI features, (n, c, y, x) each."""
        if self.query_modality == "own":
            return self._attend(self.hs_cosines, hs, ms), self._attend(self.ms_cosines, ms, hs)
        return hs + self._attend(self.hs_cosines, ms, hs), ms + self._attend(self.ms_cosines, hs, ms)

    def _attend(self, cosines: Cosines, asking: Tensor, asked: Tensor) -> Tensor:
        """C1(A v), A = softmax(temperature * cos(q, k)) over the keys' channels."""
        maps = cosines(lambda: (self.query(asking), self.key(asked)))  # (n, heads, c / heads, c / heads)
        maps = (self.temperature * maps).softmax(-1)
        out: Tensor = self.out(apply_maps(maps, self.value(asked)))
        return out


class Guidance(nn.Module):
    """MGCM: the modalities guide each other at coarse scales (Eqs. 4, 7, 8)."""

    def __init__(self, channels: int, options: AELFOptions) -> None:
        super().__init__()
        self.scales = options.pool_scales
        self.hs_in, self.ms_in = conv(channels, channels), conv(channels, channels)
        self.hs_pooled = nn.ModuleList(conv(channels, channels) for _ in self.scales)
        self.ms_pooled = nn.ModuleList(conv(channels, channels) for _ in self.scales)
        self.attention = nn.ModuleList(MutualAttention(channels, options.query) for _ in self.scales)
        self.hs_out, self.ms_out = conv(channels, channels), conv(channels, channels)

    def forward(self, hs: Tensor, ms: Tensor) -> tuple[Tensor, Tensor]:
        """Guided HSI and MSI features, (n, c, y, x) each."""
        hs_sum, ms_sum = self.hs_in(hs), self.ms_in(ms)
        hs_guide: Tensor | None = None
        ms_guide: Tensor | None = None
        for i, scale in enumerate(self.scales):
            hs_small = self.hs_pooled[i](_pooled_with(hs, scale, hs_guide))  # (n, c, y / scale, x / scale)
            ms_small = self.ms_pooled[i](_pooled_with(ms, scale, ms_guide))
            hs_guide, ms_guide = self.attention[i](hs_small, ms_small)
            hs_sum = hs_sum + enlarge(hs_guide, scale)
            ms_sum = ms_sum + enlarge(ms_guide, scale)
        return hs + self.hs_out(functional.gelu(hs_sum)), ms + self.ms_out(functional.gelu(ms_sum))


def _pooled_with(x: Tensor, scale: int, guide: Tensor | None) -> Tensor:
    """Means over scale x scale pixels, plus the guide from the next coarser scale."""
    pooled = functional.avg_pool2d(x, scale)
    return pooled if guide is None else pooled + enlarge(guide, 2)


class SpatialExpert(nn.Module):
    """Structure: a 7 x 7 attention over space."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join, self.attention = conv(2 * channels, channels), conv(channels, 1, 7)
        self.out = conv(channels, channels)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """C3(a * sigmoid(C7(a))), a = LeakyReLU(C3(cat))."""
        joined = functional.leaky_relu(self.join(torch.cat([hs, ms], 1)))
        out: Tensor = self.out(joined * torch.sigmoid(self.attention(joined)))
        return out


class SpectralExpert(nn.Module):
    """Spectra: channel attention on the HSI, pointwise otherwise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hs_in, self.ms_in = conv(channels, channels, 1), conv(channels, channels, 1)
        self.pool = Mean()
        self.excite = FullPrecision(
            conv(channels, channels // 4, 1), nn.ReLU(), conv(channels // 4, channels, 1), nn.Sigmoid()
        )
        self.out = conv(2 * channels, channels, 1)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """C1(cat[p * se(mean p), q]), p = C1(hs), q = C1(ms)."""
        p = self.hs_in(hs)
        p = p * self.excite(self.pool(lambda: (p,)))
        out: Tensor = self.out(torch.cat([p, self.ms_in(ms)], 1))
        return out


class EdgeExpert(nn.Module):
    """Edges: learnable Laplacians, one filter for each modality."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hs_edges, self.ms_edges = laplacian(channels), laplacian(channels)
        self.join, self.out = conv(2 * channels, channels), conv(channels, channels)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """C3(LeakyReLU(C3(cat[|edges of hs|, |edges of ms|])))."""
        edges = torch.cat([self.hs_edges(hs).abs(), self.ms_edges(ms).abs()], 1)
        out: Tensor = self.out(functional.leaky_relu(self.join(edges)))
        return out


def laplacian(channels: int) -> nn.Conv2d:
    """Depthwise 3 x 3 convolution that starts as the 8-neighbour Laplacian."""
    filters = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    with torch.no_grad():
        filters.weight.fill_(-1.0)[:, :, 1, 1] = 8.0
    return filters


EXPERTS: dict[Expert, type[nn.Module]] = {"spatial": SpatialExpert, "spectral": SpectralExpert, "edge": EdgeExpert}


class Gate(nn.Module):
    """Weights of the experts, one set per patch (Eqs. 12 to 14)."""

    def __init__(self, channels: int, experts: int) -> None:
        super().__init__()
        self.mix = conv(2 * channels, channels, 1)
        self.pool = MeanPlusMaximum()
        self.score = FullPrecision(nn.Linear(channels, experts), nn.LeakyReLU(0.2))
        self.perturb = nn.Linear(channels, experts)  # inert under the authors' top-3-of-3, but in their counts
        nn.init.zeros_(self.perturb.weight)

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Softmax over experts, (n or 1, experts)."""
        pooled = self.pool(lambda: (self.mix(torch.cat([hs, ms], 1)),))  # (n or 1, c, 1, 1)
        scores: Tensor = self.score(pooled.flatten(1))
        return scores.softmax(1)


class ExpertMixture(nn.Module):
    """AMoFE: experts for three attributes, weighted by one gate (Eq. 15)."""

    def __init__(self, channels: int, experts: Sequence[Expert]) -> None:
        super().__init__()
        self.gate = Gate(channels, len(experts))
        self.experts = nn.ModuleList(EXPERTS[name](channels) for name in experts)

    def forward(self, hs: Tensor, ms: Tensor) -> tuple[Tensor, Tensor]:
        """Fused features (n, c, y, x), and the gate (n or 1, experts)."""
        gate = self.gate(hs, ms)
        weights = gate[:, :, None, None, None].unbind(1)  # each (n or 1, 1, 1, 1)
        fused = torch.zeros_like(hs)
        for expert, weight in zip(self.experts, weights, strict=True):
            fused = fused + expert(hs, ms) * weight
        return fused, gate


class Concatenation(nn.Module):
    """Replaces the mixture in the ablation without it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = conv(2 * channels, channels, 1)

    def forward(self, hs: Tensor, ms: Tensor) -> tuple[Tensor, None]:
        """C1(cat[hs, ms]) (n, c, y, x), and no gate."""
        return self.mix(torch.cat([hs, ms], 1)), None


class FusionEncoder(nn.Module):
    """Second-stage encoder: each scale takes in the first stage's features, then the MSI's (Eqs. 5, 6)."""

    def __init__(self, options: AELFOptions, activation: nn.PReLU) -> None:
        super().__init__()
        widths = options.widths
        self.encoder = Encoder(widths, activation)
        crossing = widths if options.cross_stage and options.supervision else ()
        self.from_encoder = nn.ModuleList(conv(c, c, 1) for c in crossing)
        self.from_decoder = nn.ModuleList(conv(c, c, 1) for c in crossing)
        self.fusions = nn.ModuleList(
            ExpertMixture(c, options.experts) if options.mixture else Concatenation(c) for c in widths
        )

    def forward(
        self, x: Tensor, ms: Sequence[Tensor], first: tuple[Sequence[Tensor], Sequence[Tensor]] | None
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Fused features at three scales, and the gates."""
        features: list[Tensor] = []
        gates: list[Tensor] = []
        for scale, (block, fusion) in enumerate(zip(self.encoder.blocks, self.fusions, strict=True)):
            x = block(self.encoder.downs[scale - 1](features[-1]) if features else x)
            if first is not None and len(self.from_encoder):
                encoded, decoded = first
                x = x + self.from_encoder[scale](encoded[scale]) + self.from_decoder[scale](decoded[scale])
            fused, gate = fusion(x, ms[scale])
            features.append(fused)
            if gate is not None:
                gates.append(gate)
        return features, tuple(gates)


class AELF(FusionNetwork):
    """AELF: a super-resolving first stage, mutual guidance, a mixture of experts."""

    lattice_px = 8
    halo_px: ClassVar[int] = 64
    effective_px: ClassVar[int] = 32
    activation_values_per_pixel: ClassVar[int] = 1750
    unused_parameters = ("gate.perturb",)

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int, options: AELFOptions | None = None) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        options = options or AELFOptions()
        n, activation = options.width, nn.PReLU()
        self.hs_in, self.ms_in = conv(hs_bands, n), conv(ms_bands, n)
        self.first: FirstStage | None = None
        if options.supervision:
            self.first = FirstStage(hs_bands, options, activation)
            self.join = conv(2 * n, n)
        self.guidance = Guidance(n, options) if options.guidance else None
        self.ms_encoder = Encoder(options.widths, activation)
        self.encoder = FusionEncoder(options, activation)
        self.decoder = Decoder(options.widths, activation)
        self.tail = FullPrecision(conv(n, hs_bands))
        self.statistics = SpatialStatistics(self)

    @property
    def support_px(self) -> int:
        """Fine pixels on each side that can influence a pixel at all, with frozen statistics."""
        return REACH_PX + 3 * self.ratio - 1  # three coarse pixels: the pixel's own and two more under the kernel

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Fused image (n, hs band, y, x) from hs with its margin and ms (n, ms band, y, x)."""
        return self.supervised(hs, ms).fused

    def supervised(self, hs: Tensor, ms: Tensor) -> AELFOutput:
        """Fused image, first-stage image and gates, for the loss |Y_sr - Y| + |Y^ - Y| + L_cv."""
        upsampled = upsample(full(hs), self.ratio)  # (n, hs band, y, x)
        hs_features, ms_features = self.hs_in(upsampled), self.ms_in(ms)  # (n, width, y, x)
        first_features, first_image = None, upsampled
        if self.first is not None:
            first_features, weighted, first_image = self.first(upsampled)
            hs_features = self.join(torch.cat([hs_features, weighted], 1))
        if self.guidance is not None:
            hs_features, ms_features = self.guidance(hs_features, ms_features)
        fused, gates = self.encoder(hs_features, self.ms_encoder(ms_features), first_features)
        return AELFOutput(self.tail(self.decoder(fused)[0]) + upsampled, first_image, gates)


class FirstStage(nn.Module):
    """Super-resolution of the HSI alone (Eqs. 1, 2)."""

    def __init__(self, hs_bands: int, options: AELFOptions, activation: nn.PReLU) -> None:
        super().__init__()
        self.hs_in = conv(hs_bands, options.width)
        self.encoder, self.decoder = Encoder(options.widths, activation), Decoder(options.widths, activation)
        self.supervision = ResidualSupervision(options.width, hs_bands)

    def forward(self, upsampled: Tensor) -> tuple[tuple[list[Tensor], list[Tensor]], Tensor, Tensor]:
        """Encoder's and decoder's features, weighted features (n, width, y, x), image (n, hs band, y, x)."""
        encoded = self.encoder(self.hs_in(upsampled))
        decoded = self.decoder(encoded)
        weighted, image = self.supervision(decoded[0], upsampled)
        return (encoded, decoded), weighted, image
