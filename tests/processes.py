"""Which processes are workers of a run, or belong to a command that was started in a session of its own."""

from __future__ import annotations

import contextlib
import os

import psutil


def workers_of(pid: int) -> list[psutil.Process]:
    """Worker processes among the descendants of a process; none when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(pid).children(recursive=True) if _is_worker(child)]
    return []


def processes_of(session: int) -> list[psutil.Process]:
    """Processes that are there, by the id of the one that began their session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


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
