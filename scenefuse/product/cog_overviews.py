"""Overviews of a COG whose image has odd sides.

A TIFF does not record where its overviews lie. GDAL and all other readers stretch each over the image: in an overview
of n rows, a pixel covers 1/n of the image's rows. The store's levels carry their own transform, and each pixel covers
exactly 2 x 2 pixels of the level below, the last one perhaps fewer. The two agree if a level's factor divides the
image's sides. If it does not, the store's level would appear up to a pixel too far north-west, more with each row and
column (0.87 of a pixel at the last of 2049 at 1/8), and out of step with the quality flags, whose overviews GDAL
makes. The COG's overviews are therefore averaged separately, weighted by overlap, as GDAL does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.place.place import Place
from scenefuse.product.shards import StoredCore, open_level
from scenefuse.product.spec import LevelCore, ProductSpec

_TAPS = 3
"""Pixels of the level below that one pixel can overlap, along each axis."""
_HALF = np.float32(0.5)


def core_of_cog(store: Path | Place, spec: ProductSpec, core: LevelCore) -> StoredCore | StretchedCore:
    """A core's pixels as the COG needs them; TransientError if one of their shards is missing."""
    if any(side % core.factor for side in spec.grid.fine_shape):
        return StretchedCore(store, spec, core)
    return StoredCore(store, spec, core)


class StretchedCore:
    """Reflectance of one core of an overview stretched over the image, made from the level below."""

    def __init__(self, store: Path | Place, spec: ProductSpec, core: LevelCore) -> None:
        """TransientError if the store is missing."""
        below, window = core.factor // 2, spec.core_window(core)
        rows, columns = spec.grid.fine_shape
        self._rows = _shares(rows, below, range(window.y0, window.y1))
        self._columns = _shares(columns, below, range(window.x0, window.x1))
        self._level = open_level(store, below)
        self._nodata = spec.nodata

    def read(self, bands: range) -> NDArray[np.int16]:
        """Integers (band, y, x) of neighbouring bands; TransientError if a shard is missing."""
        pixels = np.asarray(self._level[bands.start : bands.stop, self._rows.pixels, self._columns.pixels])
        result = np.empty((len(bands), self._rows.weights.shape[1], self._columns.weights.shape[1]), np.int16)
        all_shares = self._rows.weights.sum(axis=0)[:, None] * self._columns.weights.sum(axis=0)
        for band, values in enumerate(pixels):  # one band at a time stays in the CPU cache
            valid = values != self._nodata
            if valid.all():
                mean = self._sums(values) / all_shares
                result[band] = np.floor(mean + _HALF)
                continue
            shares = self._sums(valid)
            mean = self._sums(values * valid) / np.where(shares > 0, shares, 1)
            result[band] = np.where(shares > 0, np.floor(mean + _HALF), self._nodata)
        return result

    def _sums(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Sums of pixels (y, x), weighted by overlap, for each pixel of the overview."""
        return self._columns.sums(np.ascontiguousarray(self._rows.sums(values).T)).T


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """Overlaps of neighbouring overview pixels with the pixels of the level below, along one axis."""

    pixels: slice
    """The pixels of the level below that are needed."""
    first: NDArray[np.int64]
    """First pixel of that slice that each overview pixel overlaps, counted from the slice's start."""
    weights: NDArray[np.float32]
    """Overlap with that pixel and the two after it, 0 to 1, (3, overview pixel)."""

    def sums(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Weighted sums along the first axis, by strided slices: `first` advances by 2 but at a few places."""
        result = np.zeros((self.first.size, *values.shape[1:]), np.float32)
        ends = [*(np.flatnonzero(np.diff(self.first) != 2) + 1), self.first.size]
        for start, end in pairwise([0, *ends]):
            for tap, weights in enumerate(self.weights[:, start:end]):
                used = weights > 0
                if used.any():
                    chosen = start + np.flatnonzero(used)
                    run = slice(chosen[0], chosen[-1] + 1)
                    place = int(self.first[run.start]) + tap
                    pixels = values[place : place + 2 * (run.stop - run.start) - 1 : 2]
                    result[run] += self.weights[tap, run, None] * pixels
        return result


def _shares(side: int, below: int, wanted: range) -> _Shares:
    """Overlaps along an axis of `side` fine pixels; below: fine pixels per pixel of the level below.

    In units of 1 / n of a fine pixel, where n is the overview's number of pixels, all borders are integers.
    """
    count = -(-side // (2 * below))
    starts = np.arange(wanted.start, wanted.stop, dtype=np.int64) * side
    first = starts // (below * count)
    taps = first + np.arange(_TAPS)[:, None]
    lower = np.maximum(starts, taps * below * count)
    upper = np.minimum(starts + side, (taps + 1) * below * count)
    weights = (np.maximum(upper - lower, 0) / (below * count)).astype(np.float32)
    end = int(taps[weights > 0].max()) + 1
    return _Shares(pixels=slice(int(first[0]), end), first=first - first[0], weights=weights)
