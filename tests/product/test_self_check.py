"""The seams of products whose tiles agree, and of such whose halo was made too short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenefuse.engine.budget import plan_run
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.resident import ModelHandle
from scenefuse.engine.run import FusionJob
from scenefuse.grid.window import Window
from scenefuse.metrics.seams import SEAM_RMS_BUDGET
from scenefuse.product.layout import lay_out
from scenefuse.product.self_check import CheckingSink, SelfCheck, check_product
from scenefuse.product.shards import ZarrSink, encode_shard, open_level, put_shard, shard_key, with_digest
from scenefuse.product.spec import ProductSpec
from tests.engine.fakes import AnalyticSource, Setting, load_fake
from tests.engine.scenes import request, run_job
from tests.product.making import GRID

SETTING = Setting(
    source=AnalyticSource(coarse_shape=(48, 41), ratio=4, hs_holes=(Window(y0=14, y1=17, x0=14, x1=19),)),
    options={"layers": 5, "stages": True},
)


class Made:
    """A fused scene, and what its run finds in it."""

    def __init__(self, folder: Path, setting: Setting = SETTING, **changes: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        source = setting.source
        handle = ModelHandle(ref=setting.ref, load=load_fake)
        self.card = load_fake(setting.ref).card
        plan = plan_run(
            source, self.card, request(**{"core_px": 64, "halo": "default", "precision": "fp32", **changes})
        )
        self.spec = ProductSpec(
            item_id="scene",
            grid=replace(source.grid, crs_wkt=GRID.crs_wkt),
            bands=source.hs_bands,
            core_px=plan.tiling.core_px,
        )
        self.store = lay_out(folder, self.spec)
        self.job = FusionJob(
            source=source,
            model=handle,
            state=prepare(source, Preparation(model=handle)),
            sink=ZarrSink(store=self.store, spec=self.spec),
            plan=plan,
            identity="test",
        )
        run_job(self.job, folder)

    def check(self) -> SelfCheck:
        sink = CheckingSink(store=self.store, spec=self.spec)
        return check_product(self.job, self.card, sink, lane=InProcessLane(), observer=NullObserver())


def test_tiles_with_the_full_halo_have_no_seams(tmp_path: Path) -> None:
    check = Made(tmp_path).check()
    assert check.seams == {"rms": 0.0, "p999": 0.0, "max": 0.0}
    assert (check.windows, check.drift, check.not_finite_px) == (4, None, 0)
    assert check.warnings() == ()


def test_a_halo_that_is_too_short_is_over_budget(tmp_path: Path) -> None:
    check = Made(tmp_path, SETTING.with_options(short_halo=0, effective=0)).check()
    assert check.seams is not None
    assert check.seams["rms"] > SEAM_RMS_BUDGET
    assert "use --halo full" in check.warnings()[0]


def test_the_step_at_seams_is_the_one_of_a_whole_image(tmp_path: Path) -> None:
    short = Made(tmp_path / "short", SETTING.with_options(short_halo=0, effective=0))
    whole = Made(tmp_path / "whole", SETTING.with_options(effective=0), core_px=192)
    assert len(whole.job.plan.tiling) == 1
    difference = np.asarray(open_level(short.store, 1)).astype(int) - np.asarray(open_level(whole.store, 1))
    check = short.check()
    assert check.seams is not None
    assert check.seams["max"] == pytest.approx(1e-4 * np.abs(difference).max(), rel=0.3)


def test_bf16_is_compared_with_float32(tmp_path: Path) -> None:
    check = Made(tmp_path, precision="bf16").check()
    assert check.seams is not None
    assert check.seams["rms"] <= SEAM_RMS_BUDGET
    assert check.drift is not None
    assert 1e-5 < check.drift["rms"] <= check.drift["p999"] <= check.drift["max"] < 0.1


def test_a_product_of_one_tile_has_drift_but_no_seams(tmp_path: Path) -> None:
    assert Made(tmp_path / "fp32", core_px=192).check().windows == 0
    check = Made(tmp_path / "bf16", core_px=192, precision="bf16").check()
    assert check.seams is None
    assert check.drift is not None
    assert check.windows == 1


def test_results_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    check = Made(tmp_path, SETTING.with_options(poison=0.45)).check()
    assert check.not_finite_px > 0
    assert "not_finite" in check.warnings()[0]


def test_pixels_that_were_clipped_anywhere_in_the_product_are_counted(tmp_path: Path) -> None:
    made = Made(tmp_path)
    assert made.check().clipped_px == 0
    sink, tile = ZarrSink(store=made.store, spec=made.spec), made.job.plan.tiling.tile(1, 1)
    fused = np.full((len(made.spec.bands), 64, 64), 0.1, np.float32)
    fused[:, 3, 4:6] = 4.0
    fused[0, 9, 9] = -4.0
    sink.put(sink.encode(tile, fused, np.zeros((64, 64), np.uint8)))
    assert made.check().facts()["clipped_px"] == 3


def test_a_tile_that_is_not_what_was_computed_shows(tmp_path: Path) -> None:
    made = Made(tmp_path)
    level = open_level(made.store, 1)
    core = np.asarray(level[:, :64, :64]) + np.int16(20)
    put_shard(made.store, with_digest(shard_key("reflectance", 0, 0), encode_shard(core, made.spec.shard_shape, level)))
    seams = made.check().seams
    assert seams is not None
    assert seams["max"] == pytest.approx(2e-3, rel=1e-3)


@pytest.mark.parametrize(("rms", "p999", "warnings"), [(2.4e-4, 9.9e-4, 0), (2.6e-4, 9.9e-4, 1), (2.4e-4, 1.1e-3, 1)])
def test_seams_have_a_budget_of_a_quarter_of_a_thousandth(rms: float, p999: float, warnings: int) -> None:
    check = SelfCheck(windows=4, seams={"rms": rms, "p999": p999, "max": 4e-3}, drift=None, not_finite_px=0)
    assert len(check.warnings()) == warnings


def test_a_few_large_steps_are_over_budget_however_small_the_others() -> None:
    check = SelfCheck(windows=4, seams={"rms": 1e-4, "p999": 2e-3, "max": 4e-3}, drift=None, not_finite_px=0)
    (warning,) = check.warnings()
    assert "2.0e-03 at the 99.9th percentile" in warning


def test_a_result_that_is_no_number_now_is_counted_where_the_stored_one_is(tmp_path: Path) -> None:
    made = Made(tmp_path)
    sink = CheckingSink(store=made.store, spec=made.spec)
    tile = made.job.plan.tiling.tile(2, 0)
    fused = np.full((len(made.spec.bands), 64, 64), 0.1, np.float32)
    fused[0, 3, 4:6] = np.inf
    sink.encode(tile, fused, np.zeros((64, 64), np.uint8))
    assert sink.found[0].not_finite_px == 2
