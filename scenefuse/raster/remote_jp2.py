"""A remote JPEG 2000 file; whatever GDAL will read is fetched beforehand.

GDAL's OpenJPEG goes from one tile-part's header to the next and skips what it does not need, so all headers are fetched
when the file is opened, and a window's tiles before it is read. That works where GDAL's blocks are the file's tiles;
where they are not (one tile as large as the image, very small tiles) the whole file is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from scenefuse.grid.window import Window
from scenefuse.raster.jp2_layout import Jp2Layout, read_jp2_layout
from scenefuse.raster.mirror import Mirror

_HEAD_BYTES = 64 * 1024
"""Fetched first from each file: usually holds all boxes and the codestream's main header."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class RemoteJp2:
    """A remote file and where its tiles lie in it."""

    mirror: Mirror
    """The file's bytes fetched so far."""
    layout: Jp2Layout
    """Where its tiles lie."""

    @classmethod
    def of(cls, mirror: Mirror) -> Self:
        """The file of a mirror, with its headers fetched."""
        mirror.fetch([(0, _HEAD_BYTES)])
        layout = read_jp2_layout(mirror.read, mirror.fetch, mirror.file.size_bytes, str(mirror.file))
        return cls(mirror=mirror, layout=layout)

    def settle(self, block_shape: tuple[int, int]) -> None:
        """Fetch the whole file if GDAL's blocks (rows, columns) are not its tiles, or if it has only one tile."""
        rows, columns = self.layout.shape
        tile = tuple(min(side, most) for side, most in zip(self.layout.tile_shape, (rows, columns), strict=True))
        if block_shape not in (tile, self.layout.tile_shape) or len(self.layout.parts) == 1:
            self.mirror.fetch([(0, self.mirror.file.size_bytes)])

    def fetch(self, _bands: Sequence[int], window: Window) -> None:
        """Fetch what GDAL will read for a window; a tile holds all bands."""
        self.mirror.fetch(self.layout.spans(window))

    def fetch_mask(self, window: Window) -> None:
        """Fetch what GDAL will read for the mask of a window; the mask is a band."""
        self.fetch([], window)
