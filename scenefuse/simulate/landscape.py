"""A landscape on the fine grid: the share of each corner spectrum in each pixel, for any window.

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
from scenefuse.simulate.mixture import FINE_M, SUBSAMPLES, Variety, centres_m, sum_corners, window_centres_m
from scenefuse.simulate.noise import Field, fractal_noise, salt, smooth_noise

APERTURE_SIGMA_PX = 0.35
"""Blur of the fine instrument beyond its square pixel, fine pixels: together an MTF of 0.35 at Nyquist."""

_APERTURE_REACH_PX = ceil(4 * APERTURE_SIGMA_PX)
_SHADOW_STEPS = ((1, 0, 6.0), (1, 1, 6.0), (2, 1, 11.0))
"""Where the sun is hidden: (points south, points east, least height in metres); sun in the south-south-east."""
_SHADOW_REACH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Unbounded ground, always the same for the same seed."""

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

        Not negative. The sum differs from 1 by illumination (a slope towards the sun is brighter) and by the bilinear
        term. A pixel is bitwise the same in every window.
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
        y_m = centres_m(window.y0 * SUBSAMPLES, window.y1 * SUBSAMPLES + _SHADOW_REACH, step_m)
        x_m = centres_m(window.x0 * SUBSAMPLES, window.x1 * SUBSAMPLES + _SHADOW_REACH, step_m)
        ground = map_ground(self.seed, y_m, x_m, season=self.season)
        shaded = self._shaded(ground, (y_m, x_m))
        inner = (slice(0, -_SHADOW_REACH), slice(0, -_SHADOW_REACH))
        variety = Variety.of(self.seed, window)
        sums = sum_corners(
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
        y_m, x_m = window_centres_m(grown)
        thickness = fractal_noise(y_m, x_m, scale_m=700, octaves=6, key=salt(self.seed, "clouds"))
        # The field is nearly Gaussian: clouds begin at its quantile for the wanted share.
        begin = _gaussian_quantile(1 - self.cloud_fraction)
        opacity = np.clip((thickness - begin) * 2.2 + 0.2, 0, 1)
        rows, columns = clear.shape[1:]
        above, towards_sun = opacity[:rows, :columns], opacity[45:, 25:]
        seen = clear * ((1 - above) * (1 - 0.6 * towards_sun))
        seen[library().first[Material.CLOUD]] += above
        return np.asarray(seen, np.float32)


def _gaussian_quantile(share: float) -> float:
    """Value below which this share of a standard normal field lies."""
    return float(ndtri(min(max(share, 1e-3), 1 - 1e-3)))
