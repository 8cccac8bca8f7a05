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


class _WindowArray(BackendArray):
    """Windows of a cube, asked for as slices."""

    def __init__(self, read: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int, int]) -> None:
        self.read = read
        self.shape = shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[np.float32]:
        result: NDArray[np.float32] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._slice
        )
        return result

    def _slice(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        """The pixels of a basic index: the smallest window that holds them is read."""
        rows, columns = (np.arange(size)[part] for size, part in zip(self.shape[1:], key[1:], strict=True))
        if not (np.size(rows) and np.size(columns)):
            nothing: NDArray[np.float32] = np.broadcast_to(np.float32(0), self.shape)[key]
            return nothing
        window = Window(
            y0=int(np.min(rows)), y1=int(np.max(rows)) + 1, x0=int(np.min(columns)), x1=int(np.max(columns)) + 1
        )
        local_y, local_x = rows - window.y0, columns - window.x0
        if np.ndim(rows) and np.ndim(columns):
            local_y = local_y[:, np.newaxis]
        pixels: NDArray[np.float32] = self.read(window)[key[0]][..., local_y, local_x]
        return pixels


def lazy_cube(
    read: Callable[[Window], NDArray[np.float32]],
    bands: tuple[Band, ...],
    shape: tuple[int, int],
    transform: Transform,
    crs_wkt: str,
) -> xr.DataArray:
    """A dask-backed (band, y, x) DataArray that reads its windows when computed.

    Coordinates: band (names), wavelength_nm, fwhm_nm, y and x (pixel centres; left out when the grid is rotated).
    """
    data = indexing.LazilyIndexedArray(_WindowArray(read, (len(bands), *shape)))
    places: dict[str, Any] = {
        "band": [band.name for band in bands],
        "wavelength_nm": ("band", _numbers([band.wavelength_nm for band in bands])),
        "fwhm_nm": ("band", _numbers([band.fwhm_nm for band in bands])),
    }
    a, b, c, d, e, f = transform
    if b == d == 0:
        places["y"] = f + e * (np.arange(shape[0]) + 0.5)
        places["x"] = c + a * (np.arange(shape[1]) + 0.5)
    cube = xr.DataArray(data, dims=("band", "y", "x"), name="reflectance", attrs={"units": "1"})
    placed = cube.chunk({"band": -1, "y": CHUNK_PX, "x": CHUNK_PX}).assign_coords(places)
    referenced: xr.DataArray = placed.rio.write_crs(crs_wkt).rio.write_transform(Affine(*transform))
    return referenced


def _numbers(values: list[float | None]) -> NDArray[np.float64]:
    """The values with NaN for what is not known."""
    return np.array([np.nan if value is None else value for value in values], np.float64)
