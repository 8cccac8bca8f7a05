"""sfim: smoothing-filter-based intensity modulation, hypersharpened.

J. G. Liu, Smoothing filter-based intensity modulation: a spectral preserve image fusion technique for improving
spatial details, IJRS 21(18), 2000, doi 10.1080/014311600750037499; with a synthesised fine image for every HSI band
as in Selva et al. 2015, doi 10.1109/JSTARS.2015.2440092.

fused = up(hs) * P / up(degrade(P)), P = W ms + c the regression of hs on degrade(ms). As up and degrade commute with W,
only the MSI's few bands are filtered: up(degrade(P)) = W up(degrade(ms)) + c.
Both P and its blurred version are clamped from below at FLOOR of the band's mean, so that dark pixels keep a ratio near
1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from scenefuse.models.band_map import map_into
from scenefuse.models.base import ModelCard, Stage
from scenefuse.models.classical import Cost, card_of, frozen, given_options, injection_cost, reach_of_degrading
from scenefuse.models.moments import Array, Moments, MomentStage, ridge_regression
from scenefuse.models.mtf_glp_hs import RIDGE
from scenefuse.models.ref import ModelRef
from scenefuse.models.resample import GPU_GROUP_BANDS, band_groups, degrade_window, upsample, upsample_into
from scenefuse.models.state import SceneState

FLOOR = 0.05
"""Least value of P and of its blurred version, as a share of the HSI band's mean over the scene."""
LEAST_FLOOR = 1e-4
"""Least floor, reflectance: for bands whose mean is zero or negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sfim:
    """The upsampled HSI, modulated by the ratio of synthesised images to their blurred versions."""

    card: ModelCard

    def stages(self) -> tuple[Stage, ...]:
        """One stage over the whole scene: the regression of the HSI on the degraded MSI."""
        return (MomentStage(name="sfim/regression", conclusion=_synthesis, ratio=self.card.ratio),)

    def to(self, device: str) -> Sfim:  # noqa: ARG002 - holds no tensor: it follows its inputs' device
        """Return the method itself."""
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """up(hs) * P / up(degrade(P)), (n, hs band, y, x)."""
        ratio, phase_px = self.card.ratio, state.phase_px
        offsets = frozen(state, "sfim/offsets", like=hs)[:, None]
        synthesis = torch.hstack([frozen(state, "sfim/synthesis", like=hs), offsets])  # (hs, ms + 1)
        floors = frozen(state, "sfim/floors", like=hs)[:, None]
        fine = _with_ones(ms)
        low = degrade_window(ms, ratio, float(state.facts["psf_sigma_px"]), phase_px)  # (n, ms, y + 4, x + 4)
        blurred = _with_ones(upsample(low, ratio, phase_px))
        fused = hs.new_empty((len(hs), hs.shape[1], *ms.shape[-2:]))
        for image, coarse, sharp, soft in zip(fused, hs, fine, blurred, strict=True):
            for bands in band_groups(image):
                upsample_into(image[bands], coarse[bands], ratio, phase_px)
                synthetic = torch.empty_like(image[bands].flatten(1))  # (group, y*x)
                for source, modulate in ((sharp, torch.Tensor.mul_), (soft, torch.Tensor.div_)):
                    map_into(synthetic, synthesis[bands], source)
                    modulate(image[bands].view_as(synthetic), synthetic.clamp_(min=floors[bands]))
        return fused


def _with_ones(image: Tensor) -> Tensor:
    """(n, b + 1, y*x): adds a band of ones, so that an offset becomes one more column of a matrix."""
    return pad(image.flatten(2), (0, 0, 0, 1), value=1.0)


def build(ref: ModelRef) -> Sfim:
    """The method for the reference's bands and ratio."""
    cost, ms_bands = injection_cost(ref, 2 * len(ref.ms_bands)), len(ref.ms_bands)
    card = card_of(
        ref,
        title="Intensity modulation by synthesised images, hypersharpened",
        source="Liu 2000, doi 10.1080/014311600750037499; Selva et al. 2015, doi 10.1109/JSTARS.2015.2440092",
        reach=reach_of_degrading(ref.ratio),
        cost=Cost(multiply_adds=cost.multiply_adds, values=cost.values + 2 * (ms_bands + 1) + GPU_GROUP_BANDS),
        options=given_options(ref, {}),
    )
    return Sfim(card=card)


def _synthesis(moments: Moments, state: SceneState) -> Mapping[str, Array]:  # noqa: ARG001 - the stage's contract
    """Arrays synthesis W (hs band, ms band), offsets c (hs band,), floors (hs band,)."""
    synthesis = ridge_regression(moments.ms_ms, moments.hs_ms, RIDGE)
    return {
        "sfim/synthesis": synthesis,
        "sfim/offsets": moments.hs_mean - synthesis @ moments.ms_mean,
        "sfim/floors": (FLOOR * moments.hs_mean).clip(min=LEAST_FLOOR),
    }
