"""One call of `scenefuse batch` in a session of its own, watched from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import psutil

from tests.bench.archives import HS_COLLECTION, MS_COLLECTION
from tests.processes import processes_of, workers_of

Phase = Literal["starting", "preparing", "fusing", "finishing", "between"]

ROOT = Path(__file__).parents[2]
WORKERS = 2
OPTIONS = ("--hs-collection", HS_COLLECTION, "--ms-collection", MS_COLLECTION, "--model", "gsa", "--core-px", "48")
WORKER_TTL = "10s"
"""Silence after which the scheduler restarts a worker; a run of hours has minutes of patience, this one not."""
LEAVING_S = 30.0
"""Seconds in which processes of a call that has ended have to be gone."""


class BatchCall:
    """The command, its workers, and the versions of every shard that were seen so far."""

    def __init__(
        self,
        catalogue: Path,
        out: Path,
        *,
        versions: dict[Path, set[tuple[int, int]]] | None = None,
        tiles: dict[str, int] | None = None,
    ) -> None:
        self.out = out
        self.hung = False
        self._versions = {} if versions is None else versions
        self._tiles = tiles or {}
        self._log = catalogue.parent / "stderr.txt"
        self._document = catalogue.parent / "stdout.txt"
        command = [sys.executable, "-m", "scenefuse", "batch", str(catalogue), "--out", str(out), *OPTIONS]
        with self._log.open("wb") as log, self._document.open("wb") as document:
            self.process = subprocess.Popen(
                [*command, "--workers", str(WORKERS), "--json"],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": WORKER_TTL},
                stdout=document,
                stderr=log,
                start_new_session=True,
            )

    def alive(self, wait_s: float = 0.0) -> bool:
        """False when the command has ended; looks at what is stored in the meantime."""
        time.sleep(wait_s)
        self._look()
        return self.process.poll() is None

    def wait(self, limit_s: float) -> int:
        """The exit code; a call that does not end is killed, and said to hang."""
        deadline = time.monotonic() + limit_s
        while self.alive(0.02):
            if time.monotonic() > deadline:
                self.hung = True
                os.killpg(self.process.pid, signal.SIGKILL)
                break
        return self.process.wait()

    def phase(self) -> Phase:
        """Where the command is, told by its folders: those of the pair that it holds the lease of."""
        folders = [path.parent for path in self.out.glob("*/.lease") if self._holds(path)]
        if not folders:
            return "between" if self._has_begun() else "starting"
        folder = folders[0]
        if not (folder / "ledger.jsonl").exists():
            return "preparing"
        stored = sum(not path.name.startswith(".") for path in folder.glob("fused.zarr/quality/c/*/*"))
        return "finishing" if stored >= self._tiles.get(folder.name, 0) else "fusing"

    def workers(self) -> list[psutil.Process]:
        """Worker processes of this moment."""
        return workers_of(self.process.pid)

    def wake(self) -> None:
        """Let processes go on that a fault has stopped: when the call has ended nobody else wakes or ends them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)

    def left_behind(self) -> list[str]:
        """Processes of the call's session that outlived it by LEAVING_S; they are killed."""
        deadline = time.monotonic() + LEAVING_S
        while (left := processes_of(self.process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
            self._look()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return [str(process) for process in left]

    def failures(self) -> list[dict[str, Any]]:
        """Pairs that the call gave up, as its document tells; none when it did not come to that."""
        try:
            document = json.loads(self._document.read_bytes())
        except ValueError:
            return []
        failures: list[dict[str, Any]] = document.get("failures", [])
        return failures

    def errors(self) -> str:
        """What it said on stderr."""
        return self._log.read_text()

    def _holds(self, lease: Path) -> bool:
        try:
            return int(json.loads(lease.read_bytes())["pid"]) == self.process.pid
        except (OSError, ValueError):
            return False

    def _has_begun(self) -> bool:
        return bool(self._log.stat().st_size)

    def _look(self) -> None:
        for path in self.out.glob("*/fused.zarr/**/c/**/*"):
            if not path.name.startswith("."):
                with contextlib.suppress(OSError):
                    known = path.stat()
                    if path.is_file():
                        self._versions.setdefault(path.relative_to(self.out), set()).add(
                            (known.st_ino, known.st_mtime_ns)
                        )
