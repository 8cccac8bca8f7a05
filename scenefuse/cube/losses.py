"""What bands cost: a pixel is fused only where every band has data, so a single gap loses it in all bands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.cube.source import PairSource
from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.words import counted

LEAST_SHARE = 0.01
"""Share of the ground below which a loss is not reported, nor a band named."""
SAMPLE_PX = 32
"""Side of the windows in which a large scene is sampled, coarse pixels."""
SAMPLES_PER_SIDE = 4
"""Rows and columns of those windows, spread over the scene."""
WHOLE_PX = SAMPLES_PER_SIDE**2 * SAMPLE_PX**2
"""Coarse pixels up to which a scene is examined whole."""
_NAMED = 12
"""Most bands that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandLosses:
    """Ground that an HSI shows in some of its bands but loses in all, because others have no data there."""

    lost: float
    """Share of the HSI's pixels with data in any band that lack data in another, 0 to 1."""
    bands: tuple[tuple[str, float], ...] = ()
    """Bands that lack data in LEAST_SHARE or more of the same pixels: name and that share, the most costly first."""
    left: float = 0.0
    """Share that would still be lost without those bands."""
    of_bands: int
    """Bands of the image."""
    pixels: int
    """Examined coarse pixels that have data in any band."""
    whole: bool
    """Whether the whole scene was examined; else a sample."""

    @property
    def note(self) -> str | None:
        """What is lost, through which bands, and the cure; None when it is not worth reporting."""
        return f"{self._found()}; {self._cure()}" if self.lost >= LEAST_SHARE else None

    def facts(self) -> dict[str, Any]:
        """The losses as JSON values."""
        return {
            "share": round(self.lost, 4),
            "share_without_bands": round(self.left, 4),
            "bands": [{"band": name, "share": round(share, 4)} for name, share in self.bands],
            "pixels": self.pixels,
            "whole": self.whole,
        }

    def refusal(self, name: str) -> DataError:
        """The error when nothing is left of an image; name: the image's."""
        return DataError(f"{name}: {self._found()}", "no pixel would be left to fuse", self._cure())

    def _found(self) -> str:
        share = f"{100 * self.lost:.0f} %" if self.lost >= 0.1 else f"{100 * self.lost:.1f} %"
        which = f"in {len(self.bands)} of {counted(self.of_bands, 'HSI band')} ({self._names()})" if self.bands else ""
        seen = "" if self.whole else "about "
        ground = f"{seen}{share} of the HSI's ground have no data {which or 'in some band'}"
        return f"{ground} and are lost in all bands"

    def _names(self) -> str:
        shown = [f"{name}: {100 * share:.0f} %" for name, share in self.bands[:_NAMED]]
        return ", ".join(shown) + (", ..." if len(self.bands) > _NAMED else "")

    def _cure(self) -> str:
        if not self.bands:
            return "check the HSI's no-data value"
        options = " ".join(f"--drop-band {shlex.quote(name)}" for name, _ in self.bands[:_NAMED])
        more = " ..." if len(self.bands) > _NAMED else ""
        rest = f"; {100 * self.left:.0f} % stay lost" if self.left >= LEAST_SHARE else ""
        return f"without them it is kept: {options}{more}{rest}"


def measure_losses(source: PairSource, name: str) -> BandLosses | None:
    """What the HSI loses through its bands; None when no examined pixel has data.

    A large scene is sampled in SAMPLES_PER_SIDE² windows. If they lose everything, the whole scene is searched:
    DataError, with the scene's name, when no pixel has data in every band.
    """
    shape = source.grid.coarse_shape
    small = shape[0] * shape[1] <= WHOLE_PX
    losses = _measured(source, _strips(shape) if small else _spread(shape), whole=small)
    if losses is not None and losses.lost == 1.0 and not any(_some_complete(source, strip) for strip in _strips(shape)):
        raise losses.refusal(name)
    return losses


def _measured(source: PairSource, windows: Sequence[Window], *, whole: bool) -> BandLosses | None:
    """The losses in these windows."""
    lacks = np.concatenate([_missing(source.read_hs(window)) for window in windows], axis=1)
    if lacks.shape[1] == 0:
        return None
    shares, lost = lacks.mean(axis=1), float(lacks.any(axis=0).mean())
    costly = shares >= LEAST_SHARE
    order = sorted(np.flatnonzero(costly).tolist(), key=lambda band: -shares[band])
    return BandLosses(
        lost=lost,
        bands=tuple((source.hs_bands[band].name, float(shares[band])) for band in order),
        left=float(lacks[~costly].any(axis=0).mean()),
        of_bands=len(shares),
        pixels=lacks.shape[1],
        whole=whole,
    )


def _some_complete(source: PairSource, window: Window) -> bool:
    """Whether any pixel of the window has data in every band."""
    return bool(np.isfinite(source.read_hs(window)).all(axis=0).any())


def _missing(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(band, pixel) True where a band lacks data, for the pixels with data in any band."""
    lacks = ~np.isfinite(pixels).reshape(len(pixels), -1)
    return lacks[:, ~lacks.all(axis=0)]


def _strips(shape: tuple[int, int]) -> list[Window]:
    """Strips that cover a scene."""
    rows = max(1, ceil(WHOLE_PX / 4 / shape[1]))
    return [Window(y0=y0, y1=min(y0 + rows, shape[0]), x0=0, x1=shape[1]) for y0 in range(0, shape[0], rows)]


def _spread(shape: tuple[int, int]) -> list[Window]:
    """Windows centred in the cells of an even grid over a scene."""
    middles = [[round((2 * i + 1) * side / (2 * SAMPLES_PER_SIDE)) for i in range(SAMPLES_PER_SIDE)] for side in shape]
    starts = [sorted({max(0, middle - SAMPLE_PX // 2) for middle in along}) for along in middles]
    return [
        Window(y0=y0, y1=y0 + SAMPLE_PX, x0=x0, x1=x0 + SAMPLE_PX).clip(shape) for y0 in starts[0] for x0 in starts[1]
    ]
