"""Where a scene's data lie on Earth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rasterio.warp import transform as transform_points

from scenefuse.demo.plan import CRS, DemoScene

Point = tuple[float, float]


def footprint(scene: DemoScene) -> dict[str, Any]:
    """GeoJSON polygon in WGS 84 around the pixels with data, counterclockwise."""
    rows, columns = scene.shape(1)
    corners: list[Point] = [(0.0, 0.0), (0.0, rows), (columns, rows), (columns, 0.0)]  # (column, row), from the NW
    if scene.swath is not None:
        slope, half = scene.swath.west_per_south, scene.swath.half_width * columns
        corners = _clip(corners, lambda p: p[0] - columns / 2 + slope * (p[1] - rows / 2) + half)
        corners = _clip(corners, lambda p: half - (p[0] - columns / 2 + slope * (p[1] - rows / 2)))
    a, _, west_m, _, e, north_m = scene.transform(1)
    easting = [west_m + a * column for column, _ in corners]
    northing = [north_m + e * row for _, row in corners]
    longitude, latitude = transform_points(CRS, "EPSG:4326", easting, northing)
    ring = [[round(x, 7), round(y, 7)] for x, y in zip(longitude, latitude, strict=True)]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def bounding_box(polygon: dict[str, Any]) -> list[float]:
    """West, south, east, north of a GeoJSON polygon in degrees."""
    longitude, latitude = zip(*polygon["coordinates"][0], strict=True)
    return [min(longitude), min(latitude), max(longitude), max(latitude)]


def _clip(corners: list[Point], inside: Callable[[Point], float]) -> list[Point]:
    """The convex polygon where a linear function is not negative (Sutherland & Hodgman 1974)."""
    kept: list[Point] = []
    for here, after in zip(corners, corners[1:] + corners[:1], strict=True):
        value, value_after = inside(here), inside(after)
        if value >= 0:
            kept.append(here)
        if value * value_after < 0:
            share = value / (value - value_after)
            kept.append((here[0] + share * (after[0] - here[0]), here[1] + share * (after[1] - here[1])))
    return kept
