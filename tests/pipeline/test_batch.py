"""Archives of two items: which scenes are found, and where their products find them again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scenefuse.archive.pair_search import find_in_archive
from scenefuse.archive.pairing import PairRule
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import ClusterSpec
from scenefuse.engine.dask_lane import SchedulerLostError
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.observers import NullObserver
from scenefuse.errors import DataError
from scenefuse.pipeline.batch import attempt_pair, batch
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.failures import PairFailure, read_failures
from scenefuse.pipeline.fuse import FusedProduct
from scenefuse.pipeline.opening import open_aligned
from scenefuse.pipeline.refill import refill
from scenefuse.pipeline.replay import replay
from scenefuse.place.location import place_at
from tests.cli import scenes

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


def test_a_scheduler_that_is_gone_ends_the_batch_and_the_pair_can_be_tried_again(tmp_path: Path) -> None:
    work = PairFailure(hs_id="h", ms_id="m", hs_href="h.json", ms_href="m.json", model="gsa")

    def lost(**_: object) -> FusedProduct:
        raise SchedulerLostError("scheduler", "gone", "start one") from OSError("closed")

    with pytest.raises(SchedulerLostError):
        attempt_pair(lost, work, out=place_at(tmp_path), observer=NullObserver())
    (record,) = read_failures(place_at(tmp_path))
    assert (record.kind, record.retryable) == ("work", True)
