"""`scenefuse refill` and `scenefuse clean`: what they say, what they touch, how they end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scenefuse.config import RunConfig
from scenefuse.engine.lease import Lease
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.retry import GivenUpError, Kind, TaskFailure
from scenefuse.engine.run import IncompleteRunError, RunReport
from scenefuse.errors import DataError, StorageError, UsageError, WorkError
from scenefuse.pipeline.failures import PairWork, forget_failure, read_failures, record_failure
from scenefuse.pipeline.planning import plan_fusion
from scenefuse.pipeline.refill import refill
from scenefuse.place.local import LocalPlace
from scenefuse.place.location import place_at
from tests.cli import scenes
from tests.cli.command import Command, assert_explained

Pair = tuple[Path, Path]
CONFIG = RunConfig(model="gsa", format=("zarr",), core_px=48, workers=1)


def _recorded(pair: Pair, out: Path, config: RunConfig = CONFIG) -> None:
    """A record that the pair failed, as a batch would have left it."""
    opened = plan_fusion(*pair, out=out, config=config).opened
    record_failure(place_at(out), PairWork.of(opened.pair, config).because(DataError("a", "b", "c")), NullObserver())


@pytest.mark.usefixtures("no_workers")
def test_refill_fuses_what_is_recorded_with_the_options_of_then(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    _recorded(pair, tmp_path)
    order = plan_fusion(*pair, out=tmp_path, config=CONFIG)
    ended = scenefuse("refill", tmp_path, "--workers", 1, "--json")
    assert ended.code == 0, ended.stderr
    (product,) = ended.document["products"]
    assert product["item_id"] == order.folder.name
    assert ended.document["failures"] == []
    assert not (tmp_path / "failures.jsonl").exists()
    assert not (order.folder / "fused.tif").exists()
    assert "Nothing is recorded as failed" in scenefuse("refill", tmp_path).stdout


@pytest.mark.usefixtures("no_workers")
def test_what_fails_again_stays_recorded_and_other_lines_too(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    moved = pair[0].with_name("moved.tif")
    moved.write_bytes(pair[0].read_bytes())
    _recorded((moved, pair[1]), tmp_path)
    moved.unlink()
    ended = scenefuse("refill", tmp_path, "--workers", 1, "--json")
    assert ended.code == WorkError.exit_code
    (failure,) = ended.document["failures"]
    assert failure["kind"] == "data"
    assert "moved.tif" in failure["cause"]
    (record,) = read_failures(place_at(tmp_path))
    assert record.cause == failure["cause"]
    assert record.config(RunConfig()).core_px == 48
    with (tmp_path / "failures.jsonl").open("a") as file:
        file.write("no record\n")
    assert_explained(scenefuse("refill", tmp_path, "--json"), DataError.exit_code, "failures.jsonl has a line")


@pytest.mark.usefixtures("no_workers")
def test_an_output_that_takes_nothing_is_told_before_anything_is_tried(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: LocalPlace) -> int:
        raise StorageError("it is read only", "no product can be put there", "choose another")

    _recorded(pair, tmp_path)
    monkeypatch.setattr(LocalPlace, "free_bytes", refuse)
    with pytest.raises(StorageError, match="read only"):
        refill(tmp_path)


@pytest.mark.usefixtures("no_workers")
def test_a_failed_pair_is_named_once(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    archive, out = scenes.archive_of(pair, tmp_path / "archive"), tmp_path / "out"
    damaged = archive.with_name("hs.tif")
    damaged.write_bytes(damaged.read_bytes()[:-5000])
    for call in (("batch", archive, "--out", out, "--workers", 1), ("refill", out, "--workers", 1)):
        ended = scenefuse(*call)
        assert ended.code == WorkError.exit_code, ended.stderr
        assert (ended.stdout + ended.stderr).count("hs with ms") == 1
        assert "hs with ms (data): " in ended.stdout


def _begun(out: Path, name: str) -> Path:
    """A product's folder as a killed run leaves it."""
    folder = out / name
    (folder / "fused.zarr").mkdir(parents=True)
    (folder / "fused.zarr/zarr.json").write_bytes(b"{}" * 50)
    (folder / "ledger.jsonl").write_bytes(b"")
    return folder


def test_clean_lists_first_and_removes_only_what_nobody_works_on_or_will(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    _recorded(pair, tmp_path)
    failed = _begun(tmp_path, plan_fusion(*pair, out=tmp_path, config=CONFIG).folder.name)
    abandoned, running, finished = (_begun(tmp_path, name) for name in ("a_b_gsa_1", "a_b_gsa_2", "a_b_gsa_3"))
    (finished / f"{finished.name}.json").write_bytes(b"{}")
    with Lease(running / ".lease"):
        listed = scenefuse("clean", tmp_path, "--json")
        assert listed.code == 0
        standings = {entry["item_id"]: entry["standing"] for entry in listed.document["unfinished"]}
        assert standings == {abandoned.name: "abandoned", running.name: "running", failed.name: "failed"}
        assert listed.document["removed"] == []
        assert next(entry["bytes"] for entry in listed.document["unfinished"]) == 100
        assert "repeat with --yes" in scenefuse("clean", tmp_path).stdout
        assert abandoned.exists()
        assert scenefuse("clean", tmp_path, "--yes", "--json").document["removed"] == [abandoned.name]
        assert scenefuse("clean", tmp_path, "--yes", "--failed", "--json").document["removed"] == [failed.name]
        assert running.exists()
    assert finished.exists()
    assert not abandoned.exists()
    assert not failed.exists()
    assert (tmp_path / "failures.jsonl").exists()


def test_clean_touches_nothing_where_somebody_else_keeps_files(scenefuse: Command, tmp_path: Path) -> None:
    folder = _begun(tmp_path, "a_b_gsa_1")
    (folder / "letter.txt").write_text("mine")
    assert scenefuse("clean", tmp_path, "--yes", "--json").document == {"unfinished": [], "removed": []}
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert_explained(scenefuse("clean", tmp_path, "--yes", "--json"), DataError.exit_code, "holds something else")
    assert_explained(scenefuse("clean", tmp_path / "none", "--json"), DataError.exit_code, "nothing to clean")
    assert folder.exists()


@pytest.mark.parametrize("command", ["refill", "clean", "verify"])
def test_a_place_that_is_none_is_wrong_usage(scenefuse: Command, command: str) -> None:
    ended = scenefuse(command, "gs://bucket/products", "--json")
    assert_explained(ended, UsageError.exit_code, "is not a place for products", "s3://bucket/prefix")


def test_a_failure_is_recorded_without_the_query_of_a_url_and_what_belongs_to_the_machine(
    pair: Pair, tmp_path: Path
) -> None:
    _recorded(pair, tmp_path, RunConfig(model="gsa", workers=3, allow_host=("inside",), precision="fp32"))
    record = json.loads((tmp_path / "failures.jsonl").read_text())
    assert record["options"] == {"precision": "fp32"}
    assert record["model"] == "gsa"
    assert record["kind"] == "data"


WORK = PairWork(hs_id="h", ms_id="m", hs_href="h.json", ms_href="m.json", model="gsa")


def test_each_method_of_a_pair_has_a_record_of_its_own_and_only_its_last(tmp_path: Path) -> None:
    out = place_at(tmp_path)
    other = replace(WORK, model="sfim")
    for work in (WORK, other, WORK):
        record_failure(out, work.because(DataError("a", "b", "c")), NullObserver())
    assert [record.model for record in read_failures(out)] == ["sfim", "gsa"]
    forget_failure(out, WORK)
    assert [record.model for record in read_failures(out)] == ["sfim"]
    forget_failure(out, other)
    assert not (tmp_path / "failures.jsonl").exists()


def test_weights_are_recorded_by_a_path_that_holds_in_every_folder(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = plan_fusion(*pair, out=tmp_path, config=CONFIG).opened.pair
    (tmp_path / "w.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    options = PairWork.of(scenes, RunConfig(model="aelf", weights="w.safetensors")).options
    assert options["weights"] == str(tmp_path / "w.safetensors")
    assert PairWork.of(scenes, RunConfig(model="aelf", weights="shelved")).options["weights"] == "shelved"


def test_a_record_runs_on_the_machine_of_who_retries() -> None:
    config = replace(WORK, options={"core_px": 48}).config(RunConfig(workers=3, memory_limit="2GiB", core_px=96))
    assert (config.model, config.core_px, config.workers, config.memory_limit) == ("gsa", 48, 3, "2GiB")


def _given_up(kind: Kind, *, retryable: bool) -> TaskFailure:
    return TaskFailure(kind=kind, cause="x", retryable=retryable, attempts=1, facts={})


@pytest.mark.parametrize(("others", "retryable"), [(True, True), (False, False)])
def test_a_run_may_pass_if_each_of_its_groups_may(*, others: bool, retryable: bool) -> None:
    groups = _given_up("transient", retryable=True), _given_up("worker", retryable=others)
    report = RunReport(
        tiles=2, skipped=0, seconds=0.0, fine_px=0, loop_seconds={}, peak_rss_bytes=0, batch=1, hosts=(), finished={},
        failures=groups,
    )  # fmt: skip
    failed = WORK.because(IncompleteRunError("a", "b", "c", report))
    assert (failed.kind, failed.retryable) == ("transient", retryable)


def test_work_that_was_stopped_has_the_type_of_what_stopped_it() -> None:
    stopped = WorkError("a", "b", "c")
    stopped.__cause__ = StorageError("full", "b", "c")
    assert WORK.because(stopped).kind == "resource"
    failed = WORK.because(GivenUpError("a", "b", "c", _given_up("time", retryable=True)))
    assert (failed.kind, failed.retryable) == ("time", True)
    assert WORK.because(ZeroDivisionError()).kind == "bug"
