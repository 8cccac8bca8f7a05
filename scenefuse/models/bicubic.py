"""bicubic: the upsampled HSI, using nothing of the MSI: the floor every fusion must beat.

R. Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29, 1981,
doi 10.1109/TASSP.1981.1163711.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scenefuse.models.base import ModelCard, Stage
from scenefuse.models.classical import UPSAMPLE_MACS, Cost, card_of, given_options, reach_of_upsampling
from scenefuse.models.ref import ModelRef
from scenefuse.models.resample import GPU_GROUP_BANDS, upsample
from scenefuse.models.state import SceneState


@dataclass(frozen=True, slots=True, kw_only=True)
class Bicubic:
    """Cubic convolution of every band."""

    card: ModelCard

    def stages(self) -> tuple[Stage, ...]:
        """None: the method needs nothing from the scene."""
        return ()

    def to(self, device: str) -> Bicubic:  # noqa: ARG002 - holds no tensor
        """Return the method itself, which holds no tensor and follows its inputs' device."""
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:  # noqa: ARG002 - the contract's
        """upsample(hs), (n, hs band, y, x)."""
        return upsample(hs, self.card.ratio, state.phase_px)


def build(ref: ModelRef) -> Bicubic:
    """The method for the reference's bands and ratio."""
    bands, ratio = len(ref.hs_bands), ref.ratio
    card = card_of(
        ref,
        title="Cubic convolution of the HSI, without the MSI",
        source="Keys 1981, doi 10.1109/TASSP.1981.1163711",
        reach=reach_of_upsampling(ratio),
        cost=Cost(
            multiply_adds=bands * UPSAMPLE_MACS * (1 + 1 / ratio),
            values=bands * (1 + 1 / ratio**2) + len(ref.ms_bands) + GPU_GROUP_BANDS * 2 / ratio,
        ),
        options=given_options(ref, {}),
    )
    return Bicubic(card=card)
