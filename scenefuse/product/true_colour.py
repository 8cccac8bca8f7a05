"""From reflectance to the colours of a picture: which bands are shown, and how each is stretched. One rule for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scenefuse.sensors.band import Band

Image = NDArray[np.float32]
Picture = NDArray[np.uint8]

RGB_NM = (660.0, 560.0, 480.0)
"""Wavelengths of red, green and blue."""
STRETCHED = (2.0, 98.0)
"""Percentiles of a colour that are shown dark, and full."""
_LEAST_SPAN = 1e-6
"""Least reflectance between the two."""


def rgb_bands(bands: Sequence[Band]) -> tuple[int, int, int]:
    """Indexes of the bands nearest to RGB_NM; where no wavelength is known, those at 3/4, 2/4 and 1/4 of all."""
    waves = np.array([np.nan if band.wavelength_nm is None else band.wavelength_nm for band in bands])
    if np.isfinite(waves).any():
        red, green, blue = (int(np.nanargmin(np.abs(waves - nm))) for nm in RGB_NM)
    else:
        red, green, blue = (len(waves) * share // 4 for share in (3, 2, 1))
    return red, green, blue


def stretch_limits(rgb: Image) -> tuple[Image, Image]:
    """(3,) reflectance that is shown dark, and full, of each colour of (3, y, x): STRETCHED where all three are data.

    NaN where there is no such pixel.
    """
    valid = np.isfinite(rgb).all(axis=0)
    if not valid.any():
        return np.full(3, np.nan, np.float32), np.full(3, np.nan, np.float32)
    low, high = np.percentile(rgb[:, valid], STRETCHED, axis=1)
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def stretched(rgb: Image, low: Image, high: Image) -> Image:
    """(3, y, x) of 0 (at low) to 1 (at high); 0 where a colour has no data."""
    span = np.maximum(high - low, np.float32(_LEAST_SPAN))
    shares = (rgb - low[:, None, None]) / span[:, None, None]
    return np.asarray(np.clip(np.nan_to_num(shares), 0.0, 1.0), np.float32)


def colours(rgb: Image) -> Picture:
    """Red, green, blue and opacity, (4, y, x), of reflectance (3, y, x); transparent where one is missing.

    Each colour is stretched from its 2nd to its 98th percentile.
    """
    valid = np.isfinite(rgb).all(axis=0)
    picture = np.zeros((4, *valid.shape), np.uint8)
    picture[3] = np.where(valid, 255, 0)
    picture[:3] = np.where(valid, np.rint(stretched(rgb, *stretch_limits(rgb)) * 255), 0)
    return picture
