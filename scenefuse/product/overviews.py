"""Overview levels: each pixel the mean of the valid pixels of a 2 x 2 block one level below."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from scenefuse.product.layout import level_path
from scenefuse.product.shards import encode_shard, put_shard, shard_key
from scenefuse.product.spec import ProductSpec


def halve(pixels: NDArray[np.int16], nodata: int) -> NDArray[np.int16]:
    """Mean of the valid pixels of every 2 x 2 block, (band, ceil(y / 2), ceil(x / 2)), rounded half up.

    A block with no valid pixel is no data; at an odd edge the block is what there is of it.
    """
    bands, rows, columns = pixels.shape
    even = np.full((bands, rows + rows % 2, columns + columns % 2), nodata, np.int16)
    even[:, :rows, :columns] = pixels
    corners = [even[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    count = sum((corner != nodata).astype(np.int32) for corner in corners)
    total = sum(np.where(corner == nodata, 0, corner).astype(np.int32) for corner in corners)
    counted = np.maximum(count, 1)
    return np.where(count == 0, nodata, (2 * total + counted) // (2 * counted)).astype(np.int16)


def build_overviews(store: Path, spec: ProductSpec) -> None:
    """Nothing; every overview shard is stored, made from the level below, shard by shard.

    At most one overview shard and one shard of the level below are in memory. Done again, it writes the same bytes.
    """
    group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)
    for factor in spec.overview_factors:
        below = cast("zarr.Array[Any]", group[f"{level_path(factor // 2)}reflectance"])
        level = cast("zarr.Array[Any]", group[f"{level_path(factor)}reflectance"])
        rows, columns = spec.shard_counts(factor)
        for iy in range(rows):
            for ix in range(columns):
                pixels = _overview_core(below, spec, factor, (iy, ix))
                data = encode_shard(pixels, spec.shard_shape, level)
                put_shard(store, shard_key("reflectance", iy, ix, factor=factor), data)


def _overview_core(below: zarr.Array[Any], spec: ProductSpec, factor: int, place: tuple[int, int]) -> NDArray[np.int16]:
    """Pixels of one overview core, put together from up to four cores of the level below."""
    core = spec.core_px
    rows, columns = spec.level_shape(factor)
    y0, x0 = place[0] * core, place[1] * core
    result = np.full((spec.shape[0], min(core, rows - y0), min(core, columns - x0)), spec.nodata, np.int16)
    half = core // 2
    for y in range(0, result.shape[1], half):
        for x in range(0, result.shape[2], half):
            fine_y, fine_x = 2 * (y0 + y), 2 * (x0 + x)
            block = np.asarray(below[:, fine_y : fine_y + core, fine_x : fine_x + core])
            small = halve(block, spec.nodata)
            result[:, y : y + small.shape[1], x : x + small.shape[2]] = small
    return result
