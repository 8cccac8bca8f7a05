"""A cube as xarray shows it: lazy, with wavelengths, time and CRS."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from numbers import Integral
from typing import Any, ClassVar

import dask.array as da
import numpy as np
import rioxarray  # noqa: F401 - registers the accessor .rio
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from scenefuse.grid.transform import Transform
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band

CHUNK_PX = 512
"""Side of a dask chunk in pixels; a chunk holds all bands."""

_WHAT = {"long_name": "surface reflectance", "units": "1"}
"""Attributes of a cube, as its plots and files name it."""

ReadBands = Callable[[tuple[int, ...], Window], NDArray[np.float32]]
"""Reads the window of some bands, by their indices: (band, y, x) float32, NaN = no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Some bands, rows and columns of a cube, which dask reads by windows of them."""

    read: ReadBands
    """Reads the cube."""
    token: str
    """Tells the cube from others: dask's own way to tell takes a tenth of a second for 200 bands, each time."""
    bands: tuple[int, ...]
    """Indices of the bands, in any order."""
    rows: range
    """The rows."""
    columns: range
    """The columns."""

    dtype: ClassVar = np.dtype(np.float32)
    ndim: ClassVar = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns."""
        return len(self.bands), len(self.rows), len(self.columns)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self.token, self.bands, self.rows, self.columns

    def of(self, bands: slice | list[int] | NDArray[Any], rows: slice, columns: slice) -> _Choice:
        """A part of the choice."""
        kept = np.array(self.bands)[bands].tolist()
        return replace(self, bands=tuple(kept), rows=self.rows[rows], columns=self.columns[columns])

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[np.float32]:
        """(band, y, x) pixels of a part, less the axes that are asked for by a number."""
        bands, rows, columns = (slice(at, at + 1 or None) if isinstance(at, int) else at for at in key)
        part = self.of(bands, rows, columns)
        if 0 in part.shape:
            pixels = np.empty(part.shape, np.float32)
        else:
            (y0, y1), (x0, x1) = ((min(line), max(line) + 1) for line in (part.rows, part.columns))
            window = Window(y0=y0, y1=y1, x0=x0, x1=x1)
            inside = (np.subtract(part.rows, y0)[:, np.newaxis], np.subtract(part.columns, x0))
            pixels = self.read(part.bands, window)[:, *inside]
        return pixels[tuple(0 if isinstance(at, int) else slice(None) for at in key)]


class _CubeArray(da.Array):
    """A cube's pixels as a dask array of which bands are chosen before they are read.

    Dask takes slices and numbers to whoever reads, but lists only to what was read: chunks with all bands. Chunks of a
    band each would have every window read, and resampled, once for each band.
    """

    choice: _Choice
    """What is read."""
    unwritten: str
    """The array's name as it was made: dask gives another to one that is written into."""

    @classmethod
    def reading(cls, choice: _Choice, chunks: tuple[Any, ...] = (CHUNK_PX, CHUNK_PX)) -> _CubeArray:
        """The array that reads a choice, in chunks of all its bands."""
        made = da.from_array(choice, (-1, *chunks), asarray=False, meta=np.empty((0, 0, 0), np.float32))
        array: _CubeArray = cls(made.dask, made.name, made.chunks, meta=made)
        array.choice, array.unwritten = choice, made.name
        return array

    def __getitem__(self, index: Any) -> da.Array:
        """As of any dask array, but that lists of bands, and slices, lead to an array that reads those alone."""
        parts = index if isinstance(index, tuple) else (index,)
        parts = (*parts, *[slice(None)] * (3 - len(parts)))
        bands = parts[0]
        is_list = isinstance(bands, list | np.ndarray) and np.ndim(bands) == 1 and len(bands) > 0
        simple = all(isinstance(part, slice | Integral) for part in (parts[1:] if is_list else parts))
        if len(parts) > 3 or not simple or self.name != self.unwritten:
            return _by_dask(self, index)
        slices = [slice(None) if isinstance(part, Integral) else part for part in parts]
        chunks = _by_dask(self, (slice(None), *slices[1:])).chunks[1:]
        chosen = _CubeArray.reading(self.choice.of(*slices), chunks)
        return _by_dask(chosen, tuple(part if isinstance(part, Integral) else slice(None) for part in parts))

    def copy(self) -> da.Array:
        """The same, to be written into."""
        if self.name == self.unwritten:
            return _CubeArray.reading(self.choice, self.chunks[1:])
        copied: da.Array = super().copy()  # type: ignore[no-untyped-call]
        return copied


def _by_dask(array: da.Array, index: Any) -> da.Array:
    """A part of the array as dask takes it."""
    taken: da.Array = da.Array.__getitem__(array, index)
    return taken


def lazy_cube(
    read: ReadBands,
    bands: tuple[Band, ...],
    *,
    shape: tuple[int, int],
    transform: Transform,
    crs_wkt: str,
    acquired: datetime | None,
) -> xr.DataArray:
    """A dask-backed (band, y, x) DataArray that reads what is computed: of a choice of bands those alone.

    Coordinates: band (names), wavelength_nm, fwhm_nm, y and x (pixel centres; left out when the grid is rotated), and
    one time, UTC, where it is known.
    """
    places: dict[str, Any] = {
        "band": [band.name for band in bands],
        "wavelength_nm": _spectral("centre wavelength", [band.wavelength_nm for band in bands]),
        "fwhm_nm": _spectral("full width at half maximum", [band.fwhm_nm for band in bands]),
    }
    a, b, c, d, e, f = transform
    if b == d == 0:
        places["y"] = f + e * (np.arange(shape[0]) + 0.5)
        places["x"] = c + a * (np.arange(shape[1]) + 0.5)
    if acquired is not None:
        utc = np.datetime64(acquired.astimezone(UTC).replace(tzinfo=None), "ns")
        places["time"] = xr.Variable((), utc, {"long_name": "time of acquisition, UTC", "standard_name": "time"})
    whole = _Choice(
        read=read,
        token=sha256(pickle.dumps(read)).hexdigest(),
        bands=tuple(range(len(bands))),
        rows=range(shape[0]),
        columns=range(shape[1]),
    )
    data = _CubeArray.reading(whole)
    cube = xr.DataArray(data, dims=("band", "y", "x"), name="reflectance", attrs=_WHAT, coords=places)
    georeferenced = cube.rio.write_crs(crs_wkt).rio.write_transform(Affine(*transform))
    referenced: xr.DataArray = georeferenced.rio.write_coordinate_system().rio.write_nodata(np.nan, encoded=True)
    return referenced


def _spectral(long_name: str, values_nm: list[float | None]) -> xr.Variable:
    """A coordinate of the bands in nm, NaN for what is not known."""
    numbers = np.array([np.nan if value is None else value for value in values_nm], np.float64)
    return xr.Variable("band", numbers, {"long_name": long_name, "units": "nm"})
