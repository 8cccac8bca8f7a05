"""A TIFF on the network, of which whatever GDAL will read is fetched before it reads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from scenefuse.archive.remote import RemoteFile
from scenefuse.cube.mirror import Mirror
from scenefuse.cube.tiff_layout import TiffLayout, read_layout
from scenefuse.grid.window import Window

_HEAD_BYTES = 64 * 1024
"""Read first of each file: of a COG these are most often all directories."""

_MOST_KNOWN = 256
"""Files that a process remembers although nobody reads from them: a scene may have one for each of its bands."""
_MOST_HELD_BYTES = 8 * 2**30
"""What those files may take on the disk of temporary files, one alone excepted: the pairs of a batch would fill it."""

_in_use: WeakValueDictionary[RemoteFile, RemoteTiff] = WeakValueDictionary()
_known: OrderedDict[RemoteFile, RemoteTiff] = OrderedDict()
_opening = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class RemoteTiff:
    """A remote file and where its pixels lie in it."""

    mirror: Mirror
    """The file's bytes, as far as they were fetched."""
    layout: TiffLayout
    """Where its blocks lie."""

    def fetch(self, bands: Sequence[int], window: Window) -> None:
        """Fetch what GDAL will read for the bands, counted from 0, of a window."""
        self.mirror.fetch(self.layout.image.spans(window, bands))

    def fetch_mask(self, window: Window) -> None:
        """Fetch what GDAL will read for the mask of a window."""
        if self.layout.mask is not None:
            self.mirror.fetch(self.layout.mask.spans(window, [0]))


def open_remote_tiff(file: RemoteFile) -> RemoteTiff:
    """The file with its directories fetched; the same for all of a process who ask, as long as one has it.

    What is fetched into one is not in another: read from the mirror that was fetched into.
    """
    with _opening:
        found = _in_use.get(file)
        if found is None:
            mirror = Mirror(file)
            mirror.fetch([(0, _HEAD_BYTES)])
            found = RemoteTiff(mirror=mirror, layout=read_layout(mirror.read, file.size_bytes, str(file)))
            _in_use[file] = found
        _known[file] = found
        _known.move_to_end(file)
        while len(_known) > 1 and (len(_known) > _MOST_KNOWN or _held_bytes() > _MOST_HELD_BYTES):
            _known.popitem(last=False)
        return found


def _held_bytes() -> int:
    """What the files that are remembered take on the disk."""
    return sum(tiff.mirror.held_bytes for tiff in _known.values())
