"""A small picture of the product for people and browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio
import zarr
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import QUICKLOOK, STORE
from scenefuse.product.layout import level_path
from scenefuse.product.place_store import open_store
from scenefuse.product.spec import ProductSpec

_LONGEST_PX = 1024


def write_quicklook(folder: Path | Place, spec: ProductSpec) -> Place:
    """`quicklook.png`: bands nearest to 660, 560 and 480 nm, at most 1024 px a side.

    Transparent where no data; each colour is stretched from its 2nd to its 98th percentile. Drawn from the finest
    overview that fits.
    """
    factor = quicklook_factor(spec)
    group = open_store(folder / STORE)
    array = cast("zarr.Array[Any]", group[f"{level_path(factor)}reflectance"])
    bands = np.stack([np.asarray(array[index]) for index in spec.rgb_indexes()])
    place = place_at(folder) / QUICKLOOK
    place.put(png_bytes(stretch(bands, spec.nodata)))
    return place


def quicklook_factor(spec: ProductSpec) -> int:
    """Fine pixels per pixel of the quicklook, a side."""
    return next(factor for factor in (1, *spec.overview_factors) if max(spec.level_shape(factor)) <= _LONGEST_PX)


def stretch(bands: NDArray[np.int16], nodata: int) -> NDArray[np.uint8]:
    """Red, green, blue and opacity, (4, y, x), from three bands of integers; opaque where all three are data."""
    valid = (bands != nodata).all(axis=0)
    picture = np.zeros((4, *valid.shape), np.uint8)
    picture[3] = np.where(valid, 255, 0)
    if not valid.any():
        return picture
    for index, band in enumerate(bands):
        low, high = np.percentile(band[valid], (2.0, 98.0))
        scaled = (band.astype(np.float64) - low) / max(high - low, 1.0) * 255.0
        picture[index] = np.where(valid, np.clip(np.rint(scaled), 0, 255), 0)
    return picture


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """A PNG of red, green, blue and opacity, (4, y, x); the same bytes for the same picture."""
    _, rows, columns = picture.shape
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile(ext=".png") as file:  # type: ignore[no-untyped-call]
        # any transform but the default: rasterio warns of a picture that is not on the ground
        with file.open(
            driver="PNG",
            height=rows,
            width=columns,
            count=4,
            dtype="uint8",
            transform=Affine(1.0, 0.0, 0.0, 0.0, -1.0, float(rows)),
        ) as dataset:
            dataset.write(picture)
        return bytes(file.read())
