from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import KILL_ROUNDS
from tests.engine.fakes import NpySink
from tests.engine.run_scene import slow_job
from tests.engine.scenes import run_job
from tests.processes import workers_of

ROOT = Path(__file__).parents[2]


def start(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error::UserWarning", "-m", "tests.engine.run_scene", str(folder), str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "stderr").open("wb") as stderr:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr)


def wait_for_writes(sink: NpySink, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while len(sink.written()) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.wait(timeout=120) == 0, (folder / "stderr").read_text()


def kill_somewhere(sink: NpySink, workers: int, chance: random.Random, *, one_worker: bool) -> None:
    """Start the run, let it get somewhere, and SIGKILL a worker (then let it end) or everything."""
    process = start(sink.folder, workers)
    wait_for_writes(sink, len(sink.written()) + chance.randint(1, 6), process)
    time.sleep(chance.uniform(0, 0.1))
    family = psutil.Process(process.pid).children(recursive=True)
    if one_worker:
        chance.choice(workers_of(process.pid)).kill()
        finish(process, sink.folder)
        return
    process.kill()
    process.wait()
    psutil.wait_procs(family, timeout=30)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[0-9]*.npy")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_job(slow_job(folder), folder)
    return contents(folder)


@pytest.mark.bench
def test_a_run_killed_three_times_and_resumed_gives_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    chance = random.Random(1)  # noqa: S311 - moments of killing, not secrets
    sink = NpySink(folder=tmp_path)
    for _ in range(3):
        kill_somewhere(sink, 0, chance, one_worker=False)
    finish(start(tmp_path, 0), tmp_path)
    assert contents(tmp_path) == undisturbed
    group_tiles = slow_job(tmp_path).plan.group_tiles
    assert len(sink.written()) <= 24 + 3 * group_tiles


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILL_ROUNDS))
def test_a_cluster_killed_at_random_and_resumed_gives_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, bytes], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - moments of killing, not secrets
    sink = NpySink(folder=tmp_path)
    one_worker = seed % 2 == 0
    kill_somewhere(sink, 2, chance, one_worker=one_worker)
    finish(start(tmp_path, 2), tmp_path)
    assert contents(tmp_path) == undisturbed
    # Each of the two workers may lose the group it runs, and one whose word was still on its way.
    group_tiles = slow_job(tmp_path).plan.group_tiles
    assert len(sink.written()) <= 24 + 2 * 2 * group_tiles
