"""The service as a process of its own on a small real archive: new scenes, signals, kills, two of them, many passes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scenefuse.product.verify import verify
from scenefuse.workflow.one_pass import run_pass
from scenefuse.workflow.specification import read_workflow
from tests.pipeline.making import product_bytes
from tests.processes import processes_of
from tests.workflow.making import Pair, history, workflow_of, write_archive, write_workflow

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OFTEN = '[schedule]\nevery = "2s"\n'
PUBLISH = 'publish_to = "www"'
DAYS = {"a": "2024-06-01", "b": "2024-06-02"}
PATIENCE_S = 120.0


class Service:
    """`scenefuse workflow serve`, and what it logged."""

    def __init__(self, file: Path, log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scenefuse", "workflow", "serve", str(file), "--log-json"],
                cwd=file.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    def lines(self) -> list[dict[str, Any]]:
        """Every line of the log that is whole; those that are not JSON are a failure of the test."""
        return [json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, event: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The first line of that event that is wanted."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for line in self.lines():
                if line["event"] == event and wanted(line):
                    return line
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"no {event}: {self._log.read_text()}")

    def session(self) -> list[psutil.Process]:
        """Its processes that are there."""
        return processes_of(self.process.pid)

    def require_gone(self) -> None:
        """No process of it is left, at the latest half a minute after its end."""
        deadline = time.monotonic() + 30
        while (left := self.session()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


Start = Callable[[Path], Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services, and ends what is left of them."""
    services: list[Service] = []

    def begin(file: Path) -> Service:
        services.append(Service(file, tmp_path / f"log-{len(services)}.txt"))
        return services[-1]

    yield begin
    for service in services:
        for process in service.session():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        service.process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, dict[str, dict[str, bytes]]]:
    """Two files, and the products that a pass makes of them that nobody disturbs, by name."""
    from tests.cli import scenes

    folder = tmp_path_factory.mktemp("undisturbed")
    files = scenes.write_hs(folder / "hs.tif"), scenes.write_ms(folder / "ms.tif")
    write_archive(folder / "archive", DAYS, files)
    report = run_pass(workflow_of(folder))
    return files, {product.item_id: product_bytes(product.folder) for product in report.batch.products}


def require_whole(out: Path, expected: dict[str, dict[str, bytes]]) -> None:
    """The products under out are those, with the same bytes, and nothing half-written lies beside them."""
    found = {path.parent.name: product_bytes(path.parent) for path in out.glob("hs-*/hs-*.json")}
    assert found == expected
    assert all(verify(out / name).ok for name in found)
    assert [path for path in out.rglob("*") if path.name.endswith(".part") or path.name.endswith(".lease")] == []
    assert not (out / "failures.jsonl").exists()


def test_it_fuses_what_is_there_and_what_comes_and_ends_in_order(
    undisturbed: tuple[Pair, dict[str, dict[str, bytes]]], tmp_path: Path, start: Start
) -> None:
    files, expected = undisturbed
    write_archive(tmp_path / "archive", {"a": DAYS["a"]}, files)
    file = write_workflow(tmp_path, output=PUBLISH, more=OFTEN)
    service = start(file)
    assert service.wait_for("pass-serving")["workflow"] == "w"
    first = service.wait_for("pass-ended")
    assert [first[name] for name in ("pairs", "fused", "failed", "published")] == [1, 1, 0, 1]
    assert service.wait_for("pair")["status"] == "done"
    write_archive(tmp_path / "archive", DAYS, files)
    second = service.wait_for("pass-ended", lambda line: line["pairs"] == 2)
    assert [second[name] for name in ("fused", "found", "failed", "published")] == [1, 1, 0, 1]
    service.wait_for("pass-ended", lambda line: line["found"] == 2)
    workers = [process for process in service.session() if process.pid != service.process.pid]
    assert all(
        "forkserver" in " ".join(one.cmdline()) or "resource_tracker" in " ".join(one.cmdline()) for one in workers
    )
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 130
    service.require_gone()
    assert all(line["event"] != "pass-failed" for line in service.lines())
    require_whole(tmp_path / "out", expected)
    assert {path.parent.name for path in (tmp_path / "www").glob("hs-*/hs-*.json")} == set(expected)


def test_a_killed_one_is_resumed_by_the_next(
    undisturbed: tuple[Pair, dict[str, dict[str, bytes]]], tmp_path: Path, start: Start
) -> None:
    files, expected = undisturbed
    write_archive(tmp_path / "archive", DAYS, files)
    file = write_workflow(tmp_path, more=OFTEN)
    killed = start(file)
    killed.wait_for("begin")
    killed.process.kill()
    killed.process.wait()
    assert history(tmp_path)["last"]["ended"] is None
    file = write_workflow(tmp_path, more='[schedule]\nevery = "52w"\n')  # none is planned: what was broken off is due
    resumed = start(file)
    assert resumed.wait_for("pass-ended")["fused"] == 2
    resumed.process.send_signal(signal.SIGINT)
    assert resumed.process.wait(30) == 130
    killed.require_gone()
    resumed.require_gone()
    require_whole(tmp_path / "out", expected)


@pytest.mark.parametrize("signals", [1, pytest.param(2, marks=pytest.mark.bench)])
def test_one_that_is_stopped_in_a_pass_leaves_what_the_next_goes_on_with(
    undisturbed: tuple[Pair, dict[str, dict[str, bytes]]], tmp_path: Path, start: Start, signals: int
) -> None:
    files, expected = undisturbed
    write_archive(tmp_path / "archive", DAYS, files)
    file = write_workflow(tmp_path, more=OFTEN)
    service = start(file)
    service.wait_for("begin")
    service.process.send_signal(signal.SIGTERM)
    if signals == 2:
        deadline = time.monotonic() + 10
        while "stopping in order" not in service._log.read_text() and time.monotonic() < deadline:
            time.sleep(0.001)
        service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert service.process.wait(30) == 130
        assert time.monotonic() - began < 1.0
    else:
        assert service.process.wait(60) == 130
        assert history(tmp_path)["last"]["outcome"] == "interrupted"
    service.require_gone()
    assert run_pass(read_workflow(file)).exit_code == 0
    require_whole(tmp_path / "out", expected)


@pytest.mark.bench
def test_two_of_them_on_one_output_make_each_product_once(
    undisturbed: tuple[Pair, dict[str, dict[str, bytes]]], tmp_path: Path, start: Start
) -> None:
    files, expected = undisturbed
    write_archive(tmp_path / "archive", DAYS, files)
    file = write_workflow(tmp_path, more=OFTEN)
    services = [start(file), start(file)]
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if history(tmp_path)["last_good"]:
                break
        time.sleep(0.1)
    time.sleep(6)  # passes over what is there, by either
    for service in services:
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 130
        service.require_gone()
    lines = [line for service in services for line in service.lines()]
    assert [line for line in lines if line["event"] == "pass-failed"] == []
    fused = [line["status"] for line in lines if line["event"] == "pair" and line["status"] != "found"]
    assert fused == ["done", "done"]
    assert {line["level"] for line in lines} == {"info"}
    require_whole(tmp_path / "out", expected)


@pytest.mark.bench
def test_it_does_not_grow_over_idle_passes(
    undisturbed: tuple[Pair, dict[str, dict[str, bytes]]], tmp_path: Path
) -> None:
    files, _ = undisturbed
    write_archive(tmp_path / "archive", DAYS, files)
    workflow = workflow_of(tmp_path, output=PUBLISH)
    me = psutil.Process()

    def size() -> tuple[int, int, int]:
        with me.oneshot():
            return me.memory_info().rss, me.num_fds(), me.num_threads()

    for _ in range(12):
        run_pass(workflow)
    before = size()
    for _ in range(50):
        assert run_pass(workflow).counts()["found"] == 2
    after = size()
    assert after[0] - before[0] < 8 * 2**20
    assert after[1:] == before[1:]
