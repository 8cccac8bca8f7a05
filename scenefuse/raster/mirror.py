"""A file on the network as a local one: sparse, without a name, filled with what is about to be read.

GDAL reads it like any file, so that every reading takes one path, and GDAL's own clients for networks, which follow
any redirect, stay out. What was fetched stays as long as the mirror: statistics and overlapping windows fetch
nothing again.
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
"""What is fetched at least: a multiple of a C library's buffer, which begins at such a multiple after a seek."""
_READ_AHEAD_BYTES = 8 * 1024
"""A C library's buffer, which is filled past what was asked for: a hole in it would be read again, later, as zeros."""
_BRIDGE_BLOCKS = 4
"""Blocks from one that is wanted to the next, at most, for both to come by one request."""
_RUN_BLOCKS = 256
"""Blocks of one request at most: 4 MiB."""
_REQUESTS_AT_ONCE = 8


class Mirror:
    """The bytes of a remote file that were asked for so far."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.held_bytes = 0
        """What was fetched, and takes room among the temporary files."""
        with explained(Path(tempfile.gettempdir())):
            self._local, path = tempfile.mkstemp(prefix="scenefuse-")
            os.unlink(path)  # noqa: PTH108 - a kill leaves nothing
            weakref.finalize(self, os.close, self._local)
            os.truncate(self._local, file.size_bytes)
        self._there = bytearray(-(-file.size_bytes // BLOCK_BYTES))
        self._filling = threading.Lock()

    @property
    def path(self) -> str:
        """Where this process opens it."""
        return f"/proc/self/fd/{self._local}"

    def read(self, first: int, end: int) -> bytes:
        """The bytes of the remote file from first to before end."""
        self.fetch([(first, end)])
        return os.pread(self._local, end - first, first)

    def held(self, first: int, end: int) -> bytes | None:
        """The bytes from first to before end if all were fetched, else None. Waits for nobody."""
        if not all(self._there[first // BLOCK_BYTES : -(-end // BLOCK_BYTES)]):
            return None
        return os.pread(self._local, end - first, first)

    def fetch(self, spans: Iterable[Span]) -> None:
        """Fetch what of the spans is not there yet, as far as the file reaches. Errors are RemoteFile.read's."""
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
        """Fetch whole blocks."""
        data = memoryview(self.file.read(run))
        with explained(Path(tempfile.gettempdir())):
            done = 0
            while done < len(data):
                done += os.pwrite(self._local, data[done:], run[0] + done)
        first, count = run[0] // BLOCK_BYTES, -(-len(data) // BLOCK_BYTES)
        self._there[first : first + count] = b"\x01" * count

    def _missing(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Runs of whole blocks that hold the spans and are not there yet."""
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
