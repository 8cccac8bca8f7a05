"""Quality flags of a core, independent of the tiling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.tiles.tiling import Tile


def mask_core(
    fused: NDArray[np.float32], valid: NDArray[np.bool_], tile: Tile, *, fine_shape: tuple[int, int], near_px: int
) -> NDArray[np.uint8]:
    """Quality flags of the core, (y, x); sets fused, (band, y, x) of the core, to NaN where there is no result.

    valid covers tile.read, which must extend near_px, the model's effective support, beyond the core.
    """
    quality = _scene_flags(valid, tile, fine_shape=fine_shape, near_px=near_px)
    finite = finite_in_every_band(fused)
    nodata = (quality & np.uint8(QualityFlag.NODATA)) != 0
    quality[~finite & ~nodata] |= np.uint8(QualityFlag.NOT_FINITE)
    void = nodata | ~finite
    if void.any():
        fused[:, void] = np.nan
    return quality


def finite_in_every_band(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask (y, x), true where no band of pixels, (band, y, x), is NaN or infinite."""
    finite = np.ones(pixels.shape[1:], dtype=np.bool_)
    of_band = np.empty_like(finite)
    for band in pixels:
        np.isfinite(band, out=of_band)
        if not of_band.all():
            finite &= of_band
    return finite


def _scene_flags(
    valid: NDArray[np.bool_], tile: Tile, *, fine_shape: tuple[int, int], near_px: int
) -> NDArray[np.uint8]:
    core_valid = valid[tile.core.within(tile.read)]
    quality = np.where(core_valid, 0, QualityFlag.NODATA).astype(np.uint8)
    around = ~valid[tile.core.grow(near_px).within(tile.read)]
    quality[_dilated(around, near_px) & core_valid] |= np.uint8(QualityFlag.NEAR_NODATA)
    near_row, near_column = (
        _near_ends(np.arange(start, stop), size, near_px)
        for start, stop, size in zip(
            (tile.core.y0, tile.core.x0), (tile.core.y1, tile.core.x1), fine_shape, strict=True
        )
    )
    quality[near_row[:, None] | near_column[None, :]] |= np.uint8(QualityFlag.NEAR_EDGE)
    return quality


def _near_ends(index: NDArray[np.intp], size: int, near_px: int) -> NDArray[np.bool_]:
    return (index < near_px) | (index >= size - near_px)


def _dilated(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """True where any pixel within radius_px (a square) is true; the result is smaller by radius_px on each side."""
    if not mask.any():
        return np.zeros(tuple(side - 2 * radius_px for side in mask.shape), dtype=np.bool_)
    for axis in (0, 1):
        sums = np.cumsum(mask, axis=axis, dtype=np.int32)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis=axis)), sums], axis=axis)
        width = 2 * radius_px + 1
        upper = sums.take(range(width, sums.shape[axis]), axis=axis)
        lower = sums.take(range(sums.shape[axis] - width), axis=axis)
        mask = upper > lower
    return mask
