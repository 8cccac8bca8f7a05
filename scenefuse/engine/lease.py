"""A lease on a folder: one holder at a time, taken over when the holder is gone."""

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
    """A process, told apart from all others."""

    machine: str
    """Host name, and on Linux its boot and its process-id namespace."""
    pid: int
    """Process id there."""
    started: float
    """Start of the process, on Linux seconds since the boot: process ids are used again."""
    expires: float
    """When the lease ends unless it is renewed, seconds since the epoch."""

    @property
    def gone(self) -> bool:
        """True when the lease has expired, or its process on this machine has ended."""
        if time.time() > self.expires:
            return True
        if self.machine != _machine():
            return False
        started = _start_of(self.pid)
        return started is None or abs(started - self.started) > 1


class LeaseHeldError(ResourceError):
    """Another process holds the lease; when it has ended, the same call goes through."""

    kind = "busy"
    retryable = True


class LeaseLostError(ResourceError):
    """The lease was taken over by another process while this one held it."""


class Lease:
    """The holder of the lease file; renewed by a thread until released.

    Each change is one step for all who share the place (Place.update: a lock of the kernel on a disk, a conditional
    request on a store). A holder on another machine is believed until its lease expires.
    """

    def __init__(self, path: Path | Place, *, lasts_s: float = 60.0) -> None:
        """Take the lease, or raise LeaseHeldError while another holds it."""
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
        """Give the lease back; a folder that is gone has none."""
        self._ended.set()
        self._renewer.join()
        with contextlib.suppress(OSError, SceneFuseError):  # one that cannot be given back ends by itself
            self._place.discard(lambda data: self._is_mine(_owner(data)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _renew(self) -> None:
        while not self._ended.wait(self._lasts_s / 3):
            # A folder that is away for a moment must not end the run: expiry decides.
            with contextlib.suppress(OSError, SceneFuseError):
                self._place.update(self._renewed)

    def _taken(self, old: bytes | None) -> bytes:
        """The lease as this process has it, when it is free."""
        other = None if old is None else _owner(old)
        if other is not None and not other.gone:
            raise LeaseHeldError(
                f"{self._place.parent} is in use by process {other.pid} on {other.machine.split('|')[0]}",
                "two runs must not work on one product",
                "Wait for it to end, or stop it; a dead one's lease ends by itself within a minute",
            )
        return self._record()

    def _renewed(self, old: bytes | None) -> bytes | None:
        """The lease with a new end; None when it was taken over by another process."""
        return self._record() if old is not None and self._is_mine(_owner(old)) else None

    def _record(self) -> bytes:
        return json.dumps({**asdict(self._me), "expires": time.time() + self._lasts_s}).encode()

    def _is_mine(self, owner: Owner | None) -> bool:
        mine = self._me
        return owner is not None and (owner.machine, owner.pid, owner.started) == (mine.machine, mine.pid, mine.started)


def live_owner(path: Path | Place) -> Owner | None:
    """Who holds the lease there; None when nobody does any more."""
    try:
        owner = _owner(place_at(path).read())
    except FileNotFoundError:
        return None
    return None if owner is None or owner.gone else owner


def _owner(data: bytes) -> Owner | None:
    """The owner that a lease names; None for what is no lease: it was put there by no run and binds nobody."""
    try:
        return Owner(**json.loads(data))
    except (ValueError, TypeError):
        return None


def _start_of(pid: int) -> float | None:
    """When a process of this machine began, in seconds; None where there is none of this id.

    By the kernel's count since the boot: as a time of the day, which others have it as, it moves when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # a name may have blanks, brackets
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
