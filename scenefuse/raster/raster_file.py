"""One file as its reader describes it, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.remote import RemoteFile
from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.window import Window
from scenefuse.words import counted

MAX_SIDE_PX = 2**20
"""Most rows or columns that a header may claim."""
MAX_BANDS = 4096
"""Most bands that a header may claim."""


class Pixels(Protocol):
    """Reads windows of one file. Picklable; opens the file on the first read of each thread."""

    def read(self, bands: Sequence[int], window: Window) -> NDArray[Any]:
        """(band, y, x) stored values in the file's dtype; bands are counted from 0 and returned in the order given."""
        ...


class Mask(Protocol):
    """A file's own record of which pixels are data, whatever their values. Picklable, like Pixels."""

    @property
    def band(self) -> int | None:
        """The band that holds the mask, counted from 0; None when it is stored beside the bands."""
        ...

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(y, x) True where all bands are data."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBand:
    """One band as its file describes it; None where the file does not."""

    name: str
    """The file's name for it, or `band <number from 1>`."""
    wavelength_nm: float | None = None
    """Centre wavelength in nanometres."""
    fwhm_nm: float | None = None
    """Full width at half maximum in nanometres."""
    bad: bool = False
    """True when the file flags it as a bad band."""
    is_mask: bool = False
    """True for an alpha or mask band: not a measurement."""
    scale: float | None = None
    """Reflectance per stored value."""
    offset: float | None = None
    """Reflectance at stored value 0."""
    nodata: float | None = None
    """Stored value that means no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterFile:
    """One open raster: its grid, its bands, and how to read it."""

    path: Path | RemoteFile
    """The file (or the store's folder)."""
    format: str
    """`GeoTIFF`, `JPEG 2000`, `ENVI`, `Zarr`, `PRISMA L2D (HDF5)`, `EMIT L2A (netCDF-4)` or its mask."""
    grid: RasterGrid
    """Its pixels on the ground."""
    dtype: str
    """NumPy name of the stored values' type."""
    bands: tuple[FileBand, ...]
    """Its bands in file order."""
    scale_source: str | None = None
    """Where in the file the scale was found; None when it has none."""
    wavelength_note: str | None = None
    """Why the file's wavelengths could not be used; None when they could, or when there are none."""
    sidecars: tuple[Path | RemoteFile, ...] = ()
    """Other files read with it: the ENVI header, DLR's METADATA.XML."""
    pixels: Pixels
    """Its pixels."""
    mask: Mask | None = None
    """Which pixels are data; None when only their values show it."""

    def __post_init__(self) -> None:
        check_size(self.path, len(self.bands), self.grid.shape)


def check_size(path: Path | RemoteFile, bands: int, shape: tuple[int, int]) -> None:
    """Refuse a header with impossible sizes before anything is allocated for them."""
    if not 1 <= bands <= MAX_BANDS or not 1 <= min(shape) <= max(shape) <= MAX_SIDE_PX:
        raise DataError(
            f"{path} says it has {counted(bands, 'band')} of {shape[0]} x {shape[1]} pixels",
            f"more than {MAX_BANDS} bands or {MAX_SIDE_PX} pixels a side (or none) means a damaged header",
            "check the file, or split it",
        )


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with ` #<position from 1>` appended to those that occur more than once."""
    return tuple(name if names.count(name) == 1 else f"{name} #{i + 1}" for i, name in enumerate(names))


def damaged(path: Path | RemoteFile, found: str) -> DataError:
    """The error for a file whose data do not hold what its header promises."""
    return DataError(
        f"{path}: {found}", "the missing pixels would be read as zeros", "fetch the file again, or repair its header"
    )
