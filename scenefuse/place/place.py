"""Place: a file or folder somewhere, and what a product needs to do with it.

Two implementations: `local.LocalPlace` on a disk, `store.StorePlace` on an object store. Writes are atomic and survive
a crash. For an absent file, `read` raises FileNotFoundError; a place that is full or not ours to write raises
StorageError, a failure that may pass TransientError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

Change = Callable[[bytes | None], bytes | None]
"""New content from the present one (None if there is no file); returning None leaves it."""


class Journal(Protocol):
    """Append-only lines, added a few at a time; each addition is there whole or not at all."""

    @property
    def lines(self) -> Sequence[bytes]:
        """The lines present when it was opened, without their ends."""
        ...

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines; on return they are durable."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class Place(Protocol):
    """A file or folder. Picklable, and nothing but a name until it is used; str() is its path or URL."""

    @property
    def name(self) -> str:
        """Last part of its path."""
        ...

    @property
    def parent(self) -> Place:
        """The folder it is in."""
        ...

    def __truediv__(self, name: str) -> Place:
        """The place at this name, or relative path, below."""
        ...

    def resolved(self) -> Place:
        """The same place with links followed."""
        ...

    # Files

    def read(self) -> bytes:
        """The whole file."""
        ...

    def read_range(self, start: int, length: int | None = None) -> bytes:
        """Bytes [start, start + length), or to the end if length is None; a negative start counts from the end."""
        ...

    @property
    def asks_per_request(self) -> bool:
        """True if each read costs a request, so that many small reads cost more than one of the whole file."""
        ...

    def is_file(self) -> bool:
        """True if there is such a file."""
        ...

    def measure(self) -> tuple[int, str]:
        """Size in bytes and hexadecimal SHA-256 of what is stored, read in blocks."""
        ...

    def holds(self, size_bytes: int, sha256: str, tag: str | None = None) -> bool:
        """True if the file exists with this size and digest; a tag from `put` saves reading it."""
        ...

    def put(self, data: bytes) -> str | None:
        """Make data the file's content, creating its folder; returns the store's own tag for it, if it gives one."""
        ...

    def writing(self) -> AbstractContextManager[Path]:
        """A local path to write to, which becomes the file when the block ends without an error."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """A new local folder for working files, removed with its contents when the block ends."""
        ...

    @property
    def shares_scratch(self) -> bool:
        """True if everyone who writes here, on any machine, finds the scratch folder too."""
        ...

    def update(self, change: Change) -> bool:
        """Replace the content with the result of change, in one step for all who update; True if it changed.

        change is called again if another writer was quicker and, on a store, also if the answer to the first attempt
        was lost: applied to its own result, it must change nothing. If it raises, the file stays as it is.
        """
        ...

    def discard(self, when: Callable[[bytes], bool] | None = None) -> None:
        """Remove the file if it exists (and, with when, if its content qualifies)."""
        ...

    def journal(self) -> Journal:
        """The journal of this name, created if there is none. For one writer at a time."""
        ...

    # Folders

    def exists(self) -> bool:
        """True for an existing file or folder; on a store, a folder exists if it has something in it."""
        ...

    def is_folder(self) -> bool:
        """True for an existing folder."""
        ...

    def names(self) -> list[str]:
        """Names of files and folders directly below, sorted; empty if there is no such folder."""
        ...

    def files(self) -> list[str]:
        """Relative paths, with slashes, of all files below, sorted; empty if there is no such folder."""
        ...

    def make(self) -> tuple[Place, ...]:
        """Make the folder; returns the folders that had to be made for it: itself, its parent and so on."""
        ...

    def unmake(self) -> None:
        """Remove the folder if it is empty."""
        ...

    def clear(self, last: str | None = None) -> None:
        """Remove the folder and everything in it, entries that begin with `last` (such as its lease) at the end.

        A folder without its lease is free, and others would start work in one that is being removed.
        """
        ...

    def sweep(self) -> None:
        """Remove what crashed writers left unfinished below; only for callers who know that nobody is writing."""
        ...

    def stored_bytes(self) -> int:
        """Total size of all files below."""
        ...

    def free_bytes(self) -> int | None:
        """Bytes that still fit, None if there is no limit; StorageError if nothing can be written there."""
        ...

    def scratch_bytes(self) -> int:
        """Free bytes where `writing` and `scratch` create their files."""
        ...

    # On this machine

    def local_path(self) -> Path:
        """The path by which other programs on this machine find it; DataError if there is none."""
        ...

    def link_to(self, path: Path) -> str:
        """How a document in this folder refers to a file on this machine."""
        ...
