"""Pairs made up for training tests: smooth random fields seen by two instruments, and what is read of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band
from tests.grid.blocks import block_mean

Image = NDArray[np.float32]

HS_BANDS = tuple(Band(name=f"h{i}", wavelength_nm=450.0 + 50 * i, fwhm_nm=8.0, gsd_m=20.0) for i in range(4))
MS_BANDS = tuple(Band(name=f"m{i}", wavelength_nm=490.0 + 70 * i, fwhm_nm=60.0, gsd_m=10.0) for i in range(2))
RATIO = 2


@dataclass(frozen=True, kw_only=True)
class MadePair:
    """A PairSource in memory that remembers what was read."""

    hs: Image
    ms: Image
    truth: Image
    hs_reads: list[Window] = field(default_factory=list)
    ms_reads: list[Window] = field(default_factory=list)
    hs_bands: tuple[Band, ...] = HS_BANDS
    ms_bands: tuple[Band, ...] = MS_BANDS

    @property
    def grid(self) -> PairGrid:
        return PairGrid(
            crs_wkt="",
            fine_transform=(10.0, 0.0, 0.0, 0.0, -10.0, 0.0),
            coarse_shape=(self.hs.shape[1], self.hs.shape[2]),
            ratio=self.ms.shape[1] // self.hs.shape[1],
            case="ms-grid",
            hs_gsd_m=20.0,
            ms_gsd_m=10.0,
            hs_resampled=False,
            ms_resampled=False,
        )

    def read_hs(self, window: Window) -> Image:
        self.hs_reads.append(window)
        return self.hs[:, *window.slices]

    def read_ms(self, window: Window) -> Image:
        self.ms_reads.append(window)
        return self.ms[:, *window.slices]

    def read_truth(self, window: Window) -> Image:
        return self.truth[:, *window.slices]


def made_pair(side_px: int = 96, seed: int = 0) -> MadePair:
    """A pair with side_px fine pixels a side."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.standard_normal((3, side_px, side_px)), (0, 1.5, 1.5)) * 0.6 + 0.4
    mixing = rng.random((len(HS_BANDS), 3)) / 3 + 0.1
    truth = np.tensordot(mixing, fields, axes=1).astype(np.float32)
    response = np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
    ms = np.tensordot(response, truth, axes=1).astype(np.float32)
    return MadePair(hs=block_mean(truth, RATIO), ms=ms, truth=truth)
