"""A process's cache of remote files: each is opened once, and all its readers share one sparse local mirror.

Bytes fetched into one mirror are not in another: always read from the mirror that was fetched into.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any, Protocol, Self, TypeVar
from weakref import WeakValueDictionary

from scenefuse.archive.remote import RemoteFile
from scenefuse.raster.mirror import Mirror

_MOST_KNOWN = 256
"""Most files that a process keeps when no longer in use: a scene may have one per band."""
_MOST_HELD_BYTES = 8 * 2**30
"""Temporary disk space for those files (a single one may exceed it): a batch's pairs would otherwise fill the disk."""


class MirroredFile(Protocol):
    """A remote file of some format, and what its reader knows about it. Supports weak references."""

    @property
    def mirror(self) -> Mirror:
        """The file's bytes fetched so far."""
        ...

    @classmethod
    def of(cls, mirror: Mirror) -> Self:
        """The file of a still empty mirror; fetches what its reader has to know."""
        ...


F = TypeVar("F", bound=MirroredFile)

_in_use: WeakValueDictionary[tuple[type[Any], RemoteFile], Any] = WeakValueDictionary()
_known: OrderedDict[tuple[type[Any], RemoteFile], MirroredFile] = OrderedDict()
_opening = threading.Lock()


def mirrored(kind: type[F], file: RemoteFile) -> F:
    """Open the file; all callers in a process get the same object as long as it is in use."""
    with _opening:
        found: F | None = _in_use.get((kind, file))
        if found is None:
            found = _in_use[kind, file] = kind.of(Mirror(file))
        _known[kind, file] = found
        _known.move_to_end((kind, file))
        while len(_known) > 1 and (len(_known) > _MOST_KNOWN or _held_bytes() > _MOST_HELD_BYTES):
            _known.popitem(last=False)
        return found


def _held_bytes() -> int:
    """Disk space that the known files take."""
    return sum(known.mirror.held_bytes for known in _known.values())


def _forget() -> None:
    """Start afresh in a forked child: another thread of the parent may have held a lock that nobody here releases."""
    global _in_use, _opening
    _in_use, _opening = WeakValueDictionary(), threading.Lock()
    _known.clear()


os.register_at_fork(after_in_child=_forget)
