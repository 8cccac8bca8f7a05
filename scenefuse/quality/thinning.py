"""From fine pixels to those of a picture, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window


def picture_shape(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    """Rows and columns of a picture of which each pixel covers factor x factor fine pixels."""
    rows, columns = shape
    return -(-rows // factor), -(-columns // factor)


def thinned(
    values: NDArray[Any], window: Window, factor: int, gather: np.ufunc
) -> tuple[tuple[slice, slice], NDArray[Any]]:
    """What gather makes of the fine pixels (y, x) of a window, block by block; and where in the picture that belongs.

    Blocks that reach out of the window are what there is of them in it: windows that share one have to be put together
    by gather, too.
    """
    down, across = _starts(window.y0, window.y1, factor), _starts(window.x0, window.x1, factor)
    part = gather.reduceat(gather.reduceat(values, down, axis=0), across, axis=1)
    y, x = window.y0 // factor, window.x0 // factor
    return (slice(y, y + part.shape[0]), slice(x, x + part.shape[1])), part


def _starts(start: int, stop: int, factor: int) -> NDArray[np.intp]:
    """Where, counted from start, the pixels of [start, stop) pass from one multiple of factor to the next."""
    edges = np.arange(start // factor * factor, stop, factor, dtype=np.intp) - start
    return np.maximum(edges, 0)
