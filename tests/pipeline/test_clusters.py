"""The real command on a cluster of others: workers come and go, its scheduler dies and another takes over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import LocalCluster

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.software import instruction_set
from scenefuse.pipeline.fuse import fuse
from scenefuse.product.provenance import read_provenance
from tests.pipeline.making import PairFiles, product_bytes, write_pair

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OPTIONS = ("--model", "gsa", "--core-px", "48", "--format", "zarr")
LIMIT_S = 240.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(160, 150), holes="swath")


@pytest.fixture(scope="module")
def undisturbed(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    config = RunConfig(model="gsa", core_px=48, format=("zarr",))
    fuse(pair.hs, pair.ms, out=out, config=config, lane=InProcessLane())
    return product_bytes(out)


class Command:
    """`scenefuse fuse` on a cluster, in a process of its own."""

    def __init__(self, pair: PairFiles, out: Path, scheduler: str) -> None:
        self.out = out
        self.log = out.parent / "stderr.txt"
        command = [sys.executable, "-m", "scenefuse", "fuse", *pair.both, "--out", str(out), *OPTIONS]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--scheduler", scheduler, "--json"],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def tiles_done(self) -> int:
        ledgers = list(self.out.glob("*/ledger.jsonl"))
        return ledgers[0].read_bytes().count(b'"iy"') if ledgers else 0

    def wait_for_tiles(self, count: int) -> None:
        wait_until(lambda: self.tiles_done() >= count or self.process.poll() is not None, self.log.read_text)
        assert self.process.poll() is None, self.log.read_text()

    def end(self) -> tuple[int, dict[str, Any]]:
        output, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, json.loads(output)


def wait_until(happened: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.01)


def run_facts(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*/run.json")
    facts: dict[str, Any] = json.loads(path.read_bytes())["facts"]
    return facts


def test_workers_that_join_and_leave_during_a_run_change_no_byte(
    tmp_path: Path, pair: PairFiles, undisturbed: dict[str, bytes]
) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        command = Command(pair, tmp_path / "out", cluster.scheduler_address)
        command.wait_for_tiles(1)
        cluster.scale(3)
        wait_until(lambda: len(cluster.scheduler.workers) == 3, command.log.read_text)
        command.wait_for_tiles(command.tiles_done() + 8)
        cluster.scale(1)
        code, document = command.end()
    assert code == 0, command.log.read_text()
    assert document["status"] == "done"
    assert product_bytes(tmp_path / "out") == undisturbed


def test_a_cluster_that_adapts_from_no_worker_at_all_gives_the_same_bytes(
    tmp_path: Path, pair: PairFiles, undisturbed: dict[str, bytes]
) -> None:
    with LocalCluster(
        n_workers=0, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        cluster.adapt(minimum=0, maximum=2, target_duration="0.2s")
        code, _ = Command(pair, tmp_path / "out", cluster.scheduler_address).end()
        assert code == 0
    assert product_bytes(tmp_path / "out") == undisturbed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def cluster_of_others(folder: Path, port: int, **variables: str) -> Iterator[psutil.Process]:
    """`dask scheduler` and one `dask worker`, as an operator starts them; the scheduler's process."""
    address = f"tcp://127.0.0.1:{port}"
    dask = (sys.executable, "-m", "dask")
    commands = (
        (*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-jupyter"),
        (*dask, "worker", address, "--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--death-timeout", "20"),
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    with (folder / "cluster.txt").open("ab") as log:
        processes = [
            subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
            for command in commands
        ]
    try:
        yield psutil.Process(processes[0].pid)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_provenance_names_the_processor_of_the_workers(tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out"
    small = write_pair(tmp_path / "pair", ratio=4, coarse_shape=(32, 32))
    with cluster_of_others(tmp_path, port, ATEN_CPU_CAPABILITY="default"):  # as on a machine without AVX2
        command = Command(small, out, f"tcp://127.0.0.1:{port}")
        assert command.end()[0] == 0, command.log.read_text()
    (item,) = out.glob("*/provenance.json")
    assert read_provenance(item.parent).plan.instruction_set == "DEFAULT"
    assert instruction_set("cpu") != "DEFAULT"


def test_a_scheduler_that_dies_ends_the_command_with_a_typed_failure_and_a_new_one_resumes(
    tmp_path: Path, pair: PairFiles, undisturbed: dict[str, bytes]
) -> None:
    port, out = free_port(), tmp_path / "out"
    address = f"tcp://127.0.0.1:{port}"
    with cluster_of_others(tmp_path, port) as scheduler:
        command = Command(pair, out, address)
        command.wait_for_tiles(16)
        scheduler.kill()
        code, document = command.end()
    assert code == 3, command.log.read_text()
    assert "Traceback" not in command.log.read_text()
    assert "scheduler" in command.log.read_text()
    assert document["exit_code"] == 3
    assert document["error"]["kind"] in ("transient", "work")
    assert document["error"]["retryable"]
    assert not list(out.glob("*.json"))
    done = command.tiles_done()
    with cluster_of_others(tmp_path, port):
        command = Command(pair, out, address)
        code, document = command.end()
    assert code == 0, command.log.read_text()
    assert document["status"] == "resumed"
    assert run_facts(out)["run"]["skipped"] >= done - 8
    assert product_bytes(out) == undisturbed
