"""How far neighbouring tiles disagree on pixels that both computed: the seam that a viewer could see."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SEAM_RMS_BUDGET = 2.5e-4
"""Largest rms disagreement allowed in a product, full scale 1."""
SEAM_P999_BUDGET = 1e-3
"""Largest 99.9th percentile of the disagreement allowed in a product, full scale 1."""

BINS_PER_DECADE = 100
"""Resolution of the histogram from which the percentile is read, at most 2.4 % too large."""
_EDGES = np.logspace(-12, 3, 15 * BINS_PER_DECADE + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamSums:
    """Sums over pixels and bands that two tiles both computed."""

    count: float = 0.0
    """Values compared."""
    squared: float = 0.0
    """Sum of squared differences, full scale 1."""
    largest: float = 0.0
    """Largest difference."""
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1, np.int64))
    """Differences by size, in bins of a hundredth of a decade from 1e-12; smaller ones are in the first bin."""

    def add(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> SeamSums:
        """The sums with an overlap added: the same pixels (band, y, x) from two tiles; NaN is left out."""
        if one.shape != other.shape:
            raise ValueError(f"Overlaps of shapes {one.shape} and {other.shape} are not the same pixels")
        difference = np.abs(one.astype(np.float64) - other)
        difference = difference[np.isfinite(difference)]
        if not difference.size:
            return self
        bins = np.searchsorted(_EDGES, difference, side="left")
        return self.merge(
            SeamSums(
                count=float(difference.size),
                squared=float((difference**2).sum()),
                largest=float(difference.max()),
                histogram=np.bincount(bins, minlength=len(_EDGES) + 1),
            )
        )

    def merge(self, other: SeamSums) -> SeamSums:
        """The sums of both."""
        return SeamSums(
            count=self.count + other.count,
            squared=self.squared + other.squared,
            largest=max(self.largest, other.largest),
            histogram=self.histogram + other.histogram,
        )

    def scores(self) -> dict[str, float]:
        """seam_rms, seam_p999 and seam_max, full scale 1; NaN where nothing was compared, 0 for equal bits."""
        if not self.count:
            return dict.fromkeys(("seam_rms", "seam_p999", "seam_max"), float("nan"))
        rank = int(np.searchsorted(np.cumsum(self.histogram), 0.999 * self.count))
        p999 = min(float(_EDGES[min(rank, len(_EDGES) - 1)]), self.largest)
        return {"seam_rms": float(np.sqrt(self.squared / self.count)), "seam_p999": p999, "seam_max": self.largest}
