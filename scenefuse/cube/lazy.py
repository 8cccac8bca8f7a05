"""A cube as xarray shows it: lazy, with wavelengths and CRS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the accessor .rio
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from scenefuse.grid.transform import Transform
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band

CHUNK_PX = 512
"""Side of a dask chunk in pixels; a chunk holds all bands."""

_WHAT = {"long_name": "surface reflectance", "units": "1"}
"""Attributes of a cube, as its plots and files name it."""

ReadBands = Callable[[tuple[int, ...], Window], NDArray[np.float32]]
"""Reads the window of some bands, by their indices: (band, y, x) float32, NaN = no data."""


class _WindowArray(BackendArray):
    """Windows of a cube's bands, asked for as slices and lists."""

    def __init__(self, read: ReadBands, shape: tuple[int, int, int]) -> None:
        self.read = read
        self.shape = shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[np.float32]:
        result: NDArray[np.float32] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._part
        )
        return result

    def _part(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        """The pixels of an outer index: of the bands that are asked for, the smallest window that holds the pixels."""
        bands, rows, columns = (np.arange(size)[part] for size, part in zip(self.shape, key, strict=True))
        if not (np.size(bands) and np.size(rows) and np.size(columns)):
            return np.empty((*np.shape(bands), *np.shape(rows), *np.shape(columns)), np.float32)
        window = Window(
            y0=int(np.min(rows)), y1=int(np.max(rows)) + 1, x0=int(np.min(columns)), x1=int(np.max(columns)) + 1
        )
        local_y, local_x = rows - window.y0, columns - window.x0
        if np.ndim(rows) and np.ndim(columns):
            local_y = local_y[:, np.newaxis]
        pixels = self.read(tuple(np.atleast_1d(bands).tolist()), window)
        chosen: NDArray[np.float32] = pixels[..., local_y, local_x]
        return chosen if np.ndim(bands) else chosen[0]


def lazy_cube(
    read: ReadBands,
    bands: tuple[Band, ...],
    shape: tuple[int, int],
    transform: Transform,
    crs_wkt: str,
) -> xr.DataArray:
    """A dask-backed (band, y, x) DataArray that reads what is computed: of a band, or a slice of bands, those alone.

    Of a list of bands each chunk is read whole: dask takes slices to the reader, and not lists.

    Coordinates: band (names), wavelength_nm, fwhm_nm, y and x (pixel centres; left out when the grid is rotated).
    """
    data = indexing.LazilyIndexedArray(_WindowArray(read, (len(bands), *shape)))
    places: dict[str, Any] = {
        "band": [band.name for band in bands],
        "wavelength_nm": _spectral("centre wavelength", [band.wavelength_nm for band in bands]),
        "fwhm_nm": _spectral("full width at half maximum", [band.fwhm_nm for band in bands]),
    }
    a, b, c, d, e, f = transform
    if b == d == 0:
        places["y"] = f + e * (np.arange(shape[0]) + 0.5)
        places["x"] = c + a * (np.arange(shape[1]) + 0.5)
    cube = xr.DataArray(data, dims=("band", "y", "x"), name="reflectance", attrs=_WHAT)
    placed = cube.chunk({"band": -1, "y": CHUNK_PX, "x": CHUNK_PX}).assign_coords(places)
    georeferenced = placed.rio.write_crs(crs_wkt).rio.write_transform(Affine(*transform))
    referenced: xr.DataArray = georeferenced.rio.write_coordinate_system().rio.write_nodata(np.nan, encoded=True)
    return referenced


def _spectral(long_name: str, values_nm: list[float | None]) -> xr.Variable:
    """A coordinate of the bands in nm, NaN for what is not known."""
    numbers = np.array([np.nan if value is None else value for value in values_nm], np.float64)
    return xr.Variable("band", numbers, {"long_name": long_name, "units": "nm"})
