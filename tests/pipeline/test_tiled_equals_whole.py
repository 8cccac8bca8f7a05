"""Fused by tiles = fused as a whole, from real files through the engine, before anything is rounded to integers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scenefuse.config import Halo, RunConfig
from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run
from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.engine.run import FusionJob, fuse_scene
from scenefuse.grid.window import Window
from scenefuse.models.observation import observation_stages
from scenefuse.models.registry import load_model
from scenefuse.models.state import SceneState
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.opening import OpenedPair, open_aligned
from tests.models.classical_pairs import CLASSICAL
from tests.models.whole import fuse_whole
from tests.pipeline.making import Cores, Holes, Image, product_bytes, write_pair

RATIOS = (2, 3, 4, 6, 8)
EVERY_RATIO = [3, 8, *(pytest.param(ratio, marks=pytest.mark.slow) for ratio in (2, 4, 6))]
"""An odd one and the largest in the quick tests, too; test_any_tiling_of_any_scene draws all of them."""
HALOS: dict[Halo, float] = {"full": 0.0, "default": 1e-6}
"""Largest difference from the whole on full scale 1, by halo."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@cache
def prepared(
    folder: Path, name: str, ratio: int, coarse_shape: tuple[int, int], holes: Holes
) -> tuple[OpenedPair, SceneState, Image]:
    """A pair from files, what preparation found, and the whole image fused in one window with it."""
    place = folder / f"{ratio}-{coarse_shape[0]}x{coarse_shape[1]}-{holes}"
    files = write_pair(place, ratio=ratio, coarse_shape=coarse_shape, holes=holes)
    opened = open_aligned(*files.both, RunConfig(model=name, register=False))
    cube = opened.cube
    assert (cube.grid.ratio, cube.grid.coarse_shape) == (ratio, coarse_shape)
    return opened, *fused_whole(opened)


def fused_whole(opened: OpenedPair) -> tuple[SceneState, Image]:
    """What preparation finds, and with it the whole image fused in one window."""
    cube = opened.cube
    (rows, columns), ratio = cube.grid.coarse_shape, cube.grid.ratio
    stages = observation_stages(cube.hs_bands, cube.ms_bands, ratio)
    state = prepare(cube, Preparation(stages=stages, model=opened.model))
    everything = Window(y0=0, y1=rows, x0=0, x1=columns)
    hs, ms = cube.read_hs(everything), cube.read_ms(everything.refine(ratio))
    return state, fuse_whole(load_model(opened.model.ref), hs, ms, state)


def tiled(
    opened: OpenedPair, state: SceneState, ledger: Path, *, core_px: int, halo: Halo
) -> tuple[Image, NDArray[np.uint8], RunPlan]:
    """The image fused tile by tile in float32, its quality, and the plan."""
    request = PlanRequest(workers=1, worker_memory_bytes=4 * 2**30, core_px=core_px, halo=halo)
    plan = plan_run(opened.cube, opened.card, request)
    return *fused_by(opened, state, ledger, plan), plan


def fused_by(opened: OpenedPair, state: SceneState, ledger: Path, plan: RunPlan) -> tuple[Image, NDArray[np.uint8]]:
    """The image, (band, y, x), and its quality, (y, x)."""
    cores = Cores()
    job = FusionJob(source=opened.cube, model=opened.model, state=state, sink=cores, plan=plan, identity="test")
    ledger.unlink(missing_ok=True)
    with Ledger(ledger, job.sha256) as record:
        fuse_scene(job, lane=InProcessLane(), ledger=record, observer=NullObserver())
    return cores.assembled(opened.cube.grid.fine_shape)


def coarse_shape_of(ratio: int) -> tuple[int, int]:
    """A scene of about 160 x 140 fine pixels, whose sides are no multiple of 16."""
    return 150 // ratio + 3, 130 // ratio + 2


def difference(image: Image, whole: Image) -> float:
    """Largest difference; where the one has no data the other must have none."""
    np.testing.assert_array_equal(np.isnan(image), np.isnan(whole))
    return float(np.nanmax(np.abs(image - whole)))


@pytest.mark.parametrize("ratio", EVERY_RATIO)
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_swath_fused_by_tiles_equals_the_swath_fused_as_a_whole(
    scenes: Path, tmp_path: Path, name: str, ratio: int
) -> None:
    opened, state, whole = prepared(scenes, name, ratio, coarse_shape_of(ratio), "swath")
    assert 0.05 < np.isnan(whole).mean() < 0.5
    rows, columns = opened.cube.grid.fine_shape
    for core_px in (48, 96):
        for halo, bound in HALOS.items():
            image, quality, plan = tiled(opened, state, tmp_path / "ledger", core_px=core_px, halo=halo)
            assert plan.tiles > 1
            assert rows % plan.tiling.core_px or columns % plan.tiling.core_px
            assert difference(image, whole) <= bound
            np.testing.assert_array_equal((quality & QualityFlag.NODATA) != 0, np.isnan(whole[0]))


@pytest.mark.parametrize("ratio", EVERY_RATIO)
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_scene_that_tiles_divide_or_that_is_smaller_than_a_tile_equals_the_whole(
    scenes: Path, tmp_path: Path, name: str, ratio: int
) -> None:
    opened, state, whole = prepared(scenes, name, ratio, (96 // ratio, 144 // ratio), "none")
    assert np.isfinite(whole).all()
    for core_px, counts in ((48, (2, 3)), (192, (1, 1))):
        for halo, bound in HALOS.items():
            image, _, plan = tiled(opened, state, tmp_path / "ledger", core_px=core_px, halo=halo)
            assert plan.tiling.counts == counts or halo == "default"  # no window is under 64 px: a larger core
            assert difference(image, whole) <= bound


@pytest.mark.parametrize("ratio", EVERY_RATIO)
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_scene_smaller_than_the_halo_equals_the_whole(scenes: Path, tmp_path: Path, name: str, ratio: int) -> None:
    opened, state, whole = prepared(scenes, name, ratio, (6, 4), "none")
    for halo, bound in HALOS.items():
        image, _, plan = tiled(opened, state, tmp_path / "ledger", core_px=16, halo=halo)
        assert name in {"bicubic", "gsa"} or plan.tiling.halo_px > 4 * ratio
        assert difference(image, whole) <= bound


@settings(max_examples=25)
@given(data=st.data())
def test_any_tiling_of_any_scene_equals_the_whole(scenes: Path, data: st.DataObject) -> None:
    name, ratio = data.draw(st.sampled_from(CLASSICAL)), data.draw(st.sampled_from(RATIOS))
    rows, columns = (data.draw(st.integers(max(12, 60 // ratio), 170 // ratio)) for _ in range(2))
    holes: Holes = data.draw(st.sampled_from(["none", "swath"])) if min(rows, columns) >= 20 else "none"
    opened, state, whole = prepared(scenes, name, ratio, (rows, columns), holes)
    core_px = data.draw(st.integers(16, 200))
    for halo, bound in HALOS.items():
        image, _, _ = tiled(opened, state, scenes / "ledger", core_px=core_px, halo=halo)
        assert difference(image, whole) <= bound


@pytest.mark.parametrize("name", ["gsa", "hysure-l2"])
def test_a_pair_that_is_resampled_equals_the_whole(scenes: Path, tmp_path: Path, name: str) -> None:
    opened, _, _ = prepared(scenes, name, 4, coarse_shape_of(4), "swath")
    moved = replace(opened, cube=opened.cube.registered((0.37, -0.21)))
    assert moved.cube.grid.hs_kernel or moved.cube.grid.ms_kernel
    state, whole = fused_whole(moved)
    for halo, bound in HALOS.items():
        image, _, plan = tiled(moved, state, tmp_path / "ledger", core_px=48, halo=halo)
        assert plan.tiles > 1
        assert difference(image, whole) <= bound


def test_a_halo_that_is_too_short_is_seen_by_these_tests(scenes: Path, tmp_path: Path) -> None:
    opened, state, whole = prepared(scenes, "hysure-l2", 4, coarse_shape_of(4), "swath")
    _, _, plan = tiled(opened, state, tmp_path / "ledger", core_px=48, halo="default")
    shorter = replace(plan.tiling, halo_px=plan.tiling.halo_px - 12)
    image, _ = fused_by(opened, state, tmp_path / "ledger", replace(plan, tiling=shorter))
    assert difference(image, whole) > 0


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Products of every method, made without workers."""
    out = tmp_path_factory.mktemp("workers")
    write_pair(out / "pair", ratio=3, coarse_shape=(52, 47), holes="swath")
    fuse_all_methods(out, "0", InProcessLane())
    return out


def fuse_all_methods(out: Path, name: str, lane: Lane) -> None:
    for method in CLASSICAL:
        config = RunConfig(model=method, core_px=48, format=("zarr", "cog"))
        fuse(out / "pair" / "hs.tif", out / "pair" / "ms.tif", out=out / name, config=config, lane=lane)


@pytest.mark.slow
def test_three_workers_give_the_same_bytes_as_one_process(one_process: Path) -> None:
    with open_lane(ClusterSpec(workers=3, memory_limit_bytes=2 * 2**30)) as lane:
        fuse_all_methods(one_process, "3", lane)
    alone, together = product_bytes(one_process / "0"), product_bytes(one_process / "3")
    assert len([path for path in alone if path.endswith("provenance.json")]) == len(CLASSICAL)
    assert len([path for path in alone if "/reflectance/c/" in path]) >= 4 * len(CLASSICAL)
    assert together == alone
