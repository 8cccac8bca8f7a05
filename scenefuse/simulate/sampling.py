"""Sampling of the fine grid at a coarser one with a known misregistration: grid.resample.degrade, shifted."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.resample import TRUNCATE_SIGMAS, weigh_rows


def sample_reach_px(ratio: int, sigma_px: float, shift_px: tuple[float, float] = (0.0, 0.0)) -> int:
    """Fine pixels that sample needs on each side beyond those of the coarse pixels themselves."""
    if sigma_px == 0:
        return 0
    return max(0, ceil(TRUNCATE_SIGMAS * sigma_px + max(map(abs, shift_px)) - (ratio - 1) / 2))


def sample(
    fine: NDArray[np.float32], *, ratio: int, sigma_px: float, shift_px: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float32]:
    """The fine planes as a coarser instrument sees them, (plane, y, x) float32.

    A Gaussian of sigma_px, sampled shift_px = (south, east) fine pixels away from the centres of the coarse pixels.
    fine: (plane, y * ratio + 2 * reach, x * ratio + 2 * reach), reach = sample_reach_px(...).
    sigma_px = 0 is the fine grid itself (ratio 1, no shift).
    """
    if sigma_px == 0:
        if ratio != 1 or any(shift_px):
            raise ValueError(f"sampling without blur keeps the grid, got ratio {ratio} and shift {shift_px}")
        return fine
    reach = sample_reach_px(ratio, sigma_px, shift_px)
    rows = weigh_rows(fine, _taps(ratio, sigma_px, reach, shift_px[0]), ratio)
    columns = weigh_rows(rows.swapaxes(1, 2), _taps(ratio, sigma_px, reach, shift_px[1]), ratio)
    return np.ascontiguousarray(columns.swapaxes(1, 2))


def _taps(ratio: int, sigma_px: float, reach: int, shift: float) -> NDArray[np.float32]:
    """Weights of the fine pixels under one coarse pixel, (ratio + 2 * reach,), sum 1."""
    count = ratio + 2 * reach
    position = np.arange(count) - (count - 1) / 2 - shift
    weights = np.exp(-0.5 * (position / sigma_px) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)
