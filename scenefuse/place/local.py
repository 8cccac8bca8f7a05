"""Places on a disk: files are written by a temporary file, fsync, rename, and fsync of the folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from scenefuse.errors import SceneFuseError, StorageError, TransientError
from scenefuse.failure import FORBIDDEN, FULL, PASSING
from scenefuse.place.durable import PART, replacing, sha256_of, sync_folder, write_durably
from scenefuse.place.place import Change, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlace:
    """A file or a folder on a disk; implements Place."""

    path: Path
    """Its path."""

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> LocalPlace:
        return LocalPlace(path=self.path / name)

    @property
    def name(self) -> str:
        """Last part of its path, also of `.`."""
        return self.path.name or self.path.resolve().name

    @property
    def parent(self) -> LocalPlace:
        """The folder it is in."""
        return LocalPlace(path=self.path.parent)

    def resolved(self) -> LocalPlace:
        """The same place as an absolute path with symbolic links followed."""
        return LocalPlace(path=self.path.resolve())

    def read(self) -> bytes:
        """The whole file."""
        with explained(self.path):
            return self.path.read_bytes()

    def read_range(self, start: int, length: int | None = None) -> bytes:
        """Bytes [start, start + length), or to the end if length is None; a negative start counts from the end."""
        with explained(self.path), self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size + start) if start < 0 else start)
            return file.read(-1 if length is None else length)

    @property
    def asks_per_request(self) -> bool:
        """False: the kernel caches what was read."""
        return False

    def is_file(self) -> bool:
        """True if there is such a file."""
        return self.path.is_file()

    def measure(self) -> tuple[int, str]:
        """Size in bytes and hexadecimal SHA-256 of the stored file, read in blocks."""
        with explained(self.path):
            return self.path.stat().st_size, sha256_of(self.path)

    def holds(self, size_bytes: int, sha256: str, tag: str | None = None) -> bool:  # noqa: ARG002 - the protocol's
        """True if the file exists with this size and digest."""
        with explained(self.path):
            whole = self.path.is_file() and self.path.stat().st_size == size_bytes
            return whole and sha256_of(self.path) == sha256

    def put(self, data: bytes) -> None:
        """Make data the file's content, creating its folder if needed."""
        with explained(self.path):
            try:
                write_durably(self.path, data)
            except FileNotFoundError as error:  # the folder was there a moment ago
                raise went_away(self.path.parent) from error

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A hidden sibling to write to, which replaces the file when the block ends without an error."""
        with explained(self.path), replacing(self.path) as part:
            yield part

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A hidden folder in this one; `sweep` removes what a crash leaves of it. TransientError if it disappears."""
        with (
            explained(self.path),
            TemporaryDirectory(dir=self.path, prefix=".scratch-", suffix=PART, ignore_cleanup_errors=True) as folder,
        ):
            try:
                yield Path(folder)
            except FileNotFoundError as error:
                if Path(folder).is_dir():
                    raise
                raise went_away(Path(folder)) from error

    @property
    def shares_scratch(self) -> bool:
        """True: the scratch folder lies in this one."""
        return True

    def update(self, change: Change) -> bool:
        """Replace the content with the result of change, under a kernel lock; True if it changed."""
        with self._locked():
            old = self.path.read_bytes() if self.path.is_file() else None
            new = change(old)
            if new is None or new == old:
                return False
            write_durably(self.path, new)
            return True

    def discard(self, when: Callable[[bytes], bool] | None = None) -> None:
        """Remove the file if it exists (and, with when, if its content qualifies)."""
        if when is None:
            with explained(self.path):
                self.path.unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError), self._locked():
            if when(self.path.read_bytes()):
                self.path.unlink()

    def journal(self) -> LocalJournal:
        """The file as a journal."""
        with explained(self.path):
            return LocalJournal(self.path)

    def exists(self) -> bool:
        """True for an existing file or folder."""
        return self.path.exists()

    def is_folder(self) -> bool:
        """True for an existing folder."""
        return self.path.is_dir()

    def names(self) -> list[str]:
        """Names of files and folders directly below, sorted; empty if there is no such folder."""
        with explained(self.path):
            return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def files(self) -> list[str]:
        """Relative paths of all files below, unfinished ones included, sorted; empty if there is no such folder."""
        return sorted(
            (folder / name).relative_to(self.path).as_posix() for folder, _, names in self._below() for name in names
        )

    def make(self) -> tuple[LocalPlace, ...]:
        """Make the folder; returns the folders that had to be made for it: itself, its parent and so on."""
        missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        return tuple(LocalPlace(path=path) for path in missing)

    def unmake(self) -> None:
        """Remove the folder if it is empty."""
        with suppress(OSError):  # something has been put there
            self.path.rmdir()

    def clear(self, last: str | None = None) -> None:
        """Remove the folder and everything in it, entries that begin with `last` at the end."""
        with explained(self.path), suppress(FileNotFoundError):
            for path in list(self.path.iterdir()) if last is not None else ():
                if last is not None and path.name.startswith(last):
                    continue
                with suppress(FileNotFoundError):  # another process may remove it, too: the rest must still go
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
            shutil.rmtree(self.path)

    def sweep(self) -> None:
        """Remove what crashed writers left unfinished below."""
        with explained(self.path):
            below = [folder / name for folder, folders, names in self._below() for name in (*folders, *names)]
            unfinished = [path for path in below if path.name.startswith(".") and path.name.endswith(PART)]
            for path in unfinished:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def stored_bytes(self) -> int:
        """Total size of all files below, unfinished ones included."""
        size = 0
        for folder, _, names in self._below():
            for name in names:
                with suppress(FileNotFoundError):  # renamed by a run that works here
                    size += (folder / name).lstat().st_size
        return size

    def free_bytes(self) -> int:
        """Free bytes on the disk where it is or will be; StorageError if nothing can be written there."""
        there = self._existing()
        probe = there / f".scenefuse-{os.uname().nodename}-{time.monotonic_ns()}.probe"
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise StorageError(
                f"{there} cannot be written ({error.strerror})", "no product can be put there", "Choose another --out"
            ) from error
        return int(psutil.disk_usage(str(there)).free)

    def scratch_bytes(self) -> int:
        """Free bytes on the disk where it is or will be."""
        return int(psutil.disk_usage(str(self._existing())).free)

    def local_path(self) -> Path:
        """The path itself."""
        return self.path

    def link_to(self, path: Path) -> str:
        """The path relative to this folder."""
        return Path(os.path.relpath(path, self.path)).as_posix()

    def _below(self) -> Iterator[tuple[Path, list[str], list[str]]]:
        """Each folder here with its subfolders and files; one that a run removes meanwhile is no error."""

        def told(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        for folder, folders, names in os.walk(self.path, onerror=told):
            yield Path(folder), folders, names

    def _existing(self) -> Path:
        """The path, or its nearest existing parent."""
        path = self.path.absolute()
        return next(there for there in (path, *path.parents) if there.exists())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(f".{self.path.name.lstrip('.')}.lock")
        with explained(self.path), lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class LocalJournal:
    """An append-only file; a torn last line, left by a killed writer, is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        data = path.read_bytes() if path.exists() else b""
        self._size = data.rfind(b"\n") + 1
        self.lines: Sequence[bytes] = data[: self._size].splitlines()
        self._file = path.open("ab")
        try:
            self._file.truncate(self._size)
            sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines; on return they are on the disk. A failed append leaves no part of them."""
        data = b"".join(line + b"\n" for line in lines)
        with explained(self._path):
            try:
                self._file.write(data)
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError:
                self._begin_again()
                raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _begin_again(self) -> None:
        """Drop what could not be written, from the buffer and from the file."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            os.truncate(self._path, self._size)
        self._file = self._path.open("ab")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a lost permission in the block into StorageError, and what may pass into TransientError."""
    try:
        yield
    except OSError as error:
        typed = explanation(error, path)
        if typed is None:
            raise
        raise typed from error


def went_away(folder: Path | Place) -> TransientError:
    """The error for a working folder that has disappeared: unmounted, moved, or removed by others."""
    return TransientError(
        f"{folder} went away while it was in use",
        "what is finished is kept, and no reader sees the rest",
        "Put the folder back and run the same command again, or scenefuse refill OUT",
    )


def explanation(error: OSError, path: Path | str) -> SceneFuseError | None:
    """An OSError as one of scenefuse's errors; None if it means something else."""
    kept = "what is finished is kept, and no reader sees the rest"
    what = f"{error.filename or path}: {error.strerror}"
    if error.errno in FULL:
        return StorageError(what, kept, "Free some space there and run the same command again, or scenefuse refill OUT")
    if error.errno in FORBIDDEN:
        return StorageError(
            what, kept, "Restore write permission and run the same command again, or scenefuse refill OUT"
        )
    if error.errno in PASSING:
        return TransientError(what, kept, "Run the same command again, or scenefuse refill OUT")
    return None
