"""Whole runs on places that fail, on a real disk and a real S3 server: what is finished is kept, and refill ends it."""

from __future__ import annotations

import ctypes
import heapq
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from scenefuse.cli.app import app
from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.protocols import Event
from scenefuse.engine.retry import RetryPolicy
from scenefuse.errors import WorkError
from scenefuse.pipeline.clean import find_unfinished, remove_unfinished
from scenefuse.pipeline.failures import read_failures
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.refill import refill
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.place.store import StorePlace
from scenefuse.product.verify import verify
from tests.object_store import KEY_ID, SECRET, Proxy
from tests.pipeline.making import PairFiles, product_bytes, write_pair

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = RunConfig(model="gsa", core_px=64, format=("zarr", "cog"))
OPTIONS = ("--model", "gsa", "--core-px", "64", "--format", "zarr,cog", "--workers", "1", "--json")
IN_PROCESS = RunConfig(workers=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(60, 55), holes="swath")


@pytest.fixture(scope="module")
def undisturbed(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the product as a run without any trouble makes them on a disk."""
    out = tmp_path_factory.mktemp("undisturbed")
    fuse(pair.hs, pair.ms, out=out, config=CONFIG, lane=InProcessLane())
    return product_bytes(out)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are tried twice and at once, refill works in this process: the failures are meant."""
    monkeypatch.setattr(RetryPolicy, "allows", lambda _, kind, earlier: kind == "transient" and earlier < 1)
    at_once = SimpleNamespace(heappop=heapq.heappop, heappush=lambda heap, entry: heap.append((0.0, *entry[1:])))
    monkeypatch.setattr("scenefuse.engine.retry.heapq", at_once)  # there alone: event loops push on heaps, too

    @contextmanager
    def in_process(_: object) -> Iterator[InProcessLane]:
        yield InProcessLane()

    monkeypatch.setattr("scenefuse.pipeline.refill.open_lane", in_process)


def made_bytes(out: Place, undisturbed: dict[str, bytes]) -> dict[str, bytes]:
    """What is there of the undisturbed product's files, and any other that should be the same."""
    of_runs = {"run.json", "report.html", "catalog.json", "collection.json", "failures.jsonl"}
    files = [key for key in out.files() if "/ledger" not in key and "/." not in f"/{key}"]
    kept = [key for key in files if key.rpartition("/")[2] not in of_runs and not _is_item(key)]
    assert set(kept) <= set(undisturbed)
    return {key: (out / key).read() for key in kept}


def _is_item(key: str) -> bool:
    folder, _, name = key.rpartition("/")
    return name == f"{folder}.json"


def item_of(undisturbed: dict[str, bytes]) -> str:
    return next(iter(undisturbed)).partition("/")[0]


def assert_finished(out: Place, undisturbed: dict[str, bytes]) -> None:
    assert made_bytes(out, undisturbed) == undisturbed
    item_id = item_of(undisturbed)
    assert verify(out / item_id).mismatches == ()
    assert not [key for key in out.files() if key.endswith(".part")]
    links = json.loads((out / "collection.json").read())["links"]
    assert f"./{item_id}/{item_id}.json" in [link["href"] for link in links]


def assert_nothing_is_visible(out: Place, undisturbed: dict[str, bytes]) -> None:
    assert not any(_is_item(key) for key in out.files())
    assert not (out / "catalog.json").exists()
    assert not [key for key in out.files() if key.endswith(".part")]
    for key, data in made_bytes(out, undisturbed).items():
        assert data == undisturbed[key], f"{key} is torn"


def fails(pair: PairFiles, out: Place, observer: Any = None) -> WorkError:
    with pytest.raises(WorkError) as failed:
        fuse(pair.hs, pair.ms, out=out, config=CONFIG, lane=InProcessLane(), observer=observer)
    return failed.value


def test_a_product_on_a_store_that_fails_now_and_then_is_the_same_and_tells_no_secret(
    pair: PairFiles, undisturbed: dict[str, bytes], proxy: Proxy, prefix: StorePlace
) -> None:
    proxy.fail("503", method="PUT", path="/c/", times=2, after=3)
    proxy.fail("reset", method="PUT", path="/c/", after=9)
    proxy.fail("lost", method="PUT", path="ledger", after=1)
    proxy.fail("500", method="PUT", path="zarr.json", times=2)
    proxy.fail("truncated", method="GET", path="/c/", times=3, after=5)
    proxy.fail("slow", method="GET", path="/c/", after=20)
    proxy.fail("timeout", method="GET", path="/c/", after=30)
    proxy.fail("lost", method="PUT", path="collection.json")
    product = fuse(pair.hs, pair.ms, out=prefix, config=CONFIG, lane=InProcessLane())
    assert product.status == "done"
    assert str(product.location) == f"{prefix}/{product.item_id}/{product.item_id}.json"
    assert all(fault.seen > fault.after for fault in proxy.faults), proxy.faults
    assert_finished(prefix, undisturbed)
    for key in prefix.files():
        data = (prefix / key).read()
        assert SECRET.encode() not in data
        assert KEY_ID.encode() not in data
    again = fuse(pair.hs, pair.ms, out=str(prefix), config=CONFIG, lane=InProcessLane())
    assert again.status == "found"
    scored = CliRunner().invoke(app, ["evaluate", f"{prefix}/{product.item_id}", "--json"])
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["scores"][0]["qnr"] > 0.1


def test_a_store_that_takes_no_more_is_a_typed_failure_and_refill_ends_it(
    pair: PairFiles, undisturbed: dict[str, bytes], proxy: Proxy, prefix: StorePlace
) -> None:
    fault = proxy.fail("503", method="PUT", path="reflectance/c/0/3/", times=10**6)
    error = fails(pair, prefix)
    assert "503" in str(error)
    (record,) = read_failures(prefix)
    assert (record.kind, record.retryable) == ("transient", True)
    assert_nothing_is_visible(prefix, undisturbed)
    (left,) = find_unfinished(prefix)
    assert left.standing == "failed"
    stored = len([key for key in prefix.files() if "/c/" in key])
    assert stored > 8

    still = refill(prefix, machine=IN_PROCESS)
    assert [failure.kind for failure in still.failures] == ["transient"]
    fault.times = 0
    proxy.requests.clear()
    report = refill(prefix, machine=IN_PROCESS)
    assert [product.status for product in report.products] == ["resumed"]
    assert read_failures(prefix) == ()
    assert not (prefix / "failures.jsonl").exists()
    assert_finished(prefix, undisturbed)
    assert not [path for method, path in proxy.requests if method == "PUT" and "quality/c/0/0" in path]


def test_a_right_lost_on_the_store_is_a_typed_failure_and_refill_ends_it(
    pair: PairFiles, undisturbed: dict[str, bytes], proxy: Proxy, prefix: StorePlace
) -> None:
    fault = proxy.fail("403", method="PUT", path="quality.tif", times=10**6)
    error = fails(pair, prefix)
    assert "not allowed" in str(error)
    (record,) = read_failures(prefix)
    assert (record.kind, record.retryable) == ("resource", False)
    assert_nothing_is_visible(prefix, undisturbed)
    fault.times = 0
    assert [product.status for product in refill(prefix, machine=IN_PROCESS).products] == ["resumed"]
    assert_finished(prefix, undisturbed)


class AtFirst:
    """An observer that does something at the first event of a kind."""

    def __init__(self, kind: str, act: Callable[[], object]) -> None:
        self._kind = kind
        self._act = act
        self._done = False

    def notify(self, event: Event) -> None:
        if event.kind == self._kind and not self._done:
            self._done = True
            self._act()


def test_tiles_that_cannot_be_read_back_are_a_typed_failure_and_refill_ends_it(
    pair: PairFiles, undisturbed: dict[str, bytes], proxy: Proxy, prefix: StorePlace
) -> None:
    def deny() -> None:
        proxy.fail("403", method="GET", path="reflectance/c/", times=10**6)

    error = fails(pair, prefix, AtFirst("done", deny))
    assert "A window across seams failed" in str(error)
    (record,) = read_failures(prefix)
    assert (record.kind, record.retryable) == ("resource", False)
    for fault in proxy.faults:
        fault.times = 0
    assert_nothing_is_visible(prefix, undisturbed)
    assert [product.status for product in refill(prefix, machine=IN_PROCESS).products] == ["resumed"]
    assert_finished(prefix, undisturbed)


@pytest.mark.parametrize(("moment", "limit_bytes"), [("group", 8192), ("done", 1200), ("done", 200_000)])
def test_a_full_disk_is_a_typed_failure_and_refill_ends_it(
    pair: PairFiles, undisturbed: dict[str, bytes], tmp_path: Path, moment: str, limit_bytes: int
) -> None:
    """The kernel refuses to let files grow beyond a limit: the one way to a write that fails which needs no rights."""
    out = place_at(tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        error = fails(
            pair, out, AtFirst(moment, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard)))
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(error)
    assert "Free some space" in str(error)
    (record,) = read_failures(out)
    assert (record.kind, record.retryable, record.model) == ("resource", False, "gsa")
    assert_nothing_is_visible(out, undisturbed)
    assert [product.status for product in refill(out, machine=IN_PROCESS).products] == ["resumed"]
    assert read_failures(out) == ()
    assert_finished(out, undisturbed)


@contextmanager
def without_the_right_to_override_modes() -> Iterator[None]:
    """For a test that runs as root: file modes count for it, too (Linux: CAP_DAC_OVERRIDE is set aside)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, after = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    libc.capget(header, after)
    after[0] &= ~(1 << 1)
    assert libc.capset(header, after) == 0
    try:
        yield
    finally:
        libc.capset(header, before)


def test_a_right_lost_on_a_disk_is_a_typed_failure_and_refill_ends_it(
    pair: PairFiles, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = place_at(tmp_path / "out")
    rows = tmp_path / "out" / item_of(undisturbed) / "fused.zarr/reflectance/c/0"
    with without_the_right_to_override_modes():
        error = fails(pair, out, AtFirst("group", lambda: rows.chmod(0o555)))
    rows.chmod(0o755)
    assert "Permission denied" in str(error)
    assert "Restore write permission" in str(error)
    (record,) = read_failures(out)
    assert (record.kind, record.retryable) == ("resource", False)
    assert_nothing_is_visible(out, undisturbed)
    assert [product.status for product in refill(out, machine=IN_PROCESS).products] == ["resumed"]
    assert_finished(out, undisturbed)


class Operator:
    """One call of the command, in a session of its own."""

    def __init__(self, pair: PairFiles, out: Place) -> None:
        command = [sys.executable, "-m", "scenefuse", "fuse", *pair.both, "--out", str(out), *OPTIONS]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def end(self) -> tuple[int, dict[str, Any]]:
        """Exit code, and what the command says at its end."""
        output, errors = self.process.communicate(timeout=300)
        assert self.process.returncode in (0, 4), errors.decode()
        return self.process.returncode, json.loads(output)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(params=["disk", "store"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return place_at(tmp_path / "out")
    request.getfixturevalue("proxy")
    # Real retry_policy for a loaded machine: nothing is to fail here.
    request.getfixturevalue("monkeypatch").setenv("AWS_TIMEOUT", "30s")
    place: StorePlace = request.getfixturevalue("prefix")
    return place / "out"


def test_of_two_operators_who_start_the_same_run_one_makes_it_and_the_other_is_told(
    pair: PairFiles, undisturbed: dict[str, bytes], out: Place
) -> None:
    operators = [Operator(pair, out) for _ in range(2)]
    ends = [operator.end() for operator in operators]
    done = [said for code, said in ends if code == 0]
    assert [said["status"] for said in done].count("done") == 1
    for code, said in ends:
        if code:
            assert "in use by process" in said["error"]["value"]
            assert said["error"]["retryable"]
        else:
            assert said["status"] in {"done", "found"}
    assert_finished(out, undisturbed)


def test_a_run_on_a_store_killed_in_the_middle_is_resumed_and_what_nobody_resumes_is_cleaned(
    pair: PairFiles, undisturbed: dict[str, bytes], proxy: Proxy, prefix: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills on a disk: test_kill_and_resume."""
    assert proxy.address
    monkeypatch.setenv("AWS_TIMEOUT", "30s")
    out = prefix
    folder = out / item_of(undisturbed)
    operator = Operator(pair, out)
    deadline = time.monotonic() + 200
    while sum("/c/" in key for key in (folder / "fused.zarr").files()) < 20:
        assert operator.process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    operator.kill()
    assert not (folder / f"{folder.name}.json").exists()
    (left,) = find_unfinished(out)
    assert (left.folder.name, left.standing) == (folder.name, "abandoned")
    assert left.stored_bytes > 0
    product = fuse(pair.hs, pair.ms, out=out, config=CONFIG, lane=InProcessLane())
    assert product.status in {"resumed", "done"}
    assert_finished(out, undisturbed)

    (folder / f"{folder.name}.json").discard()  # as it would stand after another kill
    (out / "other").make()
    (out / "other/letter.txt").put(b"not ours")
    (left,) = find_unfinished(out)
    assert remove_unfinished([left]) == (left,)
    assert not folder.exists()
    assert (out / "other/letter.txt").is_file()
    assert find_unfinished(out) == ()
