"""Scenes on a web server and on an object store: the pixels of the same scenes on a disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from scenefuse.archive import fetch
from scenefuse.archive.pairing import PairRule
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.errors import DataError, MismatchError
from scenefuse.pipeline.batch import batch
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.replay import replay
from scenefuse.place.store import StorePlace
from tests.bench.archives import HS_COLLECTION, MS_COLLECTION, write_tiny_archive
from tests.pipeline.making import PairFiles, write_pair
from tests.range_server import WebFolder, web_folder

CONFIG = RunConfig(model="gsa", core_px=48, format=("zarr",), register=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(40, 35), holes="swath")


@pytest.fixture
def web(pair: PairFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebFolder]:
    monkeypatch.setattr(fetch, "_BACKOFF_S", 0.001)
    with web_folder(pair.hs.parent) as running:
        yield running


@pytest.fixture(scope="module")
def expected(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int16]:
    return pixels(fuse(*pair.both, out=tmp_path_factory.mktemp("local"), config=CONFIG, lane=InProcessLane()).folder)


def pixels(folder: Path) -> NDArray[np.int16]:
    return np.asarray(zarr.open_group(folder / "fused.zarr", mode="r")["reflectance"])


def test_a_pair_on_the_web_is_fused_and_replayed(web: WebFolder, tmp_path: Path, expected: NDArray[np.int16]) -> None:
    config = replace(CONFIG, allow_host=(web.host,))
    web.faults += ["500", "short"]
    made = fuse(web.url("hs.tif"), web.url("ms.tif"), out=tmp_path, config=config, lane=InProcessLane())
    np.testing.assert_array_equal(pixels(made.folder), expected)
    provenance = (made.folder / "provenance.json").read_text()
    assert "secret" not in provenance + made.item.read_text() + (made.folder / "run.json").read_text()
    assert provenance.count('"size+etag:') == 2
    again = fuse(web.url("hs.tif"), web.url("ms.tif"), out=tmp_path, config=config, lane=InProcessLane())
    assert again.status == "found"
    hrefs = web.url("hs.tif"), web.url("ms.tif")
    assert replay(made.folder, every_tile=True, hrefs=hrefs, config=RunConfig(allow_host=(web.host,))).ok


@pytest.mark.slow
def test_workers_read_the_web_themselves(web: WebFolder, tmp_path: Path, expected: NDArray[np.int16]) -> None:
    config = replace(CONFIG, allow_host=(web.host,))
    with open_lane(ClusterSpec(workers=2, memory_limit_bytes=2 * 2**30)) as lane:
        made = fuse(web.url("hs.tif"), web.url("ms.tif"), out=tmp_path, config=config, lane=lane)
    np.testing.assert_array_equal(pixels(made.folder), expected)


def test_a_pair_on_a_store_is_fused(
    prefix: StorePlace, pair: PairFiles, tmp_path: Path, expected: NDArray[np.int16]
) -> None:
    for path in pair.both:
        (prefix / Path(path).name).put(Path(path).read_bytes())
    made = fuse(f"{prefix}/hs.tif", f"{prefix}/ms.tif", out=tmp_path, config=CONFIG, lane=InProcessLane())
    np.testing.assert_array_equal(pixels(made.folder), expected)
    (prefix / "hs.tif").put(pair.ms.read_bytes())
    with pytest.raises(DataError):
        fuse(f"{prefix}/hs.tif", f"{prefix}/ms.tif", out=tmp_path, config=CONFIG, lane=InProcessLane())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static catalogue of one pair."""
    return write_tiny_archive(tmp_path_factory.mktemp("archive"), 1)


@pytest.fixture(scope="module")
def of_archive(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int16]:
    """What its pair gives from the disk."""
    hs, ms = (archive.parent / "00000" / name for name in ("hs.json", "ms.json"))
    return pixels(fuse(hs, ms, out=tmp_path_factory.mktemp("local"), config=CONFIG, lane=InProcessLane()).folder)


def batch_of(catalogue: str, out: Path, config: RunConfig) -> FusedProduct:
    rule = PairRule(hs_collection=HS_COLLECTION, ms_collection=MS_COLLECTION)
    report = batch([catalogue], out=out, rule=rule, config=replace(config, workers=1))
    assert [product.status for product in report.products] == ["done"]
    return report.products[0]


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches work in this process."""

    @contextmanager
    def here(_spec: ClusterSpec) -> Iterator[Lane]:
        yield InProcessLane()

    monkeypatch.setattr("scenefuse.pipeline.batch.open_lane", here)


@pytest.mark.usefixtures("no_workers")
def test_a_catalogue_on_the_web_is_fused_with_its_scenes(
    archive: Path, of_archive: NDArray[np.int16], tmp_path: Path
) -> None:
    with web_folder(archive.parent) as web:
        made = batch_of(f"http://{web.host}/{archive.name}", tmp_path, replace(CONFIG, allow_host=(web.host,)))
    np.testing.assert_array_equal(pixels(made.folder), of_archive)
    links = json.loads(made.item.read_text())["links"]
    assert sum(link["href"].startswith(f"http://{web.host}/") for link in links if link["rel"] == "derived_from") == 2


@pytest.mark.usefixtures("no_workers")
def test_a_catalogue_on_a_store_is_fused_with_its_scenes(
    archive: Path, of_archive: NDArray[np.int16], prefix: StorePlace, tmp_path: Path
) -> None:
    for path in archive.parent.rglob("*.*"):
        (prefix / path.relative_to(archive.parent).as_posix()).put(path.read_bytes())
    made = batch_of(f"{prefix}/{archive.name}", tmp_path, CONFIG)
    np.testing.assert_array_equal(pixels(made.folder), of_archive)
    with pytest.raises(DataError, match="does not exist"):
        batch_of(f"{prefix}/nothing.json", tmp_path, CONFIG)


def test_a_truth_on_the_web_is_read_under_the_same_rules(web: WebFolder, pair: PairFiles, tmp_path: Path) -> None:
    made = fuse(*pair.both, out=tmp_path, config=replace(CONFIG, format=("zarr", "cog")), lane=InProcessLane())
    shutil.copy(made.folder / "fused.tif", pair.hs.parent / "truth.tif")
    with pytest.raises(DataError, match="http can be altered"):
        evaluate_product(made.folder, reference=web.url("truth.tif"))
    scored = evaluate_product(made.folder, reference=web.url("truth.tif"), config=RunConfig(allow_host=(web.host,)))
    assert scored.values["rmse"] == pytest.approx(0.0, abs=1e-7)


def test_a_scene_that_changes_on_the_web_is_another_one(web: WebFolder, pair: PairFiles, tmp_path: Path) -> None:
    config = replace(CONFIG, allow_host=(web.host,))
    for path in pair.both:
        (tmp_path / Path(path).name).write_bytes(Path(path).read_bytes())
    web.folder = tmp_path
    made = fuse(web.url("hs.tif"), web.url("ms.tif"), out=tmp_path / "out", config=config, lane=InProcessLane())
    content = (tmp_path / "hs.tif").read_bytes()
    (tmp_path / "hs.tif").write_bytes(content)  # the same bytes, put anew: nothing but the server's word tells
    hrefs = web.url("hs.tif"), web.url("ms.tif")
    with pytest.raises(MismatchError, match=r"inputs hsi hs\.tif differ"):
        replay(made.folder, hrefs=hrefs, config=RunConfig(allow_host=(web.host,)))
