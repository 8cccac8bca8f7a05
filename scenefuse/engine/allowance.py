"""Cores and memory this process may use: less than the machine's in a container, a systemd service or a batch job.

Such limits are set by the process's kernel control group (cgroup) and the groups above it. Inside a container with its
own namespace, the process's group is the cgroup root; elsewhere its path is in /proc/self/cgroup.
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
"""The limits beyond which cgroup v2 kills and throttles a group to a standstill, and the limit of cgroup v1."""


def available_cores() -> int:
    """Cores that this process may use, at least 1: those it is bound to, or fewer if its CPU time is limited.

    A container limited to two cores on a 64-core machine still sees all 64, but gets the CPU time of two.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(math.ceil(share) for share in _cpu_shares())]))


def available_memory_bytes() -> int:
    """Memory that this process and its children together may use."""
    limits = (_number(folder / name) for folder in _own_groups("memory") for name in _MEMORY)
    return min([MEMORY_LIMIT, *(limit for limit in limits if limit)])


def _cpu_shares() -> Iterator[float]:
    """CPU time per wall time, in cores, of each group that limits it."""
    for folder in _own_groups("cpu"):
        quota, _, period = _text(folder / _QUOTA).partition(" ")
        if not quota:
            quota, period = _text(folder / _QUOTA_V1), _text(folder / _PERIOD_V1)
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # `max` or -1 means no limit
            yield int(quota) / int(period)


def _own_groups(controller: str) -> Iterator[Path]:
    """Folders of this process's groups that may have the controller, from its own up to the root."""
    for line in _text(_MEMBERSHIP).splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controllers if controllers else _GROUPS
        own = root / path.lstrip("/")
        # In a container the path may be the host's, of which only the root is visible.
        yield from (folder for folder in (own, *own.parents) if folder == root or root in folder.parents)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    """The file's text; empty if it does not exist or cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
