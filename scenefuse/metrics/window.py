"""Local statistics of two images under the Gaussian window of SSIM, and the two indices computed from them.

Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, Image quality assessment, IEEE TIP 13(4), 2004,
doi 10.1109/TIP.2003.819861; Z. Wang, A. Bovik, A universal image quality index, IEEE SPL 9(3), 2002,
doi 10.1109/97.995823.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, minimum_filter

Array = NDArray[np.float64]

WINDOW_PX = 11
"""Side of the window."""
WINDOW_SIGMA_PX = 1.5
"""Standard deviation of its weights."""
CONTEXT_PX = WINDOW_PX // 2
"""Pixels around a tile that its windows read; supply them where the scene has them."""

FLAT = 1e-12
"""Variance / mean square up to which an image counts as flat: anything below is rounding, even of float64 sums."""

_POSITIONS_PX = np.arange(WINDOW_PX) - CONTEXT_PX
_TAPS = np.exp(-0.5 * (_POSITIONS_PX / WINDOW_SIGMA_PX) ** 2)
_TAPS /= _TAPS.sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatistics:
    """Weighted means, variances and covariance of two images x and y, each (y, x), or (band,) for whole images."""

    mean_x: Array
    """Mean of x."""
    mean_y: Array
    """Mean of y."""
    var_x: Array
    """Variance of x, not below 0."""
    var_y: Array
    """Variance of y, not below 0."""
    covariance: Array
    """Covariance of x and y."""

    def ssim(self, data_range: float) -> Array:
        """Structural similarity (y, x): ((2 mx my + c1)(2 cxy + c2)) / ((mx^2 + my^2 + c1)(vx + vy + c2)).

        c1 = (0.01 data_range)^2, c2 = (0.03 data_range)^2.
        """
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        numerator = (2 * self.mean_x * self.mean_y + c1) * (2 * self.covariance + c2)
        return numerator / ((self.mean_x**2 + self.mean_y**2 + c1) * (self.var_x + self.var_y + c2))

    def uiqi(self) -> Array:
        """Universal image quality index (y, x): 4 cxy mx my / ((vx + vy)(mx^2 + my^2)).

        Where both are flat it is 2 mx my / (mx^2 + my^2), and 1 where both are 0 (Wang and Bovik, section II).
        """
        means = self.mean_x**2 + self.mean_y**2
        variances = self.var_x + self.var_y
        luminance = np.divide(2 * self.mean_x * self.mean_y, means, out=np.ones_like(means), where=means > 0)
        flat = variances <= FLAT * means
        return luminance * np.divide(2 * self.covariance, variances, out=np.ones_like(variances), where=~flat)


def finite(*images: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels (y, x) where every band of every image is data."""
    valid = np.ones(images[0].shape[1:], dtype=np.bool_)
    for image in images:
        valid &= np.isfinite(image).all(axis=0)
    return valid


def local_statistics(x: Array, y: Array) -> LocalStatistics:
    """Statistics at every pixel (y, x); do not use those nearer than CONTEXT_PX to the edge."""
    mean_x, mean_y = _average(x), _average(y)
    return LocalStatistics(
        mean_x=mean_x,
        mean_y=mean_y,
        var_x=np.maximum(_average(x * x) - mean_x**2, 0.0),
        var_y=np.maximum(_average(y * y) - mean_y**2, 0.0),
        covariance=_average(x * y) - mean_x * mean_y,
    )


def whole_windows(valid: NDArray[np.bool_], core: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Pixels of the core (y, x) whose whole window lies inside the array and on valid pixels."""
    whole = minimum_filter(valid, size=WINDOW_PX, mode="constant", cval=False)
    counted = np.zeros_like(whole)
    counted[core] = whole[core]
    return counted


def _average(image: Array) -> Array:
    """Weighted mean under the window (y, x)."""
    rows = correlate1d(image, _TAPS, axis=0, mode="nearest")
    return np.asarray(correlate1d(rows, _TAPS, axis=1, mode="nearest"), dtype=np.float64)
