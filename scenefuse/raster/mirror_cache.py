"""A process's cache of files on the network: each is opened once, and all who read it share one sparse local mirror.

What is fetched into one mirror is not in another: always read from the mirror that was fetched into.
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
"""Files that a process remembers although nobody reads from them: a scene may have one for each of its bands."""
_MOST_HELD_BYTES = 8 * 2**30
"""What those files may take on the disk of temporary files, one alone excepted: the pairs of a batch would fill it."""


class MirroredFile(Protocol):
    """A remote file of a format, and what its reader knows of it. Takes weak references."""

    @property
    def mirror(self) -> Mirror:
        """The file's bytes, as far as they were fetched."""
        ...

    @classmethod
    def of(cls, mirror: Mirror) -> Self:
        """The file of a mirror, as yet empty, with what its reader has to know fetched."""
        ...


F = TypeVar("F", bound=MirroredFile)

_in_use: WeakValueDictionary[tuple[type[Any], RemoteFile], Any] = WeakValueDictionary()
_known: OrderedDict[tuple[type[Any], RemoteFile], MirroredFile] = OrderedDict()
_opening = threading.Lock()


def mirrored(kind: type[F], file: RemoteFile) -> F:
    """The file, opened; the same for all of a process who ask, as long as one has it."""
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
    """What the known files take on the disk."""
    return sum(known.mirror.held_bytes for known in _known.values())


def _forget() -> None:
    """Begin anew in a forked child: another thread of the parent's may have held a lock, which nobody here opens."""
    global _in_use, _opening
    _in_use, _opening = WeakValueDictionary(), threading.Lock()
    _known.clear()


os.register_at_fork(after_in_child=_forget)
