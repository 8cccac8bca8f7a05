"""The quality flags as cloud-optimised GeoTIFF: one band of bytes, which GDAL copies quickly as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from affine import Affine
from rasterio._err import CPLE_BaseError  # errors of GDAL that rasterio does not translate
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.shutil import copy as gdal_copy
from rasterio.windows import Window as RasterWindow

from scenefuse.errors import WorkError
from scenefuse.grid.window import Window
from scenefuse.place.local import explained
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.cog import wrong_pixels
from scenefuse.product.files import QUALITY, STORE
from scenefuse.product.place_store import open_array
from scenefuse.product.spec import QUALITY_OUTSIDE, ProductSpec

_BLOCK_PX = 512
_GDAL = {"GDAL_CACHEMAX": 64, "GDAL_TIFF_OVR_BLOCKSIZE": _BLOCK_PX, "GDAL_PAM_ENABLED": "NO"}


def write_quality_cog(folder: Path | Place, spec: ProductSpec) -> Place:
    """Write `quality.tif` to the product's folder: QualityFlag bits as uint8, overviews by nearest pixel."""
    target = place_at(folder) / QUALITY
    flags = open_array(folder / STORE, "quality")
    with target.writing() as part:
        draft = part.with_name(f".draft{part.name}")  # beside the part, and recognisable by name if left behind
        try:
            with _told_when_full(part, spec), rasterio.Env(**_GDAL):  # type: ignore[no-untyped-call]
                _write_draft(draft, spec, flags)
                gdal_copy(
                    draft,
                    part,
                    driver="GTiff",
                    copy_src_overviews=True,
                    tiled=True,
                    blockxsize=_BLOCK_PX,
                    blockysize=_BLOCK_PX,
                    compress="zstd",
                    zstd_level=3,
                    bigtiff="if_safer",
                    num_threads=1,
                )
                _check(part, spec, flags)
        finally:
            draft.unlink(missing_ok=True)
    return target


@contextmanager
def _told_when_full(part: Path, spec: ProductSpec) -> Iterator[None]:
    """Context in which GDAL writes part; if it fails, ask the system whether there was room for the file.

    On a full disk, GDAL itself reports only that a write failed, or that the file it had begun is not recognised.
    """
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        rows, columns = spec.grid.fine_shape
        with explained(part), part.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, rows * columns)
        raise WorkError(
            f"GDAL could not write {QUALITY} ({error})",
            "the product is not finished, and not visible to readers",
            "run the same command again: what is finished is kept",
        ) from error


def _write_draft(draft: Path, spec: ProductSpec, flags: zarr.Array[Any]) -> None:
    """Write the flags, one TIFF block per core, and their overviews to the draft."""
    rows, columns = spec.grid.fine_shape
    options = {
        "driver": "GTiff",
        "count": 1,
        "dtype": "uint8",
        "nodata": QUALITY_OUTSIDE,
        "height": rows,
        "width": columns,
        "crs": spec.grid.crs_wkt,
        "transform": Affine(*spec.grid.fine_transform),
        "tiled": True,
        "blockxsize": spec.core_px,
        "blockysize": spec.core_px,
        "compress": "zstd",
        "zstd_level": 1,
        "bigtiff": "if_safer",
    }
    with rasterio.open(draft, "w", **options) as dataset:
        for core in spec.level_cores(1):
            window = spec.core_window(core)
            dataset.write(np.asarray(flags[window.slices]), 1, window=_raster_window(window))
        dataset.set_band_description(1, "quality")
        dataset.update_tags(1, flags="1 nodata, 2 near edge, 4 near nodata, 8 clipped, 16 not finite")
    if spec.overview_factors:
        coded = {"COMPRESS_OVERVIEW": "ZSTD", "ZSTD_LEVEL_OVERVIEW": "1"}
        with rasterio.Env(**coded), rasterio.open(draft, "r+") as dataset:  # type: ignore[no-untyped-call]
            dataset.build_overviews(list(spec.overview_factors), Resampling.nearest)


def _check(path: Path, spec: ProductSpec, flags: zarr.Array[Any]) -> None:
    """Raise WorkError unless every pixel of the file equals the store's; a validator would accept a file of zeros."""
    with rasterio.open(path) as dataset:
        for core in spec.level_cores(1):
            window = spec.core_window(core)
            if not np.array_equal(dataset.read(1, window=_raster_window(window)), np.asarray(flags[window.slices])):
                raise wrong_pixels(QUALITY, core)


def _raster_window(window: Window) -> RasterWindow:
    return RasterWindow(window.x0, window.y0, window.shape[1], window.shape[0])
