"""A landscape on the fine grid: what share each corner spectrum has in each pixel, for any window.

The pixel at row i, column j of the landscape covers [i, i + 1) x [j, j + 1) times FINE_M metres south and east of
its origin. A pixel is sampled at SUBSAMPLES x SUBSAMPLES points, so borders have mixed pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.special import ndtri

from scenefuse.grid.window import Window
from scenefuse.simulate.ground import Ground, map_ground
from scenefuse.simulate.library import Material, library
from scenefuse.simulate.noise import Field, fractal_noise, noise_at, salt, smooth_noise
from scenefuse.simulate.parcels import lay_parcels

FINE_M = 10.0
"""Side of a fine pixel in metres."""
SUBSAMPLES = 3
"""Points per fine pixel along each side."""
APERTURE_SIGMA_PX = 0.35
"""Blur of the fine instrument beyond its square pixel, fine pixels: together an MTF of 0.35 at Nyquist."""
BILINEAR_GAIN = 0.6
"""Strength of light scattered by both soil and crop: 0 would be linear mixing."""

_APERTURE_REACH_PX = ceil(4 * APERTURE_SIGMA_PX)
_SUN_SLOPE = 0.35
"""Change of brightness per unit of slope towards the sun (elevation 40 degrees, L2A without topographic correction)."""
_SHADOW_STEPS = ((1, 0, 6.0), (1, 1, 6.0), (2, 1, 11.0))
"""Where the sun is hidden: (points south, points east, least height in metres); sun in the south-south-east."""
_SHADOW_REACH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Ground as far as one likes to look, the same for ever for the same seed."""

    seed: int
    """Which landscape."""
    season: float = 0.0
    """0: early June; 1: forty days later, when the cereals have ripened."""
    cloud_fraction: float = 0.0
    """Share of the sky under cloud, 0 to 1."""

    def __post_init__(self) -> None:
        if not (0 <= self.season <= 1 and 0 <= self.cloud_fraction <= 1):
            raise ValueError(f"season and cloud_fraction lie between 0 and 1, got {self}")

    def abundances(self, window: Window) -> Field:
        """(corner, y, x) weights of library().spectra in each fine pixel of the window, as its instrument sees it.

        Not negative. The sum differs from 1 by illumination and by the bilinear term: a slope towards the
        sun is brighter. Bitwise the same whatever window a pixel is asked for in.
        """
        grown = window.grow(_APERTURE_REACH_PX)
        clear = self._clear_abundances(grown)
        if self.cloud_fraction:
            clear = self._under_cloud(clear, grown)
        taps = np.exp(-0.5 * (np.arange(-_APERTURE_REACH_PX, _APERTURE_REACH_PX + 1) / APERTURE_SIGMA_PX) ** 2)
        taps /= taps.sum()
        for axis in (1, 2):
            clear = correlate1d(clear, taps, axis=axis, mode="constant")
        inner = slice(_APERTURE_REACH_PX, -_APERTURE_REACH_PX)
        return np.ascontiguousarray(clear[:, inner, inner])

    def _clear_abundances(self, window: Window) -> Field:
        """Abundances under a clear sky, before the instrument's blur."""
        step_m = FINE_M / SUBSAMPLES
        y_m = (np.arange(window.y0 * SUBSAMPLES, window.y1 * SUBSAMPLES + _SHADOW_REACH) + 0.5) * step_m
        x_m = (np.arange(window.x0 * SUBSAMPLES, window.x1 * SUBSAMPLES + _SHADOW_REACH) + 0.5) * step_m
        ground = map_ground(self.seed, y_m, x_m, season=self.season)
        shaded = self._shaded(ground, (y_m, x_m))
        inner = (slice(0, -_SHADOW_REACH), slice(0, -_SHADOW_REACH))
        variety = _Variety.of(self.seed, window)
        sums = _sum_corners(
            Ground(
                material=ground.material[inner],
                vigour=ground.vigour[inner],
                tone=ground.tone[inner],
                cover=ground.cover[inner],
                height=ground.height[inner],
            ),
            shaded,
            variety,
        )
        sums *= variety.light
        return sums

    def _shaded(self, ground: Ground, at: tuple[NDArray[np.float64], ...]) -> Field:
        """Share of each point that lies in shade, 0 to 1: behind buildings and trees, and between crowns."""
        rows, columns = (size - _SHADOW_REACH for size in ground.height.shape)
        here = ground.height[:rows, :columns]
        cast = np.zeros((rows, columns), bool)
        for south, east, least_m in _SHADOW_STEPS:
            cast |= ground.height[south : south + rows, east : east + columns] > here + least_m
        y_m, x_m = at[0][:rows], at[1][:columns]
        crowns = smooth_noise(y_m, x_m, scale_m=6.5, key=salt(self.seed, "crowns"))
        material = ground.material[:rows, :columns]
        depth = np.where(material == Material.CONIFER, np.float32(0.34), np.float32(0.22))
        wooded = (material == Material.CONIFER) | (material == Material.BROADLEAF)
        between = np.where(wooded, np.clip(depth * (1 + 0.5 * crowns), 0, 0.85), np.float32(0))
        return np.where(cast, np.float32(0.8), between).astype(np.float32)

    def _under_cloud(self, clear: Field, window: Window) -> Field:
        """The abundances as seen through clouds, their shadows on the ground."""
        grown = Window(y0=window.y0, y1=window.y1 + 45, x0=window.x0, x1=window.x1 + 25)
        y_m, x_m = _centres_m(grown)
        thickness = fractal_noise(y_m, x_m, scale_m=700, octaves=6, key=salt(self.seed, "clouds"))
        # The field is close to Gaussian: its quantile of the wanted share is where clouds begin.
        begin = _gaussian_quantile(1 - self.cloud_fraction)
        opacity = np.clip((thickness - begin) * 2.2 + 0.2, 0, 1)
        rows, columns = clear.shape[1:]
        above, towards_sun = opacity[:rows, :columns], opacity[45:, 25:]
        seen = clear * ((1 - above) * (1 - 0.6 * towards_sun))
        seen[library().first[Material.CLOUD]] += above
        return seen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Variety:
    """How pixels of one material differ, fine grid (y, x), each with mean 0 and deviation about 1 unless said."""

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
    def of(cls, seed: int, window: Window) -> _Variety:
        """The fields of a window."""
        y_m, x_m = _centres_m(window)
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


def _sum_corners(ground: Ground, shaded: Field, variety: _Variety) -> Field:
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
    return sums.reshape(-1, rows, columns) / np.float32(SUBSAMPLES**2)


def _axes(
    kind: Material, vigour: Field, tone: Field, variety: _Variety, pixels: NDArray[np.int64]
) -> tuple[Field, Field]:
    """Places of points along their material's two axes, 0 to 1: the parcel's own, and what varies within it."""
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
    sums: Field, pixel_of_point: NDArray[np.int64], lit_and_cover: tuple[Field, Field], variety: _Variety
) -> None:
    """Add what shows of the soil between the plants, and the light that both have scattered."""
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


def _centres_m(window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres south and east of the centres of the window's rows and columns."""
    return (np.arange(window.y0, window.y1) + 0.5) * FINE_M, (np.arange(window.x0, window.x1) + 0.5) * FINE_M


def _gaussian_quantile(share: float) -> float:
    """Value below which this share of a standard normal field lies."""
    return float(ndtri(min(max(share, 1e-3), 1 - 1e-3)))
