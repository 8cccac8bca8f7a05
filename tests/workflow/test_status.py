"""What a status tells of real products, records and leases, and that it changes nothing."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scenefuse.archive import fetch
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import ClusterSpec
from scenefuse.engine.lease import Lease
from scenefuse.errors import DataError
from scenefuse.pipeline.planning import plan_fusion
from scenefuse.place.store import StorePlace
from scenefuse.product.identity import NUMERICS
from scenefuse.workflow.one_pass import run_pass
from scenefuse.workflow.pass_record import PassUnderWayError
from scenefuse.workflow.specification import OutputSpec
from scenefuse.workflow.status import Status, look_at_workflow
from tests.cli import scenes
from tests.cli.command import Command, assert_explained
from tests.workflow.making import Pair, history, tree, workflow_of, write_archive, write_workflow

DAYS = {"a": "2024-06-01", "b": "2024-06-11", "c": "2024-06-21"}
PUBLISH = 'publish_to = "www"'


@pytest.fixture
def archive(tmp_path: Path, pair: Pair) -> Path:
    """Three pairs, ten days apart."""
    return write_archive(tmp_path / "archive", DAYS, pair)


def standings(found: Status) -> dict[str, str]:
    return {entry.pair.hs.id.removeprefix("hs-"): entry.standing for entry in found.pairs}


@pytest.mark.usefixtures("archive", "lanes_opened")
def test_each_pair_is_where_it_is(tmp_path: Path, pair: Pair) -> None:
    workflow = workflow_of(tmp_path, output=PUBLISH)
    assert standings(look_at_workflow(workflow)) == {"a": "due", "b": "due", "c": "due"}
    broken = tmp_path / "archive" / "ms-b.tif"
    broken.write_bytes(broken.read_bytes()[:-5000])
    hidden = (tmp_path / "archive" / "hs-c.json").rename(tmp_path / "hs-c.json")
    report = run_pass(workflow)
    assert report.exit_code == 3
    shutil.move(hidden, tmp_path / "archive" / "hs-c.json")
    found = look_at_workflow(workflow)
    assert standings(found) == {"a": "done", "b": "failed", "c": "due"}
    assert found.published == 1
    failure = found.pairs[1].failure
    assert failure is not None
    assert (failure.kind, failure.retryable, "ms-b.tif" in failure.cause) == ("data", False, True)
    assert found.facts()["unfinished"][0]["failure"]["at"] == failure.at

    folder = plan_fusion(
        *(tmp_path / "archive" / f"{side}-c.json" for side in ("hs", "ms")), out=tmp_path / "out", config=workflow.fuse
    ).folder.local_path()
    folder.mkdir()
    (folder / "ledger.jsonl").touch()
    assert standings(look_at_workflow(workflow))["c"] == "begun"
    with Lease(folder / ".lease"):
        assert standings(look_at_workflow(workflow))["c"] == "running"

    shutil.copy2(pair[1], broken)
    last = run_pass(workflow)
    assert last.exit_code == 0
    assert Counter(product.status for product in last.batch.products) == {"found": 1, "done": 2}
    found = look_at_workflow(workflow)
    assert standings(found) == dict.fromkeys("abc", "done")
    assert (found.published, found.other_failures) == (3, ())


@pytest.mark.usefixtures("archive", "lanes_opened")
def test_a_product_of_other_options_numbers_or_inputs_is_not_the_one_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = workflow_of(tmp_path, source='until = "2024-06-05"')
    run_pass(workflow)

    def standing(**options: Any) -> str:
        return standings(look_at_workflow(replace(workflow, fuse=replace(workflow.fuse, **options))))["a"]

    assert {standing(), standing(workers=2), standing(precision="fp32")} == {"done"}
    others: list[dict[str, Any]] = [
        {"register": False},
        {"core_px": 60},
        {"format": ("zarr", "cog")},
        {"model": "sfim"},
    ]
    assert {standing(**options) for options in others} == {"due"}
    with monkeypatch.context() as later:
        later.setattr("scenefuse.pipeline.pair_status.NUMERICS", NUMERICS + 1)
        assert standing() == "due"
    scenes.write_hs(tmp_path / "archive" / "hs-a.tif", scenes.hs_cube() * 1.05)
    assert standing() == "due"


@pytest.mark.usefixtures("archive", "lanes_opened")
def test_a_product_whose_item_is_damaged_is_due(tmp_path: Path) -> None:
    workflow = workflow_of(tmp_path, source='until = "2024-06-05"')
    run_pass(workflow)
    (item,) = (tmp_path / "out").glob("hs-a_*/hs-a_*.json")
    item.write_bytes(item.read_bytes()[:100])
    assert standings(look_at_workflow(workflow)) == {"a": "due"}
    assert run_pass(workflow).counts()["fused"] == 1
    assert standings(look_at_workflow(workflow)) == {"a": "done"}


@pytest.mark.usefixtures("archive", "lanes_opened")
def test_a_product_that_cannot_be_published_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    workflow = workflow_of(tmp_path)
    run_pass(workflow)
    damaged = next((tmp_path / "out").glob("hs-a_*"))
    (damaged / "quicklook.png").write_bytes(b"damaged")
    report = run_pass(workflow_of(tmp_path, output=PUBLISH))
    assert [(entry.item_id, entry.kind) for entry in report.unpublished] == [(damaged.name, "mismatch")]
    assert [entry.outcome for entry in report.published] == ["added", "added"]
    assert (report.exit_code, history(tmp_path)["last"]["outcome"]) == (3, "incomplete")


@pytest.mark.slow
@pytest.mark.usefixtures("archive", "lanes_opened")
def test_done_is_what_a_pass_would_find(tmp_path: Path) -> None:
    """The verdict without opening anything is held against a pass, for what changes a product and what does not."""
    workflow = workflow_of(tmp_path, source='until = "2024-06-05"')
    run_pass(workflow)
    data = tmp_path / "archive" / "hs-a.tif"

    def changed(**options: Any) -> RunConfig:
        return replace(workflow.fuse, **options)

    for config in (
        changed(workers=2), changed(memory_limit="2GiB"), changed(precision="fp32"), changed(device="cpu"),
        changed(register=False), changed(halo="full"), changed(core_px=60), changed(drop_bands=("B1",)),
        changed(drop_ms_bands=("B2",)), changed(hs_scale=0.5), changed(model="sfim"), changed(format=("zarr", "cog")),
    ):  # fmt: skip
        other = replace(workflow, fuse=config)
        before = standings(look_at_workflow(other))["a"]
        (product,) = run_pass(other).batch.products
        assert (before == "done") == (product.status == "found"), config
        assert standings(look_at_workflow(other)) == {"a": "done"}
        shutil.rmtree(tmp_path / "out")
        run_pass(workflow)

    scenes.write_hs(data, scenes.hs_cube() * 1.05)
    assert standings(look_at_workflow(workflow)) == {"a": "due"}
    (product,) = run_pass(workflow).batch.products
    assert product.status == "done"
    assert standings(look_at_workflow(workflow)) == {"a": "done"}


@pytest.mark.usefixtures("archive", "lanes_opened")
def test_the_window_is_that_of_the_moment_and_older_failures_are_told_apart(tmp_path: Path) -> None:
    broken = tmp_path / "archive" / "ms-a.tif"
    broken.write_bytes(broken.read_bytes()[:-5000])
    workflow = workflow_of(tmp_path, source='since = "12d"\nuntil = "2d"')
    now = datetime(2024, 6, 12, tzinfo=UTC)
    run_pass(workflow, now=now)
    found = look_at_workflow(workflow, now=now)
    assert standings(found) == {"a": "failed"}  # from 31 May to 10 June
    assert found.bounds.since == now - timedelta(days=12)
    found = look_at_workflow(workflow, now=now + timedelta(days=10))
    assert standings(found) == {"b": "due"}
    assert [failure.hs_id for failure in found.other_failures] == ["hs-a"]


@pytest.mark.usefixtures("archive")
def test_nothing_is_changed_and_nothing_started(
    scenefuse: Command, tmp_path: Path, lanes_opened: list[ClusterSpec]
) -> None:
    path = write_workflow(tmp_path, output=PUBLISH)
    before = tree(tmp_path)
    assert scenefuse("workflow", "status", path).code == 0
    assert tree(tmp_path) == before  # not even the output is made
    run_pass(workflow_of(tmp_path, output=PUBLISH))
    assert len(lanes_opened) == 1
    before = tree(tmp_path)
    for options in ([], ["--json"], ["--max-age", "1h"], ["--max-age", "1h", "--json"]):
        assert scenefuse("workflow", "status", path, *options).code == 0
    assert tree(tmp_path) == before
    assert len(lanes_opened) == 1
    assert run_pass(workflow_of(tmp_path, output=PUBLISH)).exit_code == 0
    assert len(lanes_opened) == 1  # an idle pass needs no workers either


@pytest.mark.usefixtures("archive")
def test_a_wrong_name_of_a_collection_is_not_silence(scenefuse: Command, tmp_path: Path) -> None:
    path = write_workflow(tmp_path, more='[pairs]\nhs_collection = "enmpa"\n')
    told = scenefuse("workflow", "status", path).stdout
    assert "0 pairs: 0 done" in told
    assert "6 scenes in no pair\nNo pair for 3 scenes: " in told
    assert "No pair for 3 scenes: its collection None is not enmpa, and it has role hsi\n" in told
    assert scenefuse("workflow", "status", path, "--json").document["unpaired"] == 6
    logged = [json.loads(line) for line in scenefuse("workflow", "run", path, "--log-json").stderr.splitlines()]
    assert [line["event"] for line in logged] == ["pass-began", "pass-ended"]


@pytest.mark.usefixtures("archive", "lanes_opened")
def test_people_and_programs_are_told(scenefuse: Command, tmp_path: Path) -> None:
    broken = tmp_path / "archive" / "ms-b.tif"
    broken.write_bytes(broken.read_bytes()[:-5000])
    path = write_workflow(tmp_path, output=PUBLISH, more='[schedule]\ncron = "30 2 * * *"\n')
    assert scenefuse("workflow", "run", path).code == 3
    told = scenefuse("workflow", "status", path)
    assert "3 pairs: 2 done, 2 published, 0 running, 1 failed, 0 begun, 0 due" in told.stdout
    assert re.search(r"data, will not pass by itself, \d s ago: ", told.stdout)
    assert "incomplete after" in told.stdout
    assert 'Schedule "30 2 * * *" in UTC; under `serve` the next passes begin at' in told.stdout
    document = scenefuse("workflow", "status", path, "--json").document
    assert [document[name] for name in ("pairs", "done", "published", "failed", "due")] == [3, 2, 2, 1, 0]
    assert document["passes"]["last"]["counts"]["fused"] == 2
    assert len(document["passes"]["coming"]) == 3
    assert document["free_bytes"] > 0


def test_passes_are_told_also_when_the_archive_is_away(scenefuse: Command, tmp_path: Path, pair: Pair) -> None:
    write_archive(tmp_path / "archive", {}, pair)
    path = write_workflow(tmp_path)
    assert scenefuse("workflow", "run", path).code == 0
    (tmp_path / "archive" / "catalog.json").unlink()
    for _ in range(2):
        assert scenefuse("workflow", "run", path).code == DataError.exit_code
    told = scenefuse("workflow", "status", path)
    assert (told.code, "catalog.json" in told.stderr) == (DataError.exit_code, True)
    assert "failed after" in told.stdout
    assert "Last good pass: began 20" in told.stdout
    assert "2 passes failed in a row" in told.stdout
    assert_explained(scenefuse("workflow", "status", path, "--json"), DataError.exit_code, "catalog.json")


@pytest.mark.usefixtures("archive", "lanes_opened")
def test_a_catalogue_that_is_away_is_told_with_all_else(
    scenefuse: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_pass(workflow_of(tmp_path)).exit_code == 0
    monkeypatch.setattr(fetch, "_BACKOFF_S", 0.01)
    with socket.socket() as closed:  # has the port, and takes no connection
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        output = f'publish_to = "{address}"\nasset_root = "https://files.example"'
        path = write_workflow(tmp_path, output=output)
        path.write_text(path.read_text().replace("[fuse]", '[fuse]\nallow_host = ["127.0.0.1"]'))
        told = scenefuse("workflow", "status", path)
        assert told.code == 3
        assert "3 pairs: 3 done, published not known, 0 running" in told.stdout
        assert f"What is published is not known (transient): GET {address} failed 4 times" in told.stdout
        assert "Last pass: began" in told.stdout
        ended = scenefuse("workflow", "status", path, "--json")
    assert (ended.code, ended.document["done"], ended.document["published"]) == (3, 3, None)
    error = ended.document["catalogue_error"]
    assert (error["kind"], error["retryable"]) == ("transient", True)
    assert scenefuse("workflow", "status", write_workflow(tmp_path), "--json").document["catalogue_error"] is None


@pytest.mark.usefixtures("lanes_opened")
def test_a_monitor_is_told_when_the_last_good_pass_is_too_old(scenefuse: Command, tmp_path: Path, pair: Pair) -> None:
    write_archive(tmp_path / "archive", {}, pair)
    path = write_workflow(tmp_path)
    ended = scenefuse("workflow", "status", path, "--max-age", "26h", "--json")
    assert (ended.code, ended.document["is_old"], ended.document["age_s"]) == (3, True, None)
    assert scenefuse("workflow", "run", path).code == 0
    assert scenefuse("workflow", "status", path, "--max-age", "26h").code == 0

    record = tmp_path / "out" / ".workflows" / "w.json"
    document = history(tmp_path)
    long_ago = (datetime.now(UTC) - timedelta(hours=27)).isoformat()
    for good in (document["last"], document["last_good"]):
        good |= {"began": long_ago, "ended": long_ago, "alive": long_ago}
    record.write_text(json.dumps(document))
    (tmp_path / "archive" / "catalog.json").unlink()  # is not looked at
    told = scenefuse("workflow", "status", path, "--max-age", "26h")
    assert (told.code, "heard of 27 h ago, longer than 26h" in told.stdout) == (3, True)

    alive = datetime.now(UTC).isoformat()  # a pass that has been at work for longer, and lives
    document["last"] |= {"ended": None, "outcome": None, "alive": alive}
    record.write_text(json.dumps(document))
    assert scenefuse("workflow", "status", path, "--max-age", "26h").code == 3
    with Lease(record.with_suffix(".lease")):
        assert scenefuse("workflow", "status", path, "--max-age", "26h").code == 0
    record.write_text("no record")
    assert_explained(
        scenefuse("workflow", "status", path, "--max-age", "26h", "--json"),
        DataError.exit_code,
        "not a record of passes",
    )
    write_archive(tmp_path / "archive", {}, pair)
    assert scenefuse("workflow", "run", path).code == 0
    assert scenefuse("workflow", "status", path, "--max-age", "26h").code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("archive", "lanes_opened")
def test_products_on_a_store_have_their_record_there(tmp_path: Path, prefix: StorePlace) -> None:
    workflow = workflow_of(tmp_path)
    workflow = replace(workflow, output=OutputSpec(products=str(prefix)))
    assert standings(look_at_workflow(workflow)) == {"a": "due", "b": "due", "c": "due"}
    assert run_pass(workflow).counts()["fused"] == 3
    found = look_at_workflow(workflow)
    assert standings(found) == {"a": "done", "b": "done", "c": "done"}
    assert found.free_bytes is None
    assert found.passes.history.last_good is not None
    assert (prefix / ".workflows").names() == ["w.json"]
    with Lease(prefix / ".workflows" / "w.lease"), pytest.raises(PassUnderWayError):
        run_pass(workflow)
    assert run_pass(workflow).counts()["found"] == 3
