"""How two georeferenced rasters relate: overlap, ratio of pixel sizes, orientation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod

from scenefuse.errors import DataError
from scenefuse.grid.placement import PointMap, RasterGrid, longitude_period, same_crs, transformer
from scenefuse.grid.transform import to_ground

MAX_ANISOTROPY = 2.0
"""Largest ratio of the two sides of an MSI pixel as seen on the HSI's grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How the two rasters relate."""

    hs: RasterGrid
    """The HSI's raster."""
    ms: RasterGrid
    """The MSI's finest raster."""
    ratios: tuple[float, float]
    """MSI pixels per HSI pixel along the MSI's rows and columns at the middle of the overlap, (y, x)."""
    parallel: bool
    """True if rows map to rows and columns to columns, in one CRS and without a flip."""
    gsds_m: tuple[float, float]
    """Native GSD of the HSI and of the MSI, metres."""


def relate(hs: RasterGrid, ms: RasterGrid) -> Relation:
    """Overlap, ratio and orientation of two georeferenced rasters."""
    mapping = PointMap(frame_transform=ms.transform, frame_crs_wkt=ms.crs_wkt, raster=hs)
    overlap = overlap_px(mapping, ms)
    one_crs = same_crs(hs.crs_wkt, ms.crs_wkt)
    middle_y, middle_x = (overlap[0] + overlap[1]) / 2, (overlap[2] + overlap[3]) / 2
    steps = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    rows, columns = mapping.native(middle_y + steps[:, 0], middle_x + steps[:, 1])
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        raise DataError(
            f"{ms.name} has pixels that the CRS of {hs.name} cannot express",
            "the pair cannot be placed on one grid",
            "reproject one of the two so that both lie inside the valid area of one CRS",
        )
    down = hypot(rows[1] - rows[0], columns[1] - columns[0])
    right = hypot(rows[2] - rows[0], columns[2] - columns[0])
    ratios = (1.0 / down, 1.0 / right)
    parallel = one_crs and is_parallel(np.linalg.inv(hs.matrix) @ ms.matrix, ms.shape)
    if not parallel and max(ratios) > MAX_ANISOTROPY * min(ratios):
        raise DataError(
            f"A pixel of {ms.name} is {max(ratios) / min(ratios):.2f} times longer than wide on the ground",
            "one ratio of pixel sizes cannot describe the pair, as happens with geographic grids near the poles",
            "reproject the MSI to a projected CRS, UTM for example",
        )
    place = ((middle_y, middle_x), (float(rows[0]), float(columns[0])))
    gsds = (_gsd_m(hs, place[1]), _gsd_m(ms, place[0]))
    return Relation(hs=hs, ms=ms, ratios=ratios, parallel=parallel, gsds_m=gsds)


def on_turn_of(hs: RasterGrid, ms: RasterGrid) -> RasterGrid:
    """The HSI's raster on the MSI's turn of longitudes if both share a geographic CRS: 190 degrees may be -170."""
    period = longitude_period(hs.crs_wkt)
    if period is None or not same_crs(hs.crs_wkt, ms.crs_wkt):
        return hs
    middles = [(raster.matrix @ (raster.shape[1] / 2, raster.shape[0] / 2, 1.0))[0] for raster in (hs, ms)]
    turns = round(float(middles[1] - middles[0]) / period)
    a, b, c, d, e, f = hs.transform
    return replace(hs, transform=(a, b, c + turns * period, d, e, f)) if turns else hs


def check_georeference(raster: RasterGrid) -> None:
    """Refuse a raster that cannot be placed on the ground."""
    if not raster.crs_wkt:
        raise DataError(
            f"{raster.name} has no CRS",
            "it cannot be placed on the ground",
            f"assign the right one: `rio edit-info --crs EPSG:32633 {raster.name}`; a Zarr by rioxarray's write_crs",
        )
    crs = CRS.from_wkt(raster.crs_wkt)
    if not (crs.is_projected or crs.is_geographic):
        raise DataError(
            f"{raster.name} has the CRS {crs.name!r}, which is neither projected nor geographic",
            "it cannot be placed on the ground",
            "reproject it to a projected CRS",
        )
    determinant = np.linalg.det(raster.matrix)
    if raster.transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0) or not np.isfinite(determinant) or determinant == 0:
        raise DataError(
            f"{raster.name} has the geotransform {raster.transform}",
            "it cannot be placed on the ground",
            "georeference it (gdal_translate -a_ullr, or orthorectification when it only has RPCs or GCPs)",
        )


def overlap_px(mapping: PointMap, ms: RasterGrid) -> tuple[float, float, float, float]:
    """Bounding box in MSI pixels (y0, y1, x0, x1) of the ground that both rasters cover."""
    height, width = mapping.raster.shape
    along = np.linspace(0.0, 1.0, 65)
    rows = np.concatenate([along * 0, along * height, along * 0 + height, along * height])
    columns = np.concatenate([along * width, along * 0, along * width, along * 0 + width])
    rows, columns = mapping.frame(rows, columns)
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        raise DataError(
            f"{mapping.raster.name} reaches beyond where the CRS of {ms.name} is defined",
            "its border cannot be placed on the MSI's grid",
            "crop it, or reproject the MSI to the HSI's CRS",
        )
    y0, y1 = max(0.0, float(rows.min())), min(float(ms.shape[0]), float(rows.max()))
    x0, x1 = max(0.0, float(columns.min())), min(float(ms.shape[1]), float(columns.max()))
    if y1 <= y0 or x1 <= x0:
        raise no_overlap(mapping.raster, ms)
    return y0, y1, x0, x1


def no_overlap(hs: RasterGrid, ms: RasterGrid) -> DataError:
    """The error for two rasters that share no whole coarse pixel."""
    return DataError(
        f"{hs.name} and {ms.name} have no whole HSI pixel in common",
        "there is nothing to fuse",
        "pair scenes whose footprints overlap",
    )


def is_parallel(between: NDArray[np.float64], shape: tuple[int, int]) -> bool:
    """True if an affine between two rasters has no rotation and no flip, to 0.01 pixel over shape."""
    turned = abs(between[0, 1]) * shape[0] + abs(between[1, 0]) * shape[1]
    return bool(turned < 0.01 and between[0, 0] > 0 and between[1, 1] > 0)


def _gsd_m(raster: RasterGrid, place: tuple[float, float]) -> float:
    """Side of a pixel in metres: the map's own, unless it is more than 1 % off the ground's at place (y, x)."""
    crs = CRS.from_wkt(raster.crs_wkt)
    steps = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    columns, rows = place[1] + steps[:, 1], place[0] + steps[:, 0]
    x, y = to_ground(raster.transform, rows, columns)
    geodetic = crs.geodetic_crs
    geod = crs.get_geod()
    if geodetic is None or geod is None:
        geodetic, geod = CRS.from_epsg(4326), Geod(ellps="WGS84")
    if not crs.is_geographic:
        x, y = transformer(raster.crs_wkt, geodetic.to_wkt()).transform(x, y)
    _, _, down = geod.inv(x[0], y[0], x[1], y[1])
    _, _, right = geod.inv(x[0], y[0], x[2], y[2])
    ground = float(np.sqrt(down * right))
    if crs.is_geographic:
        return ground
    a, b, _, d, e, _ = raster.transform
    nominal = float(np.sqrt(hypot(a, d) * hypot(b, e))) * crs.axis_info[0].unit_conversion_factor
    return nominal if abs(nominal / ground - 1.0) <= 0.01 else ground
