"""A cube as a lazy xarray DataArray, with wavelengths, time and CRS."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
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

from scenefuse.cube.cf import BAND, FWHM_NM, REFLECTANCE, TIME, WAVELENGTH_NM
from scenefuse.grid.transform import Transform
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band

CHUNK_PX = 512
"""Side of a dask chunk in pixels; a chunk holds all bands."""

ReadBands = Callable[[tuple[int, ...], Window], NDArray[np.float32]]
"""Reads a window of the bands with these indices: (band, y, x) float32, NaN = no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Some bands, rows and columns of a cube, which dask reads window by window."""

    read: ReadBands
    """Reads the cube."""
    token: str
    """Identifies the cube: dask's own token takes a tenth of a second for 200 bands, each time."""
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
        """Part of the choice."""
        kept = np.array(self.bands)[bands].tolist()
        return replace(self, bands=tuple(kept), rows=self.rows[rows], columns=self.columns[columns])

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[np.float32]:
        """(band, y, x) pixels of a part, without the axes indexed by an integer."""
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
    """A cube's pixels as a dask array whose bands are selected before they are read.

    Dask passes slices and integers on to the reader, but applies lists only to chunks that were read with all bands.
    With chunks of one band, every window would be read, and resampled, once per band.
    """

    choice: _Choice
    """What is read."""
    unwritten: str
    """The array's name when it was made: dask renames an array that is written into."""

    @classmethod
    def reading(cls, choice: _Choice, chunks: tuple[Any, ...] = (CHUNK_PX, CHUNK_PX)) -> _CubeArray:
        """An array that reads a choice, in chunks of all its bands."""
        made = da.from_array(choice, (-1, *chunks), asarray=False, meta=np.empty((0, 0, 0), np.float32))
        array: _CubeArray = cls(made.dask, made.name, made.chunks, meta=made)
        array.choice, array.unwritten = choice, made.name
        return array

    def __getitem__(self, index: Any) -> da.Array:
        """As in any dask array, except that lists of bands, and slices, give an array that reads only those."""
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
        """A copy that can be written into."""
        if self.name == self.unwritten:
            return _CubeArray.reading(self.choice, self.chunks[1:])
        copied: da.Array = super().copy()  # type: ignore[no-untyped-call]
        return copied


def _by_dask(array: da.Array, index: Any) -> da.Array:
    """Index the array in dask's own way."""
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
    """A dask-backed (band, y, x) DataArray that reads only what is computed: of selected bands, only those.

    Coordinates: band (names), wavelength_nm, fwhm_nm, y and x (pixel centres; left out when the grid is rotated), and
    a scalar time, UTC, if known.
    """
    places: dict[str, Any] = {
        "band": xr.Variable("band", [band.name for band in bands], BAND),
        "wavelength_nm": _spectral([band.wavelength_nm for band in bands], WAVELENGTH_NM),
        "fwhm_nm": _spectral([band.fwhm_nm for band in bands], FWHM_NM),
    }
    a, b, c, d, e, f = transform
    if b == d == 0:
        places["y"] = f + e * (np.arange(shape[0]) + 0.5)
        places["x"] = c + a * (np.arange(shape[1]) + 0.5)
    if acquired is not None:
        utc = np.datetime64(acquired.astimezone(UTC).replace(tzinfo=None), "ns")
        places["time"] = xr.Variable((), utc, TIME)
    whole = _Choice(
        read=read,
        token=sha256(pickle.dumps(read)).hexdigest(),
        bands=tuple(range(len(bands))),
        rows=range(shape[0]),
        columns=range(shape[1]),
    )
    data = _CubeArray.reading(whole)
    cube = xr.DataArray(data, dims=("band", "y", "x"), name="reflectance", attrs=REFLECTANCE, coords=places)
    georeferenced = cube.rio.write_crs(crs_wkt).rio.write_transform(Affine(*transform))
    referenced: xr.DataArray = georeferenced.rio.write_coordinate_system().rio.write_nodata(np.nan, encoded=True)
    return referenced


def _spectral(values_nm: list[float | None], attributes: Mapping[str, str]) -> xr.Variable:
    """A coordinate along the bands, in nm; NaN where unknown."""
    numbers = np.array([np.nan if value is None else value for value in values_nm], np.float64)
    return xr.Variable("band", numbers, dict(attributes))
