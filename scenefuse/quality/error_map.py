"""Where a product differs from its truth: the error of each pixel, and of whole scenes a picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window
from scenefuse.quality.thinning import picture_shape, thinned

Image = NDArray[np.float32]

SCALE_PERCENTILE = 99.0
"""Percentile of the errors at which the scale of a picture ends: a few pixels would darken all others."""


def mean_squared_error(fused: Image, truth: Image) -> NDArray[np.float64]:
    """(y, x) mean over bands of the squared difference; NaN where a band lacks data. Band by band, to save memory."""
    total = np.zeros(truth.shape[1:], np.float64)
    for f, t in zip(fused, truth, strict=True):
        total += (f - t) ** 2
    return total / len(truth)


def spectral_angle_deg(fused: Image, truth: Image) -> NDArray[np.float64]:
    """(y, x) angle between the two spectra in degrees; NaN where one lacks data or is zero. Band by band."""
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
    """The error of a product in a picture of its whole, gathered window by window."""

    factor: int
    """Fine pixels per pixel of the picture, a side."""
    squares: NDArray[np.float64]
    """(y, x) sums of the mean squared errors of the fine pixels that each pixel of the picture covers."""
    pixels: NDArray[np.int64]
    """(y, x) how many of them have an error."""

    @classmethod
    def blank(cls, shape: tuple[int, int], factor: int) -> ErrorMap:
        """The map of a product of this shape, before anything is known of it."""
        size = picture_shape(shape, factor)
        return cls(factor=factor, squares=np.zeros(size, np.float64), pixels=np.zeros(size, np.int64))

    def add(self, window: Window, fused: Image, truth: Image) -> None:
        """Gather the fine pixels of a window, (band, y, x); each must come once."""
        errors = mean_squared_error(fused, truth)
        known = np.isfinite(errors)
        for picture, values in ((self.squares, np.where(known, errors, 0.0)), (self.pixels, known.astype(np.int64))):
            place, part = thinned(values, window, self.factor, np.add)
            picture[place] += part

    @property
    def rmse(self) -> NDArray[np.float64]:
        """(y, x) root mean square error over the bands and the fine pixels of each pixel; NaN where there is none."""
        mean = np.divide(self.squares, self.pixels, out=np.full_like(self.squares, np.nan), where=self.pixels > 0)
        return np.sqrt(mean)

    @property
    def top(self) -> float:
        """Where the scale of the picture ends: the percentile SCALE_PERCENTILE; 0 where nothing is known."""
        known = self.rmse[self.pixels > 0]
        return float(np.percentile(known, SCALE_PERCENTILE)) if known.size else 0.0

    def facts(self) -> dict[str, Any]:
        """What the picture shows, as JSON can hold it."""
        known = self.rmse[self.pixels > 0]
        median = float(np.median(known)) if known.size else None
        return {"factor": self.factor, "median_rmse": median, "top_rmse": self.top if known.size else None}
