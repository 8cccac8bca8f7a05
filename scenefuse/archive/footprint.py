"""Footprints as areas: GeoJSON polygons in an equal-area projection, cut at the antimeridian."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from scenefuse.errors import DataError


def equal_area_footprint(footprint: Mapping[str, Any] | None, scene_id: str) -> BaseGeometry:
    """The footprint as a (multi)polygon in Lambert's cylindrical equal-area projection.

    x = longitude in degrees, y = sin(latitude): only ratios of areas mean anything, and those are exact on the
    sphere. A ring that jumps by more than 180 degrees of longitude crosses the antimeridian and is cut there.
    DataError for a missing or empty footprint, for points and lines, and for one around a pole.
    """
    if footprint is None:
        raise _refused(scene_id, "has no footprint")
    parts = _polygons(footprint, scene_id)
    polygons = [piece for rings in parts for piece in _unwrapped(rings, scene_id)]
    projected = [shapely.transform(polygon, _project) for polygon in polygons]
    area = projected[0] if len(projected) == 1 else shapely.union_all(projected)
    if area.is_empty or not area.area > 0:
        raise _refused(scene_id, "has a footprint without area")
    return area


def _project(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) longitude and latitude in degrees, projected to longitude and the sine of latitude."""
    return np.column_stack((lonlat[:, 0], np.sin(np.radians(lonlat[:, 1]))))


def _polygons(footprint: Mapping[str, Any], scene_id: str) -> list[list[NDArray[np.float64]]]:
    """The rings of every polygon, each (n, 2) longitude and latitude."""
    coordinates = footprint.get("coordinates")
    kind = footprint.get("type")
    if kind not in ("Polygon", "MultiPolygon") or not isinstance(coordinates, list):
        raise _refused(scene_id, f"has a footprint of type {kind!r}, which is no area")
    try:
        parts = [coordinates] if kind == "Polygon" else coordinates
        rings = [[np.array([point[:2] for point in ring], dtype=np.float64) for ring in part] for part in parts]
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise _refused(scene_id, f"has a footprint that is no GeoJSON ({error})") from error
    for ring in (ring for part in rings for ring in part):
        if ring.ndim != 2 or len(ring) < 4 or not np.isfinite(ring).all() or np.abs(ring[:, 1]).max() > 90:
            raise _refused(scene_id, "has a footprint with a ring that is no closed line of longitudes and latitudes")
    return rings


def _unwrapped(rings: list[NDArray[np.float64]], scene_id: str) -> list[BaseGeometry]:
    """The polygon within longitudes -180 to 180, in two pieces if it crosses the antimeridian."""
    if not rings:
        return []
    continuous = [_continuous(ring, scene_id) for ring in rings]
    outer, *holes = continuous
    shifted = [
        np.column_stack((ring[:, 0] + 360 * np.round((outer[:, 0].mean() - ring[:, 0].mean()) / 360), ring[:, 1]))
        for ring in holes
    ]
    polygon = shapely.make_valid(shapely.Polygon(outer, shifted))
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return [polygon]
    pieces = []
    for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
        left = turn * 360 - 180
        piece = shapely.intersection(polygon, shapely.box(left, -90, left + 360, 90))
        if piece.area > 0:
            pieces.append(translate(piece, xoff=-360 * turn))
    return pieces


def _continuous(ring: NDArray[np.float64], scene_id: str) -> NDArray[np.float64]:
    """The ring with longitudes that never jump by more than 180 degrees, unless it spans the whole globe."""
    longitudes = ring[:, 0]
    if not any(abs(b - a) > 180 for a, b in pairwise(longitudes)):
        return ring
    if longitudes.min() <= -180 and longitudes.max() >= 180 and len(np.unique(longitudes)) == 2:
        return ring  # a box around the globe: its jump of 360 degrees is its width
    continuous = np.unwrap(longitudes, period=360)
    if abs(continuous[-1] - continuous[0]) > 180:
        raise _refused(scene_id, "has a footprint around a pole, whose overlap is not computed")
    return np.column_stack((continuous, ring[:, 1]))


def _refused(scene_id: str, why: str) -> DataError:
    return DataError(f"{scene_id} {why}", "it cannot be paired by location", "give it a polygon in WGS 84 as geometry")
