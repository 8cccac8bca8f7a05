"""A TIFF on the network, of which whatever GDAL will read is fetched before it reads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from scenefuse.archive.remote import RemoteFile
from scenefuse.cube.mirror import Mirror
from scenefuse.cube.tiff_layout import TiffLayout, read_layout
from scenefuse.grid.window import Window

_HEAD_BYTES = 64 * 1024
"""Of a COG, most often all directories."""

_MOST_KNOWN = 64
"""Files that a process remembers; the pairs of a batch are more."""

_known: OrderedDict[RemoteFile, RemoteTiff] = OrderedDict()
_opening = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RemoteTiff:
    """A remote file and where its pixels lie in it."""

    mirror: Mirror
    """Its bytes."""
    layout: TiffLayout
    """Its blocks."""

    def fetch(self, bands: Sequence[int], window: Window) -> None:
        """Nothing; the pixels of the bands, counted from 0, in a window can be read."""
        self.mirror.fetch(self.layout.image.spans(window, bands))

    def fetch_mask(self, window: Window) -> None:
        """Nothing; the mask of a window can be read."""
        if self.layout.mask is not None:
            self.mirror.fetch(self.layout.mask.spans(window, [0]))


def open_remote_tiff(file: RemoteFile) -> RemoteTiff:
    """The file with its directories fetched; the same for all of a process who ask, as long as it is remembered.

    What is fetched into one is not in another: read from the mirror that was fetched into.
    """
    with _opening:
        if file not in _known:
            mirror = Mirror(file)
            mirror.fetch([(0, _HEAD_BYTES)])
            _known[file] = RemoteTiff(mirror=mirror, layout=read_layout(mirror.read, file.size_bytes, str(file)))
        _known.move_to_end(file)
        while len(_known) > _MOST_KNOWN:
            _known.popitem(last=False)
        return _known[file]
