"""Instruments that look at a landscape: which bands, how blurred, how noisy, how encoded.

What their metadata state and what they are differ a little, as in orbit: Sentinel-2's real responses have flat
tops, where its metadata give a centre and a width; noise grows with the signal; some bands are useless.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from scenefuse.sensors.band import Band
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import find_sensor
from scenefuse.simulate.landscape import APERTURE_SIGMA_PX
from scenefuse.simulate.library import library
from scenefuse.simulate.materials import WAVELENGTH_NM

VAPOUR_NM = ((1360.0, 1440.0), (1800.0, 1930.0))
"""Where water vapour leaves no light: an EnMAP-like image has no bands there."""
BAD_NM = ((1340.0, 1360.0), (1930.0, 1952.0))
"""Edges of the water-vapour absorption: bands here are delivered but flagged as bad, and are mostly noise."""
REFERENCE_REFLECTANCE = 0.3
"""Reflectance at which signal-to-noise ratios are stated."""
SHOT_SHARE = 0.7
"""Share of the noise's variance at the reference that grows with the signal."""

_FINE_SIGMA_PX = float(np.sqrt(APERTURE_SIGMA_PX**2 + 1 / 12))
"""Blur of the fine grid itself, fine pixels: its aperture and its square pixel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instrument:
    """One instrument over the landscape, whose bands share one pixel size."""

    bands: tuple[Band, ...]
    """Bands in file order, as metadata state them."""
    spectra: NDArray[np.float32]
    """(band, corner) reflectance of library()'s corners seen through the bands' true responses."""
    ratio: int
    """Pixel size in fine pixels."""
    sigma_px: float
    """Gaussian blur from the fine grid to this one's pixels, fine pixels; 0 on the fine grid itself."""
    snr: NDArray[np.float32]
    """(band,) signal-to-noise ratio at REFERENCE_REFLECTANCE; infinite for a truth."""
    bad: tuple[bool, ...]
    """Bands that metadata flag as bad."""
    dtype: str
    """NumPy's name of the stored integers."""
    scale: float
    """Reflectance per DN."""
    offset: float
    """Reflectance at DN 0."""
    nodata: int
    """DN that means no data."""

    def encode(self, reflectance: NDArray[np.float32]) -> NDArray[np.integer]:
        """Reflectance as stored integers; NaN becomes no data, and values out of range are clipped."""
        limits = np.iinfo(self.dtype)
        lowest = limits.min + 1 if self.nodata == limits.min else limits.min
        numbers = np.rint((reflectance - np.float32(self.offset)) / np.float32(self.scale))
        numbers = np.clip(numbers, lowest, limits.max)
        return np.where(np.isnan(numbers), self.nodata, numbers).astype(self.dtype)

    def noisy(self, reflectance: NDArray[np.float32], bands: range, rng: np.random.Generator) -> NDArray[np.float32]:
        """(band, y, x) reflectance of these bands plus noise of variance s^2 (0.7 R / 0.3 + 0.3), s = 0.3 / snr."""
        snr = self.snr[bands.start : bands.stop]
        if np.isinf(snr).all():
            return reflectance
        sigma = (np.float32(REFERENCE_REFLECTANCE) / snr)[:, np.newaxis, np.newaxis]
        growth = np.maximum(reflectance, 0) * np.float32(SHOT_SHARE / REFERENCE_REFLECTANCE) + np.float32(
            1 - SHOT_SHARE
        )
        drawn = rng.standard_normal(reflectance.shape, dtype=np.float32)
        return np.asarray(reflectance + sigma * np.sqrt(growth) * drawn, np.float32)


@cache
def enmap_like() -> Instrument:
    """An imaging spectrometer like EnMAP: 221 bands at 30 m, 4 of them bad; its detectors overlap at 902 to 993 nm."""
    bands = tuple(band for band in _card_bands("EnMAP") if not _within(band, VAPOUR_NM))
    bad = tuple(_within(band, BAD_NM) for band in bands)
    centre_nm = np.array([band.wavelength_nm for band in bands])
    # Sunlight and detectors: best in the red, less in the blue and beyond 2000 nm; worse where vapour absorbs.
    snr = np.interp(
        centre_nm, [418, 500, 650, 900, 1000, 1250, 1650, 2200, 2445], [170, 300, 380, 260, 220, 220, 200, 130, 50]
    )
    snr = snr / (
        1 + 2.5 * np.exp(-0.5 * ((centre_nm - 938) / 10) ** 2) + 2.0 * np.exp(-0.5 * ((centre_nm - 1130) / 14) ** 2)
    )
    snr = np.where(bad, 1.5, snr)
    return Instrument(
        bands=bands,
        spectra=_seen_spectra(bands, flatness=2),
        ratio=3,
        sigma_px=_missing_sigma_px(0.25, 3),
        snr=snr.astype(np.float32),
        bad=bad,
        dtype="int16",
        scale=1e-4,
        offset=0.0,
        nodata=-32768,
    )


@cache
def enmap_truth() -> Instrument:
    """The EnMAP-like spectrometer as it would be at 10 m, without noise or any blur beyond the fine pixel's."""
    coarse = enmap_like()
    return replace(coarse, ratio=1, sigma_px=0.0, snr=np.full(len(coarse.bands), np.inf, np.float32))


@cache
def sentinel2_like() -> tuple[Instrument, Instrument]:
    """An imager like Sentinel-2: its four bands at 10 m, and six bands at 20 m; DN 1000 is reflectance 0."""
    card = {band.name: band for band in _card_bands("Sentinel-2A")}
    return (
        _sentinel2_bands(tuple(card[name] for name in ("B02", "B03", "B04", "B08")), ratio=1, sigma_px=0.0),
        _sentinel2_bands(
            tuple(card[name] for name in ("B05", "B06", "B07", "B8A", "B11", "B12")),
            ratio=2,
            sigma_px=_missing_sigma_px(0.3, 2),
        ),
    )


def _sentinel2_bands(bands: tuple[Band, ...], *, ratio: int, sigma_px: float) -> Instrument:
    """The bands of one pixel size of a Sentinel-2-like imager."""
    return Instrument(
        bands=bands,
        spectra=_seen_spectra(bands, flatness=6),
        ratio=ratio,
        sigma_px=sigma_px,
        snr=np.full(len(bands), 130 if ratio == 1 else 150, np.float32),
        bad=(False,) * len(bands),
        dtype="uint16",
        scale=1e-4,
        offset=-0.1,
        nodata=0,
    )


def _card_bands(name: str) -> tuple[Band, ...]:
    """Bands of a sensor card."""
    sensor = find_sensor(name)
    if sensor is None:
        raise ValueError(f"there is no sensor card named {name}")
    return sensor.bands


def _within(band: Band, ranges_nm: tuple[tuple[float, float], ...]) -> bool:
    """True when the band's centre lies in one of the ranges."""
    return any(low <= (band.wavelength_nm or 0.0) < high for low, high in ranges_nm)


def _missing_sigma_px(mtf_nyquist: float, ratio: int) -> float:
    """Blur to add to the fine grid's own for this MTF at the coarse Nyquist frequency, fine pixels."""
    return float(np.sqrt(psf_sigma_px(mtf_nyquist, ratio) ** 2 - _FINE_SIGMA_PX**2))


def _seen_spectra(bands: tuple[Band, ...], *, flatness: int) -> NDArray[np.float32]:
    """(band, corner) means of library()'s spectra under exp(-ln 2 |2 (l - centre) / fwhm|^flatness); 2: Gaussian."""
    centre_nm = np.array([band.wavelength_nm for band in bands])[:, np.newaxis]
    fwhm_nm = np.array([band.fwhm_nm for band in bands])[:, np.newaxis]
    response = np.exp(-np.log(2) * np.abs(2 * (WAVELENGTH_NM - centre_nm) / fwhm_nm) ** flatness)  # (band, wavelength)
    response /= response.sum(axis=1, keepdims=True)
    return np.asarray(response @ library().spectra.T, np.float32)
