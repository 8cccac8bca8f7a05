"""Transform: where a raster's pixels lie on the ground, as the six numbers of an affine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Transform = tuple[float, float, float, float, float, float]
"""Affine (a, b, c, d, e, f) from (column, row) to CRS units: x = a*column + b*row + c, y = d*column + e*row + f.

Columns and rows are continuous: 0 at the outer edge of the first pixel, 0.5 at its centre.
"""


def to_ground(
    transform: Transform, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CRS coordinates (x, y) of pixel coordinates, in the same shape."""
    a, b, c, d, e, f = transform
    return a * columns + b * rows + c, d * columns + e * rows + f


def coarsened(transform: Transform, factor: int) -> Transform:
    """The affine of pixels factor times as wide and as high, from the same corner."""
    a, b, c, d, e, f = transform
    return a * factor, b * factor, c, d * factor, e * factor, f


def refined(transform: Transform, factor: int) -> Transform:
    """The affine of pixels 1 / factor times as wide and as high, from the same corner."""
    a, b, c, d, e, f = transform
    return a / factor, b / factor, c, d / factor, e / factor, f


def moved(transform: Transform, row: float, column: float) -> Transform:
    """The affine whose pixel (0, 0) is this one's (row, column).

    >>> moved((10.0, 0.0, 500.0, 0.0, -10.0, 900.0), 2, 3)
    (10.0, 0.0, 530.0, 0.0, -10.0, 880.0)
    """
    a, b, c, d, e, f = transform
    return a, b, a * column + b * row + c, d, e, d * column + e * row + f
