"""The quicklook: a small picture of the product for people and browsers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.io import MemoryFile

from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import QUICKLOOK, STORE
from scenefuse.product.shards import decode_reflectance, open_level
from scenefuse.product.spec import ProductSpec
from scenefuse.product.true_colour import Picture, colours, rgb_bands

_LONGEST_PX = 1024


def write_quicklook(folder: Path | Place, spec: ProductSpec) -> Place:
    """Write `quicklook.png` from the bands nearest to 660, 560 and 480 nm, at most 1024 px a side.

    Transparent where there is no data; each colour is stretched from its 2nd to its 98th percentile. Drawn from the
    finest level that fits.
    """
    factor = quicklook_factor(spec)
    level = open_level(folder / STORE, factor)
    integers = np.stack([np.asarray(level[index]) for index in rgb_bands(spec.bands)])
    rgb = decode_reflectance(integers, scale=spec.scale, nodata=spec.nodata)
    place = place_at(folder) / QUICKLOOK
    place.put(png_bytes(colours(rgb)))
    return place


def quicklook_factor(spec: ProductSpec) -> int:
    """Fine pixels per quicklook pixel, along each axis."""
    return next(factor for factor in (1, *spec.overview_factors) if max(spec.level_shape(factor)) <= _LONGEST_PX)


def png_bytes(picture: Picture) -> bytes:
    """PNG of red, green, blue and opacity, (4, y, x); the same picture gives the same bytes."""
    return _png_bytes(picture)


def indexed_png_bytes(shades: Picture, palette: Picture) -> bytes:
    """PNG of shades (y, x) that index rows of the palette: red, green, blue and opacity."""
    return _png_bytes(shades[np.newaxis], {index: tuple(colour) for index, colour in enumerate(palette.tolist())})


def _png_bytes(planes: Picture, palette: Mapping[int, tuple[int, ...]] | None = None) -> bytes:
    count, rows, columns = planes.shape
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile(ext=".png") as file:  # type: ignore[no-untyped-call]
        # any transform but the default: rasterio warns about a picture that is not georeferenced
        with file.open(
            driver="PNG",
            height=rows,
            width=columns,
            count=count,
            dtype="uint8",
            transform=Affine(1.0, 0.0, 0.0, 0.0, -1.0, float(rows)),
        ) as dataset:
            if palette is not None:
                dataset.write_colormap(1, palette)
            dataset.write(planes)
        return bytes(file.read())
