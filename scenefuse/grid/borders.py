"""What lies outside a scene: its mirror image, by half-sample symmetry.

This is a rule of the scene, never of the tile: pixel -1 is pixel 0, pixel n is pixel n - 1. A coarse pixel and the fine
pixels that it covers mirror onto each other, so the two grids of a pair stay aligned outside as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window

Pixel = TypeVar("Pixel", bound=np.generic)


def mirror_indices(start: int, stop: int, n: int) -> NDArray[np.intp]:
    """Indices in [0, n) that stand for [start, stop) of a line of n pixels extended by its mirror images.

    Any start and stop work, even if n is smaller than the reach.

    >>> mirror_indices(-2, 5, 3).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    return mirrored(np.arange(start, stop, dtype=np.intp), n)


def mirrored(index: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Indices in [0, n) that stand for the given ones, of any shape, of a line of n pixels mirrored at its ends.

    m = i mod 2n; min(m, 2n - 1 - m).
    """
    if n < 1:
        raise ValueError(f"A line has at least one pixel, got {n}")
    folded = index % (2 * n)
    return np.minimum(folded, 2 * n - 1 - folded)


def read_mirrored(read: Callable[[Window], NDArray[Pixel]], window: Window, shape: tuple[int, int]) -> NDArray[Pixel]:
    """The window of the scene extended by its mirror images: (band, y, x), or (y, x) if read returns that.

    read is called once, with the smallest window inside the scene that holds every pixel needed. shape: rows and
    columns of the scene, (y, x).
    """
    rows = _mirror_runs(window.y0, window.y1, shape[0])
    columns = _mirror_runs(window.x0, window.x1, shape[1])
    inside = Window(
        y0=min(run.source.start for run in rows),
        y1=max(run.source.stop for run in rows),
        x0=min(run.source.start for run in columns),
        x1=max(run.source.stop for run in columns),
    )
    pixels = read(inside)
    if inside == window:
        return pixels
    extended = np.empty((*pixels.shape[:-2], *window.shape), pixels.dtype)
    for row in rows:
        for column in columns:
            extended[..., row.target, column.target] = pixels[..., row.within(inside.y0), column.within(inside.x0)]
    return extended


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive pixels of an extended line that stand for consecutive pixels of the line itself."""

    target: slice
    """Where they are in the window."""
    source: slice
    """Which pixels of the line they stand for."""
    backwards: bool
    """True in a mirror image."""

    def within(self, start: int) -> slice:
        """The source, counted from start, in the order of the target."""
        first, stop = self.source.start - start, self.source.stop - start
        return slice(stop - 1, first - 1 if first else None, -1) if self.backwards else slice(first, stop)


def _mirror_runs(start: int, stop: int, n: int) -> list[_Run]:
    """mirror_indices(start, stop, n) as slices, which copy several times as fast as indices."""
    if n < 1:
        raise ValueError(f"A line has at least one pixel, got {n}")
    runs = []
    for image in range(start // n, -(-stop // n)):
        first, last = max(start, image * n), min(stop, (image + 1) * n)
        backwards = bool(image % 2)
        source = (
            slice((image + 1) * n - last, (image + 1) * n - first)
            if backwards
            else slice(first - image * n, last - image * n)
        )
        runs.append(_Run(slice(first - start, last - start), source, backwards))
    return runs
