"""What this process may have of its machine: less than all of it in a container, a service of systemd, a batch job.

Their limits are those of a control group of the kernel and of the groups above it. The folder where a process finds
its own is the root in a container with a namespace of its own, and elsewhere the path in /proc/self/cgroup.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from distributed.system import MEMORY_LIMIT

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")

_QUOTA, _QUOTA_V1, _PERIOD_V1 = "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"
_MEMORY = ("memory.max", "memory.high", "memory.limit_in_bytes")
"""Where a group that goes beyond is killed, where it is slowed down until nothing moves, and version 1's."""


def available_cores() -> int:
    """Cores that this process may use, at least 1: those it is bound to, or fewer where its time is limited.

    A container's limit of two cores on a machine of 64 leaves all 64 to be seen, for the time of two of them.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(math.ceil(share) for share in _cpu_shares())]))


def available_memory_bytes() -> int:
    """Memory that this process and those it starts may take together."""
    limits = (_number(folder / name) for folder in _own_groups("memory") for name in _MEMORY)
    return min([MEMORY_LIMIT, *(limit for limit in limits if limit)])


def _cpu_shares() -> Iterator[float]:
    """Time of processors per time, of each group that limits it."""
    for folder in _own_groups("cpu"):
        quota, _, period = _text(folder / _QUOTA).partition(" ")
        if not quota:
            quota, period = _text(folder / _QUOTA_V1), _text(folder / _PERIOD_V1)
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # no limit is `max`, or -1
            yield int(quota) / int(period)


def _own_groups(controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in and that have the controller, from its own to the root."""
    for line in _text(_MEMBERSHIP).splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controllers if controllers else _GROUPS
        own = root / path.lstrip("/")
        # In a container the path may be the host's, of which only the root is to be seen.
        yield from (folder for folder in (own, *own.parents) if folder == root or root in folder.parents)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    """What the file says; nothing where there is none, or no right to read it."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
