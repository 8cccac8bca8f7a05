"""Where tiles meet: a few windows across the seams of a tiling, in which to examine them. Pure geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window
from scenefuse.tiles.tiling import LEAST_WINDOW_PX, Tile, Tiling

SIDE_PX = 128
"""Side of a window's core, fine pixels, where the tiling's lattice and cores allow it."""
SEAM_PX = 8
"""Pixels on each side of a seam that count as being at it."""


def seam_tiles(tiling: Tiling, *, reach_px: int, count: int) -> tuple[Tile, ...]:
    """At most count tiles whose cores lie across seams; they are not the tiling's, and number n has iy = ix = n.

    Each is centred where four cores meet, on a seam if there is only one row or column of cores, or in the middle of
    the only core. They are spread evenly over the scene, and are no larger than the tiling's windows.
    reach_px: context around each, in addition to what lies between its edge and the seam in its middle.
    """
    lattice = tiling.lattice_px
    half = max(lattice, min(-(-SIDE_PX // 2), tiling.core_px // 2) // lattice * lattice)
    room = max(tiling.halo_px, tiling.window_px // 2 - half) // lattice * lattice
    reach = min(-(-max(reach_px, LEAST_WINDOW_PX // 2 - half, 0) // lattice) * lattice, room)
    places = [(y, x) for y in _crossings(tiling, 0) for x in _crossings(tiling, 1)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))
    tiles = []
    for number, index in enumerate(chosen):
        y, x = places[index]
        whole = Window(y0=y - half, y1=y + half, x0=x - half, x1=x + half)
        tiles.append(Tile(iy=number, ix=number, core=whole.clip(tiling.fine_shape), read=whole.grow(reach)))
    return tuple(tiles)


def at_seam(window: Window, core_px: int, fine_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """True where a pixel of the window, (y, x), lies within SEAM_PX of a seam between two cores of side core_px.

    The edges of the scene, whose shape is fine_shape, are not seams.
    """
    rows, columns = (
        _near_seam(np.arange(start, stop), core_px, size)
        for start, stop, size in zip((window.y0, window.x0), (window.y1, window.x1), fine_shape, strict=True)
    )
    near: NDArray[np.bool_] = rows[:, None] | columns[None, :]
    return near


def _crossings(tiling: Tiling, axis: int) -> list[int]:
    """First pixels after the seams along an axis; if there are none, the middle of the scene, on the lattice."""
    count, size, lattice = tiling.counts[axis], tiling.fine_shape[axis], tiling.lattice_px
    return [number * tiling.core_px for number in range(1, count)] or [size // 2 // lattice * lattice]


def _near_seam(index: NDArray[np.intp], core_px: int, size: int) -> NDArray[np.bool_]:
    """True within SEAM_PX of a multiple of core_px that lies inside an axis of that size."""
    nearest = (index + SEAM_PX) // core_px * core_px
    near: NDArray[np.bool_] = (nearest > 0) & (nearest < size) & (index - nearest < SEAM_PX)
    return near
