"""Resampling of a native raster onto a pair's frame, exactly once, where their pixels do not coincide.

As in resample.py, a pixel's value is a fixed sequence of float32 products and sums over the native pixels under its
kernel, whose weights come from absolute coordinates: it never depends on the window.

No data: a target pixel is no data if the native pixel that holds its centre is, or if that centre lies outside the
raster; a neighbour without data takes that pixel's value. Outside its border a raster continues as its mirror image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.borders import mirrored
from scenefuse.grid.placement import AxisMap, PointMap
from scenefuse.grid.resample import keys_cubic
from scenefuse.grid.window import Window

Array = NDArray[np.float32]
Read = Callable[[Window], Array]
"""Reads a window that lies inside the raster: (band, y, x) float32, NaN = no data."""


def warp_axes(read: Read, shape: tuple[int, int], placement: AxisMap, window: Window) -> Array:
    """The frame's window resampled from the raster along rows and columns, (band, y, x) float32.

    Cubic convolution where the frame is the finer grid; where the raster is, the kernel is widened to the
    target pixel (area-aware). shape: rows and columns of the raster.
    """
    rows = _axis_taps(window.y0, window.y1, placement.origin[0], placement.scale[0], shape[0])
    columns = _axis_taps(window.x0, window.x1, placement.origin[1], placement.scale[1], shape[1])
    inside = Window(y0=rows.start, y1=rows.stop, x0=columns.start, x1=columns.stop)
    native = read(inside)
    holes = bool(np.isnan(native).any())
    weighed = _weigh_rows(native, rows, holes=holes).swapaxes(1, 2)
    return np.ascontiguousarray(_weigh_rows(weighed, columns, holes=holes).swapaxes(1, 2))


def warp_points(read: Read, shape: tuple[int, int], placement: PointMap, window: Window) -> Array | None:
    """The frame's window resampled from the raster by cubic convolution, (band, y, x) float32.

    None when the whole window lies outside the raster. shape: rows and columns of the raster.
    """
    frame_y, frame_x = np.meshgrid(
        np.arange(window.y0, window.y1) + 0.5, np.arange(window.x0, window.x1) + 0.5, indexing="ij"
    )
    y, x = placement.native(frame_y, frame_x)
    covered = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])  # False for infinity, too
    if not covered.any():
        return None
    y, x = np.where(covered, y, y[covered][0]), np.where(covered, x, x[covered][0])
    rows, row_weights = _point_taps(y, shape[0])
    columns, column_weights = _point_taps(x, shape[1])
    own_y, own_x = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    inside = Window(y0=int(rows.min()), y1=int(rows.max()) + 1, x0=int(columns.min()), x1=int(columns.max()) + 1)
    native = read(inside)
    holes = bool(np.isnan(native).any())
    own = native[:, own_y - inside.y0, own_x - inside.x0]
    result = np.zeros_like(own)
    for row, row_weight in zip(rows, row_weights, strict=True):
        line = np.zeros_like(own)
        for column, column_weight in zip(columns, column_weights, strict=True):
            tap = native[:, row - inside.y0, column - inside.x0]
            if holes:
                tap = np.where(np.isnan(tap), own, tap)
            line += tap * column_weight
        result += line * row_weight
    result[:, ~covered] = np.nan
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _AxisTaps:
    """The native lines and weights that make up a run of target lines."""

    start: int
    """First native line needed."""
    stop: int
    """Native line after the last needed."""
    own: NDArray[np.intp]
    """(targets,) native line that holds the target's centre, counted from start."""
    lines: NDArray[np.intp]
    """(taps, targets) native lines, counted from start."""
    weights: Array
    """(taps, targets) weights; a target's sum to 1."""
    covered: NDArray[np.bool_]
    """(targets,) False if the target's centre lies outside the raster."""


def _axis_taps(first: int, stop: int, origin: float, scale: float, n: int) -> _AxisTaps:
    """The taps of target lines [first, stop): centre = origin + scale * (target + 0.5) in native lines."""
    centre = origin + scale * (np.arange(first, stop) + 0.5)
    covered = (centre >= 0) & (centre < n)
    own = np.clip(np.floor(centre), 0, n - 1).astype(np.intp)
    width = max(1.0, scale)
    reach = ceil(2 * width)
    offsets = np.arange(-reach, reach + 1)[:, np.newaxis]
    weights = keys_cubic((own + offsets + 0.5 - centre) / width)
    total = weights.sum(axis=0)
    weights = np.where(covered, weights / np.where(covered, total, 1.0), 0.0)
    lines = mirrored(own + offsets, n)
    start, end = int(lines.min()), int(lines.max()) + 1
    return _AxisTaps(
        start=start, stop=end, own=own - start, lines=lines - start, weights=weights.astype(np.float32), covered=covered
    )


def _weigh_rows(native: Array, taps: _AxisTaps, *, holes: bool) -> Array:
    """(band, native y, x) to (band, target y, x)."""
    result = np.zeros((native.shape[0], len(taps.own), native.shape[2]), np.float32)
    own = native[:, taps.own] if holes else None
    for line, weight in zip(taps.lines, taps.weights, strict=True):
        tap = native[:, line]
        if own is not None:
            tap = np.where(np.isnan(tap), own, tap)
        result += tap * weight[:, np.newaxis]
    result[:, ~taps.covered] = np.nan
    return result


def _point_taps(centre: NDArray[np.float64], n: int) -> tuple[NDArray[np.intp], Array]:
    """The four native lines around each centre and their cubic weights, (4, y, x) each."""
    lines = np.floor(centre - 0.5) + np.arange(-1, 3)[:, np.newaxis, np.newaxis]
    weights = keys_cubic(lines + 0.5 - centre)
    return mirrored(lines.astype(np.intp), n), weights.astype(np.float32)
