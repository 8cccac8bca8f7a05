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
_opening: dict[tuple[type[Any], RemoteFile], threading.Lock] = {}
_lock = threading.Lock()
"""Of the three above; never held while a file is fetched from, or one slow host would hold up all others."""


def mirrored(kind: type[F], file: RemoteFile) -> F:
    """Open the file; all callers in a process get the same object as long as it is in use."""
    key = kind, file
    with _lock:
        alone = _opening.setdefault(key, threading.Lock())
    try:
        with alone:
            with _lock:
                found: F | None = _in_use.get(key)
            opened = kind.of(Mirror(file)) if found is None else found
            return _keep(key, opened)
    finally:
        with _lock:
            _opening.pop(key, None)


def _keep(key: tuple[type[F], RemoteFile], opened: F) -> F:
    """The file, or the one that another thread has opened meanwhile, as the one used last."""
    with _lock:
        opened = _in_use.setdefault(key, opened)
        _known[key] = opened
        _known.move_to_end(key)
        while len(_known) > 1 and (len(_known) > _MOST_KNOWN or _held_bytes() > _MOST_HELD_BYTES):
            _known.popitem(last=False)
        return opened


def _held_bytes() -> int:
    """Disk space that the known files take."""
    return sum(known.mirror.held_bytes for known in _known.values())


def _forget() -> None:
    """Begin anew in a forked child: another thread of the parent's may have held a lock, which nobody here opens."""
    global _in_use, _lock
    _in_use, _lock = WeakValueDictionary(), threading.Lock()
    _known.clear()
    _opening.clear()


os.register_at_fork(after_in_child=_forget)
