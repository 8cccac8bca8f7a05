"""The network of roads and the rows of fields between them: where each point lies in it.

A plane bent by slow noise is cut into columns by main roads, each column into quads by cross roads (at
different places in each column: T-junctions), each quad into strips and strips into parcels, turned a
little against the road. Everything curves together, as fields do along an old road.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scenefuse.simulate.noise import Field, hash_numbers, salt, smooth_noise, unit

ROAD_SPACING_M = 1450.0
"""Mean distance between main roads, and between cross roads of one column."""
JITTER = 0.45
"""Largest displacement of a line, in spacings."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parcels:
    """Where each point lies in the network, arrays (y, x)."""

    quad: NDArray[np.uint32]
    """Random bits of the area between roads."""
    parcel: NDArray[np.uint32]
    """Random bits of the field."""
    parcel_edge_m: Field
    """Metres to the nearest edge of the field."""
    road_m: Field
    """Metres to the middle of the nearest road."""
    road_kind: Field
    """Kind of that road, uniform in [0, 1)."""
    main_road: NDArray[np.int64]
    """Number of the nearest main road."""
    main_road_m: Field
    """Metres to its middle, east positive."""
    v_m: Field
    """Metres along the main roads."""
    along_m: Field
    """Metres along the field's longer side: the direction of ploughing."""
    across_m: Field
    """Metres across that direction."""


def lay_parcels(seed: int, y_m: NDArray[np.float64], x_m: NDArray[np.float64]) -> Parcels:
    """The network at the points y_m by x_m (metres south and east)."""
    u, v = _bend(seed, y_m, x_m)
    column, left, right = _between_lines(u / np.float32(ROAD_SPACING_M), salt(seed, "columns"))
    row, upper, lower = _between_lines(v / np.float32(ROAD_SPACING_M), salt(seed, "rows"), column)
    quad = hash_numbers(salt(seed, "quads"), column, row)
    nearer_left = left < right
    nearer_upper = upper < lower
    main_road = column + ~nearer_left
    cross_road = row + ~nearer_upper
    main_m = np.minimum(left, right) * np.float32(ROAD_SPACING_M)
    cross_m = np.minimum(upper, lower) * np.float32(ROAD_SPACING_M)
    main_kind = unit(hash_numbers(salt(seed, "main roads"), main_road)) * np.float32(0.7)
    cross_kind = unit(hash_numbers(salt(seed, "cross roads"), column, cross_road))
    parcel, edge_m, along_m, across_m = _fields_of_quads(seed, (u, v), quad)
    return Parcels(
        quad=quad,
        parcel=parcel,
        parcel_edge_m=np.minimum(edge_m, np.minimum(main_m, cross_m)),
        road_m=np.minimum(main_m, cross_m),
        road_kind=np.where(main_m < cross_m, main_kind, cross_kind),
        main_road=main_road,
        main_road_m=np.where(nearer_left, main_m, -main_m),
        v_m=v,
        along_m=along_m,
        across_m=across_m,
    )


def _bend(seed: int, y_m: NDArray[np.float64], x_m: NDArray[np.float64]) -> tuple[Field, Field]:
    """The plane turned by an angle drawn from the seed and bent by up to some hundred metres: (u, v) in metres."""
    angle = 0.25 + 0.9 * float(unit(hash_numbers(salt(seed, "angle"), 0))[0])
    bends = []
    for name in ("bend u", "bend v"):
        wide = smooth_noise(y_m, x_m, scale_m=2600, key=salt(seed, name))
        local = smooth_noise(y_m, x_m, scale_m=520, key=salt(seed, f"{name} locally"))
        bends.append(170 * wide + 14 * local)
    y, x = y_m[:, np.newaxis], x_m[np.newaxis]
    u = x * np.cos(angle) + y * np.sin(angle) + bends[0]
    v = y * np.cos(angle) - x * np.sin(angle) + bends[1]
    return u.astype(np.float32), v.astype(np.float32)


def _fields_of_quads(
    seed: int, uv_m: tuple[Field, Field], quad: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], Field, Field, Field]:
    """Bits of each point's field, metres to its edge, and metres along and across it."""
    u, v = uv_m
    turn = (unit(quad, 1) - np.float32(0.5)) * np.float32(0.5) + np.where(unit(quad, 2) < 0.5, np.float32(np.pi / 2), 0)
    width_m = 65 + 190 * unit(quad, 3) ** 2
    length_m = width_m * (1.4 + 3.2 * unit(quad, 4))
    along = (u * np.cos(turn) + v * np.sin(turn)).astype(np.float32)
    across = (v * np.cos(turn) - u * np.sin(turn)).astype(np.float32)
    strip, near, far = _between_lines(across / width_m, salt(seed, "strips"), quad)
    bits = hash_numbers(salt(seed, "pieces"), quad, strip)
    piece_m = length_m * (0.55 + 0.9 * unit(bits, 1))
    place = along / piece_m + unit(bits, 2) * np.float32(7)
    piece = np.floor(place)
    from_end = np.minimum(place - piece, piece + 1 - place) * piece_m
    edge_m = np.minimum(np.minimum(near, far) * width_m, from_end)
    return hash_numbers(salt(seed, "fields"), bits, piece), edge_m.astype(np.float32), along, across


def _between_lines(t: Field, key: int, *of: ArrayLike) -> tuple[NDArray[np.int64], Field, Field]:
    """Number of the gap that t lies in, and the distances to the lines before and after it.

    Line i is at i + JITTER * a random number of (i, *of); gap i lies between lines i and i + 1.
    """
    index = np.floor(t).astype(np.int64)
    at = [_line(index + step, key, *of) for step in (-1, 0, 1)]
    before = t < at[1]
    gap = index - before
    start = np.where(before, at[0], at[1])
    end = np.where(before, at[1], at[2])
    return gap, t - start, end - t


def _line(index: NDArray[np.int64], key: int, *of: ArrayLike) -> Field:
    """Positions of lines by number."""
    return (index + np.float64(JITTER) * unit(hash_numbers(key, index, *of))).astype(np.float32)
