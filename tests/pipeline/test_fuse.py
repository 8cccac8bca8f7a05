"""The main job: what a call makes, finds and resumes; what belongs to a product's identity; verify and replay."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import torch
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray

import scenefuse
from scenefuse.cli.app import app
from scenefuse.config import RunConfig
from scenefuse.engine import budget, group, known_states
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.observers import RecordingObserver
from scenefuse.engine.protocols import Event
from scenefuse.engine.software import software_facts
from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import (
    DataError,
    MismatchError,
    ResourceError,
    SceneFuseError,
    TransientError,
    UsageError,
    WorkError,
)
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.failures import read_failures
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.planning import STATES, plan_fusion
from scenefuse.pipeline.replay import ComparedGroup, ReplayReport, replay
from scenefuse.place.durable import json_bytes
from scenefuse.place.local import LocalPlace
from scenefuse.place.location import place_at
from scenefuse.product.comparison import CoreComparison
from scenefuse.product.files import STATE
from scenefuse.product.manifest import measure, write_manifest
from scenefuse.product.provenance import read_provenance, write_provenance
from scenefuse.product.shards import encode_shard, put_shard, with_digest
from scenefuse.product.stac_item import read_item
from scenefuse.product.verify import verify
from tests.pipeline.making import PairFiles, product_bytes, write_pair

CONFIG = RunConfig(model="gsa", core_px=64, format=("zarr",), workers=2)
"""Two workers' plan, two groups of two tiles, worked off in this process."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(31, 27), holes="swath")


@pytest.fixture(scope="module")
def made(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> FusedProduct:
    out = tmp_path_factory.mktemp("made")
    return fuse(*pair.both, out=out, config=CONFIG, lane=InProcessLane())


@pytest.fixture
def product(made: FusedProduct, tmp_path: Path) -> Path:
    """A copy of the product, to be tampered with."""
    return Path(shutil.copytree(made.folder, tmp_path / made.folder.name))


def item_name(pair: PairFiles, out: Path, **changes: Any) -> str:
    return plan_fusion(*pair.both, out=out, config=replace(CONFIG, **changes)).folder.name


class Replacing:
    """An observer that does something to a file at an event."""

    def __init__(self, kind: str, act: Callable[[], object]) -> None:
        self.kind, self.act = kind, act

    def notify(self, event: Event) -> None:
        if event.kind == self.kind:
            self.act()


def test_a_product_that_another_made_while_workers_started_is_found(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def slow_start(_: object) -> Iterator[InProcessLane]:
        assert fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane()).status == "done"
        yield InProcessLane()

    monkeypatch.setattr("scenefuse.pipeline.fuse.open_lane", slow_start)
    assert fuse(*pair.both, out=tmp_path, config=CONFIG).status == "found"


@pytest.mark.parametrize("kind", ["begin", "group"])
def test_an_input_that_is_replaced_meanwhile_makes_no_product(
    pair: PairFiles, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_states, "LEAST_SECONDS", 0.0)
    hs, ms = (Path(shutil.copy2(path, tmp_path / Path(path).name)) for path in pair.both)
    out = tmp_path / "out"
    of_another_scene = place_at(out) / STATES / "another.safetensors"
    of_another_scene.put(b"its state")
    old = plan_fusion(hs, ms, out=out, config=CONFIG).folder.name

    def replace_it() -> None:
        with rasterio.open(shutil.copy(hs, tmp_path / "new.tif"), "r+") as file:
            file.write(file.read() // 2)
        (tmp_path / "new.tif").replace(hs)

    with pytest.raises(WorkError, match=f"{hs.name} changed while it was read"):
        fuse(hs, ms, out=out, config=CONFIG, lane=InProcessLane(), observer=Replacing(kind, replace_it))
    assert not (out / old).exists()
    assert of_another_scene.parent.names() == [of_another_scene.name]
    assert [record.retryable for record in read_failures(place_at(out))] == [True]
    made = fuse(hs, ms, out=out, config=CONFIG, lane=InProcessLane())
    assert made.item_id != old
    assert replay(made.folder, every_tile=True).ok
    assert read_failures(place_at(out)) == ()


def test_an_input_that_is_away_at_the_end_leaves_what_is_finished(pair: PairFiles, tmp_path: Path) -> None:
    hs, ms = (Path(shutil.copy2(path, tmp_path / Path(path).name)) for path in pair.both)
    away = Replacing("stage", lambda: hs.rename(tmp_path / "away.tif") if hs.exists() else None)
    with pytest.raises(WorkError, match=r"No such file|not exist"):
        fuse(hs, ms, out=tmp_path / "out", config=CONFIG, lane=InProcessLane(), observer=away)
    (tmp_path / "away.tif").rename(hs)
    assert fuse(hs, ms, out=tmp_path / "out", config=CONFIG, lane=InProcessLane()).status in {"done", "resumed"}


class CtrlC:
    """An observer that ends the run as Ctrl-C would, after some groups."""

    def __init__(self, groups: int) -> None:
        self.left = groups

    def notify(self, event: Event) -> None:
        self.left -= event.kind == "group"
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_product_is_done_once_and_found_after(pair: PairFiles, made: FusedProduct) -> None:
    assert made.status == "done"
    before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*") if path.is_file()}
    again = fuse(*pair.both, out=made.folder.parent, config=CONFIG, lane=InProcessLane())
    assert (again.status, again.item) == ("found", made.item)
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*") if path.is_file()} == before


def test_a_run_records_what_it_found_at_its_seams_and_where_its_time_went(made: FusedProduct) -> None:
    assert made.checks["seams"] == {"rms": 0.0, "p999": 0.0, "max": 0.0}
    assert read_provenance(made.folder).checks == made.checks
    item = json.loads(made.item.read_bytes())
    assert (item["properties"]["scenefuse:seam_rms"], item["properties"]["scenefuse:seam_p999"]) == (0.0, 0.0)
    phases = json.loads((made.folder / "run.json").read_bytes())["facts"]["phases"]
    assert set(phases) == {"open", "prepare", "tiles", "check", "finish"}
    assert sum(phase["share"] for phase in phases.values()) == pytest.approx(1.0)


def test_a_product_is_derived_from_its_method_which_pystac_finds_beside_it(made: FusedProduct) -> None:
    """The pair are bare files, which no item can name."""
    (method,) = pystac.Item.from_file(str(made.item)).get_derived_from()
    assert (method.id, method.properties["scenefuse:ratio"]) == ("gsa", 4)
    assert method.properties["scenefuse:options"] == dict(read_provenance(made.folder).method.options)
    papers = [link.href for link in method.links if link.rel == "cite-as"]
    assert papers == ["https://doi.org/10.1109/TGRS.2007.901007", "https://doi.org/10.1109/MGRS.2016.2637824"]


def test_a_product_of_a_release_without_its_methods_item_is_found_verified_and_replayed(
    pair: PairFiles, product: Path
) -> None:
    item, provenance = (
        json.loads(path.read_text()) for path in (product / f"{product.name}.json", product / "provenance.json")
    )
    (product / "model.json").unlink()
    del item["assets"]["model"]
    item["links"] = [link for link in item["links"] if link["rel"] != "derived_from"]
    provenance["entity"]["scenefuse:method"]["scenefuse:href"] = {"$": "null", "type": "scenefuse:json"}
    (product / "provenance.json").write_bytes(json_bytes(provenance))
    size, digest = place_at(product / "provenance.json").measure()
    item["assets"]["provenance"] |= {"file:checksum": f"1220{digest}", "file:size": size}
    (product / f"{product.name}.json").write_bytes(json_bytes(item))
    assert verify(product).ok
    assert replay(product).ok
    out = product.parent
    assert fuse(*pair.both, out=out, config=CONFIG, lane=InProcessLane()).status == "found"
    later = fuse(*pair.both, out=out, config=replace(CONFIG, format=("zarr", "cog")), lane=InProcessLane())
    assert (later.status, verify(product).ok) == ("resumed", True)
    assert (product / "model.json").is_file()


def test_a_cog_that_is_asked_for_later_is_added_to_the_same_pixels(
    pair: PairFiles, made: FusedProduct, product: Path
) -> None:
    later = fuse(*pair.both, out=product.parent, config=replace(CONFIG, format=("zarr", "cog")), lane=InProcessLane())
    assert (later.status, later.folder) == ("resumed", product)
    assert product_bytes(product) | {"fused.tif": b""} == product_bytes(made.folder) | {"fused.tif": b""}
    with rasterio.open(product / "fused.tif") as cog:
        stored = np.asarray(zarr.open_array(product / "fused.zarr" / "reflectance", mode="r")[...])
        np.testing.assert_array_equal(cog.read(), stored)
    assert verify(product).ok
    assert "cog" in json.loads(later.item.read_text())["assets"]


def test_a_product_that_is_there_needs_no_disk(
    pair: PairFiles, made: FusedProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalPlace, "free_bytes", lambda _: 0)
    again = fuse(*pair.both, out=made.folder.parent, config=CONFIG, lane=InProcessLane())
    assert again.status == "found"


def test_a_run_that_had_room_has_it_when_it_is_resumed(
    pair: PairFiles, made: FusedProduct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane(), observer=CtrlC(groups=1))
    needed = plan_fusion(*pair.both, out=tmp_path / "elsewhere", config=CONFIG).plan.write_bytes
    stored = place_at(tmp_path / made.folder.name).stored_bytes()
    monkeypatch.setattr(LocalPlace, "free_bytes", lambda _: needed - stored)
    assert fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane()).status == "resumed"


def test_an_unfinished_product_keeps_its_cores_where_others_would_be_chosen_now(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, core_px=None)
    with monkeypatch.context() as patch:
        patch.setattr("scenefuse.engine.budget.TARGET_CORE_PX", 48)
        with pytest.raises(KeyboardInterrupt):
            fuse(*pair.both, out=tmp_path, config=config, lane=InProcessLane(), observer=CtrlC(groups=1))
    assert plan_fusion(*pair.both, out=tmp_path, config=config).spec.core_px == 48
    assert plan_fusion(*pair.both, out=tmp_path / "elsewhere", config=config).spec.core_px > 48
    assert fuse(*pair.both, out=tmp_path, config=config, lane=InProcessLane()).status == "resumed"


def test_a_cog_that_was_broken_off_after_its_file_is_made_again(
    pair: PairFiles, made: FusedProduct, product: Path
) -> None:
    (product / "fused.tif").write_bytes(b"of a run that was killed before the commit")
    later = fuse(*pair.both, out=product.parent, config=replace(CONFIG, format=("zarr", "cog")), lane=InProcessLane())
    assert later.status == "resumed"
    assert made.status == "done"
    assert verify(product).ok
    assert "cog" in json.loads(later.item.read_text())["assets"]


def test_what_fails_after_the_work_began_is_recorded_for_refill(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise ResourceError("No worker", "nothing goes on", "Start one")

    monkeypatch.setattr("scenefuse.pipeline.fuse.finish_data", lost)
    with pytest.raises(WorkError, match="No worker"):
        fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane())
    assert len(read_failures(place_at(tmp_path))) == 1


def test_a_place_that_answers_no_more_is_a_failure_of_begun_work(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bool:
        raise TransientError("The store does not answer", "nothing goes on", "Try again later")

    def goes_away(*_: object) -> None:
        monkeypatch.setattr(LocalPlace, "exists", away)
        away()

    monkeypatch.setattr("scenefuse.engine.lease.Lease.check", goes_away)
    with pytest.raises(WorkError, match="does not answer"):
        fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane())
    assert [record.retryable for record in read_failures(place_at(tmp_path))] == [True]


def test_an_interrupted_run_is_resumed_with_the_same_bytes(pair: PairFiles, made: FusedProduct, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane(), observer=CtrlC(groups=1))
    assert not list(tmp_path.glob("*.json"))
    assert not (tmp_path / made.folder.name / f"{made.folder.name}.json").exists()
    resumed = fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane())
    assert resumed.status == "resumed"
    assert product_bytes(resumed.folder) == product_bytes(made.folder)


def test_what_another_method_found_out_about_the_scene_is_not_measured_again(
    pair: PairFiles, made: FusedProduct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_states, "LEAST_SECONDS", 0.0)
    first, second = RecordingObserver(), RecordingObserver()
    fuse(*pair.both, out=tmp_path, config=replace(CONFIG, model="sfim"), lane=InProcessLane(), observer=first)
    product = fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane(), observer=second)
    known = [stage for facts in second.facts("known") for stage in facts["stages"]]  # type: ignore[attr-defined]
    assert known[0] == "scene/fill"
    assert known == [facts["stage"] for facts in first.facts("stage")][: len(known)]
    assert "gsa/regression" in [facts["stage"] for facts in second.facts("stage")]
    assert product_bytes(product.folder) == product_bytes(made.folder)
    assert {folder.name for folder in tmp_path.iterdir()} >= {".states", product.folder.name}


def test_a_catalogue_that_lost_its_link_gets_it_back_when_the_product_is_found(
    pair: PairFiles, made: FusedProduct
) -> None:
    links = [made.folder.parent / name for name in ("catalog.json", "collection.json")]
    before = [path.read_bytes() for path in links]
    for path in links:
        path.unlink()
    assert fuse(*pair.both, out=made.folder.parent, config=CONFIG, lane=InProcessLane()).status == "found"
    assert [path.read_bytes() for path in links] == before


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "sfim"},
        {"halo": "full"},
        {"core_px": 128},
        {"drop_bands": ("B03",)},
        {"drop_ms_bands": ("B04",)},
        {"hs_scale": 2e-4},
        {"ms_scale": 2e-4},
        {"register": False},
    ],
    ids=",".join,
)
def test_an_option_that_changes_numbers_makes_another_product(
    pair: PairFiles, made: FusedProduct, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert item_name(pair, tmp_path, **changes) != made.folder.name


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 3},
        {"memory_limit": "3GiB"},
        {"format": ("zarr", "cog")},
        {"allow_host": ("localhost",)},
        {"precision": "fp32"},  # what auto is for this method
    ],
    ids=",".join,
)
def test_an_option_that_changes_no_numbers_leaves_the_product_the_same(
    pair: PairFiles, made: FusedProduct, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert item_name(pair, tmp_path, **changes) == made.folder.name


def test_an_input_that_changed_makes_another_product_and_one_that_moved_does_not(
    pair: PairFiles, made: FusedProduct, tmp_path: Path
) -> None:
    moved = PairFiles(
        hs=Path(shutil.copy2(pair.hs, tmp_path / "hs.tif")), ms=Path(shutil.copy2(pair.ms, tmp_path / "ms.tif"))
    )
    assert item_name(moved, tmp_path / "out") == made.folder.name
    change_one_pixel(moved.ms)
    assert item_name(moved, tmp_path / "out") != made.folder.name


def change_one_pixel(path: Path) -> None:
    with rasterio.open(path, "r+") as dataset:
        pixels = dataset.read(1)
        pixels[15, 15] += 1
        dataset.write(pixels, 1)


def test_a_folder_that_is_in_use_is_refused(pair: PairFiles, tmp_path: Path) -> None:
    class Second:
        def notify(self, event: Event) -> None:
            if event.kind == "group":
                with pytest.raises(SceneFuseError, match="in use"):
                    fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane())

    assert fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane(), observer=Second()).status == "done"


def test_a_cog_that_is_added_after_an_upgrade_does_not_change_what_made_the_tiles(
    pair: PairFiles, product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_provenance(product)
    monkeypatch.setattr("scenefuse.engine.group.software_facts", lambda _: {"torch": "9", "instruction_set": "AVX9"})
    config = replace(CONFIG, format=("zarr", "cog"))
    assert fuse(*pair.both, out=product.parent, config=config, lane=InProcessLane()).status == "resumed"
    after = read_provenance(product)
    assert (after.software, after.plan) == (before.software, before.plan)


@pytest.mark.parametrize("damaged", ["item", "provenance.json"])
@pytest.mark.parametrize("text", ["{", '{"properties": {}, "assets": null, "links": []}'])
def test_a_product_whose_documents_are_damaged_is_mended_by_fusing_again(
    pair: PairFiles, product: Path, damaged: str, text: str
) -> None:
    path = product / (f"{product.name}.json" if damaged == "item" else damaged)
    whole = read_item(product), read_provenance(product)
    path.write_text(text)
    again = fuse(*pair.both, out=product.parent, config=CONFIG, lane=InProcessLane())
    assert (again.status, again.folder) == ("resumed", product)
    assert verify(product).ok
    assert (read_item(product)["assets"].keys(), read_provenance(product)) == (whole[0]["assets"].keys(), whole[1])


def test_a_product_that_was_begun_before_an_upgrade_names_both_versions(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a replay would expect the bits of the second for the tiles of the first."""

    class Stopping:
        def notify(self, event: Event) -> None:
            if event.kind == "group":
                raise KeyboardInterrupt

    with monkeypatch.context() as before:
        before.setattr("scenefuse.engine.software._version", lambda _: "1.0")
        before.setattr("scenefuse.engine.software.instruction_set", lambda _: "AVX1")
        with pytest.raises(KeyboardInterrupt):
            fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane(), observer=Stopping())
    product = fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane())
    assert product.status == "resumed"
    provenance, now = read_provenance(product.folder), software_facts("cpu")
    assert provenance.plan.instruction_set == f"AVX1, {now['instruction_set']}"
    assert provenance.software["torch"] == f"1.0, {now['torch']}"
    assert provenance.software["scenefuse"] == now["scenefuse"]
    replayed = replay(product.folder)
    assert replayed.ok
    assert any(change.startswith("torch 1.0, ") for change in replayed.changed)


def test_verify_accepts_a_product_and_replay_gives_the_same_integers(made: FusedProduct) -> None:
    assert verify(made.folder).mismatches == ()
    assert scenefuse.verify(made.item) == verify(made.folder), "the public name leaves nothing unchecked"
    replayed = replay(made.folder, every_tile=True)
    assert replayed.ok
    assert replayed.changed == ()
    assert len(replayed.cores) == replayed.tiles == 4
    assert (replayed.differing_fraction, replayed.most_steps) == (0.0, 0)


@pytest.mark.parametrize(
    ("differing", "steps", "flags", "changed", "ok"),
    [
        (0, 0, 0, (), True),
        (3, 1, 0, (), False),
        (3, 1, 0, ("torch 1 then, 2 now",), True),
        (3, 2, 0, ("torch 1 then, 2 now",), False),
        (0, 0, 1, (), False),
        (0, 0, 1, ("torch 1 then, 2 now",), False),
        (3, 1, 1, ("torch 1 then, 2 now",), False),
    ],
)
def test_one_step_is_forgiven_where_versions_changed_and_flags_never_are(
    differing: int,
    steps: int,
    flags: int,
    changed: tuple[str, ...],
    ok: bool,  # noqa: FBT001
) -> None:
    core = CoreComparison(iy=0, ix=0, values=100, differing=differing, most_steps=steps, quality_differing=flags)
    report = ReplayReport(product="a", tiles=1, cores=(core,), changed=changed)
    assert report.ok == ok
    assert report.differing_fraction == differing / 100


@pytest.mark.parametrize(("drift", "steps", "ok"), [(None, 2, False), (3e-4, 3, True), (3e-4, 4, False)])
def test_the_recorded_drift_of_bf16_bounds_what_is_forgiven_where_versions_changed(
    drift: float | None,
    steps: int,
    ok: bool,  # noqa: FBT001
    product: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provenance = read_provenance(product)
    found = None if drift is None else {"rms": drift / 10, "p999": drift, "max": drift}
    write_provenance(product, replace(provenance, checks={**provenance.checks, "drift": found}))
    core = CoreComparison(iy=0, ix=0, values=100, differing=3, most_steps=steps, quality_differing=0)
    group = ComparedGroup(cores=(core,), made_by={"torch": "2"})
    monkeypatch.setattr("scenefuse.pipeline.replay.results_in_order", lambda *_: [group])
    assert replay(product).ok == ok


def test_one_step_is_forgiven_where_the_workers_differ_from_this_machine(
    made: FusedProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = software_facts("cpu")
    others = iter([here, {**here, "instruction_set": "AVX9"}])
    monkeypatch.setattr("scenefuse.engine.group.software_facts", lambda _: next(others))
    replayed = replay(made.folder, every_tile=True)
    assert replayed.changed == (f"{here['instruction_set']} then, AVX9 now",)


def test_a_sample_of_tiles_has_the_first_and_the_last(pair: PairFiles, tmp_path: Path) -> None:
    config = replace(CONFIG, core_px=48)
    folder = fuse(*pair.both, out=tmp_path, config=config, lane=InProcessLane()).folder
    places = [(core.iy, core.ix) for core in replay(folder).cores]
    assert (len(places), places[0], places[-1]) == (4, (0, 0), (2, 2))


def test_a_product_of_older_numerics_is_computed_again_and_told(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("scenefuse.product.identity", "scenefuse.pipeline.replay"):
        monkeypatch.setattr(f"{module}.NUMERICS", 999)
    replayed = replay(product)
    assert replayed.changed == (f"numerics {read_provenance(product).numerics} then, 999 now",)


@pytest.fixture
def batches_of_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose plan has batches, and whose results depend on their size as a GPU's do."""
    alone = group._fuse_batch

    def shifted(core: Callable[[], NDArray[np.float32]], shift: float) -> NDArray[np.float32]:
        moved: NDArray[np.float32] = core() + np.float32(shift)
        return moved

    def merged(*arguments: Any) -> list[Callable[[], NDArray[np.float32]]]:
        return [partial(shifted, core, 1e-4 * len(arguments[2])) for core in alone(*arguments)]

    monkeypatch.setattr(group, "_fuse_batch", merged)
    monkeypatch.setattr(budget, "_default_batch", lambda *_: 3)


@pytest.mark.usefixtures("batches_of_3")
def test_replay_computes_tiles_in_the_batches_of_the_run(pair: PairFiles, tmp_path: Path) -> None:
    product = fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane()).folder
    replayed = replay(product, every_tile=True)
    assert replayed.changed == ()
    assert replayed.differing_fraction == 0


@pytest.mark.usefixtures("batches_of_3")
def test_replay_knows_that_memory_ran_out_in_the_run(pair: PairFiles, tmp_path: Path) -> None:
    product = fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane()).folder
    document = json.loads((product / "run.json").read_bytes())
    document["facts"]["run"]["batch"] = 1
    (product / "run.json").write_text(json.dumps(document))
    assert replay(product).changed == ("batches of 3 windows planned, of 1 where memory ran out",)


@pytest.mark.parametrize(
    "name", ["fused.zarr/reflectance/c/0/1/1", "fused.zarr/zarr.json", "provenance.json", "state.safetensors"]
)
def test_verify_exits_with_5_when_a_byte_is_changed(product: Path, name: str) -> None:
    path = product / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = CliRunner().invoke(app, ["verify", str(product)], standalone_mode=False)
    assert result.return_value == MismatchError.exit_code == 5
    assert name in result.output


def test_replay_sees_a_tile_that_was_changed_with_all_its_checksums(product: Path) -> None:
    forge(product)
    assert verify(product).ok
    report = replay(product, every_tile=True)
    assert not report.ok
    assert [(core.iy, core.ix, core.differing) for core in report.cores if not core.identical] == [(1, 1, 1)]
    result = CliRunner().invoke(app, ["replay", str(product), "--all"], standalone_mode=False)
    assert result.return_value == MismatchError.exit_code
    assert "MISMATCH" in result.output


def forge(product: Path) -> None:
    """One integer of tile (1, 1) changed by one step, and every checksum made to agree with it."""
    store = product / "fused.zarr"
    array = zarr.open_array(store / "reflectance", mode="r")
    pixels = np.asarray(array[:, 64:, 64:]).copy()
    pixels[5, 20, 20] += 1
    put_shard(store, with_digest("reflectance/c/0/1/1", encode_shard(pixels, array.shards or (), array)))
    provenance = read_provenance(product)
    digest = write_manifest(product, measure(store))
    write_provenance(product, replace(provenance, manifest_sha256=digest))
    path = product / f"{product.name}.json"
    item = json.loads(path.read_bytes())
    for asset in item["assets"].values():
        if "file:checksum" in asset:
            data = (product / asset["href"]).read_bytes()
            asset |= {"file:checksum": f"1220{hashlib.sha256(data).hexdigest()}", "file:size": len(data)}
    path.write_text(json.dumps(item))


def test_replay_refuses_an_input_that_has_changed(product: Path, pair: PairFiles, tmp_path: Path) -> None:
    hs, ms = (Path(shutil.copy2(path, tmp_path / path.name)) for path in (pair.hs, pair.ms))
    assert replay(product, hrefs=(str(hs), str(ms))).ok
    change_one_pixel(hs)
    with pytest.raises(MismatchError, match=r"hsi hs\.tif"):
        replay(product, hrefs=(str(hs), str(ms)))
    one: Any = str(hs)
    with pytest.raises(UsageError, match=r"hrefs is '.*hs\.tif': it is not a pair"):
        replay(product, hrefs=one)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device is here")
def test_replay_of_a_product_of_a_gpu_is_refused_without_one_with_a_cure_that_helps(product: Path) -> None:
    provenance = read_provenance(product)
    write_provenance(product, replace(provenance, options={**provenance.options, "device": "cuda"}))
    with pytest.raises(ResourceError, match="made on a GPU") as refusal:
        replay(product)
    assert "--device" not in refusal.value.cure


def test_replay_refuses_a_state_that_is_damaged_or_of_another_scene(product: Path) -> None:
    state = load_state(product / STATE)
    save_state(product / STATE, state.with_(facts={"valid_fraction": 0.5}))
    with pytest.raises(MismatchError, match="computed from another state"):
        replay(product)
    data = bytearray((product / STATE).read_bytes())
    data[-1] ^= 1
    (product / STATE).write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        replay(product)
    (product / STATE).unlink()
    for look in (replay, evaluate_product):
        with pytest.raises(DataError, match=r"has no state\.safetensors"):
            look(product)


def test_run_json_does_not_belong_to_the_same_bytes_and_says_how_it_went(made: FusedProduct) -> None:
    facts = json.loads((made.folder / "run.json").read_bytes())["facts"]
    assert facts["run"]["tiles"] == facts["run"]["finished"] == 4
    assert facts["run"]["peak_rss_bytes"] > 10 * 2**20
    assert next(stage["stage"] for stage in facts["stages"]) == "scene/fill"
    assert (
        os.sep
        not in json.loads((made.folder / "provenance.json").read_bytes())["entity"]["scenefuse:input/0"][
            "scenefuse:href"
        ]
    )


def test_ground_that_a_band_loses_is_told_before_the_first_tile_and_recorded(pair: PairFiles, tmp_path: Path) -> None:
    hs = tmp_path / "half.tif"
    shutil.copy(pair.hs, hs)
    with rasterio.open(hs, "r+") as file:
        band = file.read(5)
        band[: band.shape[0] // 2] = file.nodata
        file.write(band, 5)
    observer = RecordingObserver()
    made = fuse(hs, pair.ms, out=tmp_path / "out", config=CONFIG, observer=observer, lane=InProcessLane())
    kinds = [event.kind for _, event in observer.events]
    assert kinds.index("warning") < kinds.index("stage")
    (warned,) = observer.facts("warning")
    assert "B05" in str(warned["message"])
    assert "--drop-band B05" in str(warned["message"])
    assert warned["message"] in made.notes
    lost = read_provenance(made.location.parent).grid["lost_by_bands"]
    assert [entry["band"] for entry in lost["bands"]] == ["B05"]
    assert 0.4 < lost["share"] < 0.6
