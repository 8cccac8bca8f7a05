"""Random fields, available in any window: a pixel's value depends only on its coordinates and the seed.

Everything is elementwise arithmetic on absolute coordinates, so overlapping windows agree bitwise.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.float32]

_SPLINE_STD = 0.5 / np.sqrt(3) * 151 / 315
"""Standard deviation of a plane of uniform numbers in [-0.5, 0.5) under the cubic B-spline in both directions."""


def salt(seed: int, name: str) -> int:
    """A 32-bit integer that differs by seed and by name of the field."""
    return crc32(f"{seed}/{name}".encode())


def hash_numbers(key: int, *numbers: ArrayLike) -> NDArray[np.uint32]:
    """32 random but reproducible bits for each tuple of integers (broadcast), by Murmur3's mixing steps."""
    h = np.array([key], np.uint32)
    for number in numbers:
        h = _mix(h * np.uint32(31) ^ np.asarray(number).astype(np.int64).astype(np.uint32) * np.uint32(0x9E3779B1))
    return h


def unit(bits: NDArray[np.uint32], draw: int = 0) -> Field:
    """Uniform numbers in [0, 1), float32, from random bits; each draw gives different numbers from the same bits."""
    if draw:
        bits = _mix(bits ^ np.uint32(draw * 0x632BE5AB & 0xFFFFFFFF))
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def smooth_noise(y_m: NDArray[np.float64], x_m: NDArray[np.float64], *, scale_m: float, key: int) -> Field:
    """A smooth field on the grid of y_m by x_m, float32, mean 0, standard deviation 1, features of scale_m.

    Cubic B-spline through random numbers on a lattice of scale_m.
    """
    rows, row_weights = _spline_taps(y_m, scale_m)
    columns, column_weights = _spline_taps(x_m, scale_m)
    row0, column0 = rows.min(), columns.min()
    lattice = unit(
        hash_numbers(
            key,
            np.arange(row0, rows.max() + 4)[:, np.newaxis],
            np.arange(column0, columns.max() + 4)[np.newaxis],
        )
    )
    lattice = (lattice - np.float32(0.5)) / np.float32(_SPLINE_STD)
    lines = sum(row_weights[:, tap, np.newaxis] * lattice[rows - row0 + tap] for tap in range(4))
    field = sum(column_weights[:, tap] * np.take(lines, columns - column0 + tap, axis=1) for tap in range(4))
    return np.asarray(field, np.float32)


def fractal_noise(
    y_m: NDArray[np.float64], x_m: NDArray[np.float64], *, scale_m: float, octaves: int, key: int
) -> Field:
    """Sum of smooth fields of scale_m, scale_m / 2, ... each half as strong; mean 0, standard deviation 1."""
    total = np.zeros((len(y_m), len(x_m)), np.float32)
    for octave in range(octaves):
        # 1.93 instead of 2 keeps the lattices of the octaves from lining up.
        layer = smooth_noise(y_m, x_m, scale_m=scale_m / 1.93**octave, key=key + octave)
        total += np.float32(0.5**octave) * layer
    return total / np.float32(np.sqrt(sum(0.25**octave for octave in range(octaves))))


def noise_at(y_m: Field, x_m: Field, *, key: int) -> Field:
    """A smooth field at arbitrary points, in units of its own feature size; mean 0, deviation about 1.

    Bilinear between random numbers at integers, with smoothed weights.
    """
    row, column = np.floor(y_m), np.floor(x_m)
    fy, fx = y_m - row, x_m - column
    fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
    corners = [
        unit(hash_numbers(key, row + dy, column + dx)) - np.float32(0.5) for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    top = corners[0] + fx * (corners[1] - corners[0])
    bottom = corners[2] + fx * (corners[3] - corners[2])
    return np.asarray((top + fy * (bottom - top)) * np.float32(4.6), np.float32)


def _mix(h: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The bits, avalanched: Murmur3's finaliser."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def _spline_taps(at_m: NDArray[np.float64], scale_m: float) -> tuple[NDArray[np.int64], Field]:
    """First lattice index under each coordinate, and its four cubic B-spline weights, (n, 4)."""
    t = at_m / scale_m
    first = np.floor(t).astype(np.int64)
    f = t - first
    weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1) / 6
    return first, weights.astype(np.float32)
