"""Where the pixels of a pair's frame lie in a native raster: the three ways a raster can be placed.

Coordinates are continuous pixels of the raster, (row, column), with 0 at the outer edge of the first pixel and 0.5 at
its centre; frame coordinates likewise. Everything is computed from absolute frame indices, elementwise in float64, so
that a pixel's place does not depend on the window that contains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from scenefuse.errors import DataError
from scenefuse.grid.transform import Transform, to_ground
from scenefuse.grid.window import Window

Matrix = NDArray[np.floating]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterGrid:
    """The pixels of one raster on the ground."""

    crs_wkt: str
    """CRS as WKT; empty when the raster does not say."""
    transform: Transform
    """Affine from (column, row) to CRS units."""
    shape: tuple[int, int]
    """Rows and columns, (y, x)."""
    name: str = "raster"
    """Name of the raster in messages."""

    @property
    def matrix(self) -> Matrix:
        """(3, 3) affine from (column, row, 1) to (x, y, 1)."""
        return np.array([self.transform[:3], self.transform[3:], (0.0, 0.0, 1.0)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """The raster is used untouched: its pixel is the frame's pixel plus a whole number."""

    y0: int
    """Row of the raster at the frame's row 0."""
    x0: int
    """Column of the raster at the frame's column 0."""

    def native(self, window: Window) -> Window:
        """The frame's window in the raster's own pixels."""
        return Window(y0=window.y0 + self.y0, y1=window.y1 + self.y0, x0=window.x0 + self.x0, x1=window.x1 + self.x0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisMap:
    """Rows map to rows and columns to columns, each by a scale and an origin: raster = origin + scale * frame."""

    origin: tuple[float, float]
    """Raster coordinate of the frame's outer corner, (y, x)."""
    scale: tuple[float, float]
    """Raster pixels per frame pixel, (y, x); above 1 the raster is the finer one."""

    def whole(self, shape: tuple[int, int], tolerance_px: float) -> Offset | None:
        """The Offset that equals this map to tolerance_px raster pixels over a frame of shape; None if none does."""
        y0, x0 = round(self.origin[0]), round(self.origin[1])
        ends = (
            abs(self.origin[axis] - start + end * (self.scale[axis] - 1.0))
            for axis, start in enumerate((y0, x0))
            for end in (0, shape[axis])
        )
        return Offset(y0=y0, x0=x0) if max(ends) <= tolerance_px else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMap:
    """Any pixel maps anywhere: an affine on each side, and a CRS transformation in between if the CRS differ."""

    frame_transform: Transform
    """Affine of the frame's pixels."""
    frame_crs_wkt: str
    """CRS of the frame, WKT."""
    raster: RasterGrid
    """The raster to be placed."""
    shift_px: tuple[float, float] = (0.0, 0.0)
    """Offset (y, x) of the frame's content from the raster's, in frame pixels."""

    def native(self, rows: Points, columns: Points) -> tuple[Points, Points]:
        """Raster (rows, columns) of frame coordinates; infinite where the CRS transformation is undefined."""
        x, y = to_ground(self.frame_transform, rows - self.shift_px[0], columns - self.shift_px[1])
        x, y = _to_crs(x, y, self.frame_crs_wkt, self.raster)
        return _apply(np.linalg.inv(self.raster.matrix), x, y)

    def frame(self, rows: Points, columns: Points) -> tuple[Points, Points]:
        """Frame (rows, columns) of raster coordinates: the inverse of native."""
        x, y = to_ground(self.raster.transform, rows, columns)
        here = RasterGrid(crs_wkt=self.frame_crs_wkt, transform=self.frame_transform, shape=(1, 1))
        x, y = _to_crs(x, y, self.raster.crs_wkt, here)
        v, u = _apply(np.linalg.inv(here.matrix), x, y)
        return v + self.shift_px[0], u + self.shift_px[1]


Placement = Offset | AxisMap | PointMap
"""One of the three ways to place a raster."""


@lru_cache(maxsize=64)
def same_crs(first_wkt: str, second_wkt: str) -> bool:
    """True if both describe the same CRS, whatever its name and the order of its axes."""
    if first_wkt == second_wkt:
        return True
    return CRS.from_wkt(first_wkt).equals(CRS.from_wkt(second_wkt), ignore_axis_order=True)


def _apply(inverse: Matrix, x: Points, y: Points) -> tuple[Points, Points]:
    """(rows, columns) of CRS coordinates."""
    columns = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    rows = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    return rows, columns


def _to_crs(x: Points, y: Points, source_wkt: str, target: RasterGrid) -> tuple[Points, Points]:
    """Coordinates in the target's CRS; longitudes are on the turn nearest to the target's middle."""
    if same_crs(source_wkt, target.crs_wkt):
        return x, y
    transformed = transformer(source_wkt, target.crs_wkt).transform(x, y)
    x, y = (np.asarray(axis, np.float64) for axis in transformed)
    period = longitude_period(target.crs_wkt)
    if period is None:
        return x, y
    middle = target.matrix @ (target.shape[1] / 2, target.shape[0] / 2, 1.0)
    with np.errstate(invalid="ignore"):
        return x + period * np.round((middle[0] - x) / period), y


@lru_cache(maxsize=64)
def longitude_period(crs_wkt: str) -> float | None:
    """A full turn in the CRS's own angular unit; None for a CRS that is not geographic."""
    crs = CRS.from_wkt(crs_wkt)
    if not crs.is_geographic:
        return None
    return 2 * np.pi / crs.axis_info[0].unit_conversion_factor


@lru_cache(maxsize=64)
def transformer(source_wkt: str, target_wkt: str) -> Transformer:
    """The transformation between two CRS, x before y; a ballpark one is refused, never used silently."""
    try:
        return Transformer.from_crs(
            CRS.from_wkt(source_wkt), CRS.from_wkt(target_wkt), always_xy=True, allow_ballpark=False
        )
    except ProjError as error:
        names = f"{CRS.from_wkt(source_wkt).name!r} and {CRS.from_wkt(target_wkt).name!r}"
        raise DataError(
            f"No transformation with a known datum leads between the CRS {names}",
            "the two images could be displaced by hundreds of metres",
            "reproject one of them with a transformation that you trust, or correct its CRS",
        ) from error
