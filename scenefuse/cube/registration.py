"""How far the MSI lies from the HSI: one sub-pixel shift per scene, from a fixed sample of windows.

Phase correlation between the MSI degraded to the coarse pixel and the HSI seen through the MSI's response.
Cross-spectra are averaged over windows and bands and divided by the averaged power (the smoothed coherence
transform: Carter, Nuttall and Cable 1973, doi 10.1109/PROC.1973.9300), so that each frequency counts by how well
the two agree in it. The coarse images are aliased, which biases the peak unless both are sampled alike; the MSI is
therefore degraded again, with its Gaussian centred on the shift found so far, for a fixed number of iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot, pi, sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.resample import TRUNCATE_SIGMAS
from scenefuse.grid.window import Window
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST

MAX_SHIFT_COARSE = 2.0
"""Coarse pixels beyond which a shift is refused as a wrong georeference."""
MIN_SHIFT_PX = 0.1
"""Fine pixels below which a shift is not worth compensating."""
MIN_PEAK = 0.3
"""Mean coherence below which the two images do not show the same ground well enough to be compared."""

_SIDE = (16, 48)
"""Smallest and largest side of a sample window, coarse pixels."""
_WINDOWS_PER_SIDE = 4
_ITERATIONS = 6
_MAX_MISSING = 0.3

Array = NDArray[np.floating]


class Pair(Protocol):
    """What estimate_shift needs of a PairCube."""

    @property
    def grid(self) -> PairGrid:
        """The two aligned grids."""
        ...

    def read_hs(self, window: Window) -> NDArray[np.float32]:
        """(hs band, y, x) reflectance of a coarse window."""
        ...

    def read_ms(self, window: Window) -> NDArray[np.float32]:
        """(ms band, y, x) reflectance of a fine window."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How far the MSI's content lies down and right of the HSI's."""

    dy_px: float
    """Rows, fine pixels; positive: down."""
    dx_px: float
    """Columns, fine pixels; positive: right."""
    peak: float
    """Mean coherence at the shift, 0 to 1; 0 when it could not be estimated."""
    significant: bool
    """True when the shift is certain enough, and large enough, to be compensated."""
    spread: float
    """Standard deviation between windows, fine pixels (from the median absolute deviation)."""
    windows: int
    """Number of windows compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """One window on both grids."""

    place: tuple[int, int]
    """Its first row and column on the coarse grid."""
    hs_seen: Array
    """(ms band, side, side) the HSI seen through the MSI's response, standardised."""
    ms: Array
    """(ms band, (side + 2 margin) * ratio, ...) the MSI around it."""


def estimate_shift(cube: Pair, response: NDArray[np.floating]) -> Shift:
    """The shift between the images of a pair; DataError when it is beyond MAX_SHIFT_COARSE.

    response: (ms band, hs band) weights of the HSI's bands in each MSI band; MSI bands that the HSI does not
    cover have a row of zeros and are left out. Deterministic; holds a few windows in memory, never a whole scene.
    """
    ratio = cube.grid.ratio
    sigma_px = psf_sigma_px(DEFAULT_MTF_NYQUIST, ratio)  # symmetric: a wrong width does not move the peak
    margin = ceil(MAX_SHIFT_COARSE + TRUNCATE_SIGMAS * sigma_px / ratio) + 1
    samples = _samples(cube, np.asarray(response, np.float64), margin)
    if not samples:
        return Shift(dy_px=0.0, dx_px=0.0, peak=0.0, significant=False, spread=0.0, windows=0)
    side = samples[0].hs_seen.shape[-1]
    found = np.zeros(2)
    for step in range(_ITERATIONS):
        spectra = [_cross_spectra(sample, found, ratio=ratio, sigma_px=sigma_px, margin=margin) for sample in samples]
        cross, power_hs, power_ms = (sum(parts) for parts in zip(*spectra, strict=True))
        coherence = _coherence(cross, power_hs, power_ms)
        rest, peak = _peak(coherence, side, reach=side / 4 if step == 0 else 0.5)
        if np.abs(rest * ratio + found).max() > MAX_SHIFT_COARSE * ratio:
            if peak < MIN_PEAK:
                return Shift(dy_px=0.0, dx_px=0.0, peak=peak, significant=False, spread=0.0, windows=len(samples))
            raise _too_far(rest * ratio + found, peak, ratio)
        found = found + rest * ratio
    single = [found + ratio * _peak(_coherence(*parts), side, reach=0.5)[0] for parts in spectra]
    spread = 1.4826 * float(np.median(np.abs(np.array(single) - np.median(single, axis=0)), axis=0).max())
    dy_px, dx_px = (round(float(value), 3) for value in found)
    error = spread * _error_of_mean([sample.place for sample in samples], side)
    certain = hypot(dy_px, dx_px) > max(MIN_SHIFT_PX, 3.0 * error)
    return Shift(
        dy_px=dy_px,
        dx_px=dx_px,
        peak=round(peak, 4),
        significant=bool(certain and peak >= MIN_PEAK),
        spread=round(spread, 3),
        windows=len(samples),
    )


def _too_far(shift_px: Array, peak: float, ratio: int) -> DataError:
    """The error for a pair whose georeferences do not match."""
    return DataError(
        f"The MSI lies {shift_px[0]:+.1f} rows and {shift_px[1]:+.1f} columns (fine pixels) from the HSI, "
        f"coherence {peak:.2f}",
        f"more than {MAX_SHIFT_COARSE:g} coarse pixels ({MAX_SHIFT_COARSE * ratio:g} fine) means a wrong georeference",
        "correct the georeference of one of the two (coregistration with ground control), then fuse again",
    )


def _samples(cube: Pair, response: Array, margin: int) -> list[_Sample]:
    """Windows spread over the scene in which both images hold enough data."""
    rows, columns = cube.grid.coarse_shape
    room = min(rows, columns) - 2 * margin
    side = min(_SIDE[1], max(_SIDE[0], int(0.6 * room)))
    if room < side:
        return []
    covered = np.flatnonzero(response.sum(axis=1) > 0)
    used = np.flatnonzero(response[covered].any(axis=0))
    weights = response[np.ix_(covered, used)] / response[covered].sum(axis=1, keepdims=True)
    starts = [
        sorted({round(float(start)) for start in np.linspace(margin, size - margin - side, _WINDOWS_PER_SIDE)})
        for size in (rows, columns)
    ]
    samples = []
    for y0 in starts[0]:
        for x0 in starts[1]:
            window = Window(y0=y0, y1=y0 + side, x0=x0, x1=x0 + side)
            hs = cube.read_hs(window)[used].astype(np.float64)
            ms = cube.read_ms(window.grow(margin).refine(cube.grid.ratio))[covered].astype(np.float64)
            missing = _hide_missing(hs, ms, margin=margin, ratio=cube.grid.ratio)
            if len(covered) and missing <= _MAX_MISSING:
                seen = np.einsum("mh,hyx->myx", weights, _filled(hs))
                samples.append(_Sample(place=(y0, x0), hs_seen=_standardised(seen), ms=_filled(ms)))
    return samples


def _hide_missing(hs: Array, ms: Array, *, margin: int, ratio: int) -> float:
    """Set to no data in both images what lacks data in either; returns its share of the coarse pixels of hs.

    A cloud masked in one image must not show in the other: a feature of one image alone biases the shift.
    hs: (hs band, side, side). ms: (ms band, (side + 2 margin) * ratio, ...), the same ground with a margin around it.
    """
    side, inner = hs.shape[-1], slice(margin * ratio, ms.shape[-1] - margin * ratio)
    without = np.asarray(np.isnan(ms).any(axis=0))
    blocks = without[inner, inner].reshape(side, ratio, side, ratio).any(axis=(1, 3))
    missing = np.isnan(hs).any(axis=0) | blocks
    without[inner, inner] |= missing.repeat(ratio, axis=0).repeat(ratio, axis=1)
    hs[:, missing] = np.nan
    ms[:, without] = np.nan
    return float(missing.mean())


def _error_of_mean(places: list[tuple[int, int]], side: int) -> float:
    """Standard error of the mean over windows / standard deviation between them.

    Overlapping windows repeat each other: with mean correlation c (their mean overlap), the mean of n has the
    variance s^2 (1 + (n - 1) c) / n, but the variance between them is only s^2 (1 - c).
    """
    n = len(places)
    if n == 1:
        return 1.0
    corners = np.array(places, np.float64)
    apart = np.abs(corners[:, np.newaxis] - corners)  # (n, n, 2)
    overlap = np.maximum(1.0 - apart / side, 0.0).prod(axis=2)
    c = min(0.95, float(overlap.sum() - n) / (n * (n - 1)))
    return sqrt((1.0 + (n - 1) * c) / (n * (1.0 - c)))


def _filled(bands: Array) -> Array:
    """The bands with no-data replaced by their mean."""
    means = np.nanmean(bands, axis=(1, 2), keepdims=True)
    return np.where(np.isnan(bands), means, bands)


def _standardised(bands: Array) -> Array:
    """The bands with mean 0, standard deviation 1 and a Hann taper; a constant band becomes 0."""
    centred = bands - bands.mean(axis=(1, 2), keepdims=True)
    deviation = centred.std(axis=(1, 2), keepdims=True)
    side = bands.shape[-1]
    taper = np.sin(pi * (np.arange(side) + 0.5) / side) ** 2
    standardised: Array = centred / np.where(deviation > 0, deviation, 1.0) * taper[:, np.newaxis] * taper
    return standardised


def _cross_spectra(
    sample: _Sample, shift_px: Array, *, ratio: int, sigma_px: float, margin: int
) -> tuple[NDArray[np.complex128], Array, Array]:
    """Cross-spectrum and the two powers, summed over bands, with the MSI sampled at shift_px fine pixels."""
    side = sample.hs_seen.shape[-1]
    down, right = (_sampling(side, float(d), ratio=ratio, sigma_px=sigma_px, margin=margin) for d in shift_px)
    coarse = _standardised(down @ sample.ms @ right.T)
    hs, ms = np.fft.fft2(sample.hs_seen), np.fft.fft2(coarse)
    return (
        (np.conj(hs) * ms).sum(axis=0),
        (np.abs(hs) ** 2).sum(axis=0),
        (np.abs(ms) ** 2).sum(axis=0),
    )


def _sampling(side: int, shift_px: float, *, ratio: int, sigma_px: float, margin: int) -> Array:
    """(side, (side + 2 margin) * ratio) Gaussian weights of the fine lines in each coarse line, moved by shift_px."""
    centres = (np.arange(side) + margin + 0.5) * ratio + shift_px
    lines = np.arange((side + 2 * margin) * ratio) + 0.5
    distance = (lines - centres[:, np.newaxis]) / sigma_px
    weights = np.where(np.abs(distance) <= TRUNCATE_SIGMAS, np.exp(-0.5 * distance**2), 0.0)
    normalised: Array = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def _coherence(cross: NDArray[np.complex128], power_hs: Array, power_ms: Array) -> NDArray[np.complex128]:
    """Coherence per frequency, modulus 0 to 1; the zero frequency, which holds no shift, is set to 0."""
    scale = np.sqrt(power_hs * power_ms)
    coherence = np.where(scale > 0, cross / np.where(scale > 0, scale, 1.0), 0.0)
    coherence[0, 0] = 0.0
    return coherence


def _peak(coherence: NDArray[np.complex128], side: int, *, reach: float) -> tuple[Array, float]:
    """Shift (y, x) in coarse pixels, within reach, at which the coherence is most in phase, and its mean there.

    Maximises g(d) = mean over f of Re(coherence(f) exp(2 pi i f.d)) on ever finer grids around the maximum.
    """
    frequency = np.fft.fftfreq(side)
    centre, half, value = np.zeros(2), reach, 0.0
    while half > 1e-4:
        count = max(5, 2 * ceil(2 * half) + 1)
        net = np.linspace(-half, half, count)
        rows, columns = (np.exp(2j * pi * np.outer(middle + net, frequency)) for middle in centre)
        surface = (rows @ coherence @ columns.T).real / (side * side - 1)
        best = np.unravel_index(int(surface.argmax()), surface.shape)
        value = float(surface[best])
        centre = centre + np.array([net[best[0]], net[best[1]]])
        half = min(half / 2, net[1] - net[0])
    return centre, max(0.0, value)
