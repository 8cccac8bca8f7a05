"""A local copy of a remote file: sparse, nameless, and filled with whatever is about to be read.

GDAL reads it like any local file, so that all reads take one path and GDAL's own network clients, which follow any
redirect, stay out. Fetched bytes stay as long as the mirror: statistics and overlapping windows fetch nothing twice.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scenefuse.archive.remote import RemoteFile, Span
from scenefuse.place.local import explained

BLOCK_BYTES = 16 * 1024
"""Smallest unit fetched: a multiple of a C library's buffer, which begins at such a multiple after a seek."""
_READ_AHEAD_BYTES = 8 * 1024
"""A C library's buffer, which is filled past the bytes requested: a hole in it would later be read as zeros."""
_BRIDGE_BLOCKS = 4
"""Greatest distance between wanted blocks, in blocks, that one request covers."""
_RUN_BLOCKS = 256
"""Most blocks in one request: 4 MiB."""
_REQUESTS_AT_ONCE = 8


class Mirror:
    """The bytes of a remote file that have been fetched so far."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.held_bytes = 0
        """Bytes fetched so far, which take up temporary disk space."""
        with explained(Path(tempfile.gettempdir())):
            self._local, path = tempfile.mkstemp(prefix="scenefuse-")
            os.unlink(path)  # noqa: PTH108 - a kill leaves nothing behind
            weakref.finalize(self, os.close, self._local)
            os.truncate(self._local, file.size_bytes)
        self._there = bytearray(-(-file.size_bytes // BLOCK_BYTES))
        self._filling = threading.Lock()

    @property
    def path(self) -> str:
        """The path by which this process opens it."""
        return f"/proc/self/fd/{self._local}"

    def read(self, first: int, end: int) -> bytes:
        """The remote file's bytes in [first, end), fetched where necessary."""
        self.fetch([(first, end)])
        return os.pread(self._local, end - first, first)

    def held(self, first: int, end: int) -> bytes | None:
        """The bytes in [first, end) if all were fetched, else None. Never waits."""
        if not all(self._there[first // BLOCK_BYTES : -(-end // BLOCK_BYTES)]):
            return None
        return os.pread(self._local, end - first, first)

    def fetch(self, spans: Iterable[Span]) -> None:
        """Fetch the missing parts of the spans, up to the end of the file. Errors are RemoteFile.read's."""
        with self._filling:
            runs = list(self._missing(spans))
            if len(runs) < 2:
                for run in runs:
                    self._fill(run)
            else:
                with ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="scenefuse-ranges") as threads:
                    for _ in threads.map(self._fill, runs):
                        pass
            if runs:
                self.held_bytes = self._there.count(1) * BLOCK_BYTES

    def _fill(self, run: Span) -> None:
        """Fetch a run of whole blocks."""
        data = memoryview(self.file.read(run))
        with explained(Path(tempfile.gettempdir())):
            done = 0
            while done < len(data):
                done += os.pwrite(self._local, data[done:], run[0] + done)
        first, count = run[0] // BLOCK_BYTES, -(-len(data) // BLOCK_BYTES)
        self._there[first : first + count] = b"\x01" * count

    def _missing(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Runs of whole blocks that hold the spans and are still missing."""
        wanted = sorted(
            {
                block
                for first, end in spans
                for block in range(
                    first // BLOCK_BYTES, min(len(self._there), -(-(end + _READ_AHEAD_BYTES) // BLOCK_BYTES))
                )
                if not self._there[block]
            }
        )
        begins = 0
        for index, block in enumerate(wanted):
            first, following = wanted[begins], wanted[index + 1] if index + 1 < len(wanted) else None
            if following is None or following - block > _BRIDGE_BLOCKS or following - first >= _RUN_BLOCKS:
                yield first * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, self.file.size_bytes)
                begins = index + 1
