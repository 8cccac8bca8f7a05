"""Pictures of a page: colours from reflectance, flags over a grey image, and the PNG within a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.product.quicklook import png_bytes
from scenefuse.quality.flags import GRAVEST_FIRST
from scenefuse.sensors.band import Band

Image = NDArray[np.float32]
Picture = NDArray[np.uint8]

RGB_NM = (660.0, 560.0, 480.0)
"""Wavelengths of red, green and blue."""
BRIGHTNESS = (5, 35, 65, 95)
"""Percentiles of brightness at which pixels are taken for spectra: dark ground to bright."""
FLAG_COLOURS = {
    QualityFlag.NODATA: (125, 133, 144),
    QualityFlag.NOT_FINITE: (168, 85, 247),
    QualityFlag.CLIPPED: (220, 38, 38),
    QualityFlag.NEAR_NODATA: (249, 145, 22),
    QualityFlag.NEAR_EDGE: (37, 119, 235),
}
"""Red, green and blue of each flag, in pictures and in their legend."""


def rgb_bands(bands: Sequence[Band]) -> tuple[int, int, int]:
    """Indexes of the bands nearest to RGB_NM; where no wavelength is known, those at 3/4, 2/4 and 1/4 of all."""
    waves = np.array([np.nan if band.wavelength_nm is None else band.wavelength_nm for band in bands])
    if np.isfinite(waves).any():
        red, green, blue = (int(np.nanargmin(np.abs(waves - nm))) for nm in RGB_NM)
    else:
        red, green, blue = (len(waves) * share // 4 for share in (3, 2, 1))
    return red, green, blue


def dark_to_bright(brightness: NDArray[np.floating[Any]]) -> tuple[tuple[int, int], ...]:
    """Row and column of the pixels that have the percentiles BRIGHTNESS, (y, x); NaN is never taken."""
    flat = brightness.ravel()
    order = np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())]
    chosen = dict.fromkeys(int(order[len(order) * percent // 100]) for percent in BRIGHTNESS if len(order))
    return tuple(divmod(index, brightness.shape[1]) for index in chosen)


def colours(rgb: Image) -> Picture:
    """Red, green, blue and opacity, (4, y, x), of reflectance (3, y, x); transparent where one is missing.

    Each colour is stretched from its 2nd to its 98th percentile.
    """
    valid = np.isfinite(rgb).all(axis=0)
    picture = np.zeros((4, *valid.shape), np.uint8)
    picture[3] = np.where(valid, 255, 0)
    if valid.any():
        low, high = np.percentile(rgb[:, valid], (2.0, 98.0), axis=1)
        stretched = (rgb - low[:, None, None]) / np.maximum(high - low, 1e-6)[:, None, None]
        picture[:3] = np.where(valid, np.clip(np.rint(np.where(valid, stretched, 0.0) * 255), 0, 255), 0)
    return picture


def flagged(picture: Picture, flags: NDArray[np.uint8]) -> Picture:
    """The picture in grey, and over it the gravest flag of each pixel in its colour, through which the ground shows."""
    grey = picture[:3].mean(axis=0)
    shown = np.stack([grey, grey, grey, picture[3].astype(np.float64)])
    strength = np.where(picture[3] > 0, 0.7, 1.0)
    for flag in reversed(GRAVEST_FIRST):
        there = (flags & np.uint8(flag)) != 0
        for plane, colour in zip(shown, FLAG_COLOURS[flag], strict=False):
            plane[there] = ((1 - strength) * grey + strength * colour)[there]
        shown[3, there] = 255
    return np.asarray(np.rint(shown), np.uint8)


def data_uri(picture: Picture) -> str:
    """The picture as a PNG within a page."""
    return f"data:image/png;base64,{b64encode(png_bytes(picture)).decode()}"
