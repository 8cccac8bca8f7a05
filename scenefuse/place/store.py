"""Places on an object store: a file is one object, put whole; a folder is a prefix with objects below.

Conditional requests (If-None-Match, If-Match) replace the kernel's locks.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenefuse.errors import DataError, StorageError, TransientError
from scenefuse.place.local import explained
from scenefuse.place.place import Change
from scenefuse.place.requests import CutShortError, attempt, open_bucket

if TYPE_CHECKING:
    from obstore.store import S3Store

_BLOCK_BYTES = 32 << 20
"""Bytes per request when an object is read to compute its digest."""
_CONTENTIONS = 30
"""Attempts at an update while others change the same object."""
_THREADS = 8
"""Parts of a journal read at the same time."""
_DELETED_AT_ONCE = 500
"""Objects per delete request; a store takes 1,000."""
_PART_BYTES = 5 << 20
"""Minimum bytes of a part of an upload, which is S3's own limit."""
_MOST_PARTS = 9_000
"""Maximum parts of one upload; a store takes 10,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """An object or prefix on S3; implements Place. Keys and endpoint come from the environment, never from here."""

    bucket: str
    """Name of the bucket."""
    key: str
    """Key of the object, or prefix without its trailing slash; empty for the bucket."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> StorePlace:
        return StorePlace(bucket=self.bucket, key=f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """Last part of its key; the bucket's name for the bucket."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> StorePlace:
        """The prefix that it is in."""
        return StorePlace(bucket=self.bucket, key=self.key.rpartition("/")[0])

    def resolved(self) -> StorePlace:
        """Itself: a store has no links."""
        return self

    def read(self) -> bytes:
        """The whole object."""
        found = self._get()
        if found is None:
            raise FileNotFoundError(f"{self} does not exist")
        return found[0]

    def read_range(self, start: int, length: int | None = None) -> bytes:
        """Bytes [start, start + length), or to the end if length is None; a negative start counts from the end."""
        option: Any = {"suffix": -start} if start < 0 else {"offset": start}
        if start >= 0 and length is not None:
            option = (start, start + length)
        data = self._get_range({"range": option})
        return data if length is None else data[:length]

    def stat(self) -> tuple[int, str] | None:
        """Size in bytes and ETag of the object; None if it does not exist."""
        head = self._head()
        return None if head is None else (head["size"], head["e_tag"] or "")

    def read_unchanged(self, first: int, end: int, tag: str) -> bytes | None:
        """Bytes [first, end) of the object; None if it is gone or no longer has this ETag."""
        from obstore.exceptions import PreconditionError

        condition = {"if_match": tag} if tag else {}
        try:
            return self._get_range({"range": (first, end), **condition})
        except (PreconditionError, FileNotFoundError):
            return None

    @property
    def asks_per_request(self) -> bool:
        """True: every read is a request."""
        return True

    def is_file(self) -> bool:
        """True if there is such an object."""
        return self._head() is not None

    def measure(self) -> tuple[int, str]:
        """Size in bytes and hexadecimal SHA-256 of what is stored, read in blocks.

        Each block is a request of its own: a single one for all would have to end within one request's timeout.
        """
        found = self.stat()
        if found is None:
            raise FileNotFoundError(f"{self} does not exist")
        (size, tag), digest = found, hashlib.sha256()
        for first in range(0, size, _BLOCK_BYTES):
            block = self.read_unchanged(first, min(size, first + _BLOCK_BYTES), tag)
            if block is None:
                raise TransientError(
                    f"{self} changed while it was read",
                    "its digest belongs to no single file",
                    "Run the same command again",
                )
            digest.update(block)
        return size, digest.hexdigest()

    def holds(self, size_bytes: int, sha256: str, tag: str | None = None) -> bool:
        """True if the object exists with this size and this tag or, if the tag differs, this digest."""
        head = self._head()
        if head is None or head["size"] != size_bytes:
            return False
        return (tag is not None and head["e_tag"] == tag) or self.measure() == (size_bytes, sha256)

    def put(self, data: bytes) -> str | None:
        """Make data the object's content in one request; returns its ETag."""
        return self._put(data, "overwrite")

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A file in a scratch folder, uploaded when the block ends without an error."""
        import obstore

        with tempfile.TemporaryDirectory(prefix="scenefuse-") as folder:
            path = Path(folder) / self.name
            with explained(path):
                yield path
            part_bytes = max(_PART_BYTES, -(-path.stat().st_size // _MOST_PARTS))
            attempt(lambda: obstore.put(self._store, self.key, path, chunk_size=part_bytes), f"Writing {self}")
            stored = self._head()
            if stored is None or stored["size"] != path.stat().st_size:
                raise TransientError(
                    f"{self} has a different size from what was written",
                    "it is incomplete",
                    "Run the same command again",
                )

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder among this machine's temporary files."""
        with tempfile.TemporaryDirectory(prefix="scenefuse-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    @property
    def shares_scratch(self) -> bool:
        """False: other machines that write here cannot find it."""
        return False

    def update(self, change: Change) -> bool:
        """Replace the content with the result of change if nobody else changed it meanwhile, else try again."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        ours: bytes | None = None
        for _ in range(_CONTENTIONS):
            found = self._get()
            old = None if found is None else found[0]
            if ours is not None and old == ours:
                return True  # an earlier attempt succeeded, but its answer was lost
            ours = change(old)
            if ours is None or ours == old:
                return False
            # An object that disappears between reading and writing is a lost race like any other.
            with contextlib.suppress(AlreadyExistsError, PreconditionError, FileNotFoundError):
                self._put(ours, "create" if found is None else {"e_tag": found[1]})
                return True
            time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 - spreads competing writers, no secret
        raise TransientError(
            f"{self} was changed by others {_CONTENTIONS} times while this run tried",
            "its own change was not made",
            "Run the same command again",
        )

    def discard(self, when: Callable[[bytes], bool] | None = None) -> None:
        """Remove the object if it exists (and, with when, if its content qualifies).

        Stores have no conditional delete: another writer may write between the check and the removal. A caller that
        uses this for a lease holds it for longer than a request takes.
        """
        import obstore

        if when is not None:
            found = self._get()
            if found is None or not when(found[0]):
                return
        with contextlib.suppress(FileNotFoundError):
            attempt(lambda: obstore.delete(self._store, self.key), f"Removing {self}")

    def journal(self) -> StoreJournal:
        """The prefix as a journal."""
        return StoreJournal(self)

    def exists(self) -> bool:
        """True for an object, or for a prefix with objects below."""
        return self.is_folder() or self.is_file()

    def is_folder(self) -> bool:
        """True for a prefix with objects below, or for a bucket."""
        return not self.key or self._any_below()

    def names(self) -> list[str]:
        """Names of objects and prefixes directly below, sorted."""
        import obstore

        found = attempt(lambda: obstore.list_with_delimiter(self._store, self._prefix), f"Listing {self}")
        objects = [entry["path"] for entry in found["objects"]]
        return sorted({path.rstrip("/").rpartition("/")[2] for path in (*objects, *found["common_prefixes"])})

    def files(self) -> list[str]:
        """Keys of all objects below, relative to this one, sorted."""
        return sorted(self._relative(entry["path"]) for entry in self._entries())

    def make(self) -> tuple[StorePlace, ...]:
        """Makes nothing, as a store has no folders: returns this place alone if nothing is below yet."""
        return () if self.is_folder() else (self,)

    def unmake(self) -> None:
        """Does nothing: a prefix without objects does not exist."""

    def clear(self, last: str | None = None) -> None:
        """Remove all objects below, those that begin with `last` at the end."""
        import obstore

        paths = [entry["path"] for entry in self._entries()]
        at_end = [path for path in paths if last is not None and self._relative(path).startswith(last)]
        # In requests of their own: within one, a store removes objects in any order.
        for these in ([path for path in paths if path not in at_end], at_end):
            for start in range(0, len(these), _DELETED_AT_ONCE):
                some = these[start : start + _DELETED_AT_ONCE]
                attempt(lambda some=some: obstore.delete(self._store, some), f"Removing {self}")  # type: ignore[misc] # bound

    def sweep(self) -> None:
        """Does nothing: an object is there whole or not at all."""

    def stored_bytes(self) -> int:
        """Total size of all objects below."""
        return sum(entry["size"] for entry in self._entries())

    def free_bytes(self) -> None:
        """None, as a store has no limit; StorageError if no object can be put there."""
        probe = self / f".scenefuse-{uuid.uuid4().hex}.probe"
        try:
            probe.put(b"")
            probe.discard()
        except FileNotFoundError as error:
            raise StorageError(
                f"The bucket {self.bucket} does not exist",
                "no product can be put there",
                "Create it, or choose another place",
            ) from error

    def scratch_bytes(self) -> int:
        """Free bytes of this machine's folder for temporary files."""
        return shutil.disk_usage(tempfile.gettempdir()).free

    def local_path(self) -> Path:
        """Always raises DataError: there is no local path."""
        raise DataError(
            f"{self} is on an object store", "this step needs it on disk", "Copy it to disk first, and give that copy"
        )

    def link_to(self, path: Path) -> str:
        """The file's URL: no relative path leads to it from a store."""
        return path.absolute().as_uri()

    @property
    def _store(self) -> S3Store:
        return open_bucket(self.bucket)

    @property
    def _prefix(self) -> str | None:
        return f"{self.key}/" if self.key else None

    def _relative(self, path: str) -> str:
        return path.removeprefix(self._prefix or "")

    def _get(self) -> tuple[bytes, str | None] | None:
        """Content and ETag; None if there is no such object."""
        import obstore

        def get() -> tuple[bytes, str | None]:
            result = obstore.get(self._store, self.key)
            data = bytes(result.bytes())
            if len(data) != result.meta["size"]:
                raise CutShortError(f"{len(data)} of {result.meta['size']} bytes came")
            return data, result.meta["e_tag"]

        if not self.key:  # a bucket is no object, although it answers like one
            return None
        try:
            return attempt(get, f"Reading {self}")
        except FileNotFoundError:
            return None

    def _put(self, data: bytes, mode: Any) -> str | None:
        import obstore

        result = attempt(
            lambda: obstore.put(self._store, self.key, data, mode=mode, use_multipart=False), f"Writing {self}"
        )
        return result["e_tag"]

    def _get_range(self, options: Any) -> bytes:
        """The complete bytes that the store returns for these GET options."""
        import obstore

        def get() -> bytes:
            result = obstore.get(self._store, self.key, options=options)
            first, end = result.range
            data = bytes(result.bytes())
            if len(data) != end - first:
                raise CutShortError(f"{len(data)} of {end - first} bytes came")
            return data

        return attempt(get, f"Reading {self}")

    def _head(self) -> Any:
        import obstore

        if not self.key:
            return None
        try:
            return attempt(lambda: obstore.head(self._store, self.key), f"Reading {self}")
        except FileNotFoundError:
            return None

    def _any_below(self) -> bool:
        import obstore

        stream = attempt(
            lambda: next(iter(obstore.list(self._store, self._prefix, chunk_size=1)), None), f"Listing {self}"
        )
        return bool(stream)

    def _entries(self) -> Sequence[Any]:
        import obstore

        return attempt(lambda: obstore.list(self._store, self._prefix).collect(), f"Listing {self}")


class StoreJournal:
    """Numbered objects below a prefix, each put by one exclusive create."""

    def __init__(self, place: StorePlace) -> None:
        self._place = place
        names = place.names()
        self._next = 1 + max((int(name) for name in names if name.isdecimal()), default=-1)
        with ThreadPoolExecutor(_THREADS) as pool:
            parts = list(pool.map(lambda name: (place / name).read(), names))
        self.lines: Sequence[bytes] = [line for part in parts for line in part.splitlines()]

    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines as the next object; StorageError if another writer was there first."""
        data = b"".join(line + b"\n" for line in lines)
        entry = self._place / f"{self._next:08d}"
        if not entry.update(lambda old: data if old is None else None) and entry.read() != data:
            raise StorageError(
                f"{entry} was written by another run",
                "two runs must not share a ledger",
                "Run again when it has ended",
            )
        self._next += 1

    def close(self) -> None:
        """Does nothing: each addition was a request of its own."""
