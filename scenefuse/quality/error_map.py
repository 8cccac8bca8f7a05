"""Where a product differs from its truth: per-pixel errors, and a picture of them for the whole scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window
from scenefuse.quality.thinning import picture_shape, thinned

Image = NDArray[np.float32]

SCALE_PERCENTILE = 99.0
"""Percentile of the errors at which a picture's scale ends; otherwise a few pixels would darken all others."""


def mean_squared_error(fused: Image, truth: Image) -> NDArray[np.float64]:
    """(y, x) mean over bands of the squared difference; NaN where a band lacks data. Band by band, to save memory."""
    total = np.zeros(truth.shape[1:], np.float64)
    for f, t in zip(fused, truth, strict=True):
        total += (f - t) ** 2
    return total / len(truth)


def spectral_angle_deg(fused: Image, truth: Image) -> NDArray[np.float64]:
    """(y, x) angle between the two spectra in degrees; NaN where either lacks data or is zero. Band by band."""
    dot, fused_norm, truth_norm = np.zeros((3, *truth.shape[1:]), np.float64)
    for f, t in zip(fused, truth, strict=True):
        dot += f * t
        fused_norm += f * f
        truth_norm += t * t
    norms = np.sqrt(fused_norm * truth_norm)
    cosine = np.divide(dot, norms, out=np.full_like(dot, np.nan), where=norms > 0)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))), np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ErrorMap:
    """Errors of a whole product at picture resolution, gathered window by window."""

    factor: int
    """Fine pixels per pixel of the picture, along each axis."""
    squares: NDArray[np.float64]
    """(y, x) sum of the mean squared errors of the fine pixels under each pixel of the picture."""
    pixels: NDArray[np.int64]
    """(y, x) number of those fine pixels that have an error."""

    @classmethod
    def blank(cls, shape: tuple[int, int], factor: int) -> ErrorMap:
        """An empty map for a product of this shape."""
        size = picture_shape(shape, factor)
        return cls(factor=factor, squares=np.zeros(size, np.float64), pixels=np.zeros(size, np.int64))

    def add(self, window: Window, fused: Image, truth: Image) -> None:
        """Add the fine pixels of a window, (band, y, x); each pixel must be added only once."""
        errors = mean_squared_error(fused, truth)
        known = np.isfinite(errors)
        for picture, values in ((self.squares, np.where(known, errors, 0.0)), (self.pixels, known.astype(np.int64))):
            place, part = thinned(values, window, self.factor, np.add)
            picture[place] += part

    @property
    def rmse(self) -> NDArray[np.float64]:
        """(y, x) root mean square error over the bands and fine pixels of each pixel; NaN if it has none."""
        mean = np.divide(self.squares, self.pixels, out=np.full_like(self.squares, np.nan), where=self.pixels > 0)
        return np.sqrt(mean)

    @property
    def top(self) -> float:
        """End of the picture's scale: the percentile SCALE_PERCENTILE of rmse; 0 if there are no errors."""
        known = self.rmse[self.pixels > 0]
        return float(np.percentile(known, SCALE_PERCENTILE)) if known.size else 0.0

    def facts(self) -> dict[str, Any]:
        """Key figures of the picture as JSON-compatible values."""
        known = self.rmse[self.pixels > 0]
        median = float(np.median(known)) if known.size else None
        return {"factor": self.factor, "median_rmse": median, "top_rmse": self.top if known.size else None}
