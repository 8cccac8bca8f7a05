"""MossFuse: unsupervised fusion by decoupling what two modalities share from what each adds.

S. Du, Y. Zou, Z. Wang, X. Li, Y. Li, C. Shang, Q. Shen: "Unsupervised Hyperspectral and Multispectral Image Fusion via
Self-Supervised Modality Decoupling", 2025, arXiv:2412.04802.

Written from the paper, with the sizes of the authors' trained checkpoint (one block per encoder and decoder; the text
gives four, which fits neither its 0.54 M parameters nor its 279 GFLOP). The authors' code and checkpoint have no
licence, so neither may be shipped. Three parts have weights but no effect; they are kept so that parameter counts
agree: a 1 x 1 convolution in each self-supervised decoder, and the channel attention on the query of the spectral
aggregation, which the cosine's normalisation cancels.

No truth is needed: `supervised` also returns the reconstructions and degradations that the losses compare. The PSF is
centred on the coarse pixel, (ratio - 1) / 2 in this project's frame; the authors' data are sampled half a fine pixel
earlier (psf_phase_px = ratio / 2 - 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.degradation import Degradation
from scenefuse.models.feature_maps import enlarge
from scenefuse.models.full_precision import ChannelNorm, FullPrecision, full
from scenefuse.models.large_kernel import conv, depthwise, fold_dilated, large_kernel_triple
from scenefuse.models.network import FusionNetwork, NetworkPrecision
from scenefuse.models.sizes import require_size
from scenefuse.models.spatial_statistics import Cosines, Mean, SpatialStatistics, apply_maps

HEADS = 8
"""Heads of every channel attention."""

REACH_PX = 16
"""Pixels of the upsampled HSI and of the MSI on each side that can influence a pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MossFuseOptions:
    """Sizes of MossFuse and its ablations."""

    width: int = 48
    """Channels of all features."""
    blocks: int = 1
    """Spectral-wise transformer blocks per encoder and decoder."""
    aggregation: Literal["gated", "concat", "cross"] = "gated"
    """How shared and complementary features are combined: Table 3's own, `concat & conv` and `cross`."""
    decoupling: Literal["both", "repulsion", "aggregation", "none"] = "both"
    """Terms of L_SC that count: Table 3's own, `w/o aggre`, `w/o repel`, `w/o L_SC`."""
    self_supervision: Literal["full", "own", "none"] = "full"
    """Decoders besides that of the fused image, and so terms of L_SCT: `full`, Table 3's own; `own`, one per
    modality from its own features, `w/o L_SCT2` (the published 0.54 M are this one); `none`, `w/o L_SCT`."""
    degradation: Literal["physical", "conv", "given"] = "physical"
    """`physical`: a Gaussian PSF and a normalised SRF, both learnt; `conv`: unconstrained kernels (Table 3, `conv
    DE`); `given`: psf_sigma_px and srf as they are, never learnt (Table 4, known degradation)."""
    psf_phase_px: float | None = None
    """Centre of the PSF within a coarse pixel, in fine pixels from its first; None for the middle, (ratio - 1) / 2."""
    psf_sigma_px: float | None = None
    """Standard deviation of the given PSF, fine pixels."""
    srf: tuple[tuple[float, ...], ...] | None = None
    """The given SRF: one row per MSI band, with a non-negative weight for each HSI band."""

    def __post_init__(self) -> None:
        require_size("width", self.width, least=HEADS, multiple=HEADS)
        require_size("blocks", self.blocks)
        if self.psf_phase_px is not None and not isfinite(self.psf_phase_px):
            raise ValueError(f"psf_phase_px is {self.psf_phase_px}, and must be a number")
        if {self.psf_sigma_px is not None, self.srf is not None} != {self.degradation == "given"}:
            raise ValueError(
                f'degradation is "{self.degradation}", psf_sigma_px {self.psf_sigma_px} and srf'
                f' {"none" if self.srf is None else "there"}: both are given with degradation "given", and only then'
            )
        if self.psf_sigma_px is not None and not 0 < self.psf_sigma_px < inf:
            raise ValueError(f"psf_sigma_px is {self.psf_sigma_px}, and must be positive")
        for row in self.srf or ():
            if not all(0 <= weight < inf for weight in row) or not sum(row) > 0:
                raise ValueError(f"srf has the row {row}: weights are not negative, and not all of them 0")


class MossFuseOutput(NamedTuple):
    """The outputs that MossFuse's losses need."""

    fused: Tensor
    """(n, hs band, y, x)."""
    ms_shared: Tensor
    """Features that the MSI shares with the HSI, (n, width, y, x)."""
    ms_own: Tensor
    """Complementary features of the MSI."""
    hs_shared: Tensor
    """Features that the HSI shares with the MSI."""
    hs_own: Tensor
    """Complementary features of the HSI."""
    ms_decoded: Tensor | None
    """MSI decoded from its own features, (n, ms band, y, x); None without that decoder, as for the next two."""
    hs_decoded: Tensor | None
    """HSI decoded from its own features, on the fine grid, (n, hs band, y, x)."""
    lr_ms_decoded: Tensor | None
    """Coarse MSI decoded from the shared features, on the fine grid, (n, ms band, y, x)."""
    lr_ms_from_hs: Tensor
    """Coarse MSI degraded from the HSI, (n, ms band, y / ratio, x / ratio)."""
    lr_ms_from_ms: Tensor
    """Coarse MSI degraded from the MSI, the same shape."""
    fused_as_ms: Tensor
    """The fused image through the SRF, (n, ms band, y, x)."""
    fused_as_hs: Tensor
    """The fused image through the PSF, (n, hs band, y / ratio, x / ratio)."""


def projection(channels: int) -> nn.Sequential:
    """dw3(C1(x)): a query, key or value."""
    return nn.Sequential(conv(channels, channels, 1), depthwise(channels))


class GatedFeedForward(nn.Module):
    """GDFN: C1(GELU(a) * b), a and b halves of dw3(C1(x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(conv(channels, 4 * channels, 1), depthwise(4 * channels))
        self.out = conv(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        a, b = self.expand(x).chunk(2, dim=1)
        out: Tensor = self.out(functional.gelu(a) * b)
        return out


class ChannelAttention(nn.Module):
    """MDTA: A v, A = softmax(temperature * cos(q, k)) over the keys' channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.query, self.key, self.value = projection(channels), projection(channels), projection(channels)
        self.cosines = Cosines(HEADS)

    def forward(self, asking: Tensor, asked: Tensor, weight: Tensor | None = None) -> Tensor:
        """Values of `asked` (n, c, y, x) by queries of `asking`, each pixel's query times its weight (n, 1, y, x)."""

        def query_and_key() -> tuple[Tensor, Tensor]:
            query = self.query(asking)
            return query if weight is None else query * weight, self.key(asked)

        maps = (self.temperature * self.cosines(query_and_key)).softmax(-1)  # (n, heads, c / heads, c / heads)
        return apply_maps(maps, self.value(asked))


class TransformerBlock(nn.Module):
    """SWT: spectral-wise attention and gated feed-forward, each normed and residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = ChannelNorm(channels), ChannelAttention(channels)
        self.attention_out = conv(channels, channels, 1)
        self.forward_norm, self.feed_forward = ChannelNorm(channels), GatedFeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, y, x) to the same shape."""
        normed = self.attention_norm(x)
        x = x + self.attention_out(self.attention(normed, normed))
        out: Tensor = x + self.feed_forward(self.forward_norm(x))
        return out


def transformers(channels: int, count: int) -> nn.Sequential:
    """`count` SWT blocks in sequence."""
    return nn.Sequential(*(TransformerBlock(channels) for _ in range(count)))


class Encoder(nn.Module):
    """Shared and complementary features of one modality."""

    def __init__(self, bands: int, modality: Literal["ms", "hs"], options: MossFuseOptions) -> None:
        super().__init__()
        d = options.width
        self.base = nn.Sequential(conv(bands, d, 3), transformers(d, options.blocks))
        large, spectral = large_kernel_triple(d), TransformerBlock(d)
        self.shared = nn.Sequential(large, spectral) if modality == "ms" else nn.Sequential(spectral, large)
        self.own = large_kernel_triple(d) if modality == "ms" else TransformerBlock(d)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Shared and own features, (n, width, y, x) each."""
        base = self.base(image)
        return self.shared(base), self.own(base)


class SpatialGate(nn.Sequential):
    """SA: the weight of each pixel, (n, 1, y, x) in (0, 1)."""

    def __init__(self, channels: int) -> None:
        small = channels // 8
        super().__init__(
            conv(channels, small, 1), nn.ReLU(), conv(small, small, 1), nn.ReLU(), conv(small, 1, 1), nn.Sigmoid()
        )


class SpectralGate(FullPrecision):
    """CA: the weight of each channel from its mean over space, (n, c, 1, 1) in (0, 1)."""

    def __init__(self, channels: int) -> None:
        small = channels // 8
        super().__init__(
            conv(channels, small, 1),
            nn.GELU(),
            conv(small, small, 1),
            nn.GELU(),
            conv(small, channels, 1),
            nn.Sigmoid(),
        )


class SpatialAggregation(nn.Module):
    """Phi_spa: spatial complementary features join the shared ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.attention = ChannelNorm(channels), ChannelAttention(channels)
        self.query_gate, self.pool, self.value_gate = SpatialGate(channels), Mean(), SpectralGate(channels)
        self.own = depthwise(channels)
        self.out = conv(channels, channels, 1)
        self.forward_norm, self.feed_forward = ChannelNorm(channels), GatedFeedForward(channels)

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """Shared s + C1(o + dw3(c) * CA(o)), o = attention in s with queries weighted by SA(c); then GDFN."""
        normed = self.norm(shared)
        attended = self.attention(normed, normed, self.query_gate(own))
        added = self.own(own) * self.value_gate(self.pool(lambda: (attended,)))
        shared = shared + self.out(attended + added)
        out: Tensor = shared + self.feed_forward(self.forward_norm(shared))
        return out


class SpectralAggregation(nn.Module):
    """Phi_spe: spectral complementary features join the shared ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.attention = ChannelNorm(channels), ChannelAttention(channels)
        self.inert_query_gate = SpectralGate(channels)  # scales whole channels of q, which the cosine cancels
        self.value_gate = SpatialGate(channels)
        self.own = conv(channels, channels, 1)
        self.out = conv(channels, channels, 1)
        self.forward_norm, self.feed_forward = ChannelNorm(channels), GatedFeedForward(channels)

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """Shared s + C1(o + C1(c) * SA(o)), o = attention in s; then GDFN."""
        normed = self.norm(shared)
        attended = self.attention(normed, normed)
        shared = shared + self.out(attended + self.own(own) * self.value_gate(attended))
        out: Tensor = shared + self.feed_forward(self.forward_norm(shared))
        return out


class Concatenation(nn.Module):
    """Table 3 `concat & conv`, in place of an aggregation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join = conv(2 * channels, channels, 1)

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """C1(cat[s, c])."""
        out: Tensor = self.join(torch.cat([shared, own], 1))
        return out


class CrossAttention(nn.Module):
    """Table 3 `cross`, in place of an aggregation: queries of the shared features, keys and values of the own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shared_norm, self.own_norm = ChannelNorm(channels), ChannelNorm(channels)
        self.attention, self.out = ChannelAttention(channels), conv(channels, channels, 1)
        self.forward_norm, self.feed_forward = ChannelNorm(channels), GatedFeedForward(channels)

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """Shared s + C1(attention of s in c); then GDFN."""
        shared = shared + self.out(self.attention(self.shared_norm(shared), self.own_norm(own)))
        out: Tensor = shared + self.feed_forward(self.forward_norm(shared))
        return out


def aggregation(domain: Literal["spatial", "spectral"], options: MossFuseOptions) -> nn.Module:
    """The aggregation of a domain, or its replacement in an ablation."""
    if options.aggregation == "concat":
        return Concatenation(options.width)
    if options.aggregation == "cross":
        return CrossAttention(options.width)
    return SpatialAggregation(options.width) if domain == "spatial" else SpectralAggregation(options.width)


def head(channels: int, bands: int) -> FullPrecision:
    """C3, LeakyReLU, C3: features to bands."""
    return FullPrecision(conv(channels, channels // 2, 3), nn.LeakyReLU(), conv(channels // 2, bands, 3))


class OwnDecoder(nn.Module):
    """Decodes one modality from its own shared and complementary features (self-supervision)."""

    def __init__(self, bands: int, domain: Literal["spatial", "spectral"], options: MossFuseOptions) -> None:
        super().__init__()
        d = options.width
        self.inert_join = conv(2 * d, d, 1)  # in the authors' counts, never called
        self.aggregate = aggregation(domain, options)
        self.out = nn.Sequential(transformers(d, options.blocks - 1), head(d, bands))

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """(n, band, y, x)."""
        out: Tensor = self.out(self.aggregate(shared, own))
        return out


class FusionDecoder(nn.Module):
    """Decodes the fused image from the shared and complementary features of both modalities."""

    def __init__(self, bands: int, options: MossFuseOptions) -> None:
        super().__init__()
        d = options.width
        self.join = conv(2 * d, d, 1)
        self.spatial, self.spectral = aggregation("spatial", options), aggregation("spectral", options)
        self.out = nn.Sequential(transformers(d, options.blocks), head(d, bands))

    def forward(self, ms: tuple[Tensor, Tensor], hs: tuple[Tensor, Tensor]) -> Tensor:
        """(n, hs band, y, x) from (shared, own) of each."""
        shared = self.join(torch.cat([ms[0], hs[0]], 1))
        out: Tensor = self.out(self.spectral(self.spatial(shared, ms[1]), hs[1]))
        return out


class MossFuse(FusionNetwork):
    """MossFuse: two encoders, a fusion decoder, and the parts its self-supervision needs."""

    halo_px: ClassVar[int] = 16
    effective_px: ClassVar[int] = 16
    activation_values_per_pixel: ClassVar[int] = 1626
    precisions: ClassVar[tuple[NetworkPrecision, ...]] = ("fp32",)
    unused_parameters = ("inert",)

    def __init__(self, hs_bands: int, ms_bands: int, ratio: int, options: MossFuseOptions | None = None) -> None:
        super().__init__(hs_bands, ms_bands, ratio)
        options = options or MossFuseOptions()
        self.decoupling = options.decoupling
        self.ms_encoder, self.hs_encoder = Encoder(ms_bands, "ms", options), Encoder(hs_bands, "hs", options)
        self.ms_decoder = self.hs_decoder = self.lr_ms_decoder = None
        if options.self_supervision != "none":
            self.ms_decoder = OwnDecoder(ms_bands, "spatial", options)
            self.hs_decoder = OwnDecoder(hs_bands, "spectral", options)
        if options.self_supervision == "full":
            d = options.width
            self.lr_ms_decoder = nn.Sequential(conv(2 * d, d, 1), transformers(d, options.blocks), head(d, ms_bands))
        self.decoder = FusionDecoder(hs_bands, options)
        self.degradation = Degradation(
            hs_bands,
            ms_bands,
            ratio,
            physical=options.degradation != "conv",
            phase_px=options.psf_phase_px,
            given=None if options.srf is None or options.psf_sigma_px is None else (options.srf, options.psf_sigma_px),
        )
        self.statistics = SpatialStatistics(self, training_only=("ms_decoder", "hs_decoder", "lr_ms_decoder"))

    @property
    def support_px(self) -> int:
        """Fine pixels on each side that can influence a pixel at all, with frozen statistics."""
        return REACH_PX + (3 * self.ratio - 2) // 2  # the rest of the coarse pixel, and one more under the kernel

    @property
    def least_supervised_px(self) -> int:
        """Smallest window side that `supervised` accepts, fine pixels: more than the PSF reaches beyond the window."""
        return self.degradation.reach_px + 1

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """Fused image (n, hs band, y, x) from hs with its margin and ms (n, ms band, y, x)."""
        fused: Tensor = self.decoder(self.ms_encoder(ms), self.hs_encoder(self._enlarged(hs)))
        return fused

    def supervised(self, hs: Tensor, ms: Tensor) -> MossFuseOutput:
        """Fused image, features, reconstructions and degradations, for the losses L_MA, L_SC, L_SCT, L_DE."""
        ms_features, hs_features = self.ms_encoder(ms), self.hs_encoder(self._enlarged(hs))
        shared = torch.cat([ms_features[0], hs_features[0]], 1)
        fused = self.decoder(ms_features, hs_features)
        return MossFuseOutput(
            fused,
            ms_shared=ms_features[0],
            ms_own=ms_features[1],
            hs_shared=hs_features[0],
            hs_own=hs_features[1],
            ms_decoded=None if self.ms_decoder is None else self.ms_decoder(*ms_features),
            hs_decoded=None if self.hs_decoder is None else self.hs_decoder(*hs_features),
            lr_ms_decoded=None if self.lr_ms_decoder is None else self.lr_ms_decoder(shared),
            lr_ms_from_hs=self.degradation.to_ms(self.central(hs)).clamp(0, 1),
            lr_ms_from_ms=self.degradation.to_coarse(ms).clamp(0, 1),
            fused_as_ms=self.degradation.to_ms(fused),
            fused_as_hs=self.degradation.to_coarse(fused),
        )

    def fold(self) -> None:
        """Replace the parallel convolutions by the equivalent single ones."""
        fold_dilated(self)

    def _enlarged(self, hs: Tensor) -> Tensor:
        return enlarge(full(hs), self.ratio, margin=UPSAMPLE_MARGIN)  # (n, hs band, y, x)
