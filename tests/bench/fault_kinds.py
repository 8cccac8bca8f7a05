"""What can be done to a batch that runs: kills, signals, a worker that hangs, a disk that is full, closed or away."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bench.batch_call import BatchCall

DISK_BYTES = 256 * 2**20
"""Size of the disk that is filled."""


@dataclass(kw_only=True)
class Ground:
    """Where outputs go, and what the faults may do there."""

    folder: Path
    """Holds one output folder per round; on a small disk of its own where one can be mounted."""
    own_disk: bool
    """Whether it is on such a disk."""
    left_out: set[str] = field(default_factory=set)
    """Kinds of faults that cannot be dealt here."""
    _outs: int = 0

    @classmethod
    @contextmanager
    def under(cls, work: Path) -> Iterator[Ground]:
        """A ground below work; its disk is gone at the end."""
        folder = work / "disk"
        folder.mkdir()
        own_disk = _succeeds("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))
        try:
            yield cls(folder=folder, own_disk=own_disk)
        finally:
            if own_disk:
                subprocess.run(["umount", "--lazy", str(folder)], check=True)

    def new_out(self) -> Path:
        """An output folder that is not there yet; the one before is removed."""
        for old in self.folder.iterdir():
            shutil.rmtree(old)
        self._outs += 1
        return self.folder / f"out-{self._outs}"

    def shadows(self, out: Path) -> list[Path]:
        """What was written under the output's name while it was away."""
        return sorted(out.parent.glob(f"{out.name}.shadow-*"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault."""

    deal: Callable[[BatchCall, Ground, random.Random], bool]
    """Does it; False when there was nothing to do it to."""
    weight: float
    """How often, beside the others."""
    kills: bool = False
    """Whether the command cannot say anything about it."""


def possible_faults(ground: Ground) -> dict[str, Fault]:
    """The kinds that can be dealt on this ground, by name; the others are noted there."""
    kinds = {
        "kill a worker": Fault(deal=_kill_worker, weight=8),
        "kill everything": Fault(deal=_kill_everything, weight=2.5, kills=True),
        "kill the coordinator": Fault(deal=_kill_coordinator, weight=1.5, kills=True),
        "Ctrl-C": Fault(deal=_interrupt, weight=1.5),
        "SIGTERM": Fault(deal=_terminate, weight=1.5),
        "hang a worker": Fault(deal=_hang_worker, weight=2.5),
        "stop everything for a while": Fault(deal=_pause, weight=2.5),
        "full disk": Fault(deal=_fill_disk, weight=3),
        "no permission": Fault(deal=_forbid, weight=3),
        "folder away for a while": Fault(deal=_take_away, weight=2),
    }
    if not ground.own_disk:
        ground.left_out.add("full disk")
    if not _can_forbid(ground.folder):
        ground.left_out.add("no permission")
    return {name: fault for name, fault in kinds.items() if name not in ground.left_out}


def _kill_worker(call: BatchCall, _: Ground, chance: random.Random) -> bool:
    return _signal_worker(call, chance, signal.SIGKILL)


def _hang_worker(call: BatchCall, _: Ground, chance: random.Random) -> bool:
    """Stopped for good: the scheduler has to find out."""
    return _signal_worker(call, chance, signal.SIGSTOP)


def _signal_worker(call: BatchCall, chance: random.Random, number: signal.Signals) -> bool:
    workers = call.workers()
    if not workers:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(workers).send_signal(number)
        return True
    return False


def _kill_everything(call: BatchCall, _: Ground, __: random.Random) -> bool:
    return _signal_group(call, signal.SIGKILL)


def _kill_coordinator(call: BatchCall, _: Ground, __: random.Random) -> bool:
    """Workers find out by themselves; the next call may begin before they have ended."""
    call.process.kill()
    return True


def _interrupt(call: BatchCall, _: Ground, __: random.Random) -> bool:
    """As a terminal does: to all processes of the foreground group."""
    return _signal_group(call, signal.SIGINT)


def _terminate(call: BatchCall, _: Ground, __: random.Random) -> bool:
    """As a batch system or a container engine does: to the command alone."""
    call.process.terminate()
    return True


def _pause(call: BatchCall, _: Ground, chance: random.Random) -> bool:
    """A machine that sleeps and wakes up, now and then for longer than the scheduler's patience with a worker."""
    if not _signal_group(call, signal.SIGSTOP):
        return False
    time.sleep(chance.choice((0.5, 2.0, 12.0)))
    return _signal_group(call, signal.SIGCONT)


def _signal_group(call: BatchCall, number: signal.Signals) -> bool:
    try:
        os.killpg(call.process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _fill_disk(call: BatchCall, ground: Ground, chance: random.Random) -> bool:
    """Nothing, or next to nothing, is free on the disk for a while."""
    ballast = ground.folder / "ballast"
    try:
        with ballast.open("wb") as file:
            free = os.statvfs(ground.folder).f_bavail * os.statvfs(ground.folder).f_frsize
            with contextlib.suppress(OSError):  # the batch was quicker: full all the same
                os.posix_fallocate(file.fileno(), 0, max(4096, free - chance.choice((0, 0, 65536))))
        _while_it_lasts(call, chance)
    finally:
        ballast.unlink()
    return True


def _forbid(call: BatchCall, ground: Ground, chance: random.Random) -> bool:
    """Nothing can be created, renamed or removed in one of the folders for a while."""
    folders = [path for path in call.out.rglob("*") if path.is_dir()] if call.out.exists() else []
    folder = chance.choice([ground.folder, *folders[-40:]])
    with contextlib.suppress(FileNotFoundError):
        _set_closed(folder, closed=True)
        try:
            _while_it_lasts(call, chance)
        finally:
            _set_closed(folder, closed=False)
        return True
    return False


def _take_away(call: BatchCall, ground: Ground, chance: random.Random) -> bool:
    """As a share that is unmounted for a while: what is written under its name then is not there afterwards."""
    away = call.out.with_name(f"{call.out.name}.away")
    try:
        call.out.rename(away)
    except FileNotFoundError:
        return False
    _while_it_lasts(call, chance)
    while True:
        try:
            away.rename(call.out)
        except OSError:
            call.out.rename(call.out.with_name(f"{call.out.name}.shadow-{len(ground.shadows(call.out))}"))
        else:
            return True


def _while_it_lasts(call: BatchCall, chance: random.Random) -> None:
    """A moment, or until the command has ended."""
    ends = time.monotonic() + chance.choice((0.1, 0.5, 2.0))
    while time.monotonic() < ends and call.alive(0.02):
        pass


def _can_forbid(folder: Path) -> bool:
    probe = folder / "probe"
    probe.mkdir()
    try:
        _set_closed(probe, closed=True)
        (probe / "file").touch()
    except OSError:
        return True
    except subprocess.CalledProcessError:
        return False
    else:
        return False
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _set_closed(probe, closed=False)
        shutil.rmtree(probe)


def _set_closed(folder: Path, *, closed: bool) -> None:
    if os.geteuid() == 0:
        if not folder.exists():
            raise FileNotFoundError(folder)
        subprocess.run(["chattr", "+i" if closed else "-i", str(folder)], check=True, capture_output=True)
    else:
        folder.chmod(0o555 if closed else 0o755)


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
