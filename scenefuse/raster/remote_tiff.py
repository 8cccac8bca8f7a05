"""A remote TIFF; whatever GDAL will read is fetched beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from scenefuse.grid.window import Window
from scenefuse.raster.mirror import Mirror
from scenefuse.raster.tiff_layout import TiffLayout, read_layout

_HEAD_BYTES = 64 * 1024
"""Fetched first from each file: in a COG this usually holds all directories."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class RemoteTiff:
    """A remote file and where its pixels lie in it."""

    mirror: Mirror
    """The file's bytes fetched so far."""
    layout: TiffLayout
    """Where its blocks lie."""

    @classmethod
    def of(cls, mirror: Mirror) -> Self:
        """The file of a mirror, with its directories fetched."""
        mirror.fetch([(0, _HEAD_BYTES)])
        return cls(mirror=mirror, layout=read_layout(mirror.read, mirror.file.size_bytes, str(mirror.file)))

    def fetch(self, bands: Sequence[int], window: Window) -> None:
        """Fetch what GDAL will read for the bands, counted from 0, of a window."""
        self.mirror.fetch(self.layout.image.spans(window, bands))

    def fetch_mask(self, window: Window) -> None:
        """Fetch what GDAL will read for the mask of a window."""
        if self.layout.mask is not None:
            self.mirror.fetch(self.layout.mask.spans(window, [0]))
