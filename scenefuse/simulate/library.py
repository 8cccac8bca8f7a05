"""The spectra a landscape is mixed from: for each material the corners of its variability, as one matrix.

Within a material, pixels differ along two axes (how dense and how green a crop is, how wet and how red a
soil): the axes have two or three corner spectra, and a pixel's spectrum lies bilinearly between them. All that
sensors see is therefore linear in a pixel's abundances, and is mixed after blur and sampling, when that is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from scenefuse.simulate import materials as m


class Material(IntEnum):
    """What a point of the ground is made of."""

    WATER = 0
    SOIL = 1
    CROP = 2
    BLOSSOM = 3
    STRAW = 4
    GRASS = 5
    BROADLEAF = 6
    CONIFER = 7
    ASPHALT = 8
    CONCRETE = 9
    TILE_ROOF = 10
    METAL_ROOF = 11
    DARK_ROOF = 12
    SAND = 13
    SHADE = 14
    CLOUD = 15
    SOIL_UNDER_CROP = 16
    """Not a material: light that soil and crop have both scattered, the bilinear term of nonlinear mixing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Library:
    """Corner spectra of all materials."""

    spectra: NDArray[np.float64]
    """(corner, wavelength) reflectance over materials.WAVELENGTH_NM, 0 to 1."""
    first: tuple[int, ...]
    """Row of each material's first corner, by Material."""
    corners: tuple[tuple[int, int], ...]
    """Corners along each material's two axes, by Material; a material's rows run along the second axis first."""


@cache
def library() -> Library:
    """All materials' corner spectra."""
    grids = _corner_spectra()
    counts = [len(rows) * len(rows[0]) for rows in grids.values()]
    return Library(
        spectra=m.stack([spectrum for rows in grids.values() for row in rows for spectrum in row]),
        first=tuple(int(n) for n in np.concatenate([[0], np.cumsum(counts)[:-1]])),
        corners=tuple((len(rows), len(rows[0])) for rows in grids.values()),
    )


def _corner_spectra() -> dict[Material, list[list[m.Spectrum]]]:
    """Corner spectra of each material, [first axis][second axis], in the order of Material."""
    crop = [
        [m.green_vegetation(chlorophyll=c, water_cm=w, density=d) for c in (0.35, 0.7, 1.25)]
        for d, w in ((0.45, 0.10), (0.75, 0.17), (0.98, 0.27))
    ]
    soils = [
        [m.soil(moisture=w, iron=i, brightness=b) for i, b in ((0.05, 0.50), (0.8, 0.42))] for w in (0.0, 0.35, 1.0)
    ]
    grids = {
        Material.WATER: [[m.water_body(sediment=s, algae=a) for a in (0.05, 1.0)] for s in (0.0, 0.35)],
        Material.SOIL: soils,
        Material.CROP: crop,
        Material.BLOSSOM: [[m.green_vegetation(chlorophyll=0.22, water_cm=0.22, density=0.8, yellow=1.0)]],
        Material.STRAW: [[m.dry_vegetation(brightness=b, age=a) for a in (0.0, 1.0)] for b in (0.4, 0.95)],
        Material.GRASS: [
            [m.green_vegetation(chlorophyll=c, water_cm=w, density=0.72, dry=d) for c, w, d in rows]
            for rows in (((0.3, 0.08, 0.9), (0.55, 0.12, 0.5)), ((0.55, 0.14, 0.2), (0.95, 0.2, 0.0)))
        ],
        Material.BROADLEAF: [
            [m.green_vegetation(chlorophyll=c, water_cm=0.22, density=d) for c in (0.9, 1.5)] for d in (0.7, 0.95)
        ],
        Material.CONIFER: [
            [m.green_vegetation(chlorophyll=c, water_cm=0.2, density=d, dry=0.4) for c in (1.0, 1.5)]
            for d in (0.05, 0.4)
        ],
        Material.ASPHALT: [[m.asphalt(age=0.1)], [m.asphalt(age=1.0)]],
        Material.CONCRETE: [[m.concrete(weathering=0.0)], [m.concrete(weathering=1.0)]],
        Material.TILE_ROOF: [[m.clay_tile(soot=0.0)], [m.clay_tile(soot=0.8)]],
        Material.METAL_ROOF: [[m.metal_roof(blue=0.0)], [m.metal_roof(blue=1.0)]],
        Material.DARK_ROOF: [[m.bitumen_roof()]],
        Material.SAND: [[m.sand(brightness=0.36)], [m.sand(brightness=0.62)]],
        Material.SHADE: [[m.shade()]],
        Material.CLOUD: [[m.cloud()]],
        Material.SOIL_UNDER_CROP: [[m.bilinear(soils[1][0], crop[1][1])]],
    }
    return {material: grids[material] for material in Material}
