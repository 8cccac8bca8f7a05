"""What GDAL can read and write here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

NEEDED_DRIVERS = ("GTiff", "ENVI")
"""Drivers that scenes are opened with and COGs written by."""
NEEDED_CODECS = ("deflate", "zstd")
"""Compressions of GeoTIFF that products are written and scenes often distributed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GdalFormats:
    """Those of the needed drivers and compressions that are there."""

    version: str
    """GDAL's version."""
    drivers: tuple[str, ...]
    """Drivers that are there."""
    codecs: tuple[str, ...]
    """Compressions of GeoTIFF that wrote and read back right."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Needed ones that are not there."""
        have = {*self.drivers, *self.codecs}
        return tuple(name for name in (*NEEDED_DRIVERS, *NEEDED_CODECS) if name not in have)


def gdal_formats() -> GdalFormats:
    """What is there of what is needed; each compression is tried on a few pixels in memory."""
    with rasterio.Env() as environment:  # type: ignore[no-untyped-call]
        known = environment.drivers()
    return GdalFormats(
        version=rasterio.__gdal_version__,
        drivers=tuple(name for name in NEEDED_DRIVERS if name in known),
        codecs=tuple(name for name in NEEDED_CODECS if _comes_back(name)),
    )


def _comes_back(codec: str) -> bool:
    pixels = np.arange(256, dtype=np.int16).reshape(1, 16, 16)
    profile = {"driver": "GTiff", "count": 1, "height": 16, "width": 16, "dtype": "int16"}
    somewhere = Affine.translation(1, 1)
    try:
        with MemoryFile() as memory:  # type: ignore[no-untyped-call]
            with memory.open(**profile, compress=codec, transform=somewhere) as file:
                file.write(pixels)
            with memory.open() as file:
                # GDAL writes without compression where it does not know the one that it is asked for.
                stored = str(file.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION")).lower()
                return stored == codec and bool((file.read() == pixels).all())
    except RasterioError:
        return False
