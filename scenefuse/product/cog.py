"""The product as cloud-optimised GeoTIFF: a copy of finished shards for readers that do not open Zarr.

GDAL's COG driver writes pixel-interleaved files only (GDAL 3.10): one band of a hyperspectral image then costs the
decoding of all, 14 times as slow, and building the overviews inside the driver takes minutes. So the pixels go
core by core into a band-interleaved stage, its overviews are built there, and a GTiff copy with
COPY_SRC_OVERVIEWS puts headers and overviews first. The result passes `rio cogeo validate --strict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio
import zarr
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetWriter
from rasterio.shutil import copy as gdal_copy
from rasterio.windows import Window as RasterWindow

from scenefuse.errors import WorkError
from scenefuse.product.durable import part_path, replacing
from scenefuse.product.spec import STORE, ProductSpec

_BLOCK_PX = 512
_GDAL = {"GDAL_CACHEMAX": 64, "GDAL_TIFF_OVR_BLOCKSIZE": _BLOCK_PX, "GDAL_PAM_ENABLED": "NO"}


def write_cog(folder: Path, spec: ProductSpec) -> Path:
    """`fused.tif` in the product's folder: every band as int16 with scale, wavelength tags and overviews."""
    profile = {"count": len(spec.bands), "dtype": "int16", "nodata": spec.nodata, "predictor": 2}
    return _write(folder / "fused.tif", spec, "reflectance", profile)


def write_quality_cog(folder: Path, spec: ProductSpec) -> Path:
    """`quality.tif` in the product's folder: the flags of QualityFlag as uint8, overviews by nearest pixel."""
    return _write(folder / "quality.tif", spec, "quality", {"count": 1, "dtype": "uint8", "predictor": 1})


def _write(target: Path, spec: ProductSpec, name: str, profile: dict[str, Any]) -> Path:
    array = _open(target.parent, name)
    with replacing(target) as part:
        stage = part_path(target.with_name(f"stage-{target.name}"))
        try:
            with rasterio.Env(**_GDAL):  # type: ignore[no-untyped-call]
                _write_stage(stage, spec, array, profile)
                gdal_copy(
                    stage,
                    part,
                    driver="GTiff",
                    copy_src_overviews=True,
                    tiled=True,
                    blockxsize=_BLOCK_PX,
                    blockysize=_BLOCK_PX,
                    interleave="band",
                    compress="zstd",
                    zstd_level=3,
                    predictor=profile["predictor"],
                    bigtiff="if_safer",
                    num_threads=1,
                )
                _check(part, spec, array)
        finally:
            stage.unlink(missing_ok=True)
    return target


def _open(folder: Path, name: str) -> zarr.Array[Any]:
    group = zarr.open_group(folder / STORE, mode="r", zarr_format=3, use_consolidated=False)
    return cast("zarr.Array[Any]", group[name])


def _cores(spec: ProductSpec) -> Iterator[RasterWindow]:
    """One window per core, in rows."""
    rows, columns = spec.grid.fine_shape
    side = spec.core_px
    for y in range(0, rows, side):
        for x in range(0, columns, side):
            yield RasterWindow(x, y, min(side, columns - x), min(side, rows - y))


def _read(array: zarr.Array[Any], window: RasterWindow) -> NDArray[Any]:
    """Pixels of a window, (band, y, x), also of an array without bands."""
    y = slice(window.row_off, window.row_off + window.height)
    x = slice(window.col_off, window.col_off + window.width)
    pixels = np.asarray(array[..., y, x])
    return pixels if pixels.ndim == 3 else pixels[np.newaxis]


def _write_stage(stage: Path, spec: ProductSpec, array: zarr.Array[Any], profile: dict[str, Any]) -> None:
    """Nothing; the stage holds the pixels, one TIFF block per core and band, and its overviews."""
    rows, columns = spec.grid.fine_shape
    options = {
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "crs": spec.grid.crs_wkt,
        "transform": Affine(*spec.grid.fine_transform),
        "tiled": True,
        "blockxsize": spec.core_px,
        "blockysize": spec.core_px,
        "interleave": "band",
        "compress": "zstd",
        "zstd_level": 1,
        "bigtiff": "if_safer",
    }
    with rasterio.open(stage, "w", **options, **profile) as dataset:
        for window in _cores(spec):
            dataset.write(_read(array, window), window=window)
        _describe(dataset, spec)
    settings = {
        "INTERLEAVE_OVERVIEW": "BAND",
        "COMPRESS_OVERVIEW": "ZSTD",
        "PREDICTOR_OVERVIEW": str(profile["predictor"]),
        "ZSTD_LEVEL_OVERVIEW": "1",
    }
    if spec.overview_factors:
        resampling = Resampling.nearest if profile["dtype"] == "uint8" else Resampling.average
        with rasterio.Env(**settings), rasterio.open(stage, "r+") as dataset:  # type: ignore[no-untyped-call]
            dataset.build_overviews(list(spec.overview_factors), resampling)


def _describe(dataset: DatasetWriter, spec: ProductSpec) -> None:
    """Nothing; bands carry what they are."""
    if dataset.dtypes[0] == "uint8":
        dataset.set_band_description(1, "quality")
        dataset.update_tags(1, flags="1 nodata, 2 near edge, 4 near nodata, 8 clipped, 16 not finite")
        return
    dataset.scales = (spec.scale,) * dataset.count
    dataset.offsets = (0.0,) * dataset.count
    red, green, blue = spec.rgb_indexes()
    colours = {red: ColorInterp.red, green: ColorInterp.green, blue: ColorInterp.blue}
    for index, band in enumerate(spec.bands):
        dataset.set_band_description(index + 1, spec.band_label(index))
        if band.wavelength_nm is not None:
            dataset.update_tags(index + 1, wavelength=f"{band.wavelength_nm / 1000:.6g}", wavelength_units="um")
        if band.fwhm_nm is not None:
            dataset.update_tags(index + 1, fwhm=f"{band.fwhm_nm / 1000:.6g}")
    dataset.colorinterp = [colours.get(index, ColorInterp.undefined) for index in range(dataset.count)]


def _check(path: Path, spec: ProductSpec, array: zarr.Array[Any]) -> None:
    """Nothing, when every pixel of the file is the store's; a validator passes files of zeros."""
    with rasterio.open(path) as dataset:
        for window in _cores(spec):
            if not np.array_equal(dataset.read(window=window), _read(array, window)):
                raise WorkError(
                    f"{path.name} differs from {STORE} in rows {window.row_off} to {window.row_off + window.height}",
                    "GDAL wrote other pixels than it was given",
                    "run again; if it happens again, compare the GDAL version with the one in the report of doctor",
                )
