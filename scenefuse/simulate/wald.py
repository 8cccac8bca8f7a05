"""Wald's protocol: pairs whose truth is known, made from an image that plays the truth.

Wald, Ranchin & Mangolini (1997), Fusion of satellite images of different spatial resolutions,
Photogrammetric Engineering & Remote Sensing 63(6): both images are degraded by the ratio, the original is the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.grid.borders import mirror_indices
from scenefuse.grid.resample import NO_PHASE, Phase, degrade, degrade_reach_px

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WaldProtocol:
    """How the pair is made from the reference."""

    ratio: int
    """Coarse pixel size / fine pixel size."""
    sigma_px: float
    """Gaussian blur before sampling, fine pixels; psf_sigma_px(mtf, ratio) of scenefuse.sensors.psf for an MTF."""
    hs_snr_db: float = np.inf
    """Signal-to-noise ratio of the coarse image in dB, per band; infinite: no noise."""
    ms_snr_db: float = np.inf
    """Signal-to-noise ratio of the fine image in dB, per band; infinite: no noise."""
    seed: int = 0
    """Seed of the noise."""

    def __post_init__(self) -> None:
        if self.ratio < 1 or not self.sigma_px > 0:
            raise ValueError(f"ratio is at least 1 and sigma_px positive, got {self.ratio} and {self.sigma_px}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WaldPair:
    """A pair with its truth; reflectance float32, NaN = no data."""

    hs: Image
    """(hs band, y / ratio, x / ratio): the coarse image."""
    ms: Image
    """(ms band, y, x): the fine image."""
    truth: Image
    """(hs band, y, x): what a perfect method would make of the two."""
    protocol: WaldProtocol
    """How they were made."""


def pair_from_reference(reference: Image, srf: NDArray[np.floating], protocol: WaldProtocol) -> WaldPair:
    """The pair that two instruments would make of one hyperspectral image, which is the truth.

    hs = degrade(reference), ms = srf @ reference, each plus Gaussian noise of its SNR.
    reference: (hs band, y, x); rows and columns beyond a multiple of the ratio are cropped at the end.
    srf: (ms band, hs band), rows summing to 1. No-data pixels of the reference are no data in ms and in every
    coarse pixel whose kernel covers them. The image is mirrored at its borders.
    """
    if srf.ndim != 2 or srf.shape[1] != reference.shape[0]:
        raise DataError(
            f"spectral response of shape {srf.shape} for a reference of {reference.shape[0]} bands",
            "the two do not describe the same image",
            "give a response of shape (ms bands, hs bands)",
        )
    truth = _crop(reference, protocol.ratio)
    ms = np.tensordot(srf.astype(np.float32), truth, axes=1)
    return _noisy_pair(_degrade_mirrored(truth, protocol.ratio, protocol.sigma_px), ms, truth, protocol)


def pair_at_reduced_resolution(
    hs: Image,
    ms: Image,
    protocol: WaldProtocol,
    *,
    ms_sigma_px: float | None = None,
    phase_px: Phase = NO_PHASE,
) -> WaldPair:
    """A real pair, degraded so that the original hs is the truth: ms by its own ratio to hs, hs by the protocol's.

    hs: (hs band, y, x); ms: (ms band, y * own, x * own) of the same ground, own the pair's ratio.
    ms_sigma_px: blur of ms, in its own pixels; None if the pair's ratio is the protocol's and its blur is sigma_px.
    phase_px: (y, x) pixels of ms by which hs lies beside its coarse grid; the degraded ms lies where hs does.
    The new fine image has hs's grid, and the truth contains hs's noise.
    """
    ratio = protocol.ratio
    own = ratio if ms_sigma_px is None else ms.shape[1] // hs.shape[1]
    if ms.shape[1:] != (hs.shape[1] * own, hs.shape[2] * own):
        raise DataError(
            f"a fine image of {ms.shape[1:]} pixels for a coarse one of {hs.shape[1:]} at ratio {own}",
            "they do not show the same ground",
            "read both from one PairGrid",
        )
    truth = _crop(hs, ratio)
    rows, columns = truth.shape[1] * own, truth.shape[2] * own
    sigma_px = protocol.sigma_px if ms_sigma_px is None else ms_sigma_px
    fine = _degrade_mirrored(ms[:, :rows, :columns], own, sigma_px, phase_px)
    return _noisy_pair(_degrade_mirrored(truth, ratio, protocol.sigma_px), fine, truth, protocol)


def add_noise(image: Image, snr_db: float, rng: np.random.Generator) -> Image:
    """The image plus Gaussian noise; per band 10 log10(mean(image^2) / mean(noise^2)) = snr_db."""
    if np.isinf(snr_db):
        return image
    power = np.nanmean(np.square(image, dtype=np.float64), axis=(1, 2), keepdims=True)
    sigma = np.sqrt(power / 10 ** (snr_db / 10)).astype(np.float32)
    return np.asarray(image + sigma * rng.standard_normal(image.shape, dtype=np.float32), np.float32)


def _noisy_pair(hs: Image, ms: Image, truth: Image, protocol: WaldProtocol) -> WaldPair:
    """The pair with its noise added; hs and ms draw from separate streams."""
    hs_rng, ms_rng = (np.random.default_rng([protocol.seed, stream]) for stream in (0, 1))
    return WaldPair(
        hs=add_noise(hs, protocol.hs_snr_db, hs_rng),
        ms=add_noise(np.asarray(ms, np.float32), protocol.ms_snr_db, ms_rng),
        truth=truth,
        protocol=protocol,
    )


def _crop(image: Image, ratio: int) -> Image:
    """The image without the last rows and columns that do not fill a coarse pixel."""
    rows, columns = (size // ratio * ratio for size in image.shape[1:])
    if min(rows, columns) < 1:
        raise DataError(
            f"an image of {image.shape[1:]} pixels at ratio {ratio}",
            "it does not fill one coarse pixel",
            "use a larger image or a smaller ratio",
        )
    return np.ascontiguousarray(image[:, :rows, :columns], np.float32)


def _degrade_mirrored(image: Image, ratio: int, sigma_px: float, phase_px: Phase = NO_PHASE) -> Image:
    """The image as a coarser instrument sees it, mirrored at its borders."""
    reach = degrade_reach_px(ratio, sigma_px)
    rows, columns = (mirror_indices(-reach, size + reach, size) for size in image.shape[1:])
    return degrade(np.ascontiguousarray(image[:, rows[:, np.newaxis], columns]), ratio, sigma_px, phase_px)
