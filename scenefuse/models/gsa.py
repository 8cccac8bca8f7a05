"""gsa: adaptive Gram-Schmidt for an HSI and an MSI.

B. Aiazzi, S. Baronti, M. Selva, Improving component substitution pansharpening through multivariate regression of
MS+Pan data, IEEE TGRS 45(10), 2007, doi 10.1109/TGRS.2007.901007; grouped by MSI band as in N. Yokoya,
C. Grohnfeldt, J. Chanussot, Hyperspectral and multispectral data fusion: a comparative review, IEEE GRSM 5(2), 2017,
doi 10.1109/MGRS.2016.2637824.

Every HSI band is assigned to the MSI band it correlates with best. In each group the intensity I = w hs + w0 is the
regression of the degraded MSI band on the group's HSI bands; the difference between the MSI band and the intensity is
injected: fused = up(hs) + g (ms - up(I)), g = cov(hs, I) / var(I). As up commutes with w and g,
fused = up(hs - g I) + g ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from scenefuse.models.band_map import inject, map_bands
from scenefuse.models.base import ModelCard, Stage
from scenefuse.models.classical import Cost, card_of, frozen, given_options, injection_cost, reach_of_upsampling
from scenefuse.models.moments import Array, Moments, MomentStage, correlations, ridge_regression
from scenefuse.models.ref import ModelRef
from scenefuse.models.state import SceneState

RIDGE = 1e-3
"""Added to the correlation matrix of a group's HSI bands, which are nearly collinear: costs up to 0.2 dB on
noise-free scenes, and keeps the weights bounded if a group has more bands than the scene has pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsa:
    """Adaptive Gram-Schmidt: the MSI's bands substituted for the HSI's intensities."""

    card: ModelCard

    def stages(self) -> tuple[Stage, ...]:
        """One stage over the whole scene: groups, intensities and gains."""
        return (MomentStage(name="gsa/regression", conclusion=_substitution, ratio=self.card.ratio),)

    def to(self, device: str) -> Gsa:  # noqa: ARG002 - holds no tensor: it follows its inputs' device
        """Return the method itself."""
        return self

    def fuse(self, hs: Tensor, ms: Tensor, state: SceneState) -> Tensor:
        """up(hs - g I) + g ms, (n, hs band, y, x)."""
        gains = frozen(state, "gsa/gains", like=hs)  # (hs, ms)
        offsets = frozen(state, "gsa/offsets", like=hs)  # (ms,)
        intensities = map_bands(frozen(state, "gsa/weights", like=hs), hs) + offsets[:, None, None]  # (n, ms, y+4, x+4)
        return inject(hs - map_bands(gains, intensities), gains, ms, self.card.ratio, state.phase_px)


def build(ref: ModelRef) -> Gsa:
    """The method for the reference's bands and ratio."""
    cost = injection_cost(ref, len(ref.ms_bands))
    card = card_of(
        ref,
        title="Adaptive Gram-Schmidt, HSI bands grouped by MSI band",
        source="Aiazzi et al. 2007, doi 10.1109/TGRS.2007.901007; Yokoya et al. 2017, doi 10.1109/MGRS.2016.2637824",
        reach=reach_of_upsampling(ref.ratio),
        cost=Cost(multiply_adds=cost.multiply_adds, values=cost.values - 1.5 * len(ref.ms_bands)),
        options=given_options(ref, {}),
    )
    return Gsa(card=card)


def _substitution(moments: Moments, state: SceneState) -> Mapping[str, Array]:  # noqa: ARG001 - the stage's contract
    """Arrays weights (ms band, hs band), offsets (ms band,), gains (hs band, ms band); zero outside the groups."""
    group = np.abs(correlations(moments)).argmax(axis=1)  # (hs,)
    weights, gains = np.zeros(moments.hs_ms.T.shape), np.zeros(moments.hs_ms.shape)
    for band in range(len(moments.ms_mean)):
        members = np.flatnonzero(group == band)
        if not len(members):
            continue
        covariance = moments.hs_hs[np.ix_(members, members)]
        cross = moments.hs_ms[members, band][np.newaxis]
        weight = ridge_regression(covariance, cross, RIDGE)[0]
        variance = float(weight @ covariance @ weight)
        weights[band, members] = weight
        gains[members, band] = covariance @ weight / variance if variance > 0 else 0.0
    offsets = moments.ms_mean - weights @ moments.hs_mean
    return {"gsa/weights": weights, "gsa/offsets": offsets, "gsa/gains": gains}
