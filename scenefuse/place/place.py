"""Place: a file or a folder somewhere, and what a product needs to do with it.

Two implementations: `local.LocalPlace` on a disk, `store.StorePlace` on an object store. What is put is there whole
or not at all, and stays after a crash. An absent file raises FileNotFoundError from `read`; a place that is full or
not ours to write raises StorageError, one that failed in a way that passes TransientError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

Change = Callable[[bytes | None], bytes | None]
"""New content from the present one (None where there is no file); None leaves it."""


class Journal(Protocol):
    """Lines that are only ever added, a few at a time; each addition is there whole or not at all."""

    @property
    def lines(self) -> Sequence[bytes]:
        """The lines that were there when it was opened, without their ends."""
        ...

    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines; on return they are kept."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Place(Protocol):
    """A file or a folder. Picklable, and nothing but a name until it is used; str() is its path or URL."""

    @property
    def name(self) -> str:
        """Last part of its path."""
        ...

    @property
    def parent(self) -> Place:
        """The folder it is in."""
        ...

    def __truediv__(self, name: str) -> Place:
        """The place of this name, or relative path, below."""
        ...

    def resolved(self) -> Place:
        """The same place by its own name, links followed."""
        ...

    # Files

    def read(self) -> bytes:
        """The whole file."""
        ...

    def read_range(self, start: int, length: int | None = None) -> bytes:
        """Length bytes from start, to the end when None; a negative start counts from the end."""
        ...

    @property
    def asks_per_request(self) -> bool:
        """True when each read costs a request, so that many small ones are dearer than one of the whole file."""
        ...

    def is_file(self) -> bool:
        """True when there is such a file."""
        ...

    def measure(self) -> tuple[int, str]:
        """Size in bytes and hexadecimal sha256 of what is stored, read in blocks."""
        ...

    def holds(self, size_bytes: int, sha256: str, tag: str | None = None) -> bool:
        """True when the file is there with this size and digest; a tag that `put` gave spares reading it."""
        ...

    def put(self, data: bytes) -> str | None:
        """Make data the file's content, its folder too; the store's own tag of it, where it gives one."""
        ...

    def writing(self) -> AbstractContextManager[Path]:
        """A path on this machine to write to, which becomes the file when the block ends without an error."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """A new folder on this machine for working files; it goes with all that is in it when the block ends."""
        ...

    @property
    def shares_scratch(self) -> bool:
        """True when whoever writes here, from whatever machine, finds the scratch folder too."""
        ...

    def update(self, change: Change) -> bool:
        """Replace the content by what change makes of it, as one step for all who update; True when it changed.

        change is called again when somebody else was quicker, and on a store also when the answer to the first time
        was lost: made on its own result, the same change must change nothing. What it raises leaves the file as it is.
        """
        ...

    def discard(self, when: Callable[[bytes], bool] | None = None) -> None:
        """Remove the file, if there is one (and if its content is such)."""
        ...

    def journal(self) -> Journal:
        """The journal of this name, begun if there is none. For one writer at a time."""
        ...

    # Folders

    def exists(self) -> bool:
        """True for a file, and for a folder that exists; on a store a folder is what has something in it."""
        ...

    def is_folder(self) -> bool:
        """True for a folder that exists."""
        ...

    def names(self) -> list[str]:
        """Names of files and folders right below, sorted; empty when there is no such folder."""
        ...

    def files(self) -> list[str]:
        """Relative paths, with slashes, of all files below, sorted; empty when there is no such folder."""
        ...

    def make(self) -> tuple[Place, ...]:
        """The folders that had to be made so that this one is there: itself, its parent and so on."""
        ...

    def unmake(self) -> None:
        """Remove the folder if it is empty."""
        ...

    def clear(self, last: str | None = None) -> None:
        """Remove the folder with all that is in it; what begins with `last` at the end: the lease on it, for example.

        Without its lease a folder is free, and others would begin to work in one that is being removed.
        """
        ...

    def sweep(self) -> None:
        """Remove what crashed writers left unfinished below; for one who knows that nobody writes."""
        ...

    def stored_bytes(self) -> int:
        """Size of all files below together."""
        ...

    def free_bytes(self) -> int | None:
        """Bytes that still fit, None when there is no limit; StorageError when nothing can be written there."""
        ...

    def scratch_bytes(self) -> int:
        """Free bytes where `writing` and `scratch` make their files."""
        ...

    # On this machine

    def local_path(self) -> Path:
        """The path by which other programs on this machine find it; DataError when there is none."""
        ...

    def link_to(self, path: Path) -> str:
        """How a document in this folder refers to a file on this machine."""
        ...
