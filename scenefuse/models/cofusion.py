"""CoFusion: spatial context and spectral coordinates at three scales, crossed at each.

B. Li: "CoFusion: Multispectral and Hyperspectral Image Fusion via Spectral Coordinate Attention", 2026,
arXiv:2604.10584v2. No code or weights were published.

One reading of the paper, chosen so that all four published parameter counts are met within 1.2 % (4.934 M for 4.91;
3.568, 4.198 and 4.648 M for the ablations' 3.58, 4.15 and 4.62). Where the text is silent: softmax over channels, since
over space its values would shrink with the tile; a rectifier before the traversal, since otherwise no coordinate is
zero; three blocks of spatial context, four residual blocks per encoder, 16 coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.models.feature_maps import enlarge
from scenefuse.models.full_precision import ChannelNorm, FullPrecision, full, without_autocast
from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import upsample
from scenefuse.models.sizes import require_size
from scenefuse.models.spatial_statistics import Maximum, SpatialStatistics

SCALES = 3
"""Scales 1, 1/2 and 1/4."""

DILATIONS = (1, 2, 4)
"""Dilations of the spatial context."""

SEGMENTS = 4
"""Groups of channels, each crossed separately."""

REACH_PX = 170
"""Pixels of the upsampled HSI and of the MSI on each side that can influence a pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoFusionOptions:
    """Sizes of CoFusion and its ablations, which put a residual block in a module's place (Table 3)."""

    width: int = 64
    """Channels of all features."""
    coordinates: int = 16
    """Number of columns of the spectral coordinate matrix that are traversed."""
    encoder_depth: int = 4
    """Residual blocks per encoder."""
    context_depth: int = 3
    """Consecutive spatial context blocks at each scale."""
    spatial: bool = True
    """Spatial context; False is `w/o SpaCAM`."""
    spectral: bool = True
    """Spectral coordinates; False is `w/o SpeCAM`."""
    cross: bool = True
    """Cross fusion; False is `w/o SSCFM`."""
    merge: Literal["linear", "haar"] = "linear"
    """How half-size spectral features return to full size: by interpolation or an inverse wavelet transform."""

    def __post_init__(self) -> None:
        require_size("width", self.width, least=SEGMENTS, multiple=SEGMENTS)
        for name in ("coordinates", "encoder_depth", "context_depth"):
            require_size(name, getattr(self, name))


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """Size-preserving convolution."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def depthwise(channels: int, kernel: int = 3, dilation: int = 1) -> nn.Conv2d:
    """Size-preserving depthwise convolution."""
    return nn.Conv2d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=channels)


def separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """Depthwise 3 x 3, then 1 x 1."""
    return nn.Sequential(depthwise(inputs, dilation=dilation), conv(inputs, outputs, 1))


class ResidualBlock(nn.Module):
    """x + C3(ReLU(C3(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        out: Tensor = x + self.body(x)
        return out


class ScalePyramid(nn.Module):
    """MSG: features of both images at three scales, going down and coming up (Eq. 1)."""

    def __init__(self, options: CoFusionOptions) -> None:
        super().__init__()
        d = options.width

        def encoder() -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(d) for _ in range(options.encoder_depth)))

        self.join = conv(2 * d, d)
        self.down = nn.ModuleList(encoder() for _ in range(SCALES))
        self.up = nn.ModuleList(encoder() for _ in range(SCALES - 1))
        self.guide = nn.ModuleList(conv(2 * d, d, 1) for _ in range(SCALES))

    def forward(self, hs: Tensor, ms: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Spatial features (guided by the MSI) and spectral features at scales 1, 1/2, 1/4."""
        down = [self.down[0](self.join(torch.cat([hs, ms], 1)))]
        for encoder in self.down[1:]:
            down.append(encoder(functional.avg_pool2d(down[-1], 2)))
        up = [down[-1]]
        for scale in range(SCALES - 2, -1, -1):
            up.insert(0, self.up[scale](enlarge(up[0], 2) + down[scale]))
        spatial = []
        for scale, guide in enumerate(self.guide):
            guidance = functional.avg_pool2d(ms, 2**scale) if scale else ms
            spatial.append(guide(torch.cat([down[scale], guidance], 1)))
        return spatial, up


class SpatialContext(nn.Module):
    """SpaCAM: dilated contexts that gate the features (Eqs. 2, 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(separable(channels, channels, dilation) for dilation in DILATIONS)
        self.gates = nn.ModuleList(separable(channels, channels) for _ in DILATIONS)
        self.join = conv(len(DILATIONS) * channels, channels)
        self.out = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Sum x + C3(GELU(C3(cat_d G_d))), G_d = softmax_c(context_d(maxpool x)) * GELU(gate_d(x)) + x."""
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1)
        gated = [
            full(context(pooled)).softmax(1) * functional.gelu(gate(x)) + x
            for context, gate in zip(self.contexts, self.gates, strict=True)
        ]
        out: Tensor = x + self.out(functional.gelu(self.join(torch.cat(gated, 1))))
        return out


class CoordinateMixing(nn.Module):
    """SCM: channel weights from a traversal of the strongest spectral coordinates (Algorithm 1, Eq. 4)."""

    def __init__(self, channels: int, coordinates: int) -> None:
        super().__init__()
        self.channels, self.coordinates = channels, coordinates
        self.squeeze = nn.Sequential(
            nn.Linear(2 * channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )
        self.expand = nn.Linear(channels, channels**2)
        self.start = nn.Parameter(torch.zeros(channels))
        self.weigh = nn.Linear(channels, channels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Channel weights (n, c, 1, 1) in (0, 1) from the maxima of both frequency bands (n, 2 c, 1, 1); in float32."""
        with without_autocast(pooled):
            squeezed = self.squeeze(full(pooled).flatten(1))
            matrix = functional.relu(self.expand(squeezed)).view(-1, self.channels, self.channels)
            kept = min(self.coordinates, self.channels)
            columns = matrix.sum(1).topk(kept, dim=1).indices.sort(dim=1).values  # (n, kept), left to right
            candidates = matrix.gather(2, columns[:, None].expand(-1, self.channels, -1))  # (n, c, kept)
            state = self.start.expand(len(matrix), -1)
            for candidate in candidates.unbind(2):
                state = torch.where(candidate != 0, candidate, state)
            return torch.sigmoid(self.weigh(state))[..., None, None]


class SpectralCoordinates(nn.Module):
    """SpeCAM: low and high frequencies weighted by spectral coordinates (Algorithm 1)."""

    def __init__(self, options: CoFusionOptions) -> None:
        super().__init__()
        d = options.width
        self.low, self.high = separable(d, d), separable(3 * d, d)
        self.low_pool, self.high_pool = Maximum(), Maximum()
        self.mixing = CoordinateMixing(d, options.coordinates)
        self.balance = nn.Parameter(torch.zeros(()))
        self.out = separable(d, d)
        self.details = conv(d, 3 * d, 1) if options.merge == "haar" else None

    def forward(self, x: Tensor) -> Tensor:
        """Sum x + up(GELU(dws(alpha * a * low + (1 - alpha) * a * high)))."""
        transformed = haar(x)  # (n, 4 c, y / 2, x / 2)
        low = functional.gelu(self.low(transformed[:, : x.shape[1]]))
        high = functional.gelu(self.high(transformed[:, x.shape[1] :]))
        weights = self.mixing(torch.cat([self.low_pool(lambda: (low,)), self.high_pool(lambda: (high,))], 1))
        alpha = torch.sigmoid(self.balance)
        mixed = functional.gelu(self.out(alpha * weights * low + (1 - alpha) * weights * high))
        if self.details is None:
            return x + enlarge(mixed, 2)
        return x + inverse_haar(torch.cat([mixed, self.details(mixed)], 1))


def haar(x: Tensor) -> Tensor:
    """Orthonormal Haar transform: (n, c, y, x) to (n, 4 c, y / 2, x / 2), bands LL, HL, LH, HH."""
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 2


def inverse_haar(bands: Tensor) -> Tensor:
    """Inverse of `haar`: (n, 4 c, y / 2, x / 2) to (n, c, y, x)."""
    ll, hl, lh, hh = bands.chunk(4, dim=1)
    top = torch.stack([ll + hl + lh + hh, ll - hl + lh - hh], dim=-1).flatten(-2)  # (n, c, y / 2, x)
    bottom = torch.stack([ll + hl - lh - hh, ll - hl - lh + hh], dim=-1).flatten(-2)
    return torch.stack([top, bottom], dim=-2).flatten(-3, -2) / 2


class Proxy(nn.Module):
    """Spatial attention and channel vector of one kind of feature."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.small, self.large = depthwise(channels, 3), depthwise(channels, 5)
        self.attention, self.dropout = conv(channels, channels, 1), nn.Dropout(0.1)
        self.pool = Maximum()
        self.squeeze = FullPrecision(conv(channels, channels // 2, 1), nn.ReLU(), conv(channels // 2, channels, 1))
        self.out = conv(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention (n, c, y, x) and vector (n or 1, c, 1, 1)."""
        normed = self.norm(x)
        attention = full(self.attention(self.small(normed) + self.large(normed))).softmax(1)
        return self.dropout(attention), self.squeeze(self.pool(lambda: (x,)))


class CrossFusion(nn.Module):
    """SSCFM: each kind of feature weighted by its own attention and the other's vector (Eqs. 5 to 8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial, self.spectral = Proxy(channels), Proxy(channels)
        self.join = conv(2 * channels, channels)

    def forward(self, spatial: Tensor, spectral: Tensor) -> Tensor:
        """C3(cat of F + C3(A * V_other * F) for both), (n, c, y, x)."""
        spatial_map, spatial_vector = self.spatial(spatial)
        spectral_map, spectral_vector = self.spectral(spectral)
        spatial = spatial + self.spatial.out(_crossed(spatial_map, spectral_vector, spatial))
        spectral = spectral + self.spectral.out(_crossed(spectral_map, spatial_vector, spectral))
        out: Tensor = self.join(torch.cat([spatial, spectral], 1))
        return out


def _crossed(attention: Tensor, vector: Tensor, features: Tensor) -> Tensor:
    """A^s * V^s * F^s over four segments of the channels, concatenated."""
    parts: Sequence[tuple[Tensor, ...]] = [x.chunk(SEGMENTS, dim=1) for x in (attention, vector, features)]
    return torch.cat([a * v * f for a, v, f in zip(*parts, strict=True)], 1)


class AddedBlock(nn.Module):
    """Replaces the cross fusion in its ablation: a residual block on the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ResidualBlock(channels)

    def forward(self, spatial: Tensor, spectral: Tensor) -> Tensor:
        """(n, c, y, x)."""
        out: Tensor = self.block(spatial + spectral)
        return out


class CoFusion(FusionNetwork):
    """CoFusion: scale pyramid, spatial context, spectral coordinates, cross fusion."""

    lattice_px = 8
    halo_px: ClassVar[int] = 64
    effective_px: ClassVar[int] = 32
    activation_values_per_pixel: ClassVar[int] = 1500
    unused_parameters = ("mixing.start",)

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int, options: CoFusionOptions | None = None) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        options = options or CoFusionOptions()
        d = options.width
        self.hs_in = nn.Sequential(conv(hs_bands, d), nn.ReLU(), conv(d, d))
        self.ms_in = nn.Sequential(conv(ms_bands, d), nn.ReLU(), conv(d, d))
        self.pyramid = ScalePyramid(options)
        self.spatial = nn.ModuleList(
            nn.Sequential(*(SpatialContext(d) for _ in range(options.context_depth)))
            if options.spatial
            else ResidualBlock(d)
            for _ in range(SCALES)
        )
        self.spectral = nn.ModuleList(
            SpectralCoordinates(options) if options.spectral else ResidualBlock(d) for _ in range(SCALES)
        )
        self.cross = nn.ModuleList(CrossFusion(d) if options.cross else AddedBlock(d) for _ in range(SCALES))
        self.rise = nn.ModuleList(conv(d, d) for _ in range(SCALES - 1))
        self.out = nn.Sequential(conv(d, d), nn.ReLU())
        self.tail = FullPrecision(conv(d, hs_bands))
        self.statistics = SpatialStatistics(self)

    @property
    def support_px(self) -> int:
        """Fine pixels on each side that can influence a pixel at all, with frozen statistics."""
        return REACH_PX + 3 * self.ratio - 1  # three coarse pixels: the pixel's own and two more under the kernel

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Fused image (n, hs band, y, x) from hs with its margin and ms (n, ms band, y, x)."""
        upsampled = upsample(full(hs), self.ratio)  # (n, hs band, y, x)
        spatial, spectral = self.pyramid(self.hs_in(upsampled), self.ms_in(ms))
        crossed = [
            self.cross[scale](self.spatial[scale](spatial[scale]), self.spectral[scale](spectral[scale]))
            for scale in range(SCALES)
        ]
        fused = crossed[-1]
        for scale in range(SCALES - 2, -1, -1):
            fused = crossed[scale] + self.rise[scale](enlarge(fused, 2))
        residual: Tensor = self.tail(self.out(fused))
        return residual + upsampled
