"""A lease on a folder, with one holder at a time; others can take it over once the holder is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

from scenefuse.errors import ResourceError, SceneFuseError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, uniquely identified."""

    machine: str
    """Host name and, on Linux, its boot id and process-id namespace."""
    pid: int
    """Process id there."""
    started: float
    """Start of the process, on Linux in seconds since boot; needed because process ids are reused."""
    expires: float
    """When the lease ends unless renewed, seconds since the epoch."""

    @property
    def gone(self) -> bool:
        """True if the lease has expired, or if its process was on this machine and has ended."""
        if time.time() > self.expires:
            return True
        if self.machine != _machine():
            return False
        started = _start_of(self.pid)
        return started is None or abs(started - self.started) > 1


class LeaseHeldError(ResourceError):
    """Another process holds the lease; once it has ended, the same call succeeds."""

    kind = "busy"
    retryable = True


class LeaseLostError(ResourceError):
    """Another process took the lease over from this one."""


class Lease:
    """A held lease file, renewed by a thread until released.

    Each change is atomic for all who share the place (Place.update: a kernel lock on a disk, a conditional request on
    an object store). A holder on another machine counts as alive until its lease expires.
    """

    def __init__(self, path: Path | Place, *, lasts_s: float = 60.0) -> None:
        """Take the lease; LeaseHeldError while another process holds it."""
        self._place = place_at(path)
        self._lasts_s = lasts_s
        self._ended = threading.Event()
        pid = os.getpid()
        self._me = Owner(machine=_machine(), pid=pid, started=_start_of(pid) or 0.0, expires=time.time() + lasts_s)
        self._place.update(self._taken)
        self._renewer = threading.Thread(target=self._renew, name="scenefuse-lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Raise LeaseLostError unless this process still holds the lease."""
        try:
            held = self._is_mine(_owner(self._place.read()))
        except FileNotFoundError:
            held = False
        if not held:
            raise LeaseLostError(
                f"The lease {self._place} was taken over by another process",
                "this run was suspended for longer than its lease lasts",
                "Run again when the other one has ended",
            )

    def release(self) -> None:
        """Give the lease back; does nothing if the folder is gone."""
        self._ended.set()
        self._renewer.join()
        with contextlib.suppress(OSError, SceneFuseError):  # a lease that cannot be released expires by itself
            self._place.discard(lambda data: self._is_mine(_owner(data)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _renew(self) -> None:
        while not self._ended.wait(self._lasts_s / 3):
            # A folder that is briefly unreachable must not end the run: expiry decides.
            with contextlib.suppress(OSError, SceneFuseError):
                self._place.update(self._renewed)

    def _taken(self, old: bytes | None) -> bytes:
        """The lease's new content, held by this process; LeaseHeldError if another holds it."""
        other = None if old is None else _owner(old)
        if other is not None and not other.gone:
            raise LeaseHeldError(
                f"{self._place.parent} is in use by process {other.pid} on {other.machine.split('|')[0]}",
                "two runs must not work on one product",
                "Wait for it to end, or stop it; a dead one's lease ends by itself within a minute",
            )
        return self._record()

    def _renewed(self, old: bytes | None) -> bytes | None:
        """The lease with a new expiry; None if another process has taken it over."""
        return self._record() if old is not None and self._is_mine(_owner(old)) else None

    def _record(self) -> bytes:
        return json.dumps({**asdict(self._me), "expires": time.time() + self._lasts_s}).encode()

    def _is_mine(self, owner: Owner | None) -> bool:
        mine = self._me
        return owner is not None and (owner.machine, owner.pid, owner.started) == (mine.machine, mine.pid, mine.started)


def live_owner(path: Path | Place) -> Owner | None:
    """The lease's holder; None if it has none that is alive."""
    try:
        owner = _owner(place_at(path).read())
    except FileNotFoundError:
        return None
    return None if owner is None or owner.gone else owner


def _owner(data: bytes) -> Owner | None:
    """The owner named in a lease; None if the data is not a lease: no run wrote it, so it binds nobody."""
    try:
        told = json.loads(data)
        return Owner(
            machine=str(told["machine"]),
            pid=int(told["pid"]),
            started=float(told["started"]),
            expires=float(told["expires"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _start_of(pid: int) -> float | None:
    """Start of a process of this machine, in seconds; None if there is no process with this id.

    Taken from the kernel's count since boot, because a wall-clock time, as other sources give it, moves when the clock
    is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # names may hold spaces, brackets
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:  # no such process, or a system without /proc
        try:
            return psutil.Process(pid).create_time()
        except psutil.Error:
            return None


def _machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "|".join(parts)
