"""Where to look: the window of a landscape that shows a bit of everything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window
from scenefuse.simulate.ground import map_ground
from scenefuse.simulate.library import Material
from scenefuse.simulate.mixture import FINE_M

_LOOK_PX = 8
"""Distance between the points examined, fine pixels."""
_WANTED = (
    ((Material.WATER,), 0.03),
    ((Material.BROADLEAF, Material.CONIFER), 0.2),
    ((Material.SOIL, Material.CROP, Material.STRAW, Material.BLOSSOM), 0.45),
    ((Material.TILE_ROOF, Material.METAL_ROOF, Material.DARK_ROOF, Material.CONCRETE, Material.ASPHALT), 0.04),
)
"""Shares of the ground beyond which more of the same adds nothing."""


def varied_window(seed: int, *, within: Window, side_px: int) -> Window:
    """The square window of side_px inside `within` with the most of what is wanted: water, wood, fields, houses.

    Score: sum over groups of min(share / wanted share, 1); among equals the first, row by row.
    """
    y_px = np.arange(within.y0, within.y1, _LOOK_PX)
    x_px = np.arange(within.x0, within.x1, _LOOK_PX)
    y_m, x_m = (np.asarray((px + 0.5) * FINE_M, np.float64) for px in (y_px, x_px))
    material = map_ground(seed, y_m, x_m, season=0.0).material
    points = -(-side_px // _LOOK_PX)
    score = sum(
        np.minimum(_box_means(np.isin(material, group), points) / np.float32(share), 1) for group, share in _WANTED
    )
    row, column = np.unravel_index(int(np.argmax(score)), np.shape(score))
    y0, x0 = int(y_px[row]), int(x_px[column])
    y0, x0 = min(y0, within.y1 - side_px), min(x0, within.x1 - side_px)
    return Window(y0=y0, y1=y0 + side_px, x0=x0, x1=x0 + side_px)


def _box_means(present: NDArray[np.bool_], points: int) -> NDArray[np.float64]:
    """Share of present points in each square of points x points, by its first row and column."""
    sums = np.pad(present.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    corners = sums[points:, points:] - sums[:-points, points:] - sums[points:, :-points] + sums[:-points, :-points]
    return np.asarray(corners / points**2)
