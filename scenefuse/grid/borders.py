"""What lies outside a scene: its mirror image, by half-sample symmetry.

A rule of the scene, never of the tile: pixel -1 is pixel 0, pixel n is pixel n - 1. A coarse pixel and the
fine pixels that it covers mirror onto each other, so the two grids of a pair stay aligned outside as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window

Pixel = TypeVar("Pixel", bound=np.generic)


def mirror_indices(start: int, stop: int, n: int) -> NDArray[np.intp]:
    """Indices in [0, n) that stand for [start, stop) of a line of n pixels extended by its mirror images.

    m = i mod 2n; index = min(m, 2n - 1 - m). Any start and stop work, also n smaller than the reach.

    >>> mirror_indices(-2, 5, 3).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    if n < 1:
        raise ValueError(f"A line has at least one pixel, got {n}")
    folded = np.arange(start, stop, dtype=np.intp) % (2 * n)
    return np.minimum(folded, 2 * n - 1 - folded)


def read_mirrored(read: Callable[[Window], NDArray[Pixel]], window: Window, shape: tuple[int, int]) -> NDArray[Pixel]:
    """The window of the scene extended by its mirror images: (band, y, x), or (y, x) if read gives that.

    read is called once, with the smallest window inside the scene that holds every pixel needed.
    shape: rows and columns of the scene, (y, x).
    """
    rows = mirror_indices(window.y0, window.y1, shape[0])
    columns = mirror_indices(window.x0, window.x1, shape[1])
    inside = Window(y0=int(rows.min()), y1=int(rows.max()) + 1, x0=int(columns.min()), x1=int(columns.max()) + 1)
    pixels = read(inside)
    if inside == window:
        return pixels
    return np.ascontiguousarray(pixels[..., rows[:, np.newaxis] - inside.y0, columns - inside.x0])
