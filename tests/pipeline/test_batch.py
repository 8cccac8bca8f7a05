"""Archives of two items: which scenes are found, and where their products find them again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pystac
import pytest
from stac_geoparquet.arrow import parse_stac_items_to_parquet

from scenefuse.archive.pair_search import find_in_archive
from scenefuse.archive.pairing import PairRule
from scenefuse.archive.scene import Scene, ScenePair
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import ClusterSpec
from scenefuse.engine.dask_lane import SchedulerLostError
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.lease import Lease
from scenefuse.engine.observers import NullObserver, RecordingObserver
from scenefuse.errors import DataError, MismatchError, TransientError
from scenefuse.pipeline.batch import attempt_pair, batch
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.failures import PairWork, read_failures
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.opening import open_aligned
from scenefuse.pipeline.planning import plan_fusion
from scenefuse.pipeline.refill import refill
from scenefuse.pipeline.replay import replay
from scenefuse.place.location import place_at
from scenefuse.place.store import StorePlace
from scenefuse.product.stac_item import read_item
from scenefuse.product.verify import verify
from tests.cli import scenes
from tests.publish.making import published

Pair = tuple[Path, Path]
CONFIG = RunConfig(model="gsa", core_px=48, format=("zarr",), workers=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    return scenes.write_hs(folder / "hs.tif"), scenes.write_ms(folder / "ms.tif")


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is done in this process: workers take seconds to start."""

    @contextmanager
    def here(_spec: ClusterSpec) -> Iterator[Lane]:
        yield InProcessLane()

    for room in ("batch", "refill"):
        monkeypatch.setattr(f"scenefuse.pipeline.{room}.open_lane", here)


def collection_of(pair: Pair, folder: Path, *, self_links: bool) -> Path:
    """An ItemCollection of the pair's items, with their files beside it."""
    features = [json.loads(item.read_text()) for item in scenes.write_pair_items(folder, pair)]
    for feature in features if self_links else ():
        feature["links"] = [{"rel": "self", "href": f"./{feature['id']}.json"}]
    path = folder / "all.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


@pytest.mark.parametrize("self_links", [True, False])
def test_a_pair_of_an_item_collection_is_opened(pair: Pair, tmp_path: Path, *, self_links: bool) -> None:
    path = collection_of(pair, tmp_path, self_links=self_links)
    found, _ = find_in_archive([str(path)], PairRule())
    (made,) = found.pairs
    opened = open_aligned(made.hs, made.ms, CONFIG)
    assert opened.cube.grid.ratio == scenes.RATIO
    expected = ["hs.json", "ms.json"] if self_links else ["all.json", "all.json"]
    assert [made.hs.href, made.ms.href] == [str(tmp_path / name) for name in expected]
    with pytest.raises(DataError, match="as HS and as MS"):
        open_aligned(made.hs, made.hs, CONFIG)


def test_a_record_of_a_failure_tells_no_secrets_of_an_address() -> None:
    scene = Scene(id="a", assets=(), href="https://user:secret@a.example/hs.json?sig=secret")
    record = PairWork.of(ScenePair(hs=scene, ms=replace(scene, id="b")), RunConfig())
    assert (record.hs_href, record.ms_href) == ("https://a.example/hs.json",) * 2


def test_an_item_of_a_collection_whose_self_link_is_refused_is_read_all_the_same(pair: Pair, tmp_path: Path) -> None:
    path = collection_of(pair, tmp_path, self_links=True)
    path.write_text(path.read_text().replace("./hs.json", "http://localhost/hs.json"))
    found, skipped = find_in_archive([str(path)], PairRule())
    assert skipped == ()
    assert [made.hs.href for made in found.pairs] == [str(path)]


@pytest.fixture
def side_by_side(pair: Pair, tmp_path: Path) -> Path:
    """A catalogue whose items and data lie in two folders beside each other."""
    folder = tmp_path / "archive"
    (folder / "data").mkdir(parents=True)
    items = []
    for path, role in zip(pair, ("hsi", "msi"), strict=True):
        shutil.copy(path, folder / "data" / path.name)
        place = folder / "items" / f"{path.stem}.json"
        items.append(scenes.write_item(place, href=f"../data/{path.name}", role=role))
    return scenes.write_catalogue(folder, items)


@pytest.mark.usefixtures("no_workers")
def test_the_api_takes_paths_as_pathlib_has_them(side_by_side: Path, pair: Pair, tmp_path: Path) -> None:
    (found,) = batch(side_by_side, out=tmp_path / "out", config=CONFIG).products
    assert found.status == "done"
    assert batch(str(side_by_side), out=tmp_path / "out", config=CONFIG).products[0].status == "found"
    product = fuse(*pair, out=tmp_path / "pairs", config=CONFIG, lane=InProcessLane())
    assert replay(product.folder, hrefs=pair).ok
    cube = scenes.hs_cube().repeat(scenes.RATIO, axis=1).repeat(scenes.RATIO, axis=2)
    truth = scenes.write_hs(tmp_path / "truth.tif", cube=cube, gsd_m=10.0)
    assert evaluate_product(product.folder, reference=truth, hrefs=pair).values["psnr_db"] > 0
    order = plan_fusion(*pair, out=tmp_path / "plan")
    assert order.config == RunConfig()
    assert str(order.folder) in repr(order)
    assert len(repr(order)) < 500


@pytest.mark.usefixtures("no_workers")
def test_a_product_of_a_catalogue_finds_its_inputs_again(side_by_side: Path, tmp_path: Path) -> None:
    (product,) = batch([str(side_by_side)], out=tmp_path / "out", config=CONFIG).products
    assert replay(product.folder).ok
    assert evaluate_product(product.folder).values
    run = json.loads((product.folder / "run.json").read_bytes())
    assert run.pop("roots") == {"hsi": str(side_by_side.parent), "msi": str(side_by_side.parent)}
    (product.folder / "run.json").write_text(json.dumps(run))
    with pytest.raises(DataError, match="outside the catalogue"):
        replay(product.folder)


@pytest.mark.usefixtures("no_workers")
def test_a_product_is_itself_through_a_link_and_from_inside(
    side_by_side: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (product,) = batch([str(side_by_side)], out=tmp_path / "out", config=CONFIG).products
    link = tmp_path / "latest"
    link.symlink_to(product.folder)
    monkeypatch.chdir(product.folder)
    for place in (link, Path()):
        assert replay(place).product == product.item_id
        assert evaluate_product(place).values
        assert verify(place).ok


@pytest.mark.usefixtures("no_workers")
def test_a_failed_pair_of_a_catalogue_is_found_again_by_refill(side_by_side: Path, tmp_path: Path) -> None:
    damaged = side_by_side.parent / "data" / "hs.tif"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-5000])
    assert len(batch([str(side_by_side)], out=tmp_path / "out", config=CONFIG).failures) == 1
    damaged.write_bytes(whole)
    report = refill(tmp_path / "out", machine=CONFIG)
    assert report.failures == ()
    (product,) = report.products
    assert replay(product.folder).ok


def test_the_time_of_a_product_is_that_of_its_hsi(pair: Pair, tmp_path: Path) -> None:
    hs, ms = scenes.write_pair_items(tmp_path / "archive", pair)
    ms.write_text(ms.read_text().replace("2024-06-04T10:15:00Z", "2024-06-05T10:15:00Z"))
    order = plan_fusion(hs, ms, out=tmp_path / "out", config=CONFIG)
    assert order.spec.acquired == datetime(2024, 6, 4, 10, 15, tzinfo=UTC)


@pytest.mark.usefixtures("no_workers")
def test_a_pair_that_another_process_works_on_is_left_to_it_and_has_not_failed(pair: Pair, tmp_path: Path) -> None:
    archive, out = scenes.archive_of(pair, tmp_path / "archive"), tmp_path / "out"
    items = [archive.parent / f"{side}.json" for side in ("hs", "ms")]
    folder = plan_fusion(*items, out=out, config=CONFIG).folder.local_path()
    folder.mkdir(parents=True)
    recorder = RecordingObserver()
    with Lease(folder / ".lease"):
        report = batch(archive, out=out, config=CONFIG, observer=recorder)
        assert (report.products, report.failures) == ((), ())
        (busy,) = report.busy
        assert (busy.hs_id, busy.kind, busy.retryable) == ("hs", "busy", True)
        assert [event.facts["status"] for _, event in recorder.events if event.kind == "pair"] == ["busy"]
        assert report.facts()["busy"][0]["kind"] == "busy"
        assert not (out / "failures.jsonl").exists()
    assert [product.status for product in batch(archive, out=out, config=CONFIG).products] == ["done"]


def test_workers_that_cannot_start_end_the_batch_and_are_no_pairs_failure(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: ClusterSpec) -> Lane:
        raise TransientError("no process starts", "nothing can run", "look for what ends processes")

    archive = scenes.archive_of(pair, tmp_path / "archive")
    monkeypatch.setattr("scenefuse.pipeline.batch.open_lane", refuse)
    with pytest.raises(TransientError, match="no process starts"):
        batch(archive, out=tmp_path / "out", config=CONFIG)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_is_gone_ends_the_batch_and_the_pair_can_be_tried_again(tmp_path: Path) -> None:
    work = PairWork(hs_id="h", ms_id="m", hs_href="h.json", ms_href="m.json", model="gsa")

    def lost(**_: object) -> FusedProduct:
        raise SchedulerLostError("scheduler", "gone", "start one") from OSError("closed")

    with pytest.raises(SchedulerLostError):
        attempt_pair(lost, work, out=place_at(tmp_path), observer=NullObserver())
    (record,) = read_failures(place_at(tmp_path))
    assert (record.kind, record.retryable) == ("work", True)


@pytest.mark.filterwarnings("ignore:The item .* is deprecated")  # so pystac warns its readers
@pytest.mark.usefixtures("no_workers")
def test_a_corrected_input_makes_a_new_version_and_the_old_one_says_so(pair: Pair, tmp_path: Path) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    (first,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    scenes.write_hs(archive.parent / "hs.tif", scenes.hs_cube() * 1.05)
    (second,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    assert second.notes[-1] == f"replaces {first.item_id}, made of earlier inputs: deprecated"
    catalog = pystac.Catalog.from_file(str(tmp_path / "out" / "catalog.json"))
    items = {item.id: item for item in catalog.get_items(recursive=True)}
    versions = {name: item.properties.get("deprecated", False) for name, item in items.items()}
    assert versions == {first.item_id: True, second.item_id: False}
    for item, rel, other in ((first, "successor-version", second), (second, "predecessor-version", first)):
        (link,) = items[item.item_id].get_links(rel)
        target = link.resolve_stac_object().target
        assert isinstance(target, pystac.Item)
        assert target.id == other.item_id
        assert verify(item.folder).ok
    (again,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    assert (again.status, read_item(again.folder)) == ("found", read_item(second.folder))


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.usefixtures("no_workers")
def test_scenes_of_a_list_of_items_are_found_again_by_refill_and_replay(
    pair: Pair,
    tmp_path: Path,
    table: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    folder = tmp_path / "archive"
    items = [json.loads(path.read_text()) for path in scenes.write_pair_items(folder, pair)]
    listed = folder / ("items.parquet" if table else "items.json")
    if table:
        parse_stac_items_to_parquet(items, output_path=listed)
    else:
        listed.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    away = (folder / "hs.tif").rename(tmp_path / "away.tif")
    assert batch([str(listed)], out=tmp_path / "out", config=CONFIG).failures
    away.rename(folder / "hs.tif")
    (done,) = refill(tmp_path / "out", machine=CONFIG).products
    assert replay(done.folder).ok
    moved = shutil.copytree(folder, tmp_path / "moved") / listed.name
    assert replay(done.folder, hrefs=(moved, moved)).ok


@pytest.mark.parametrize("field", ["raster:offset", "nodata", "eo:center_wavelength"])
@pytest.mark.usefixtures("no_workers")
def test_a_corrected_item_makes_a_new_version_though_its_file_is_the_same(
    pair: Pair, tmp_path: Path, field: str
) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    (first,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    place = archive.parent / "hs.json"
    item = json.loads(place.read_text())
    for band in item["assets"]["data"]["bands"]:
        band[field] = band.get(field, 0.0) + 0.01
    place.write_text(json.dumps(item))
    (second,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    assert second.notes[-1] == f"replaces {first.item_id}, made of earlier inputs: deprecated"
    assert replay(second.folder).ok
    with pytest.raises(MismatchError, match="wavelengths, scale, offset or no-data of bands differ"):
        replay(first.folder)


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("damage", [[], {"properties": None, "assets": {}, "links": []}])
def test_a_product_whose_item_is_damaged_does_not_stop_the_ones_beside_it(
    pair: Pair, tmp_path: Path, damage: object
) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    (first,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    first.item.write_text(json.dumps(damage))
    scenes.write_hs(archive.parent / "hs.tif", scenes.hs_cube() * 1.05)
    (second,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    assert second.status == "done"


@pytest.mark.usefixtures("no_workers")
def test_an_input_that_is_put_back_makes_the_first_version_the_current_one(pair: Pair, tmp_path: Path) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    data = archive.parent / "hs.tif"
    kept = shutil.copy2(data, tmp_path / "kept.tif")
    (first,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    scenes.write_hs(data, scenes.hs_cube() * 1.05)
    (second,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    shutil.copy2(kept, data)
    (found,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    assert (found.status, found.item_id) == ("found", first.item_id)
    links = {
        product.item_id: [link["title"] for link in read_item(product.folder)["links"] if "version" in link["rel"]]
        for product in (first, second)
    }
    assert links == {first.item_id: [second.item_id], second.item_id: [first.item_id]}
    assert "deprecated" not in read_item(first.folder)["properties"]
    assert read_item(second.folder)["properties"]["deprecated"] is True


@pytest.mark.slow
@pytest.mark.usefixtures("no_workers")
def test_versions_are_told_apart_on_a_store_too(pair: Pair, prefix: StorePlace, tmp_path: Path) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    (first,) = batch([str(archive)], out=prefix, config=CONFIG).products
    scenes.write_hs(archive.parent / "hs.tif", scenes.hs_cube() * 1.05)
    (second,) = batch([str(archive)], out=prefix, config=CONFIG).products
    assert read_item(prefix / first.item_id)["properties"]["deprecated"] is True
    assert "deprecated" not in read_item(prefix / second.item_id)["properties"]


@pytest.mark.usefixtures("no_workers")
def test_other_options_and_bare_files_are_no_versions_of_each_other(pair: Pair, tmp_path: Path) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    made = [
        batch([str(archive)], out=tmp_path / "out", config=config).products[0]
        for config in (CONFIG, replace(CONFIG, register=False))
    ]
    files = [shutil.copy(path, tmp_path / f"current-{path.name}") for path in pair]
    made.append(fuse(*files, out=tmp_path / "out", config=CONFIG, lane=InProcessLane()))
    scenes.write_hs(Path(files[0]), scenes.hs_cube() * 1.05)  # a folder that each night's scene is put into
    made.append(fuse(*files, out=tmp_path / "out", config=CONFIG, lane=InProcessLane()))
    assert len({product.item_id for product in made}) == 4
    assert not any("deprecated" in read_item(product.folder)["properties"] for product in made)


@pytest.mark.usefixtures("no_workers")
def test_a_new_version_that_is_published_replaces_the_old_one_there(pair: Pair, tmp_path: Path) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    (first,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    published([first.folder], tmp_path / "www")
    scenes.write_hs(archive.parent / "hs.tif", scenes.hs_cube() * 1.05)
    (second,) = batch([str(archive)], out=tmp_path / "out", config=CONFIG).products
    published([second.folder], tmp_path / "new")
    published([second.folder], tmp_path / "www")
    (alone,) = pystac.Catalog.from_file(str(tmp_path / "new" / "catalog.json")).get_items(recursive=True)
    assert alone.get_links("predecessor-version") == []
    there = read_item(tmp_path / "www" / first.item_id)
    assert there["properties"]["deprecated"] is True
    assert verify(tmp_path / "www" / first.item_id).ok
    outcomes = [done.outcome for done in published([first.folder, second.folder], tmp_path / "www")]
    assert outcomes == ["unchanged", "unchanged"]
