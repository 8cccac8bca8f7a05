"""The papers' losses: each maps what a network's `supervised` returns, and the truth, to weighted terms.

Reflectance is on full scale 1. A loss is the sum of its terms, which are kept apart for the learning curves and because
MossFuse's degradation learns from only one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from scenefuse.models.aelf import AELFOutput
from scenefuse.models.feature_maps import enlarge, shrink
from scenefuse.models.mossfuse import MossFuseOutput
from scenefuse.models.network import FusionNetwork


class Batch(NamedTuple):
    """The windows of one pass."""

    hs: Tensor
    """(n, hs band, y / ratio + 2 margin, x / ratio + 2 margin)."""
    ms: Tensor
    """(n, ms band, y, x)."""
    truth: Tensor | None
    """(n, hs band, y, x); None without truth."""


Terms = dict[str, Tensor]
Loss = Callable[[FusionNetwork, Any, Batch], Terms]

GATE_TARGET = 0.1
"""Coefficient of variation of AELF's gates that incurs no penalty: moderately diverse experts."""
GATE_WEIGHT = 0.01 / 255
"""Weight of AELF's gate term. The paper's 0.01 is for images on [0, 255]."""
SSIM_TAPS, SSIM_SIGMA_PX = 11, 1.5
"""Window of SSIM (Wang et al. 2004)."""
DEGRADATION = "degradation"
"""Name of a loss term and of the part of the network that alone learns from it, and from nothing else."""


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """Mean |a - b| (L1)."""
    return (a - b).abs().mean()


def aelf_loss(_: FusionNetwork, output: AELFOutput, batch: Batch) -> Terms:
    """|Y^ - Y| + |Y_sr - Y| + w sum over gates of mean over items (cv - 0.1)^2; cv = std / mean of a gate's weights.

    He et al. 2025, section III-E. The target 0.1 is from the authors' code: the text's bare cv^2 would drive all
    weights to 1/3, which the text itself says is unwanted.
    """
    truth = _truth(batch)
    terms = {"fused": absolute(output.fused, truth), "first_stage": absolute(output.first_stage, truth)}
    several = [gate.float() for gate in output.gates if gate.shape[1] > 1]
    if several:
        variations = [gate.std(1) / (gate.mean(1) + 1e-6) for gate in several]
        penalties = [(variation - GATE_TARGET).square().mean() for variation in variations]
        terms["gates"] = GATE_WEIGHT * torch.stack(penalties).sum()
    return terms


def cofusion_loss(_: FusionNetwork, output: tuple[Tensor, ...], batch: Batch) -> Terms:
    """|Y^ - Y| + 0.1 (1 - SSIM), SSIM the mean over bands (Li 2026, eqs. 6 to 8)."""
    truth = _truth(batch)
    return {"fused": absolute(output[0], truth), "ssim": 0.1 * (1 - structural_similarity(output[0], truth))}


def smifnet_loss(_: FusionNetwork, output: tuple[Tensor, ...], batch: Batch) -> Terms:
    """|Y^ - Y| (Xu et al.)."""
    return {"fused": absolute(output[0], _truth(batch))}


def s3rnet_loss(_: FusionNetwork, output: tuple[Tensor, ...], batch: Batch) -> Terms:
    """|Y^ - Y| + 0.1 SAM, SAM the mean spectral angle in radians (Lee et al. 2025).

    Images are reflectance here; the authors use [-1, 1], where a difference weighs twice as much relative to an angle.
    """
    truth = _truth(batch)
    return {"fused": absolute(output[0], truth), "angle": 0.1 * spectral_angle(output[0], truth)}


def mossfuse_loss(network: FusionNetwork, output: MossFuseOutput, batch: Batch) -> Terms:
    """L_MA + 0.1 L_SC + L_SCT + L_DE, without any truth (Du et al. 2025, eq. 14).

    L_MA = |M - SRF Y^| + |X - PSF Y^|. L_SCT = |M - M^| + |X - X^| + |up(y_M) - y^| + |up(y_X) - y^| compares decoded
    images with the inputs, with X^ sampled at the centres of coarse pixels and up linear; only terms of decoders that
    the network has are included.
    L_DE = |y_M - y_X| compares the coarse MSI as degraded from either input, for pixels whose PSF stays inside the
    window.
    L_SC: `decoupling`, with the terms that the network's options keep.
    """
    hs, ratio = network.central(batch.hs), network.ratio
    terms = {"inputs": absolute(batch.ms, output.fused_as_ms) + absolute(hs, output.fused_as_hs)}
    which: Decoupling | Literal["none"] = cast("Any", network).decoupling
    if which != "none":
        features = output.ms_shared, output.ms_own, output.hs_shared, output.hs_own
        terms["decoupling"] = 0.1 * decoupling(*features, which)
    parts = []
    if output.ms_decoded is not None and output.hs_decoded is not None:
        sampled = shrink(output.hs_decoded, ratio, "linear", antialias=False)
        parts += [absolute(batch.ms, output.ms_decoded), absolute(hs, sampled)]
    if output.lr_ms_decoded is not None:
        for coarse in (output.lr_ms_from_ms, output.lr_ms_from_hs):
            parts.append(absolute(enlarge(coarse, ratio), output.lr_ms_decoded))
    if parts:
        terms["parts"] = torch.stack(parts).sum()
    return {**terms, DEGRADATION: _within(network, output)}


Decoupling = Literal["both", "repulsion", "aggregation"]
"""Terms of L_SC: `aggregation` pulls shared features together, `repulsion` pushes the others apart."""


def decoupling(
    ms_shared: Tensor, ms_own: Tensor, hs_shared: Tensor, hs_own: Tensor, which: Decoupling = "both"
) -> Tensor:
    """L_SC = -log(e^c(MS, HS) / (e^c(MS, HS) + e^c(MS, MO) + e^c(HS, HO) + e^c(MO, HO))), S shared and O own features.

    c is the cosine of the whole tensors, batch included. L_SC is log 4 if all are alike. Its minimum is 0.4968, with
    the shared two 15.8 degrees apart and all other pairs 125.3; with equal shared features, log(1 + 3 e^-1.5).
    Repulsion alone is log(e^c(MS, MO) + e^c(HS, HO) + e^c(MO, HO)), aggregation alone -c(MS, HS).
    """

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return functional.cosine_similarity(a.float().flatten(), b.float().flatten(), dim=0)

    pairs = ((ms_shared, hs_shared), (ms_shared, ms_own), (hs_shared, hs_own), (ms_own, hs_own))
    cosines = torch.stack([cosine(a, b) for a, b in pairs])
    if which == "repulsion":
        return torch.logsumexp(cosines[1:], 0)
    return -cosines[0] if which == "aggregation" else torch.logsumexp(cosines, 0) - cosines[0]


def spectral_angle(a: Tensor, b: Tensor) -> Tensor:
    """Mean angle between spectra in radians, (n, band, y, x) each.

    2 atan2(|u - v|, |u + v|) of unit spectra u, v: as exact at small angles as at large ones, unlike the arc cosine,
    whose slope is infinite where the two agree.
    """
    u, v = (functional.normalize(x, dim=1) for x in (a, b))
    return 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)).mean()


LEAST_PATCH_PX = {"cofusion": SSIM_TAPS}
"""Smallest window side, in fine pixels, for networks whose loss has a window of its own."""


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM over bands and windows inside the image, data range 1 (Wang et al. 2004, eq. 13)."""
    bands = a.shape[1]
    position = torch.arange(SSIM_TAPS, device=a.device, dtype=a.dtype) - (SSIM_TAPS - 1) / 2
    taps = torch.exp(-0.5 * (position / SSIM_SIGMA_PX) ** 2)
    taps = taps / taps.sum()
    row = taps[None, None, None].expand(bands, 1, 1, -1)

    def mean(x: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(x, row, groups=bands), row.mT, groups=bands)

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ratio = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (ratio * (2 * covariance + c2) / (variance_a + variance_b + c2)).mean()


LOSSES: dict[str, Loss] = {
    "aelf": aelf_loss,
    "aelf-t": aelf_loss,
    "cofusion": cofusion_loss,
    "mossfuse": mossfuse_loss,
    "smifnet": smifnet_loss,
    "s3rnet": s3rnet_loss,
}
"""Loss of each network, by name."""


def backward(network: FusionNetwork, terms: Terms, share: float) -> None:
    """Add the gradients of share * loss to the parameters.

    The term `degradation` moves only the network's degradation, and no other term moves that: otherwise the network
    could satisfy L_MA by bending the PSF.
    """
    apart = [p for name, p in network.named_parameters() if name.startswith(f"{DEGRADATION}.") and p.requires_grad]
    rest = [p for name, p in network.named_parameters() if not name.startswith(f"{DEGRADATION}.")]
    joint = torch.stack([term for name, term in terms.items() if name != DEGRADATION]).sum() * share
    joint.backward(inputs=rest, retain_graph=bool(apart))  # type: ignore[no-untyped-call] # torch's own
    if apart:
        (terms[DEGRADATION] * share).backward(inputs=apart)  # type: ignore[no-untyped-call] # torch's own


def _within(network: FusionNetwork, output: MossFuseOutput) -> Tensor:
    """L_DE over the pixels whose PSF stays inside the window, 0 if there are none: mirrored ground teaches nothing."""
    degradation: Any = network.degradation
    seen = (degradation.inner(image) for image in (output.lr_ms_from_ms, output.lr_ms_from_hs))
    apart = torch.sub(*seen).abs()
    return apart.sum() / max(1, apart.numel())


def _truth(batch: Batch) -> Tensor:
    """The batch's truth; ValueError if there is none, since a supervised loss needs it."""
    if batch.truth is None:
        raise ValueError("a supervised loss was given windows without truth")
    return batch.truth
