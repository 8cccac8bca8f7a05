"""Which processes are workers of a run."""

from __future__ import annotations

import contextlib

import psutil


def workers_of(pid: int) -> list[psutil.Process]:
    """Worker processes among the descendants of a process; none when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(pid).children(recursive=True) if _is_worker(child)]
    return []


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return _is_forked(process) or _mentions(process, "spawn_main")
    return False


def _is_forked(process: psutil.Process) -> bool:
    """A forked process keeps its server's command line."""
    parent = process.parent()
    return parent is not None and _mentions(process, "forkserver") and _mentions(parent, "forkserver")


def _mentions(process: psutil.Process, word: str) -> bool:
    return word in " ".join(process.cmdline())
