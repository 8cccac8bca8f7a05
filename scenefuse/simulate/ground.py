"""What lies where: the map of a landscape on a grid of points a few metres apart.

Drawn in layers, later over earlier: fields between roads, forest, the valley and its river, lakes, roads,
villages. Everything comes from noise.py, so a point depends only on its coordinates and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.simulate.library import Material
from scenefuse.simulate.noise import Field, fractal_noise, hash_numbers, salt, smooth_noise, unit
from scenefuse.simulate.parcels import Parcels, lay_parcels

VILLAGE_M = 1700.0
"""Mean distance between villages along a main road."""
VALLEY_M = 3300.0
"""Mean distance between two rivers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """What each point of a grid is, arrays (y, x)."""

    material: NDArray[np.uint8]
    """Material of the point."""
    vigour: Field
    """Place along the material's first axis, 0 to 1."""
    tone: Field
    """Place along the material's second axis, 0 to 1."""
    cover: Field
    """Share of the point that its crop covers, 0 to 1; the rest is soil. 1 for everything but crops."""
    height: Field
    """Height in metres of what casts a shadow: buildings and trees."""


def map_ground(seed: int, y_m: NDArray[np.float64], x_m: NDArray[np.float64], *, season: float) -> Ground:
    """The ground at the points y_m by x_m (metres south and east of the landscape's origin).

    season: 0 is early June; by 1, forty days later, the cereals have ripened or are cut.
    """
    parcels = lay_parcels(seed, y_m, x_m)
    ground = _fields(parcels, season)
    _draw_forest(seed, ground, parcels, (y_m, x_m))
    _draw_water(seed, ground, (y_m, x_m))
    _draw_roads(ground, parcels)
    _draw_villages(seed, ground, parcels, (y_m, x_m))
    return ground


def _fields(parcels: Parcels, season: float) -> Ground:
    """Every point as the field it would be: crops, fallow, meadow, bare soil, small woods; hedges between some."""
    lot, grade, greenness = (unit(parcels.parcel, draw) for draw in (1, 2, 3))
    shares = (
        (Material.CROP, 0.46 - 0.16 * season),
        (Material.STRAW, 0.08 + 0.24 * season),
        (Material.SOIL, 0.13),
        (Material.GRASS, 0.22 - 0.05 * season),
        (Material.BLOSSOM, 0.05 - 0.04 * season),
        (Material.BROADLEAF, 0.03),
        (Material.CONIFER, 0.03),
    )
    edges = np.cumsum([share for _, share in shares])
    of_share = np.array([material for material, _ in shares], np.uint8)
    material = of_share[np.searchsorted(edges / edges[-1], lot, side="right").clip(0, len(shares) - 1)]
    cover = np.where(material == Material.CROP, np.float32(0.45) + np.float32(0.55) * np.sqrt(grade), np.float32(1))
    height = np.where((material == Material.BROADLEAF) | (material == Material.CONIFER), np.float32(14), np.float32(0))
    hedge = (parcels.parcel_edge_m < 3.5) & (unit(parcels.quad, 7) < 0.3) & (unit(parcels.parcel, 8) < 0.7)
    material[hedge], cover[hedge], height[hedge] = Material.BROADLEAF, 1, 5
    margin = (parcels.parcel_edge_m < 2.0) & ~hedge
    material[margin], cover[margin] = Material.GRASS, 1
    return Ground(material=material, vigour=grade, tone=greenness, cover=cover.astype(np.float32), height=height)


def _draw_forest(seed: int, ground: Ground, parcels: Parcels, at: tuple[NDArray[np.float64], ...]) -> None:
    """Forest where a slow field is high; stands of broadleaf and conifer, with rides and clearings between."""
    wooded = fractal_noise(*at, scale_m=1500, octaves=5, key=salt(seed, "forest"))
    mixture = fractal_noise(*at, scale_m=700, octaves=2, key=salt(seed, "stands")) + 1.6 * unit(parcels.parcel, 4)
    inside = (wooded > 0.52) & ~((unit(parcels.parcel, 5) < 0.05) & (wooded < 1.1))
    stand = np.where(mixture > 0.75, np.uint8(Material.CONIFER), np.uint8(Material.BROADLEAF))
    ride = inside & (parcels.parcel_edge_m < 2.5) & (unit(parcels.quad, 9) < 0.25)
    ground.material[inside] = stand[inside]
    ground.material[ride] = Material.GRASS
    ground.cover[inside] = 1
    ground.height[inside & ~ride] = 18


def _draw_water(seed: int, ground: Ground, at: tuple[NDArray[np.float64], ...]) -> None:
    """Rivers that meander from west to east in a valley of meadows, and lakes with a belt of reed."""
    y_m, x_m = at
    river_m, width_m = _river_distance(seed, y_m, x_m)
    patches = fractal_noise(y_m, x_m, scale_m=160, octaves=3, key=salt(seed, "riverside"))
    valley = (river_m < 60 + 5 * width_m + 45 * patches) & (ground.material != Material.CONIFER)
    _paint(ground, valley & (patches > -0.6), Material.GRASS)
    _paint(ground, (river_m < width_m + 12) & (patches > 0.3), Material.BROADLEAF, height_m=10)
    _paint(ground, (river_m < width_m / 2 + 5) & (patches < -0.5), Material.SAND)
    lake = fractal_noise(y_m, x_m, scale_m=1900, octaves=3, key=salt(seed, "lakes"))
    _paint(ground, lake > 1.6, Material.GRASS)
    _paint(ground, lake > 1.63, Material.WATER)
    _paint(ground, river_m < width_m / 2, Material.WATER)


def _river_distance(seed: int, y_m: NDArray[np.float64], x_m: NDArray[np.float64]) -> tuple[Field, Field]:
    """Distance to the middle of the nearest river and that river's width, metres, (y, x)."""
    nearest = np.round(y_m / VALLEY_M).astype(np.int64)
    distance_m = np.full((len(y_m), len(x_m)), np.inf, np.float32)
    width_m = np.zeros_like(distance_m)
    for number in range(int(nearest.min()) - 1, int(nearest.max()) + 2):
        key = salt(seed, f"river {number}")
        course_m = _river_course(key, x_m)
        slope = (_river_course(key, x_m + 5) - _river_course(key, x_m - 5)) / 10
        away_m = np.abs(y_m[:, np.newaxis] - number * VALLEY_M - course_m) / np.sqrt(1 + slope**2)
        ragged = 1 + 0.18 * smooth_noise(np.zeros(1), x_m, scale_m=260, key=key + 2)
        own_m = float(14 + 60 * unit(hash_numbers(key, 5))[0] ** 2) * ragged
        closer = away_m < distance_m
        width_m = np.where(closer, own_m, width_m).astype(np.float32)
        distance_m = np.where(closer, away_m, distance_m).astype(np.float32)
    return distance_m, width_m


def _river_course(key: int, x_m: NDArray[np.float64]) -> Field:
    """Metres that a river's middle lies south of its valley's line, (1, x)."""
    bends_m = 420 * smooth_noise(np.zeros(1), x_m, scale_m=1900, key=key)
    return bends_m + 85 * smooth_noise(np.zeros(1), x_m, scale_m=430, key=key + 1)


def _draw_roads(ground: Ground, parcels: Parcels) -> None:
    """Asphalt roads with verges and trees, and sandy tracks; bridges over water, dams through lakes."""
    asphalt = parcels.road_kind < 0.55
    half_m = np.where(asphalt, np.float32(4.0), np.float32(2.0))
    avenue = (parcels.road_kind < 0.2) & (parcels.road_m > 6) & (parcels.road_m < 10)
    dry = ground.material != Material.WATER
    _paint(ground, (parcels.road_m < half_m + 3) & dry, Material.GRASS)
    _paint(ground, avenue & dry, Material.BROADLEAF, height_m=9)
    _paint(ground, (parcels.road_m < half_m) & asphalt, Material.ASPHALT)
    _paint(ground, (parcels.road_m < half_m) & ~asphalt & dry, Material.SAND)


def _draw_villages(seed: int, ground: Ground, parcels: Parcels, at: tuple[NDArray[np.float64], ...]) -> None:
    """Villages along the main roads: streets, plots with a house and a garden, halls with a yard."""
    key = salt(seed, "villages")
    row = np.floor(parcels.v_m / VILLAGE_M)
    bits = hash_numbers(key, row, parcels.main_road)
    across_m = parcels.v_m - (row + 0.35 + 0.3 * unit(bits, 1)) * np.float32(VILLAGE_M)
    radius_m = np.where(unit(bits, 2) < 0.62, 130 + 330 * unit(bits, 3) ** 1.5, 0).astype(np.float32)
    ragged = smooth_noise(*at, scale_m=190, key=salt(seed, "village edge"))
    reach_m = np.sqrt((1.15 * parcels.main_road_m) ** 2 + across_m**2) * (1 + 0.27 * ragged)
    at_points = np.flatnonzero((reach_m < radius_m) & (ground.material != Material.WATER))
    if not at_points.size:
        return
    u, v = parcels.main_road_m.ravel()[at_points], across_m.ravel()[at_points]
    _draw_blocks(ground, at_points, (u, v), bits.ravel()[at_points])


def _draw_blocks(
    ground: Ground, points: NDArray[np.intp], uv_m: tuple[Field, Field], village: NDArray[np.uint32]
) -> None:
    """Blocks of plots between streets, at the flat indices points; uv_m: from the main road, from the centre."""
    u, v = uv_m
    block = 66 + 40 * unit(village, 4)
    column, line = np.floor(u / block), np.floor(v / (1.5 * block))
    bu, bv = u - column * block, v - line * 1.5 * block
    bits = hash_numbers(11, village, column, line)
    street = (np.minimum(bu, block - bu) < 2.6) | (np.minimum(bv, 1.5 * block - bv) < 2.6)
    plot_u, plot_v = block / 3, 1.5 * block / 5
    pu, pv = np.floor(bu / plot_u), np.floor(bv / plot_v)
    plot = hash_numbers(13, bits, pu, pv)
    hu, hv = bu - (pu + 0.5) * plot_u, bv - (pv + 0.5) * plot_v
    house = (np.abs(hu) < 4 + 3.5 * unit(plot, 1)) & (np.abs(hv) < 4.5 + 4.5 * unit(plot, 2)) & (unit(plot, 3) < 0.85)
    big = unit(bits, 1) < 0.13
    hall = (
        big
        & (np.abs(bu - block / 2) < 0.34 * block)
        & (np.abs(bv - 0.75 * block) < (0.3 + 0.3 * unit(bits, 2)) * block)
    )
    roof = np.choose(
        np.searchsorted([0.68, 0.86], unit(plot, 4)), [Material.TILE_ROOF, Material.DARK_ROOF, Material.METAL_ROOF]
    ).astype(np.uint8)
    hall_roof = np.where(unit(bits, 3) < 0.7, np.uint8(Material.METAL_ROOF), np.uint8(Material.DARK_ROOF))
    trees = unit(hash_numbers(17, plot, np.floor(hu / 5), np.floor(hv / 5))) < 0.28
    material = np.where(trees, np.uint8(Material.BROADLEAF), np.uint8(Material.GRASS))
    material = np.where(house & ~big, roof, material)
    material = np.where(big, np.where(hall, hall_roof, np.uint8(Material.CONCRETE)), material)
    material = np.where(street, np.uint8(Material.ASPHALT), material)
    on_road = ground.material.ravel()[points] == Material.ASPHALT
    ground.material.ravel()[points] = np.where(on_road, np.uint8(Material.ASPHALT), material)
    ground.vigour.ravel()[points] = np.where(big, unit(bits, 4), unit(plot, 5))
    ground.tone.ravel()[points] = unit(plot, 6)
    ground.cover.ravel()[points] = 1
    built = (house & ~big) | hall
    ground.height.ravel()[points] = np.where(built & ~street & ~on_road, 8, np.where(trees & ~street & ~big, 6, 0))


def _paint(ground: Ground, where: NDArray[np.bool_], material: Material, *, height_m: float = 0.0) -> None:
    """Give these points a material, full cover and a height."""
    ground.material[where] = material
    ground.cover[where] = 1
    ground.height[where] = height_m
