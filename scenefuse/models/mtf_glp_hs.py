"""mtf-glp-hs: the hypersharpened MTF-matched generalised Laplacian pyramid.

M. Selva, B. Aiazzi, F. Butera, L. Chiarantini, S. Baronti, Hyper-sharpening: a first approach on SIM-GA data,
IEEE JSTARS 8(6), 2015, doi 10.1109/JSTARS.2015.2440092; B. Aiazzi et al., MTF-tailored multiscale fusion,
PE&RS 72(5), 2006, doi 10.14358/PERS.72.5.591.

For every HSI band a fine image is synthesised from all MSI bands by regression, P = W ms + c, and the detail of P
beyond the PSF is added: fused = up(hs) + g (P - up(degrade(P))). The regression is fitted at coarse resolution, hs on
degrade(ms), so the gain g = cov(hs, degrade(P)) / var(degrade(P)) is 1 by least squares.
As up and degrade commute with W, c drops out and fused = up(hs - W degrade(ms)) + W ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from scenefuse.models.band_map import inject, map_bands
from scenefuse.models.base import ModelCard, Stage
from scenefuse.models.classical import card_of, frozen, given_options, injection_cost, reach_of_degrading
from scenefuse.models.moments import Array, Moments, MomentStage, ridge_regression
from scenefuse.models.ref import ModelRef
from scenefuse.models.resample import degrade_window
from scenefuse.models.state import SceneState

RIDGE = 3e-4
"""Added to the MSI bands' correlation matrix, so that collinear MSI bands cannot blow up. It costs 0.02 dB on Jasper
Ridge fused without noise and gains 0.02 dB with noise of 35 dB (1e-2 costs 1.5 dB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MtfGlpHs:
    """Adds detail of images synthesised from the MSI to the upsampled HSI."""

    card: ModelCard

    def stages(self) -> tuple[Stage, ...]:
        """One stage over the whole scene: the regression of the HSI on the degraded MSI."""
        return (MomentStage(name="mtf-glp-hs/regression", conclusion=_synthesis, ratio=self.card.ratio),)

    def to(self, device: str) -> MtfGlpHs:  # noqa: ARG002 - holds no tensor: it follows its inputs' device
        """Return the method itself."""
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """up(hs - W degrade(ms)) + W ms, (n, hs band, y, x)."""
        gains = frozen(state, "mtf-glp-hs/synthesis", like=hs)  # (hs, ms)
        ratio, phase_px = self.card.ratio, state.phase_px
        low = degrade_window(ms, ratio, float(state.facts["psf_sigma_px"]), phase_px)  # (n, ms, y + 4, x + 4)
        return inject(hs - map_bands(gains, low), gains, ms, ratio, phase_px)


def build(ref: ModelRef) -> MtfGlpHs:
    """The method for the reference's bands and ratio."""
    card = card_of(
        ref,
        title="Hypersharpening by MTF-matched Laplacian pyramids",
        source="Selva et al. 2015, doi 10.1109/JSTARS.2015.2440092",
        reach=reach_of_degrading(ref.ratio),
        cost=injection_cost(ref, len(ref.ms_bands)),
        options=given_options(ref, {}),
    )
    return MtfGlpHs(card=card)


def _synthesis(moments: Moments, state: SceneState) -> Mapping[str, Array]:  # noqa: ARG001 - the stage's contract
    """Array synthesis W (hs band, ms band)."""
    return {"mtf-glp-hs/synthesis": ridge_regression(moments.ms_ms, moments.hs_ms, RIDGE)}
