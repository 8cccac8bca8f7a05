"""What a few windows of an image show of its bands: which of them hold data, and whether it can be reflectance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.window import Window

SAMPLE_PX = 32
"""Side of the sample windows, pixels."""
SAMPLES_PER_SIDE = 3
"""Rows and columns of those windows, spread over the scene."""
NOT_RETRIEVED = -0.01
"""Reflectance in all pixels of a band for which ISOFIT retrieves none: EMIT's and AVIRIS-3's water-vapour bands
(isofit's pull request 696). Their files flag such bands, exports often do not; a negative constant measures nothing."""
GREATEST = 10.0
"""No reflectance, glint included, is beyond this; stored integers, radiance and a no-data value of -9999 are."""
LEAST_SHARE = 0.01
"""Share of a band's values that noise may put beyond it."""
ENOUGH_PX = 500
"""Pixels of each band after which no more windows are read: of a few, at a swath's corner, one bad pixel is too much a
share."""
_SAME = 1e-6
"""Difference from NOT_RETRIEVED that rounding explains."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledBands:
    """What the sample windows show of each band."""

    held: NDArray[np.bool_]
    """(band,) True for bands with a pixel of data."""
    measured: NDArray[np.bool_]
    """(band,) True for bands with a pixel of data that is not NOT_RETRIEVED."""
    beyond: NDArray[np.bool_]
    """(band,) True for bands with more than LEAST_SHARE of their values beyond GREATEST."""
    mostly_beyond: NDArray[np.bool_]
    """(band,) True for bands with more than half of their values beyond GREATEST: neither noise nor a no-data value."""


def sample_bands(read: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int]) -> SampledBands:
    """What sample windows of a scene show; if they hold no data in any band, what the whole scene shows.

    read gives (band, y, x) reflectance, NaN = no data. Reading stops once every band has shown ENOUGH_PX measurements.
    """
    sampled = _look(map(read, _spread(shape)))
    return sampled if sampled.held.any() else _look(map(read, _strips(shape)))


def _look(windows: Iterator[NDArray[np.float32]]) -> SampledBands:
    counts: NDArray[np.intp] = np.zeros(0, np.intp)
    for pixels in windows:
        data = np.isfinite(pixels)
        retrieved = data & (np.abs(pixels - NOT_RETRIEVED) > _SAME)
        seen = np.array([part.sum(axis=(1, 2)) for part in (data, retrieved, np.abs(pixels) > GREATEST)])
        counts = counts + seen if counts.size else seen
        if counts[1].min() >= ENOUGH_PX:
            break
    held, measured, beyond = counts
    return SampledBands(
        held=held > 0, measured=measured > 0, beyond=beyond > LEAST_SHARE * held, mostly_beyond=2 * beyond > held
    )


def _spread(shape: tuple[int, int]) -> Sequence[Window]:
    """A few small windows spread over a scene, borders included."""
    starts = [
        sorted({int(start) for start in np.linspace(0, max(0, side - SAMPLE_PX), SAMPLES_PER_SIDE)}) for side in shape
    ]
    return [
        Window(y0=y0, y1=y0 + SAMPLE_PX, x0=x0, x1=x0 + SAMPLE_PX).clip(shape) for y0 in starts[0] for x0 in starts[1]
    ]


def _strips(shape: tuple[int, int]) -> Sequence[Window]:
    """Strips that cover a scene."""
    rows = max(1, 2**18 // shape[1])
    return [Window(y0=y0, y1=min(y0 + rows, shape[0]), x0=0, x1=shape[1]) for y0 in range(0, shape[0], rows)]
