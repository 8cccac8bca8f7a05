"""What both instruments measure in the same coarse pixels: the raw material of every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, minimum_filter

from scenefuse.grid.resample import degrade, degrade_reach_px
from scenefuse.models.base import SceneWindow
from scenefuse.models.resample import coarse_blur_taps

Array = NDArray[np.float64]

PSF_SIGMA_BOUNDS = (0.1, 0.75)
"""Smallest and largest plausible PSF sigma, in coarse pixels: an MTF at Nyquist of 0.95 and of 0.06."""

WHOLE = 0.999
"""Least share of its kernel's weight that must lie on data for a degraded MSI pixel to count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarsePixels:
    """The valid coarse pixels of a window as both instruments see them."""

    hs: Array
    """(pixel, hs band) reflectance."""
    ms: Array
    """(pixel, ms band) reflectance of the MSI degraded to the coarse grid."""


def psf_sigma_limits_px(ratio: int) -> tuple[float, float]:
    """Smallest and largest PSF sigma in fine pixels; at least 0.3, below which a Gaussian is a single pixel."""
    least, greatest = PSF_SIGMA_BOUNDS
    return max(0.3, least * ratio), greatest * ratio


def degrade_margin(ratio: int, sigma_px: float | None = None) -> int:
    """Coarse pixels of context that degrade needs; without a sigma, for the widest plausible PSF."""
    sigma_px = psf_sigma_limits_px(ratio)[1] if sigma_px is None else sigma_px
    return -(-degrade_reach_px(ratio, sigma_px) // ratio)


def coarse_pixels(window: SceneWindow, sigma_px: float) -> CoarsePixels:
    """Pixels of the window, without its margin, where the HSI and all of the MSI under the PSF are data."""
    hs, ms, valid = _coarse_images(window, sigma_px, spare=0)
    return CoarsePixels(hs=hs[:, valid].T, ms=ms[:, valid].T)


def coarse_pixel_ladder(window: SceneWindow, sigmas_px: Sequence[float]) -> tuple[Array, tuple[Array, ...]]:
    """coarse_pixels for each sigma, always of the same pixels: those valid under the widest PSF.

    Returns (pixel, hs band), which does not depend on sigma, and (pixel, ms band) for each sigma.
    """
    hs, _, valid = _coarse_images(window, max(sigmas_px), spare=0)
    ladder = (_degraded_ms(window, sigma_px, spare=0) for sigma_px in sigmas_px)
    return hs[:, valid].T, tuple(ms[:, valid].T for ms in ladder)


def coarse_details(window: SceneWindow, sigma_px: float) -> CoarsePixels:
    """Detail that one more blur of the same kind removes from those pixels: image - degrade(upsample(image)).

    This is the finest detail the HSI still shows, and so the best proxy for the detail it has lost. Counts only pixels
    whose whole neighbourhood under that blur is data. Needs detail_margin of context.
    """
    taps = coarse_blur_taps(window.ratio, sigma_px)
    reach = len(taps) // 2
    hs, ms, valid = _coarse_images(window, sigma_px, spare=reach)
    valid = minimum_filter(valid, size=len(taps))
    inner = slice(reach, -reach)
    details = [(image - _blur(image, taps))[:, inner, inner][:, valid[inner, inner]].T for image in (hs, ms)]
    return CoarsePixels(hs=details[0], ms=details[1])


def detail_margin(ratio: int) -> int:
    """Coarse pixels of context that coarse_details needs for the widest plausible PSF."""
    return degrade_margin(ratio) + len(coarse_blur_taps(ratio, psf_sigma_limits_px(ratio)[1])) // 2


def _coarse_images(window: SceneWindow, sigma_px: float, *, spare: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """HSI and degraded MSI (band, y, x) in float64, and where both are data; `spare` pixels of margin remain."""
    coarse, fine = _inside(window, sigma_px, spare)
    valid = window.hs_valid[coarse, coarse]
    if not window.ms_valid.all():
        there = window.ms_valid[np.newaxis, fine, fine].astype(np.float32)
        shares = degrade(there, window.ratio, sigma_px, window.phase_px)[0]
        valid = valid & (shares >= WHOLE)
    return window.hs[:, coarse, coarse].astype(np.float64), _degraded_ms(window, sigma_px, spare=spare), valid


def _degraded_ms(window: SceneWindow, sigma_px: float, *, spare: int) -> Array:
    """The degraded MSI (band, y, x) in float64; `spare` pixels of margin remain."""
    _, fine = _inside(window, sigma_px, spare)
    return degrade(window.ms[:, fine, fine], window.ratio, sigma_px, window.phase_px).astype(np.float64)


def _inside(window: SceneWindow, sigma_px: float, spare: int) -> tuple[slice, slice]:
    """Row (and column) slices of the HSI and MSI that leave `spare` coarse pixels of margin after degrading the MSI."""
    reach_px = degrade_reach_px(window.ratio, sigma_px)
    cut = window.margin - spare
    cut_px = cut * window.ratio - reach_px
    if cut < 0 or cut_px < 0:
        raise ValueError(
            f"A margin of {window.margin} coarse pixels is too small for {spare} and a PSF of {reach_px} px"
        )
    return slice(cut, -cut or None), slice(cut_px, -cut_px or None)


def _blur(image: Array, taps: Array) -> Array:
    """The image (band, y, x) filtered by the taps along rows and columns."""
    return np.asarray(correlate1d(correlate1d(image, taps, axis=1), taps, axis=2), dtype=np.float64)
