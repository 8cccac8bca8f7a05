"""A lease on a folder: one holder at a time, taken over when the holder is gone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

from scenefuse.errors import ResourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, told apart from all others."""

    machine: str
    """Host name, and on Linux its boot and its process-id namespace."""
    pid: int
    """Process id there."""
    started: float
    """Start of the process, seconds since the epoch: process ids are used again."""
    expires: float
    """When the lease ends unless it is renewed, seconds since the epoch."""

    @property
    def gone(self) -> bool:
        """True when the lease has expired, or its process on this machine has ended."""
        if time.time() > self.expires:
            return True
        if self.machine != _machine():
            return False
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) > 1)
        except psutil.NoSuchProcess:
            return True


class LeaseLostError(ResourceError):
    """The lease went to another process while this one held it."""


class Lease:
    """The holder of the lease file; renewed by a thread until released.

    Changes to the file are made under a lock of the kernel on `<path>.lock`, each by a rename, so that a
    reader sees a whole one. A holder on another machine is believed until its lease expires.
    """

    def __init__(self, path: Path, *, lasts_s: float = 60.0) -> None:
        """Take the lease, or raise ResourceError while another holds it."""
        self._path = path
        self._lasts_s = lasts_s
        self._ended = threading.Event()
        self._me = Owner(
            machine=_machine(), pid=os.getpid(), started=psutil.Process().create_time(), expires=time.time() + lasts_s
        )
        with self._locked():
            other = self._read()
            if other is not None and not other.gone:
                raise ResourceError(
                    f"{path.parent} is in use by process {other.pid} on {other.machine.split('|')[0]}",
                    "two runs must not work on one product",
                    "Wait for it to end, or stop it; a dead one's lease ends by itself within a minute",
                )
            self._write(self._me)
        self._renewer = threading.Thread(target=self._renew, name="scenefuse-lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Raise LeaseLostError unless this process still holds the lease."""
        if not self._is_mine(self._read()):
            raise LeaseLostError(
                f"The lease {self._path} went to another process",
                "this run was stopped for longer than its lease lasts",
                "Run again when the other one has ended",
            )

    def release(self) -> None:
        """Give the lease back; a folder that is gone has none."""
        self._ended.set()
        self._renewer.join()
        with contextlib.suppress(FileNotFoundError), self._locked():
            if self._is_mine(self._read()):
                self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _renew(self) -> None:
        while not self._ended.wait(self._lasts_s / 3):
            # A folder that is away for a moment must not end the run: expiry decides.
            with contextlib.suppress(OSError), self._locked():
                if not self._is_mine(self._read()):
                    return
                self._write(self._me)

    def _is_mine(self, owner: Owner | None) -> bool:
        mine = self._me
        return owner is not None and (owner.machine, owner.pid, owner.started) == (mine.machine, mine.pid, mine.started)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> Owner | None:
        try:
            return Owner(**json.loads(self._path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            # Only a rename puts a lease there; what is no lease was not ours and binds nobody.
            return None

    def _write(self, owner: Owner) -> None:
        part = self._path.with_name(f"{self._path.name}.part")
        record = {**asdict(owner), "expires": time.time() + self._lasts_s}
        part.write_text(json.dumps(record))
        part.replace(self._path)


def _machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "|".join(parts)
