"""Which file formats this installation can read and write."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

NEEDED_DRIVERS = ("GTiff", "ENVI")
"""Drivers that open scenes and write COGs."""
NEEDED_CODECS = ("deflate", "zstd")
"""GeoTIFF compressions that products are written with and scenes often distributed with."""
JPEG_2000 = "JP2OpenJPEG"
"""GDAL's driver for JPEG 2000, the format of some archives' scenes; builds of GDAL often lack it."""
DEFLATE = "gzip"
"""HDF5's name for the compression in instruments' own files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GdalFormats:
    """Which of the needed drivers and compressions are available."""

    version: str
    """GDAL's version."""
    drivers: tuple[str, ...]
    """Available drivers."""
    codecs: tuple[str, ...]
    """GeoTIFF compressions that wrote and read back correctly."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Needed drivers and compressions that are not available."""
        have = {*self.drivers, *self.codecs}
        return tuple(name for name in (*NEEDED_DRIVERS, *NEEDED_CODECS) if name not in have)


def gdal_formats() -> GdalFormats:
    """Check the needed drivers and compressions; each compression is tried on a few pixels in memory."""
    with rasterio.Env() as environment:  # type: ignore[no-untyped-call]
        known = environment.drivers()
    return GdalFormats(
        version=rasterio.__gdal_version__,
        drivers=tuple(name for name in NEEDED_DRIVERS if name in known),
        codecs=tuple(name for name in NEEDED_CODECS if _comes_back(name)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFormats:
    """Which of the formats that only some scenes come in can be read."""

    jpeg_2000: bool
    """Whether JPEG 2000 was read back correctly."""
    hdf5: bool
    """Whether HDF5 (and with it netCDF-4) was read back correctly."""


def scene_formats() -> SceneFormats:
    """Check the scene formats other than GeoTIFF and ENVI; each is tried on a few pixels in memory."""
    return SceneFormats(jpeg_2000=_jpeg_2000_comes_back(), hdf5=_hdf5_comes_back())


def _comes_back(codec: str) -> bool:
    pixels = _pixels(16)
    try:
        with MemoryFile() as memory:  # type: ignore[no-untyped-call]
            with memory.open(**_profile("GTiff", pixels), compress=codec) as file:
                file.write(pixels)
            with memory.open() as file:
                # GDAL writes uncompressed when it does not know the requested compression.
                stored = str(file.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION")).lower()
                return stored == codec and bool((file.read() == pixels).all())
    except RasterioError:
        return False


def _jpeg_2000_comes_back() -> bool:
    pixels = _pixels(64)
    try:
        with MemoryFile(ext=".jp2") as memory:  # type: ignore[no-untyped-call]
            with memory.open(**_profile(JPEG_2000, pixels), reversible="YES", quality="100") as file:
                file.write(pixels)
            with memory.open(driver=JPEG_2000) as file:
                return bool((file.read() == pixels).all())
    except (RasterioError, ValueError):  # rasterio raises ValueError for a driver that GDAL does not know
        return False


def _hdf5_comes_back() -> bool:
    pixels, memory = _pixels(16), io.BytesIO()
    try:
        import h5py  # here, because the import fails where its library is missing

        with h5py.File(memory, "w") as file:
            file.create_dataset("pixels", data=pixels, compression=DEFLATE)
        with h5py.File(memory, "r") as file:
            return bool((file["pixels"][()] == pixels).all())
    except (ImportError, OSError, ValueError, RuntimeError):
        return False


def _pixels(side: int) -> NDArray[np.int16]:
    return np.arange(side * side, dtype=np.int16).reshape(1, side, side)


def _profile(driver: str, pixels: NDArray[np.int16]) -> dict[str, object]:
    count, height, width = pixels.shape
    somewhere = Affine.translation(1, 1)
    size = {"count": count, "height": height, "width": width, "dtype": "int16"}
    return {"driver": driver, **size, "transform": somewhere}
