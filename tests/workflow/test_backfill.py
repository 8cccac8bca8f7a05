"""Ranges of the past: what steps find together, in which order, and what is left when one fails."""

from __future__ import annotations

import gc
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pair_search import find_in_archive
from scenefuse.archive.pairing import PairRule
from scenefuse.archive.scene import Scene
from scenefuse.engine.cluster import ClusterSpec
from scenefuse.errors import DataError, UsageError
from scenefuse.workflow import one_pass
from scenefuse.workflow.backfill import BackfillReport, StepReport, backfill
from scenefuse.workflow.span import cut, parse_step
from tests.bench.archives import item_of
from tests.cli.command import Command, assert_explained
from tests.pipeline.making import HS_NM, MS_NM
from tests.workflow.making import Pair, workflow_of, write_archive, write_workflow

DAYS = {"a": "2024-01-31", "b": "2024-02-29", "c": "2024-03-01", "d": "2024-04-02"}
RANGE = ("--since", "2024-01-01", "--until", "2024-03-31")


@pytest.fixture
def file(tmp_path: Path, pair: Pair) -> Path:
    """A workflow over four pairs, the last of them beyond the range; its own window is another."""
    write_archive(tmp_path / "archive", DAYS, pair)
    return write_workflow(tmp_path, source='since = "3d"')


def done(out: Path) -> list[str]:
    return sorted(path.parent.name.split("_")[0] for path in out.glob("hs-*/hs-*.json"))


@pytest.mark.usefixtures("lanes_opened")
def test_a_range_is_worked_off_step_by_step_and_found_again(scenefuse: Command, file: Path) -> None:
    ended = scenefuse("workflow", "backfill", file, *RANGE)
    assert ended.code == 0, ended.stderr
    steps = [line for line in ended.stdout.splitlines() if line.startswith("Step ")]
    assert steps == [
        "Step 1/3, 2024-01-01 00:00:00Z to 2024-01-31 23:59:59Z: 1 pair: 1 fused, 0 found, 0 failed",
        "Step 2/3, 2024-02-01 00:00:00Z to 2024-02-29 23:59:59Z: 1 pair: 1 fused, 0 found, 0 failed",
        "Step 3/3, 2024-03-01 00:00:00Z to 2024-03-31 23:59:59Z: 1 pair: 1 fused, 0 found, 0 failed",
    ]
    assert ended.stdout.splitlines()[-1] == "3 steps, 3 pairs: 3 fused, 0 found, 0 failed"
    assert done(file.parent / "out") == ["hs-a", "hs-b", "hs-c"]
    again = scenefuse("workflow", "backfill", file, *RANGE, "--step", "45d", "--newest-first", "--json")
    assert [step["since"][:10] for step in again.document["steps"]] == ["2024-03-31", "2024-02-15", "2024-01-01"]
    assert (again.document["found"], again.document["fused"], again.document["failed_steps"]) == (3, 0, 0)
    assert "Step 1/3, 2024-03-31" in again.stderr
    logged = scenefuse("workflow", "backfill", file, *RANGE, "--log-json")
    lines = [json.loads(line) for line in logged.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["pair", "step-ended"] * 3
    assert [line["found"] for line in lines[1::2]] == [1, 1, 1]
    assert logged.stdout == ""
    told = scenefuse("workflow", "status", file).stdout
    assert "No pass yet\nLast step of a backfill: began 20" in told


@pytest.mark.usefixtures("lanes_opened")
def test_what_failed_is_told_and_the_rest_is_done(
    scenefuse: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = file.parent / "archive" / "ms-b.tif"
    broken.write_bytes(broken.read_bytes()[:-5000])
    calls = iter(range(9))

    def away_once(*arguments: object, **options: object) -> object:
        if next(calls) == 2:
            raise DataError("the archive is away", "nothing is found", "wait")
        return find_in_archive(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(one_pass, "find_in_archive", away_once)
    ended = scenefuse("workflow", "backfill", file, "--since", "2024-01-01", "--until", "2024-04-30", "--json")
    assert ended.code == 3
    assert [step["error"] and step["error"]["kind"] for step in ended.document["steps"]] == [None, None, "data", None]
    assert [ended.document[name] for name in ("pairs", "fused", "failed", "failed_steps")] == [3, 2, 1, 1]
    assert done(file.parent / "out") == ["hs-a", "hs-d"]
    record = json.loads((file.parent / "out" / "failures.jsonl").read_text())
    assert record["hs_id"] == "hs-b"


def test_a_range_with_a_step_that_failed_altogether_is_not_done() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    step = StepReport(number=1, steps=1, since=moment, until=moment, error={"kind": "transient"})
    assert BackfillReport(name="w", steps=(step,)).exit_code == 3


def test_the_scenes_of_a_step_are_not_kept_for_the_next(tmp_path: Path) -> None:
    workflow = workflow_of(tmp_path, more='[pairs]\nhs_collection = "tiny-hs"\nms_collection = "none"\n')
    workflow = replace(workflow, source=replace(workflow.source, catalogs=tuple(archive_of_many(tmp_path))))
    since, until = datetime(2023, 12, 3, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    before = scenes_in_memory()
    report = backfill(workflow, list(cut(since, until, parse_step("--step", "1mo"))))
    assert sum(len(step.document["unpaired"]) for step in report.steps) > 30
    assert scenes_in_memory() == before


def scenes_in_memory() -> int:
    gc.collect()
    return sum(type(thing) is Scene for thing in gc.get_objects())


def test_an_archive_that_cannot_be_read_is_refused_at_the_first_step(scenefuse: Command, file: Path) -> None:
    (file.parent / "archive" / "catalog.json").unlink()
    assert_explained(scenefuse("workflow", "backfill", file, *RANGE, "--json"), DataError.exit_code)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "2024-02-30", "--until", "2024-03-01"), "--since '2024-02-30'"),
        (("--since", "2024-03-02", "--until", "2024-03-01"), "is after until"),
        (("--since", "10d", "--until", "2024-03-01"), "--since '10d'"),
        ((*RANGE, "--step", "month"), "--step is 'month'"),
    ],
)
def test_a_range_that_is_none_is_wrong_usage(
    scenefuse: Command, file: Path, options: tuple[str, ...], said: str
) -> None:
    assert_explained(scenefuse("workflow", "backfill", file, *options, "--json"), UsageError.exit_code, said)
    assert not (file.parent / "out").exists()


def test_a_backfill_runs_beside_the_passes_of_the_same_file(
    scenefuse: Command, file: Path, lanes_opened: list[ClusterSpec]
) -> None:
    assert scenefuse("workflow", "run", file).code == 0
    assert lanes_opened == []
    before = (file.parent / "out" / ".workflows" / "w.json").read_bytes()
    assert scenefuse("workflow", "backfill", file, *RANGE).code == 0
    assert (file.parent / "out" / ".workflows" / "w.json").read_bytes() == before


def archive_of_many(folder: Path) -> list[str]:
    """One ground: an HSI every 20 hours, an MSI every 31, for five weeks."""
    start = datetime(2023, 12, 1, 3, tzinfo=UTC)
    features = []
    sides = (("h", 20, [(nm, 10.0) for nm in HS_NM], "tiny-hs"), ("m", 31, list(MS_NM), "tiny-ms"))
    for name, hours, bands_nm, collection in sides:
        for number in range(36 * 24 // hours):
            item = item_of(f"{name}.tif", 0, bands_nm=bands_nm, collection=collection)
            moment = (start + timedelta(hours=hours * number)).isoformat()
            features.append(item | {"id": f"{name}{number}", "properties": {"datetime": moment}})
    path = folder / "all.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return [str(path)]


def test_steps_find_the_pairs_that_the_whole_range_has(tmp_path: Path) -> None:
    sources = archive_of_many(tmp_path)
    rule = PairRule(max_gap_hours=48, hs_collection="tiny-hs", ms_collection="tiny-ms")
    since, until = datetime(2023, 12, 3, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    whole, _ = find_in_archive(sources, rule)
    expected = Counter(pair.id for pair in whole.pairs if pair.hs.acquired and since <= pair.hs.acquired <= until)
    assert len(expected) > 30
    for step in ("1mo", "7d"):
        bounds = [Bounds(since=start, until=end) for start, end in cut(since, until, parse_step("--step", step))]
        found = [find_in_archive(sources, rule, bounds=one)[0] for one in bounds]
        assert Counter(pair.id for pairing in found for pair in pairing.pairs) == expected
        for one, pairing in zip(bounds, found, strict=True):
            for alone in pairing.unpaired:
                assert one.since is not None
                assert one.until is not None
                assert alone.scene.acquired is not None
                assert one.since <= alone.scene.acquired <= one.until
