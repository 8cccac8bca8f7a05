"""The two resamplers between a pair's grids, upsample and degrade, phase-locked.

Both are separable and evaluated as a fixed sequence of elementwise float32 products and sums, without BLAS: a pixel's
value depends only on the pixels under its kernel, never on the window's size or origin. models/resample.py evaluates
the same taps with torch.

PairGrid defines which fine pixels belong to a coarse pixel: coarse pixel i covers fine pixels
[i * ratio, (i + 1) * ratio). The coarse image may lie beside its grid by a phase of up to half a fine pixel (y, x): its
pixel i then lies at [i * ratio + phase, (i + 1) * ratio + phase). Both resamplers take it into their weights, so that
neither image is resampled to make their grids nest.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

UPSAMPLE_REACH = 2
"""Coarse pixels that upsample consumes on each side of a window."""

TRUNCATE_SIGMAS = 4.0
"""Where degrade's Gaussian is cut off, in standard deviations: 6e-5 of its mass lies outside."""

Array = NDArray[np.float32]
Phase = tuple[float, float]
"""Rows and columns, in fine pixels, by which the coarse image lies down and right of its grid."""

NO_PHASE: Phase = (0.0, 0.0)
"""The coarse image lies on its grid."""
MOST_PHASE_PX = 0.5
"""Largest phase along an axis: beyond it another whole fine pixel is nearer."""


def keys_cubic(distance: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weights of the cubic convolution kernel with a = -0.5 at distances in pixels; 0 from 2 on.

    w(t) = 1.5 |t|^3 - 2.5 |t|^2 + 1 below 1, -0.5 |t|^3 + 2.5 |t|^2 - 4 |t| + 2 from 1 to 2.
    Keys (1981), Cubic convolution interpolation for digital image processing, doi 10.1109/TASSP.1981.1163711,
    equation 15.
    """
    t = np.abs(distance)
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return np.where(t < 1.0, near, np.where(t < 2.0, far, 0.0))


@lru_cache(maxsize=256)
def upsample_taps(ratio: int, phase_px: float = 0.0) -> Array:
    """Weights of the coarse pixels at offsets -2..2 for each fine pixel of a coarse one, (ratio, 5) float32.

    Fine pixel k of a coarse pixel has its centre at t = (k + 0.5 - phase_px) / ratio - 0.5 coarse pixels from the
    coarse centre; its weights are keys_cubic(t - offset). Rows sum to 1. Read-only.
    """
    centres = (np.arange(ratio) + 0.5 - _checked(phase_px)) / ratio - 0.5
    offsets = np.arange(-UPSAMPLE_REACH, UPSAMPLE_REACH + 1)
    taps = keys_cubic(centres[:, np.newaxis] - offsets)
    return _frozen(taps / taps.sum(axis=1, keepdims=True))


def degrade_reach_px(ratio: int, sigma_px: float) -> int:
    """Fine pixels that degrade needs on each side beyond the coarse pixel's own.

    The kernel ends at 4 sigma from the coarse centre, and covers at least the coarse pixel. A phase does not move its
    ends: it then ends up to half a fine pixel nearer on one side.
    """
    if ratio < 1 or not sigma_px > 0:
        raise ValueError(f"degrade needs a ratio >= 1 and sigma_px > 0, got {ratio} and {sigma_px}")
    return max(0, ceil(TRUNCATE_SIGMAS * sigma_px - (ratio - 1) / 2))


@lru_cache(maxsize=256)
def degrade_taps(ratio: int, sigma_px: float, phase_px: float = 0.0) -> Array:
    """Weights of the fine pixels under a coarse pixel's Gaussian, (ratio + 2 * reach,) float32, sum 1.

    Tap k lies p = k - (taps - 1) / 2 - phase_px fine pixels from the coarse pixel's centre (without a phase on a fine
    pixel's centre for odd ratios, between two for even ones): w ~ exp(-p^2 / (2 sigma_px^2)). Read-only.
    """
    count = ratio + 2 * degrade_reach_px(ratio, sigma_px)
    position = np.arange(count) - (count - 1) / 2 - _checked(phase_px)
    taps = np.exp(-0.5 * (position / sigma_px) ** 2)
    return _frozen(taps / taps.sum())


def upsample(coarse: Array, ratio: int, phase_px: Phase = NO_PHASE) -> Array:
    """The coarse pixels by cubic convolution on the fine grid, (band, y * ratio, x * ratio) float32.

    coarse: (band, y + 4, x + 4), including a margin of 2 coarse pixels on each side that is consumed. No data (NaN): a
    fine pixel is no data where its own coarse pixel is; a neighbour without data is replaced by the own coarse pixel's
    value, so that a hole neither grows nor shrinks.
    """
    down, right = (upsample_taps(ratio, phase) for phase in phase_px)
    holes = bool(np.isnan(coarse).any())
    rows = _upsample_rows(np.asarray(coarse, np.float32), down, holes=holes)
    columns = _upsample_rows(rows.swapaxes(1, 2), right, holes=holes)
    return np.ascontiguousarray(columns.swapaxes(1, 2))


def degrade(fine: Array, ratio: int, sigma_px: float, phase_px: Phase = NO_PHASE) -> Array:
    """The fine pixels as the coarse instrument sees them, (band, y, x) float32.

    A Gaussian of sigma_px fine pixels, sampled at the centres of the coarse pixels, which lie beside the grid's by
    phase_px (y, x).
    fine: (band, y * ratio + 2 * reach, x * ratio + 2 * reach), reach = degrade_reach_px(ratio, sigma_px).
    No data (NaN) spreads to every coarse pixel whose kernel touches it.
    """
    down, right = (degrade_taps(ratio, sigma_px, phase) for phase in phase_px)
    rows = weigh_rows(np.asarray(fine, np.float32), down, ratio)
    columns = weigh_rows(rows.swapaxes(1, 2), right, ratio)
    return np.ascontiguousarray(columns.swapaxes(1, 2))


def _checked(phase_px: float) -> float:
    """The phase of one axis; ValueError beyond MOST_PHASE_PX."""
    if not abs(phase_px) <= MOST_PHASE_PX:
        raise ValueError(f"phase_px is at most {MOST_PHASE_PX} fine pixels, got {phase_px}")
    return phase_px


def _frozen(taps: NDArray[np.float64]) -> Array:
    """The taps as a read-only float32 array, safe to share from a cache."""
    frozen = taps.astype(np.float32)
    frozen.flags.writeable = False
    return frozen


def _upsample_rows(coarse: Array, taps: Array, *, holes: bool) -> Array:
    """(band, y + 4, x) to (band, y * ratio, x) along rows."""
    ratio, count = taps.shape
    bands, height, width = coarse.shape
    rows = height - (count - 1)
    if rows < 1:
        raise ValueError(f"upsample needs a margin of {UPSAMPLE_REACH} coarse pixels on each side, got {coarse.shape}")
    fine = np.zeros((bands, rows, ratio, width), np.float32)
    own = coarse[:, UPSAMPLE_REACH : UPSAMPLE_REACH + rows]
    for tap in range(count):
        neighbour = coarse[:, tap : tap + rows]
        if holes:
            neighbour = np.where(np.isnan(neighbour), own, neighbour)
        for phase in range(ratio):
            if taps[phase, tap]:
                fine[:, :, phase] += neighbour * taps[phase, tap]
    return fine.reshape(bands, rows * ratio, width)


def weigh_rows(fine: Array, taps: Array, ratio: int) -> Array:
    """(band, y * ratio + taps - ratio, x) to (band, y, x) along rows: sums of taps that step by ratio."""
    count = len(taps)
    height = fine.shape[1] - (count - ratio)
    if height < ratio or height % ratio:
        raise ValueError(
            f"{fine.shape[1]} fine pixels less {count - ratio} of margin are not whole coarse pixels of {ratio}"
        )
    rows = height // ratio
    coarse = np.zeros((fine.shape[0], rows, fine.shape[2]), np.float32)
    for tap in range(count):
        if taps[tap]:
            coarse += fine[:, tap : tap + (rows - 1) * ratio + 1 : ratio] * taps[tap]
    return coarse
