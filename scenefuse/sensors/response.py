"""Spectral response: how the bands of an HSI add up to the bands of an MSI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import erf, log, sqrt

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.sensors.band import Band

FWHM_PER_SIGMA = 2 * sqrt(2 * log(2))
"""FWHM of a Gaussian / its standard deviation: 2.3548."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResponseMatrix:
    """Weights that turn a hyperspectral pixel into a multispectral one: ms = matrix @ hs."""

    matrix: NDArray[np.float64]
    """(ms band, hs band), not negative; rows sum to 1, or to 0 where coverage is 0."""
    coverage: NDArray[np.float64]
    """(ms band,) share of the MSI band's response that lies within the HSI's bands, 0 to 1."""


def response_matrix(hs_bands: Sequence[Band], ms_bands: Sequence[Band]) -> ResponseMatrix:
    """Weights of the HSI's bands in each of the MSI's bands, and how much of each MSI band they cover.

    Each HSI band stands for a cell of the spectrum that reaches to the midpoints with its neighbours, but no further
    than its own FWHM, or half of it at the two ends, so that water-vapour gaps count as not covered. A weight is the
    MSI band's Gaussian integrated over the cell, divided by the sum over all cells. HSI bands without FWHM take the
    distance to their nearer neighbour; MSI bands must have one.
    """
    hs_bands = estimate_fwhm(hs_bands)
    left_nm, right_nm = _cells_nm(hs_bands)
    shares = np.array([_share_between(band, left_nm, right_nm) for band in ms_bands])  # (ms, hs)
    shares = shares.reshape(len(ms_bands), len(hs_bands))
    coverage = shares.sum(axis=1)
    matrix = np.divide(shares, coverage[:, None], out=np.zeros_like(shares), where=coverage[:, None] > 0)
    return ResponseMatrix(matrix=matrix, coverage=np.minimum(coverage, 1.0))


def estimate_fwhm(bands: Sequence[Band]) -> tuple[Band, ...]:
    """The bands, with a missing FWHM replaced by the distance to the nearer neighbour in wavelength."""
    centres_nm = _centres_nm(bands)
    distinct = np.unique(centres_nm)
    if any(band.fwhm_nm is None for band in bands) and len(distinct) < 2:
        raise DataError(
            f"{len(bands)} bands with {len(distinct)} wavelength and without FWHM",
            "their width cannot be estimated from the spacing",
            "give fwhm in the header or eo:full_width_half_max in the item",
        )
    estimated = []
    for band, centre_nm in zip(bands, centres_nm, strict=True):
        if band.fwhm_nm is None:
            gaps = np.abs(distinct - centre_nm)
            estimated.append(replace(band, fwhm_nm=float(gaps[gaps > 0].min())))
        else:
            estimated.append(band)
    return tuple(estimated)


def _centres_nm(bands: Sequence[Band]) -> NDArray[np.float64]:
    """(band,) wavelengths in nm; DataError if a band has none."""
    missing = [band.name for band in bands if band.wavelength_nm is None]
    if missing:
        raise DataError(
            f"no wavelength for {len(missing)} of {len(bands)} bands ({', '.join(missing[:5])})",
            "their position in the spectrum is unknown",
            "give eo:center_wavelength in the item or wavelength in the header",
        )
    return np.array([band.wavelength_nm for band in bands], dtype=np.float64)


def _cells_nm(bands: Sequence[Band]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(band,) left and right edges in nm of the cell of the spectrum that each band stands for, in the bands' order."""
    centres = _centres_nm(bands)
    widths = np.array([band.fwhm_nm for band in bands], dtype=np.float64)
    order = np.argsort(centres, kind="stable")
    centre, width = centres[order], widths[order]
    middle = (centre[1:] + centre[:-1]) / 2
    left, right = centre - width / 2, centre + width / 2
    left[1:] = np.maximum(middle, centre[1:] - width[1:])
    right[:-1] = np.minimum(middle, centre[:-1] + width[:-1])
    back = np.argsort(order)
    return left[back], right[back]


def _share_between(band: Band, left_nm: NDArray[np.float64], right_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(cell,) share of the band's response between each left and right edge, by the error function.

    The response is R(l) = exp(-4 ln 2 ((l - wavelength) / fwhm)^2).
    """
    (centre,) = _centres_nm([band]).tolist()
    if band.fwhm_nm is None:
        raise DataError(
            f"no FWHM for the band {band.name}",
            "its response is unknown",
            "give eo:full_width_half_max in the item or fwhm in the header",
        )
    scale = band.fwhm_nm / FWHM_PER_SIGMA * sqrt(2)
    return np.array(
        [
            (erf((right - centre) / scale) - erf((left - centre) / scale)) / 2
            for left, right in zip(left_nm.tolist(), right_nm.tolist(), strict=True)
        ]
    )
