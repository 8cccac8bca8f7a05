"""Reduce fine pixels to those of a picture, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window


def picture_shape(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    """Rows and columns of a picture in which each pixel covers factor x factor fine pixels."""
    rows, columns = shape
    return -(-rows // factor), -(-columns // factor)


def thinned(
    values: NDArray[Any], window: Window, factor: int, gather: np.ufunc
) -> tuple[tuple[slice, slice], NDArray[Any]]:
    """Reduce the fine pixels (y, x) of a window block by block with gather; also return the place in the picture.

    A block that reaches beyond the window is reduced over its pixels inside, so windows that share a block must be
    combined with gather as well.
    """
    down, across = _starts(window.y0, window.y1, factor), _starts(window.x0, window.x1, factor)
    part = gather.reduceat(gather.reduceat(values, down, axis=0), across, axis=1)
    y, x = window.y0 // factor, window.x0 // factor
    return (slice(y, y + part.shape[0]), slice(x, x + part.shape[1])), part


def _starts(start: int, stop: int, factor: int) -> NDArray[np.intp]:
    """Offsets from start at which the pixels of [start, stop) enter a new block of factor pixels."""
    edges = np.arange(start // factor * factor, stop, factor, dtype=np.intp) - start
    return np.maximum(edges, 0)
