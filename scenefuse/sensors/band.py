"""A spectral band: its wavelength, its width and its GSD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

AS_FINE = 1.5
"""Largest GSD of a sharp band, in GSDs of the image's finest band: coarser ones show no fine detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One spectral band of an image."""

    name: str
    """Name given by the data's producer, unique in its image: `B8A`, `band 112`."""
    wavelength_nm: float | None = None
    """Centre wavelength in nanometres; None when the source does not say."""
    fwhm_nm: float | None = None
    """Full width at half maximum of the response in nanometres; None when unknown."""
    gsd_m: float | None = None
    """Native ground sampling distance in metres; None when unknown."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Band.name is empty")
        for field in ("wavelength_nm", "fwhm_nm", "gsd_m"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"Band {self.name}: {field} must be positive, got {value}")


def sharp_bands(bands: Sequence[Band]) -> NDArray[np.bool_]:
    """(band,) True for bands as fine as the image's finest, within AS_FINE, and for bands without a GSD.

    The others were upsampled to the fine grid (Sentinel-2's 20 m bands) and are softer there than the ground is.
    """
    gsds_m = np.array([band.gsd_m or 0.0 for band in bands])
    finest_m = gsds_m[gsds_m > 0].min(initial=inf)
    return np.asarray(gsds_m <= AS_FINE * finest_m)
