"""Overview levels: each pixel the mean of the valid pixels of a 2 x 2 block one level below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.place.place import Place
from scenefuse.product.files import STORE
from scenefuse.product.shards import StoredCore, encode_core, put_shard, shard_key, with_digest
from scenefuse.product.spec import LevelCore, ProductSpec


def halve(pixels: NDArray[np.int16], nodata: int) -> NDArray[np.int16]:
    """Mean of the valid pixels of every 2 x 2 block, (band, ceil(y / 2), ceil(x / 2)), rounded half up.

    A block without valid pixels is no data; at an odd edge, a block has only the pixels that exist.
    """
    bands, rows, columns = pixels.shape
    result = np.empty((bands, -(-rows // 2), -(-columns // 2)), np.int16)
    even = np.full((rows + rows % 2, columns + columns % 2), nodata, np.int16)
    for band, values in enumerate(pixels):  # one band at a time stays in the CPU cache: twice as fast
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
    """Sums over 2 x 2 blocks."""
    pairs = np.add(values[:, ::2], values[:, 1::2], dtype=dtype)
    sums: NDArray[Any] = pairs[::2] + pairs[1::2]
    return sums


def build_overview(folder: Path | Place, spec: ProductSpec, core: LevelCore) -> None:
    """Make one overview core from up to four shards of the level below, and store its shard.

    Memory holds this shard, plus the bytes and some bands of one shard below. Repeating it writes the same bytes.
    """
    store = folder / STORE
    below, side = core.factor // 2, spec.core_px
    window = spec.core_window(core)
    fine = window.refine(2).clip(spec.level_shape(below))
    pixels = np.empty((len(spec.bands), *window.shape), np.int16)
    for iy in range(fine.y0 // side, -(-fine.y1 // side)):
        for ix in range(fine.x0 // side, -(-fine.x1 // side)):
            quarter = StoredCore(store, spec, LevelCore(factor=below, iy=iy, ix=ix))
            y, x = (iy * side - fine.y0) // 2, (ix * side - fine.x0) // 2
            for bands in spec.band_groups():
                small = halve(quarter.read(bands), spec.nodata)
                pixels[bands.start : bands.stop, y : y + small.shape[1], x : x + small.shape[2]] = small
    key = shard_key("reflectance", core.iy, core.ix, factor=core.factor)
    put_shard(store, with_digest(key, encode_core(pixels, spec)))
