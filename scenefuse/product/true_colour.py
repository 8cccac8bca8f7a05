"""From reflectance to the colours of a picture: which bands to show and how to stretch them. Shared by all pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scenefuse.sensors.band import Band

Image = NDArray[np.float32]
Picture = NDArray[np.uint8]

RGB_NM = (660.0, 560.0, 480.0)
"""Wavelengths of red, green and blue, nm."""
STRETCHED = (2.0, 98.0)
"""Percentiles of a colour that are shown darkest and brightest."""
_LEAST_SPAN = 1e-6
"""Smallest difference in reflectance between the two."""


def rgb_bands(bands: Sequence[Band]) -> tuple[int, int, int]:
    """Indexes of the bands nearest to RGB_NM; if no wavelength is known, those at 3/4, 2/4 and 1/4 of all bands."""
    waves = np.array([np.nan if band.wavelength_nm is None else band.wavelength_nm for band in bands])
    if np.isfinite(waves).any():
        red, green, blue = (int(np.nanargmin(np.abs(waves - nm))) for nm in RGB_NM)
    else:
        red, green, blue = (len(waves) * share // 4 for share in (3, 2, 1))
    return red, green, blue


def stretch_limits(rgb: Image) -> tuple[Image, Image]:
    """Reflectance (3,) shown darkest and brightest for each colour of (3, y, x), at the percentiles STRETCHED.

    Only pixels with data in all three colours count; NaN if there are none.
    """
    valid = np.isfinite(rgb).all(axis=0)
    if not valid.any():
        return np.full(3, np.nan, np.float32), np.full(3, np.nan, np.float32)
    low, high = np.percentile(rgb[:, valid], STRETCHED, axis=1)
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def stretched(rgb: Image, low: Image, high: Image) -> Image:
    """Scale (3, y, x) to 0 (at low) to 1 (at high), clipped; 0 where a colour has no data."""
    span = np.maximum(high - low, np.float32(_LEAST_SPAN))
    shares = (rgb - low[:, None, None]) / span[:, None, None]
    return np.asarray(np.clip(np.nan_to_num(shares), 0.0, 1.0), np.float32)


def colours(rgb: Image) -> Picture:
    """Red, green, blue and opacity (4, y, x) of reflectance (3, y, x); transparent where any colour is missing.

    Each colour is stretched from its 2nd to its 98th percentile.
    """
    valid = np.isfinite(rgb).all(axis=0)
    picture = np.zeros((4, *valid.shape), np.uint8)
    picture[3] = np.where(valid, 255, 0)
    picture[:3] = np.where(valid, np.rint(stretched(rgb, *stretch_limits(rgb)) * 255), 0)
    return picture
