"""An HDF5 file on the network, of which HDF5 reads what was fetched, and nothing else.

What HDF5 will read cannot be known before it reads: it follows trees from node to node. So it reads from a file that
refuses bytes which are not there yet and notes them; they are fetched, and HDF5 is asked once more, until nothing was
missing. A hole is never read as zeros, no network is waited for inside HDF5, which is locked for all threads
meanwhile, and what fails on the network is told as that. Chunks of a window are fetched before, many at once.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import h5py

from scenefuse.archive.remote import Span
from scenefuse.raster.mirror import Mirror

T = TypeVar("T")

HEAD_BYTES = 2**20
"""Read first of each file: most often all groups, attributes and headers of arrays lie there."""
NODE_BYTES = 16 * 1024
"""Fetched from where HDF5 found bytes missing, at least: nodes of an array's tree lie far apart, among its chunks."""
MOST_CHUNKS = 2**20
"""Chunks of an array beyond which their places are not listed; each is then fetched as HDF5 asks for it."""


class _MissingError(OSError):
    """Bytes that HDF5 asked for are not there yet."""


class FetchedBytes:
    """The file as h5py wants one: what was fetched of it can be read. Its position is guarded by h5py's own lock."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._position = 0
        self._of_thread = threading.local()

    def missing(self) -> list[Span]:
        """What this thread was refused since it last asked."""
        spans: list[Span] = getattr(self._of_thread, "missing", [])
        self._of_thread.missing = []
        return spans

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._position = offset + (self._mirror.file.size_bytes if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def read(self, count: int) -> bytes:
        """The next bytes, all of them; _MissingError where one was not fetched."""
        first, end = self._position, self._position + count
        data = self._mirror.held(first, end)
        if data is None:
            self._of_thread.missing = [*getattr(self._of_thread, "missing", []), (first, end)]
            raise _MissingError(f"bytes {first} to {end} were not fetched")
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as the buffer has."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class RemoteHdf5:
    """A remote file and where the chunks of its arrays lie in it."""

    mirror: Mirror
    """The file's bytes, as far as they were fetched."""
    bytes: FetchedBytes
    """What h5py opens."""
    chunks: dict[str, dict[tuple[int, ...], Span]] = field(default_factory=dict)
    """Of arrays that were read from: where each chunk lies, by the first index of each axis."""

    @classmethod
    def of(cls, mirror: Mirror) -> Self:
        """The file of a mirror, with its head fetched."""
        mirror.fetch([(0, HEAD_BYTES)])
        return cls(mirror=mirror, bytes=FetchedBytes(mirror))

    def ask(self, question: Callable[[], T]) -> T:
        """What a question to HDF5 is answered once all that it reads is there. It may be asked several times."""
        while True:
            self.bytes.missing()
            try:
                answer = question()
            except Exception:  # of whatever type h5py makes of a read that was refused
                missing = self.bytes.missing()
                if not missing:
                    raise
            else:  # an answer may have been found although bytes were missing: h5py takes some errors for a no
                missing = self.bytes.missing()
                if not missing:
                    return answer
            self.mirror.fetch((first, max(end, first + NODE_BYTES)) for first, end in missing)

    def fetch(self, array: h5py.Dataset, where: tuple[slice | int, ...]) -> None:
        """Fetch the chunks of a part of an array, many at once, as far as their places can be told."""
        ranges = [
            range(*index.indices(size)) if isinstance(index, slice) else range(index, index + 1)
            for index, size in zip(where, array.shape, strict=True)
        ]
        if not all(ranges):
            return
        if array.chunks is None:
            self.mirror.fetch(_rows(array, ranges))
            return
        if math.prod(-(-size // side) for size, side in zip(array.shape, array.chunks, strict=True)) > MOST_CHUNKS:
            return
        places = self.chunks.get(array.name)
        if places is None:
            places = self.chunks[array.name] = self.ask(lambda: _places(array))
        starts = (
            range(axis[0] // side * side, axis[-1] + 1, side) for axis, side in zip(ranges, array.chunks, strict=True)
        )
        self.mirror.fetch(places[start] for start in itertools.product(*starts) if start in places)


def _places(array: h5py.Dataset) -> dict[tuple[int, ...], Span]:
    """Where the chunks lie that an array has; one that was never written lies nowhere."""
    found: dict[tuple[int, ...], Span] = {}

    def note(chunk: Any) -> None:
        found[tuple(chunk.chunk_offset)] = chunk.byte_offset, chunk.byte_offset + chunk.size

    array.id.chunk_iter(note)
    return found


def _rows(array: h5py.Dataset, ranges: list[range]) -> Iterator[Span]:
    """Bytes of an array that lies in one piece, from the first to the last of each row of its first axis."""
    offset = array.id.get_offset()
    if offset is None or array.dtype.hasobject:  # in the header, nowhere, or by reference: fetched as HDF5 asks
        return
    strides = [math.prod(array.shape[axis + 1 :]) * array.dtype.itemsize for axis in range(len(array.shape))]
    first, last = (
        sum(axis[end] * stride for axis, stride in zip(ranges[1:], strides[1:], strict=True)) for end in (0, -1)
    )
    for index in ranges[0]:
        row = offset + index * strides[0]
        yield row + first, row + last + array.dtype.itemsize
