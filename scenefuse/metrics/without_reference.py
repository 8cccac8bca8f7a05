"""Scores without a reference: QNR and its two distortions, as sums that add up over tiles.

L. Alparone et al., Multispectral and panchromatic data fusion assessment without reference, PE&RS 74(2), 2008,
doi 10.14358/PERS.74.2.193; for several fine bands, the spatial distortion is the mean over all pairs of HSI and MSI
bands. UIQI is over the Gaussian window of window.py, as in torchmetrics.

Consistency needs no sums of its own: ReferenceSums of (degrade(fused), hs) measures the spectral consistency, of
(seen_by_ms(fused), ms) the spatial one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from scenefuse.metrics.window import finite, local_statistics, whole_windows

Array = NDArray[np.float64]
Image = NDArray[np.float32]

MOST_BANDS = 16
"""Most HSI bands, evenly spaced, of which all pairs are compared: 200 would need 20 000 local covariances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QnrSums:
    """Sums of UIQI between bands, on the fine and on the coarse grid."""

    hs_bands: tuple[int, ...]
    """Indices of the HSI bands compared."""
    fine: Array = field(default_factory=lambda: np.zeros(0))
    """(pair,) sums on the fine grid: fused with fused bands, then fused with MSI bands."""
    fine_count: float = 0.0
    """Windows on the fine grid."""
    coarse: Array = field(default_factory=lambda: np.zeros(0))
    """(pair,) sums on the coarse grid: HSI with HSI bands, then HSI with degraded MSI bands."""
    coarse_count: float = 0.0
    """Windows on the coarse grid."""

    @classmethod
    def of(cls, hs_band_count: int) -> QnrSums:
        """Empty sums for an HSI with hs_band_count bands."""
        chosen = np.unique(np.linspace(0, hs_band_count - 1, min(hs_band_count, MOST_BANDS)).round().astype(int))
        return cls(hs_bands=tuple(chosen.tolist()))

    def add_fine(self, fused: Image, ms: Image, *, core: tuple[slice, slice] | None = None) -> QnrSums:
        """The sums with a fine tile added: fused (hs band, y, x), ms (ms band, y, x); core as in ReferenceSums.add."""
        sums, count = _pair_sums(fused[list(self.hs_bands)], ms, core)
        return self.merge(replace(self, fine=sums, fine_count=count, coarse=np.zeros(0), coarse_count=0.0))

    def add_coarse(self, hs: Image, low: Image, *, core: tuple[slice, slice] | None = None) -> QnrSums:
        """The sums with a coarse tile added: hs (hs band, y, x), low (ms band, y, x) the degraded MSI."""
        sums, count = _pair_sums(hs[list(self.hs_bands)], low, core)
        return self.merge(replace(self, fine=np.zeros(0), fine_count=0.0, coarse=sums, coarse_count=count))

    def merge(self, other: QnrSums) -> QnrSums:
        """The sums of both."""
        if self.hs_bands != other.hs_bands:
            raise ValueError(f"Bands {self.hs_bands} and {other.hs_bands} are different scores")
        return QnrSums(
            hs_bands=self.hs_bands,
            fine=_added(self.fine, other.fine),
            fine_count=self.fine_count + other.fine_count,
            coarse=_added(self.coarse, other.coarse),
            coarse_count=self.coarse_count + other.coarse_count,
        )

    def scores(self) -> dict[str, float]:
        """d_lambda, d_s and qnr = (1 - d_lambda)(1 - d_s); NaN where a grid has no whole window.

        d_lambda = mean over pairs of HSI bands of |Q(fused_i, fused_j) - Q(hs_i, hs_j)|,
        d_s = mean over HSI bands i and MSI bands j of |Q(fused_i, ms_j) - Q(hs_i, low_j)|.
        """
        if not self.fine_count or not self.coarse_count:
            return dict.fromkeys(("d_lambda", "d_s", "qnr"), float("nan"))
        change = np.abs(self.fine / self.fine_count - self.coarse / self.coarse_count)
        pairs = len(self.hs_bands) * (len(self.hs_bands) - 1) // 2
        d_lambda = float(change[:pairs].mean()) if pairs else 0.0
        d_s = float(change[pairs:].mean())
        return {"d_lambda": d_lambda, "d_s": d_s, "qnr": (1 - d_lambda) * (1 - d_s)}


def seen_by_ms(fused: Image, srf: Array, *, gain: Array | None = None, offset: Array | None = None) -> Image:
    """The fused image as the MSI would see it, (ms band, y, x): gain * (srf @ fused) + offset; NaN stays."""
    seen = np.tensordot(srf.astype(np.float32), fused, axes=1)
    if gain is not None:
        seen = seen * gain.astype(np.float32)[:, np.newaxis, np.newaxis]
    if offset is not None:
        seen = seen + offset.astype(np.float32)[:, np.newaxis, np.newaxis]
    return np.asarray(seen, dtype=np.float32)


def _pair_sums(many: Image, few: Image, core: tuple[slice, slice] | None) -> tuple[Array, float]:
    """UIQI summed over whole windows, for all pairs within many, then all pairs of many with few."""
    valid = finite(many, few)
    windows = whole_windows(valid, core or (slice(None), slice(None)))
    first = [np.where(valid, band, 0.0).astype(np.float64) for band in many]
    second = [np.where(valid, band, 0.0).astype(np.float64) for band in few]
    pairs = [*combinations(first, 2), *((a, b) for a in first for b in second)]
    return np.array([local_statistics(a, b).uiqi()[windows].sum() for a, b in pairs]), float(windows.sum())


def _added(first: Array, second: Array) -> Array:
    """The sum, where either may still be empty."""
    if not len(first) or not len(second):
        return first if len(first) else second
    return first + second
