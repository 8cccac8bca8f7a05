"""`scenefuse refill` and `scenefuse clean`: what they say, what they touch, how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scenefuse.config import RunConfig
from scenefuse.engine.lease import Lease
from scenefuse.engine.observers import NullObserver
from scenefuse.errors import DataError, UsageError, WorkError
from scenefuse.pipeline.failures import read_failures, record_failure, work_of
from scenefuse.pipeline.planning import plan_fusion
from scenefuse.place.location import place_at
from tests.cli.command import Command, assert_explained

Pair = tuple[Path, Path]
CONFIG = RunConfig(model="gsa", format=("zarr",), core_px=48, workers=1)


def _recorded(pair: Pair, out: Path, config: RunConfig = CONFIG) -> None:
    """A record that the pair failed, as a batch would have left it."""
    opened = plan_fusion(*pair, out=out, config=config).opened
    record_failure(place_at(out), work_of(opened.pair, config).because(DataError("a", "b", "c")), NullObserver())


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
    assert_explained(ended, UsageError.exit_code, "names no place for products", "s3://bucket/prefix")


def test_a_failure_is_recorded_without_the_query_of_a_url_and_what_belongs_to_the_machine(
    pair: Pair, tmp_path: Path
) -> None:
    _recorded(pair, tmp_path, RunConfig(model="gsa", workers=3, allow_host=("inside",), precision="fp32"))
    record = json.loads((tmp_path / "failures.jsonl").read_text())
    assert record["options"] == {"precision": "fp32"}
    assert record["model"] == "gsa"
    assert record["kind"] == "data"
