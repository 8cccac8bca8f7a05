"""What workers are started with is the same wherever they are started."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from scenefuse.engine.cluster import ClusterSpec, open_client
from scenefuse.engine.scheduler_check import check_scheduler
from scenefuse.engine.worker_environment import missing_here, worker_variables

ROOT = Path(__file__).parents[2]
FILE = ROOT / "workflows/deploy/worker.env"
BARE = {name: value for name, value in os.environ.items() if name not in worker_variables()}


@contextmanager
def worker_of_others(prologue: str, folder: Path) -> Iterator[str]:
    """One `dask worker`, started in a shell after the prologue; its scheduler's address."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp") as cluster,
        Client(cluster) as client,
    ):
        worker = shlex.join([sys.executable, "-m", "dask", "worker", cluster.scheduler_address])
        started = subprocess.Popen(
            ["bash", "-c", f"{prologue} exec {worker} --nthreads 1 --nworkers 1 --no-dashboard"],
            cwd=folder,
            env={**BARE, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
        )
        try:
            client.wait_for_workers(1, timeout=60)
            yield str(cluster.scheduler_address)
        finally:
            started.terminate()
            started.wait()


def test_the_file_for_operators_says_what_embedded_workers_get() -> None:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == worker_variables()


def test_the_image_says_it_too() -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    set_there = re.findall(r"(\w+)=(\S+)", text.replace("\\\n", " "))
    assert worker_variables().items() <= dict(set_there).items()


@pytest.mark.slow
def test_embedded_workers_miss_nothing() -> None:
    with open_client(ClusterSpec(workers=1)) as client:
        assert list(client.run(missing_here).values()) == [[]]


@pytest.mark.slow
def test_a_worker_started_with_the_file_misses_nothing_and_one_without_is_warned_of(tmp_path: Path) -> None:
    with worker_of_others(f"set -a; . {FILE};", tmp_path) as address:
        found = check_scheduler(address)
        assert (found.verdict, found.facts["missing_variables"]) == ("ok", [])
    with worker_of_others("", tmp_path) as address:
        found = check_scheduler(address)
        assert found.verdict == "warning"
        assert {"MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"} <= set(found.facts["missing_variables"])
        assert str(FILE) in found.text
