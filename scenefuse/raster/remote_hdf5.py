"""A remote HDF5 file; HDF5 reads only bytes that have been fetched.

What HDF5 will read cannot be known in advance: it follows trees from node to node. It therefore reads from a file that
refuses missing bytes and notes them; they are fetched and HDF5 is asked again, until nothing is missing. Thus a hole is
never read as zeros, HDF5 (whose lock stops all threads) never waits for the network, and network failures are reported
as such. The chunks of a window are fetched beforehand, many at once.
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
"""Fetched first from each file: usually holds all groups, attributes and array headers."""
NODE_BYTES = 16 * 1024
"""Least size fetched where HDF5 finds bytes missing: the nodes of an array's tree lie scattered among its chunks."""
MOST_CHUNKS = 2**20
"""Chunks of an array beyond which their places are not listed; each is then fetched when HDF5 needs it."""


class _MissingError(OSError):
    """HDF5 needs bytes that have not been fetched yet."""


class FetchedBytes:
    """A file object for h5py that reads only fetched bytes. h5py's own lock guards its position."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._position = 0
        self._of_thread = threading.local()

    def missing(self) -> list[Span]:
        """The spans refused to this thread since its last call."""
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
        """The next count bytes; _MissingError when any of them was not fetched."""
        first, end = self._position, self._position + count
        data = self._mirror.held(first, end)
        if data is None:
            self._of_thread.missing = [*getattr(self._of_thread, "missing", []), (first, end)]
            raise _MissingError(f"bytes {first} to {end} were not fetched")
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class RemoteHdf5:
    """A remote file and where the chunks of its arrays lie in it."""

    mirror: Mirror
    """The file's bytes fetched so far."""
    bytes: FetchedBytes
    """What h5py opens."""
    chunks: dict[str, dict[tuple[int, ...], Span]] = field(default_factory=dict)
    """Where the chunks of each array read so far lie, by a chunk's first index along each axis."""

    @classmethod
    def of(cls, mirror: Mirror) -> Self:
        """The file of a mirror, with its head fetched."""
        mirror.fetch([(0, HEAD_BYTES)])
        return cls(mirror=mirror, bytes=FetchedBytes(mirror))

    def ask(self, question: Callable[[], T]) -> T:
        """HDF5's answer to a question, once all that it reads has been fetched. It may be asked several times."""
        while True:
            self.bytes.missing()
            try:
                answer = question()
            except Exception:  # h5py turns a refused read into errors of many types
                missing = self.bytes.missing()
                if not missing:
                    raise
            else:  # bytes may be missing all the same: h5py takes some errors for a no
                missing = self.bytes.missing()
                if not missing:
                    return answer
            self.mirror.fetch((first, max(end, first + NODE_BYTES)) for first, end in missing)

    def fetch(self, array: h5py.Dataset, where: tuple[slice | int, ...]) -> None:
        """Fetch the chunks of part of an array, many at once, where their places can be known."""
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
    """Where an array's chunks lie; chunks that were never written are left out."""
    found: dict[tuple[int, ...], Span] = {}

    def note(chunk: Any) -> None:
        found[tuple(chunk.chunk_offset)] = chunk.byte_offset, chunk.byte_offset + chunk.size

    array.id.chunk_iter(note)
    return found


def _rows(array: h5py.Dataset, ranges: list[range]) -> Iterator[Span]:
    """Byte spans of a contiguous array: per index of the first axis, from its first to its last requested value."""
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
