"""How pixels of one material differ, and the share of each corner spectrum in a pixel of many points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window
from scenefuse.simulate.ground import Ground
from scenefuse.simulate.library import Material, library
from scenefuse.simulate.noise import Field, fractal_noise, noise_at, salt
from scenefuse.simulate.parcels import lay_parcels

FINE_M = 10.0
"""Side of a fine pixel in metres."""
SUBSAMPLES = 3
"""Points per fine pixel along each side."""
BILINEAR_GAIN = 0.6
"""Strength of the light scattered by both soil and crop; 0 would be linear mixing."""

_SUN_SLOPE = 0.35
"""Change of brightness per unit of slope towards the sun (elevation 40 degrees, L2A without topographic correction)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variety:
    """How pixels of one material differ, fine grid (y, x), each with mean 0 and deviation about 1 unless stated."""

    growth: Field
    """Density of plants, in patches."""
    rows: Field
    """Streaks along the direction of ploughing."""
    wetness: Field
    """Soil moisture."""
    colour: Field
    """Soil colour, over kilometres."""
    light: Field
    """Illumination of the slope, around 1."""

    @classmethod
    def of(cls, seed: int, window: Window) -> Variety:
        """The fields of a window."""
        y_m, x_m = window_centres_m(window)
        lay = lay_parcels(seed, y_m, x_m)
        rows = noise_at(lay.across_m / np.float32(13), lay.along_m / np.float32(260), key=salt(seed, "ploughing"))
        patches = fractal_noise(y_m, x_m, scale_m=170, octaves=4, key=salt(seed, "growth"))
        relief_y = np.concatenate([y_m[:1] - FINE_M, y_m, y_m[-1:] + FINE_M])
        relief_x = np.concatenate([x_m[:1] - FINE_M, x_m, x_m[-1:] + FINE_M])
        relief_m = 16 * fractal_noise(relief_y, relief_x, scale_m=1700, octaves=6, key=salt(seed, "relief"))
        slope = (
            0.87 * (relief_m[:-2, 1:-1] - relief_m[2:, 1:-1]) + 0.5 * (relief_m[1:-1, :-2] - relief_m[1:-1, 2:])
        ) / (2 * FINE_M)
        return cls(
            growth=patches,
            rows=rows,
            wetness=fractal_noise(y_m, x_m, scale_m=600, octaves=5, key=salt(seed, "wetness")),
            colour=fractal_noise(y_m, x_m, scale_m=3500, octaves=4, key=salt(seed, "colour")),
            light=np.clip(1 + np.float32(_SUN_SLOPE) * slope, 0.5, 1.5).astype(np.float32),
        )


def sum_corners(ground: Ground, shaded: Field, variety: Variety) -> Field:
    """(corner, y, x) sums of the corner weights of each fine pixel's points, divided by their number."""
    spectra = library()
    rows, columns = variety.light.shape
    pixel_of_point = np.repeat(
        np.repeat(np.arange(rows * columns, dtype=np.int64).reshape(rows, columns), SUBSAMPLES, 0), SUBSAMPLES, 1
    ).ravel()
    sums = np.zeros((len(spectra.spectra), rows * columns), np.float32)
    material, lit = ground.material.ravel(), 1 - shaded.ravel()
    vigour, tone, cover = ground.vigour.ravel(), ground.tone.ravel(), ground.cover.ravel()
    for kind in np.unique(material).tolist():
        points = np.flatnonzero(material == kind)
        pixels = pixel_of_point[points]
        first, second = _axes(Material(kind), vigour[points], tone[points], variety, pixels)
        share = lit[points] * cover[points]
        corner = spectra.first[kind]
        for weight_a in _hats(first, spectra.corners[kind][0]):
            for weight_b in _hats(second, spectra.corners[kind][1]):
                sums[corner] += np.bincount(pixels, share * weight_a * weight_b, minlength=rows * columns)
                corner += 1
    _add_soil_under_crops(sums, pixel_of_point, (lit, cover), variety)
    sums[spectra.first[Material.SHADE]] += np.bincount(pixel_of_point, 1 - lit, minlength=rows * columns)
    return np.asarray(sums.reshape(-1, rows, columns) / np.float32(SUBSAMPLES**2), np.float32)


def _axes(
    kind: Material, vigour: Field, tone: Field, variety: Variety, pixels: NDArray[np.int64]
) -> tuple[Field, Field]:
    """Positions of points along their material's two axes, 0 to 1: the parcel's own plus the variation within it."""
    growth, rows, wetness, colour = (
        field.ravel()[pixels] for field in (variety.growth, variety.rows, variety.wetness, variety.colour)
    )
    if kind == Material.SOIL:
        wet = 0.25 + 0.14 * wetness + 0.05 * rows + 0.3 * (vigour - 0.5)
        return np.clip(wet, 0, 1), np.clip(0.5 + 0.3 * colour, 0, 1)
    if kind == Material.WATER:
        return np.clip(0.14 + 0.16 * colour, 0, 1), np.clip(0.35 + 0.15 * wetness, 0, 1)
    if kind in (Material.CROP, Material.STRAW, Material.GRASS):
        dense = vigour + 0.13 * growth + 0.08 * rows
        return np.clip(dense, 0, 1), np.clip(tone + 0.12 * wetness + 0.04 * rows, 0, 1)
    if kind in (Material.BROADLEAF, Material.CONIFER):
        return np.clip(0.5 + 0.22 * growth, 0, 1), np.clip(0.5 + 0.25 * wetness, 0, 1)
    return np.clip(vigour + 0.06 * growth, 0, 1), tone


def _add_soil_under_crops(
    sums: Field, pixel_of_point: NDArray[np.int64], lit_and_cover: tuple[Field, Field], variety: Variety
) -> None:
    """Add the soil that shows between the plants, and the light that both have scattered."""
    lit, cover = lit_and_cover
    spectra = library()
    open_points = np.flatnonzero(cover < 1)
    pixels = pixel_of_point[open_points]
    bare = lit[open_points] * (1 - cover[open_points])
    middle = np.full(len(open_points), 0.5, np.float32)
    first, second = _axes(Material.SOIL, middle, middle, variety, pixels)
    corner = spectra.first[Material.SOIL]
    for weight_a in _hats(first, spectra.corners[Material.SOIL][0]):
        for weight_b in _hats(second, spectra.corners[Material.SOIL][1]):
            sums[corner] += np.bincount(pixels, bare * weight_a * weight_b, minlength=sums.shape[1])
            corner += 1
    both = BILINEAR_GAIN * bare * cover[open_points]
    sums[spectra.first[Material.SOIL_UNDER_CROP]] += np.bincount(pixels, both, minlength=sums.shape[1])


def _hats(place: Field, corners: int) -> list[Field]:
    """Linear interpolation weights of equally spaced corners at places in [0, 1]; they sum to 1."""
    if corners == 1:
        return [np.ones_like(place)]
    return [np.maximum(0, 1 - np.abs(place * np.float32(corners - 1) - corner)) for corner in range(corners)]


def window_centres_m(window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres south and east of the centres of the window's rows and columns."""
    return centres_m(window.y0, window.y1, FINE_M), centres_m(window.x0, window.x1, FINE_M)


def centres_m(start: int, stop: int, step_m: float) -> NDArray[np.float64]:
    """Centres of the cells [start, stop) of side step_m, in metres."""
    return np.asarray((np.arange(start, stop) + 0.5) * step_m, np.float64)
