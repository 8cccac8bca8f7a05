from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from scenefuse.engine.flags import mask_core
from scenefuse.engine.lanes import Lane
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.grid.window import Window
from scenefuse.tiles.tiling import Tile
from tests.engine.fakes import AnalyticSource, NpySink, Setting
from tests.engine.scenes import fused_scene, job_of, run_job

HOLES = {
    "hs_holes": (Window(y0=3, y1=5, x0=4, x1=9),),
    "ms_holes": (Window(y0=40, y1=47, x0=70, x1=71), Window(y0=0, y1=2, x0=0, x1=5)),
    "one_band_holes": True,
}


def setting_of(coarse_shape: tuple[int, int], ratio: int, **options: object) -> Setting:
    source = AnalyticSource(coarse_shape=coarse_shape, ratio=ratio, **HOLES)  # type: ignore[arg-type]
    return Setting(source=source, options={"stages": True, **options})


@pytest.mark.parametrize(
    ("coarse_shape", "ratio", "core_px", "layers"),
    [
        ((40, 60), 3, 48, 2),
        ((33, 51), 3, 48, 1),
        ((50, 37), 2, 32, 3),
        ((30, 30), 4, 64, 2),
        ((20, 20), 5, 80, 2),
        ((12, 11), 6, 48, 9),
        ((5, 4), 6, 48, 4),
        ((30, 20), 4, 64, 0),
    ],
)
def test_tiled_fusion_equals_whole_scene_fusion_bitwise(
    tmp_path: Path, coarse_shape: tuple[int, int], ratio: int, core_px: int, layers: int
) -> None:
    setting = setting_of(coarse_shape, ratio, layers=layers)
    fused, quality = fused_scene(setting, tmp_path / "tiled", core_px=core_px)
    whole_px = max(setting.source.grid.fine_shape)
    whole, whole_quality = fused_scene(setting, tmp_path / "whole", core_px=whole_px + 48)
    np.testing.assert_array_equal(fused, whole)
    np.testing.assert_array_equal(quality, whole_quality)
    assert (quality & QualityFlag.NODATA).any()


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one_process(tmp_path: Path, lane: Lane) -> None:
    setting = setting_of((70, 90), 3)
    fused, quality = fused_scene(setting, tmp_path / "two", lane=lane, core_px=48)
    alone, alone_quality = fused_scene(setting, tmp_path / "one", core_px=96, workers=1)
    np.testing.assert_array_equal(fused, alone)
    np.testing.assert_array_equal(quality, alone_quality)


def test_encoders_give_the_bytes_of_the_loop(tmp_path: Path) -> None:
    setting = setting_of((40, 60), 3)
    results = []
    for encoders in (0, 1, 3):
        folder = tmp_path / str(encoders)
        folder.mkdir()
        sink = NpySink(folder=folder)
        job = job_of(setting, sink, core_px=48)
        job = replace(job, plan=replace(job.plan, encoders=encoders))
        report = run_job(job, folder)
        assert len(report.finished) == job.plan.tiles
        results.append([(path.relative_to(folder), path.read_bytes()) for path in sorted(folder.rglob("*.npy"))])
    assert len(results[0]) > 8
    assert results[0] == results[1] == results[2]


def test_a_halo_below_the_support_is_seen_by_this_very_test(tmp_path: Path) -> None:
    setting = setting_of((40, 60), 3, layers=4, effective=0)
    whole, _ = fused_scene(setting, tmp_path / "whole", core_px=192)
    enough, _ = fused_scene(setting, tmp_path / "enough", core_px=48, halo="default")
    np.testing.assert_array_equal(enough, whole)
    shorter = setting.with_options(short_halo=3)
    short, _ = fused_scene(shorter, tmp_path / "short", core_px=48, halo="default")
    assert (short != whole)[np.isfinite(whole)].any()


def test_a_fixed_batch_leaves_the_bytes_as_they_are(tmp_path: Path) -> None:
    setting = setting_of((40, 60), 3)
    alone, _ = fused_scene(setting, tmp_path / "1", core_px=48, batch=1)
    batched, _ = fused_scene(setting, tmp_path / "3", core_px=48, batch=3)
    np.testing.assert_allclose(batched, alone, atol=1e-6, equal_nan=True)


def test_quality_flags_are_scipys_dilation_of_the_scenes_mask(tmp_path: Path) -> None:
    setting = setting_of((40, 60), 3, effective=5)
    source = setting.source
    fused, quality = fused_scene(setting, tmp_path, core_px=48)
    fine = source.grid.fine_shape
    everything = Window(y0=0, y1=fine[0], x0=0, x1=fine[1])
    hs = np.isnan(source.read_hs(everything.coarsen(3))).any(axis=0).repeat(3, axis=0).repeat(3, axis=1)
    invalid = hs | np.isnan(source.read_ms(everything)).any(axis=0)
    near = ndimage.maximum_filter(invalid, size=11, mode="constant", cval=False) & ~invalid
    edge = np.ones(fine, dtype=bool)
    edge[5:-5, 5:-5] = False
    expected = invalid * QualityFlag.NODATA + near * QualityFlag.NEAR_NODATA + edge * QualityFlag.NEAR_EDGE
    np.testing.assert_array_equal(quality, expected)
    np.testing.assert_array_equal(np.isnan(fused).all(axis=0), invalid)
    np.testing.assert_array_equal(np.isnan(fused).any(axis=0), invalid)


def test_what_an_input_lacks_is_no_fault_of_the_result() -> None:
    core = Window(y0=0, y1=2, x0=0, x1=2)
    valid = np.array([[False, True], [True, True]])
    fused = np.array([[[np.nan, np.nan], [0.1, 0.2]]], np.float32)
    quality = mask_core(fused, valid, Tile(iy=0, ix=0, core=core, read=core), fine_shape=(2, 2), near_px=0)
    assert quality.tolist() == [[QualityFlag.NODATA, QualityFlag.NOT_FINITE], [0, 0]]


def test_a_result_that_is_not_finite_becomes_flagged_no_data(tmp_path: Path) -> None:
    setting = Setting(source=AnalyticSource(coarse_shape=(40, 40), ratio=2), options={"layers": 0, "poison": 0.9})
    fused, quality = fused_scene(setting, tmp_path, core_px=48)
    bad = (quality & QualityFlag.NOT_FINITE) != 0
    assert bad.any()
    np.testing.assert_array_equal(np.isnan(fused).all(axis=0), bad)
    assert np.isfinite(fused[:, ~bad]).all()
