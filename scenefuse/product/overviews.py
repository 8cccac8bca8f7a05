"""Overview levels: each pixel the mean of the valid pixels of a 2 x 2 block one level below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window
from scenefuse.place.place import Place
from scenefuse.product.shards import encode_shard, open_level, put_shard, shard_key
from scenefuse.product.spec import STORE, LevelCore, ProductSpec


def halve(pixels: NDArray[np.int16], nodata: int) -> NDArray[np.int16]:
    """Mean of the valid pixels of every 2 x 2 block, (band, ceil(y / 2), ceil(x / 2)), rounded half up.

    A block with no valid pixel is no data; at an odd edge the block is what there is of it.
    """
    bands, rows, columns = pixels.shape
    result = np.empty((bands, -(-rows // 2), -(-columns // 2)), np.int16)
    even = np.full((rows + rows % 2, columns + columns % 2), nodata, np.int16)
    for band, values in enumerate(pixels):  # one band stays in the processor's cache: twice as fast
        even[:rows, :columns] = values
        valid = even != nodata
        if valid.all():
            result[band] = (_sums(even) + 2) >> 2
            continue
        total, count = _sums(even * valid), _sums(valid, np.uint8)
        mean = (total + 2) >> 2
        some = (count > 0) & (count < 4)
        mean[some] = (2 * total[some] + count[some]) // (2 * count[some])
        mean[count == 0] = nodata
        result[band] = mean
    return result


def _sums(values: NDArray[Any], dtype: type[np.integer] = np.int32) -> NDArray[Any]:
    """Sums of 2 x 2 blocks."""
    pairs = np.add(values[:, ::2], values[:, 1::2], dtype=dtype)
    sums: NDArray[Any] = pairs[::2] + pairs[1::2]
    return sums


def build_overview(folder: Path | Place, spec: ProductSpec, core: LevelCore) -> None:
    """Nothing; the shard of a core of an overview is stored, made from up to four shards of the level below.

    It and some bands of one shard below are in memory. Done again, it writes the same bytes.
    """
    store = folder / STORE
    below = open_level(store, core.factor // 2)
    window = spec.core_window(core)
    fine = window.refine(2).clip(spec.level_shape(core.factor // 2))
    pixels = np.empty((len(spec.bands), *window.shape), np.int16)
    for y0 in range(fine.y0, fine.y1, spec.core_px):
        for x0 in range(fine.x0, fine.x1, spec.core_px):
            quarter = Window(y0=y0, y1=y0 + spec.core_px, x0=x0, x1=x0 + spec.core_px).clip((fine.y1, fine.x1))
            y, x = (y0 - fine.y0) // 2, (x0 - fine.x0) // 2
            for bands in spec.band_groups():
                small = halve(np.asarray(below[bands.start : bands.stop, *quarter.slices]), spec.nodata)
                pixels[bands.start : bands.stop, y : y + small.shape[1], x : x + small.shape[2]] = small
    data = encode_shard(pixels, spec.shard_shape, open_level(store, core.factor))
    put_shard(store, shard_key("reflectance", core.iy, core.ix, factor=core.factor), data)
