"""Clouds and their shadows from a scene's own masks, on the pixels of any of its rasters."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.scene import CloudAsset, CloudCode
from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid, same_crs
from scenefuse.grid.relation import is_parallel
from scenefuse.grid.window import Window
from scenefuse.raster.raster_file import RasterFile
from scenefuse.raster.readers import open_raster
from scenefuse.words import counted

SCL_CLASSES = (3, 8, 9, 10)
"""Cloud shadow, cloud of medium and of high probability, thin cirrus."""
EMIT_BANDS = (0, 1, 4)
"""Flags of cloud, cirrus and dilated cloud, counted from 0; EMIT L2A User Guide, JPL D-107859."""
_BITS: dict[CloudCode, int] = {"qa-pixel": 0b11110, "fmask": 0b1110, "flag": 0b1}


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudMask:
    """One mask of a scene. Picklable."""

    file: RasterFile
    """Its raster."""
    code: CloudCode
    """What its values mean."""

    def read(self, grid: RasterGrid, window: Window) -> NDArray[np.bool_]:
        """(y, x) True where a pixel of a raster's window holds cloud or shadow; False beyond the mask.

        A pixel larger than the mask's does if any of the mask's pixels in it does.
        """
        between = _between(self.file.grid, grid)
        rows, per_row = _indices(between[1, 1], between[1, 2], window.y0, window.y1)
        columns, per_column = _indices(between[0, 0], between[0, 2], window.x0, window.x1)
        height, width = self.file.grid.shape
        inside_y, inside_x = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        cloudy = np.zeros((len(rows), len(columns)), np.bool_)
        if inside_y.any() and inside_x.any():
            y0, x0 = int(rows[inside_y].min()), int(columns[inside_x].min())
            part = Window(y0=y0, y1=int(rows[inside_y].max()) + 1, x0=x0, x1=int(columns[inside_x].max()) + 1)
            bands = EMIT_BANDS if self.code == "emit" else (0,)
            told = _is_cloud(self.file.pixels.read(bands, part), self.code)
            cloudy[np.ix_(inside_y, inside_x)] = told[np.ix_(rows[inside_y] - y0, columns[inside_x] - x0)]
        shape = (window.shape[0], per_row, window.shape[1], per_column)
        return np.asarray(cloudy.reshape(shape).any(axis=(1, 3)))


def open_cloud_mask(told: CloudAsset, policy: AccessPolicy) -> CloudMask:
    """Open the mask; DataError when it cannot be read, or is not a mask of its code."""
    file = open_raster(told.asset.href, policy)
    is_emit = told.code == "emit"
    if np.issubdtype(np.dtype(file.dtype), np.integer) == is_emit or (is_emit and len(file.bands) <= max(EMIT_BANDS)):
        raise DataError(
            f"{file.path} holds {counted(len(file.bands), 'band')} of {file.dtype} values",
            "a cloud mask holds integers of classes or bits, EMIT's five or more bands of flags",
            "fetch the file again, or leave out --mask-clouds",
        )
    return CloudMask(file=file, code=told.code)


def check_placed(mask: CloudMask, grid: RasterGrid) -> None:
    """Raise DataError when a mask has another CRS than a raster, or is rotated against it."""
    own = mask.file.grid
    if not own.crs_wkt or not same_crs(own.crs_wkt, grid.crs_wkt) or not is_parallel(_between(own, grid), grid.shape):
        raise DataError(
            f"{own.name} has a different CRS from {grid.name}, or is rotated against it",
            "its pixels cannot be matched to those of the image",
            "resample the mask onto the image's grid, or leave out --mask-clouds",
        )


def _is_cloud(stored: NDArray[Any], code: CloudCode) -> NDArray[np.bool_]:
    """(y, x) True where stored values (band, y, x) mean cloud or shadow."""
    if code == "emit":
        return np.asarray((stored > 0).any(axis=0))
    if code == "scl":
        return np.isin(stored[0], SCL_CLASSES)
    return np.asarray((stored[0].astype(np.int64) & _BITS[code]) != 0)


def _between(own: RasterGrid, other: RasterGrid) -> NDArray[np.float64]:
    """(3, 3) affine from the other's (column, row, 1) to the mask's own."""
    return np.asarray(np.linalg.inv(own.matrix) @ other.matrix, np.float64)


def _indices(scale: float, offset: float, first: int, end: int) -> tuple[NDArray[np.int64], int]:
    """The mask's pixels along one axis under each of the raster's, and how many there are per raster pixel."""
    per_pixel = max(1, ceil(scale - 1e-6))  # dense enough to skip none of the mask's pixels
    at = first + (np.arange((end - first) * per_pixel) + 0.5) / per_pixel
    return np.floor(scale * at + offset + 1e-6).astype(np.int64), per_pixel
