"""What a network learns from: windows of a pair, turned into inputs and truth as they are read.

There are three protocols:
- `wald`: both images are degraded by the ratio, and the HSI is the truth (Wald, Ranchin & Mangolini 1997).
- `truth`: the pair as it is, with a raster that shows the desired result.
- `scene`: the pair as it is, without truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scenefuse.cube.source import PairSource
from scenefuse.errors import DataError
from scenefuse.grid.borders import read_mirrored
from scenefuse.grid.resample import degrade, degrade_reach_px
from scenefuse.grid.window import Window
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.sensors.psf import psf_sigma_over_own_px
from scenefuse.training.recipe import Protocols

Image = NDArray[np.float32]
Read = Callable[[Window], Image]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """Inputs and truth of one window, reflectance; NaN = no data."""

    hs: Image
    """(hs band, y / ratio + 2 * UPSAMPLE_MARGIN, x / ratio + 2 * UPSAMPLE_MARGIN)."""
    ms: Image
    """(ms band, y, x)."""
    truth: Image | None
    """(hs band, y, x); None without truth."""

    @property
    def complete(self) -> bool:
        """Whether every pixel has data."""
        images = (self.hs, self.ms) if self.truth is None else (self.hs, self.ms, self.truth)
        return all(bool(np.isfinite(image).all()) for image in images)


class TrainingScene(Protocol):
    """A scene cut into examples. Windows are in pixels of the example's fine grid, which is also the truth's."""

    @property
    def name(self) -> str:
        """Name in the weights' provenance."""
        ...

    @property
    def protocol(self) -> Protocols:
        """Protocol by which examples are made."""
        ...

    @property
    def ratio(self) -> int:
        """Coarse pixel size / fine pixel size."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the fine grid that windows may cover, multiples of the ratio."""
        ...

    @property
    def reach_px(self) -> int:
        """Fine pixels that `read` needs on each side of a window."""
        ...

    def read(self, window: Window) -> Example:
        """Inputs and truth of a window aligned to the ratio; outside the scene its mirror image is read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WaldScene:
    """A pair at reduced resolution: the HSI is the truth and its grid the fine one."""

    name: str
    """Name in the weights' provenance."""
    source: PairSource
    """The pair."""
    hs_sigmas_px: tuple[float, ...]
    """Blur of each HSI band before sampling, HSI pixels: `wald_sigmas_px`."""
    ms_sigmas_px: tuple[float, ...]
    """Blur of each MSI band before sampling, MSI pixels."""
    estimated_psf_px: float | None = None
    """The HSI's blur if estimated from the pair, in HSI pixels; None if it is the sensor's."""
    protocol: Protocols = "wald"
    """Protocol by which examples are made."""

    @property
    def ratio(self) -> int:
        """Coarse pixel size / fine pixel size, the same at reduced as at full resolution."""
        return self.source.grid.ratio

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the HSI that fill whole coarse pixels."""
        rows, columns = self.source.grid.coarse_shape
        return rows // self.ratio * self.ratio, columns // self.ratio * self.ratio

    @property
    def reach_px(self) -> int:
        """Margin of the coarse input and reach of the blurs, HSI pixels."""
        hs, ms = self._reaches_px()
        return max(UPSAMPLE_MARGIN * self.ratio + hs, ceil(ms / self.ratio))

    def read(self, window: Window) -> Example:
        """Both images degraded, and the HSI as truth."""
        grid, ratio = self.source.grid, self.ratio
        hs_reach, ms_reach = self._reaches_px()
        around = read_mirrored(self.source.read_hs, window.grow(UPSAMPLE_MARGIN * ratio + hs_reach), grid.coarse_shape)
        inner = UPSAMPLE_MARGIN * ratio + hs_reach
        fine = read_mirrored(self.source.read_ms, window.refine(ratio).grow(ms_reach), grid.fine_shape)
        return Example(
            hs=_degrade_bands(around, self.hs_sigmas_px, ratio, hs_reach),
            ms=_degrade_bands(fine, self.ms_sigmas_px, ratio, ms_reach),
            truth=np.ascontiguousarray(around[:, inner:-inner, inner:-inner]),
        )

    def _reaches_px(self) -> tuple[int, int]:
        """Reach of the blur in HSI pixels and in MSI pixels."""
        hs, ms = (
            max(degrade_reach_px(self.ratio, sigma) for sigma in sigmas)
            for sigmas in (self.hs_sigmas_px, self.ms_sigmas_px)
        )
        return hs, ms


@dataclass(frozen=True, slots=True, kw_only=True)
class FullScene:
    """A pair at its own resolution, with a truth or, for networks that need none, without."""

    name: str
    """Name in the weights' provenance."""
    source: PairSource
    """The pair."""
    truth: Read | None = None
    """Reads the truth, (hs band, y, x) reflectance of a fine window inside the scene; None without truth."""

    @property
    def protocol(self) -> Protocols:
        """`truth`, or `scene` without truth."""
        return "scene" if self.truth is None else "truth"

    @property
    def ratio(self) -> int:
        """Coarse pixel size / fine pixel size."""
        return self.source.grid.ratio

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the fine grid."""
        return self.source.grid.fine_shape

    @property
    def reach_px(self) -> int:
        """Margin of the coarse input, fine pixels."""
        return UPSAMPLE_MARGIN * self.ratio

    def read(self, window: Window) -> Example:
        """Both images as they are, and the truth if there is one."""
        grid = self.source.grid
        coarse = window.coarsen(self.ratio).grow(UPSAMPLE_MARGIN)
        return Example(
            hs=read_mirrored(self.source.read_hs, coarse, grid.coarse_shape),
            ms=read_mirrored(self.source.read_ms, window, grid.fine_shape),
            truth=None if self.truth is None else read_mirrored(self.truth, window, grid.fine_shape),
        )


def wald_sigmas_px(mtfs_nyquist: Sequence[float], gsds_px: Sequence[float], ratio: int) -> tuple[float, ...]:
    """Blur per band that makes the image, at ratio times its pixel size, look like itself; in the image's pixels.

    A band of GSD g pixels and MTF m at its own Nyquist frequency has the blur sigma(m, g); at reduced resolution it
    must have sigma(m, ratio * g), and variances add: sqrt(sigma(m, ratio * g)^2 - sigma(m, g)^2). So a 20 m band on a
    10 m grid becomes like a 60 m band on a 30 m grid. mtfs_nyquist: 0 to 1; gsds_px: native GSD / pixel size.
    """
    return tuple(
        psf_sigma_over_own_px(mtf, ratio * gsd, own_mtf_nyquist=mtf, own_ratio=gsd)
        for mtf, gsd in zip(mtfs_nyquist, gsds_px, strict=True)
    )


def _degrade_bands(image: Image, sigmas_px: tuple[float, ...], ratio: int, spare_px: int) -> Image:
    """The image (band, y, x) without spare_px on each side, each band blurred by its own sigma and sampled."""
    if len(sigmas_px) != len(image):
        raise DataError(
            f"{len(sigmas_px)} blurs for {len(image)} bands", "a band would have no MTF", "Give one for each band"
        )
    rows, columns = ((side - 2 * spare_px) // ratio for side in image.shape[1:])
    coarse = np.empty((len(image), rows, columns), np.float32)
    for sigma in dict.fromkeys(sigmas_px):
        bands = [index for index, own in enumerate(sigmas_px) if own == sigma]
        cut = spare_px - degrade_reach_px(ratio, sigma)
        inner = slice(cut, -cut or None)
        coarse[bands] = degrade(image[bands, inner, inner], ratio, sigma)
    return coarse
