"""A whole archive: the demo's pairs fused, found again, scored, and published by a workflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio

from scenefuse.archive.pairing import PairRule
from scenefuse.config import RunConfig
from scenefuse.demo.size import DemoSize
from scenefuse.engine.lanes import InProcessLane
from scenefuse.grid.placement import Offset
from scenefuse.grid.window import Window
from scenefuse.pipeline.batch import batch
from scenefuse.pipeline.demo import BASELINE, Demonstration, demonstrate
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.opening import open_aligned
from scenefuse.pipeline.replay import replay
from scenefuse.product.files import FAILURES
from scenefuse.product.verify import verify
from scenefuse.workflow.one_pass import run_pass
from scenefuse.workflow.specification import read_workflow

pytestmark = pytest.mark.slow

CONFIG = RunConfig(model="gsa", core_px=144, format=("zarr",), workers=1)
RULE = PairRule(min_overlap_fraction=0.5)
WORKFLOW = """
name = "test"

[source]
catalogs = ["demo/archive/catalog.json"]

[pairs]
min_overlap_fraction = 0.5

[fuse]
model = "gsa"
core_px = 144
format = ["zarr"]
workers = 1

[output]
products = "demo/products"
publish_to = "published"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Demonstration:
    return demonstrate(folder / "demo", size=DemoSize.SMALL, config=CONFIG)


def test_the_demo_fuses_its_three_pairs_better_than_the_baseline(demo: Demonstration) -> None:
    assert [product.status for product in demo.report.products] == ["done"] * 3
    assert demo.report.failures == ()
    by_name = {score.name: score.values for score in demo.scores}
    assert len(by_name) == 6
    for name, facts in by_name.items():
        method, _, pair = name.partition(" ")
        if method != BASELINE:
            assert facts["psnr_db"] > by_name[f"{BASELINE} {pair}"]["psnr_db"]
    for product in demo.report.products:
        assert verify(product.folder).mismatches == ()


@pytest.mark.bench
def test_the_weights_that_ship_beat_the_default_method_on_the_demos_ground(demo: Demonstration, tmp_path: Path) -> None:
    """The demo's landscape is none of those that the weights were trained on."""
    pair = demo.report.pairing.pairs[0]
    truth = demo.catalog.parent / "truth" / "1-nested.tif"
    score: dict[str, dict[str, float]] = {}
    for model in ("aelf-t", "hysure-l2"):
        config = RunConfig(model=model, format=("zarr",))
        product = fuse(pair.hs, pair.ms, out=tmp_path, config=config, lane=InProcessLane())
        score[model] = evaluate_product(product.folder, reference=str(truth)).values
    assert score["aelf-t"]["psnr_db"] > score["hysure-l2"]["psnr_db"] + 3
    assert score["aelf-t"]["sam_deg"] < score["hysure-l2"]["sam_deg"] - 0.3


def test_an_hsi_beside_the_grid_is_fused_untouched_and_warped_for_a_network(
    demo: Demonstration, tmp_path: Path
) -> None:
    pair = demo.report.pairing.pairs[1]  # simulated with a shift of 0.4 rows down and 0.7 columns left
    config = RunConfig(model="hysure-l2", format=("zarr",))
    product = fuse(pair.hs, pair.ms, out=tmp_path, config=config, lane=InProcessLane())
    opened = open_aligned(pair.hs, pair.ms, config)
    assert opened.cube.grid.phase_px == pytest.approx((0.4, 0.3), abs=0.05)
    window = Window(y0=3, y1=9, x0=5, x1=25)
    assert isinstance(opened.cube.plan.hs, Offset)
    there = opened.cube.plan.hs.native(window)
    with rasterio.open(pair.hs.assets[0].href) as file:
        stored = file.read(window=((there.y0, there.y1), (there.x0, there.x1)))
    read = opened.cube.read_hs(window)
    places = [entry["file_band"] - 1 for entry in opened.cube.readings()["hs"]]
    np.testing.assert_allclose(read, stored[places] * np.float32(1e-4), rtol=1e-6)
    warped = open_aligned(pair.hs, pair.ms, RunConfig(model="aelf-t")).cube.grid
    assert (warped.hs_resampled, warped.phase_px) == (True, (0.0, 0.0))
    # Checked against the same pixels: where its product is degraded to, and where its tiles are computed again.
    assert all(core.identical for core in replay(product.folder, every_tile=True).cores)
    truth = demo.catalog.parent / "truth" / "2-shifted.tif"
    scores = evaluate_product(product.folder).values | evaluate_product(product.folder, reference=str(truth)).values
    assert scores["spectral_consistency_rmse"] < 2e-3
    assert scores["psnr_db"] > 30.5


def test_the_products_are_a_catalogue_of_three_items(demo: Demonstration) -> None:
    catalog = pystac.Catalog.from_file(str(demo.products / "catalog.json"))
    found = sorted(item.id for item in catalog.get_items(recursive=True))
    assert found == sorted(product.folder.name for product in demo.report.products)


def test_a_second_batch_finds_what_is_done_and_makes_what_is_not(demo: Demonstration) -> None:
    missing = demo.report.products[1]
    missing.item.unlink()
    report = batch([str(demo.catalog)], out=demo.products, rule=RULE, config=CONFIG)
    assert sorted(product.status for product in report.products) == ["found", "found", "resumed"]
    assert missing.item.is_file()


def test_a_pair_that_fails_is_recorded_and_the_others_are_fused(demo: Demonstration, tmp_path: Path) -> None:
    archive = shutil.copytree(demo.catalog.parent, tmp_path / "archive")
    victim = demo.report.pairing.pairs[1].hs
    (damaged,) = archive.rglob(Path(victim.assets[0].href).name)
    damaged.write_bytes(damaged.read_bytes()[:-5000])
    report = batch([str(archive / "catalog.json")], out=tmp_path / "out", rule=RULE, config=CONFIG)
    assert [product.status for product in report.products] == ["done"] * 2
    (line,) = (tmp_path / "out" / FAILURES).read_text().splitlines()
    failure = json.loads(line)
    assert (failure["hs_id"], failure["kind"], failure["retryable"]) == (victim.id, "data", False)
    assert damaged.name in failure["cause"]


def test_a_workflow_run_twice_finds_everything_and_publishes_nothing_new(demo: Demonstration, folder: Path) -> None:
    path = folder / "workflow.toml"
    path.write_text(WORKFLOW)
    assert demo.catalog == folder / "demo" / "archive" / "catalog.json"
    first, second = (run_pass(read_workflow(path)) for _ in range(2))
    for report in (first, second):
        assert [product.status for product in report.batch.products] == ["found"] * 3
    assert [entry.outcome for entry in first.published] == ["added"] * 3
    assert [entry.outcome for entry in second.published] == ["unchanged"] * 3
    published = pystac.Catalog.from_file(str(folder / "published" / "catalog.json"))
    for item in published.get_items(recursive=True):
        assert verify(Path(item.self_href).parent).mismatches == ()
