"""Pictures for the report page: flags over a grey image, error maps, and PNGs as data URIs."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.product.quicklook import indexed_png_bytes, png_bytes
from scenefuse.product.true_colour import Picture
from scenefuse.quality.flags import GRAVEST_FIRST

BRIGHTNESS = (5, 35, 65, 95)
"""Percentiles of brightness at which pixels are chosen for spectra, from dark to bright."""
FLAG_COLOURS = {
    QualityFlag.NODATA: (125, 133, 144),
    QualityFlag.NOT_FINITE: (168, 85, 247),
    QualityFlag.CLIPPED: (220, 38, 38),
    QualityFlag.NEAR_NODATA: (249, 145, 22),
    QualityFlag.NEAR_EDGE: (37, 119, 235),
}
"""Red, green and blue of each flag in pictures and legend."""
ERROR_COLOURS = ((18, 22, 48), (84, 34, 110), (170, 50, 98), (232, 104, 60), (252, 186, 90), (252, 246, 196))
"""Red, green and blue from no error to the end of the scale, evenly spaced; each lighter than the one before."""
ERROR_STEPS = 48
"""Shades of an error picture: more cannot be told apart by eye, and noise makes every shade cost bytes."""


def dark_to_bright(brightness: NDArray[np.floating[Any]]) -> tuple[tuple[int, int], ...]:
    """Row and column of the pixels at the percentiles BRIGHTNESS of brightness (y, x); NaN is never chosen."""
    flat = brightness.ravel()
    order = np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())]
    chosen = dict.fromkeys(int(order[len(order) * percent // 100]) for percent in BRIGHTNESS if len(order))
    return tuple(divmod(index, brightness.shape[1]) for index in chosen)


def flagged(picture: Picture, flags: NDArray[np.uint8]) -> Picture:
    """The picture in grey, with each pixel's gravest flag as a translucent colour over it."""
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
    """The picture as a PNG data URI."""
    return _uri(png_bytes(picture))


def error_uri(errors: NDArray[np.float64], top: float) -> str:
    """Errors (y, x) in ERROR_COLOURS, from 0 to top and clipped above, as a PNG data URI; transparent where NaN."""
    known = np.isfinite(errors)
    shares = np.clip(np.where(known, errors, 0.0) / (top or 1.0), 0.0, 1.0)
    shades = np.where(known, 1 + np.rint(shares * (ERROR_STEPS - 1)), 0).astype(np.uint8)
    at = np.linspace(0.0, len(ERROR_COLOURS) - 1, ERROR_STEPS)
    ramp = [np.interp(at, range(len(ERROR_COLOURS)), channel) for channel in zip(*ERROR_COLOURS, strict=True)]
    palette = np.zeros((ERROR_STEPS + 1, 4), np.uint8)
    palette[1:, :3], palette[1:, 3] = np.rint(np.stack(ramp, axis=1)), 255
    return _uri(indexed_png_bytes(shades, palette))


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
