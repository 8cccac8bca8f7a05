"""Held-out blocks are never read: by geometry, and by watching what is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.window import Window
from scenefuse.training.batches import draw_step
from scenefuse.training.hold_out import HoldOut, plan_hold_out, shared_origins_px
from scenefuse.training.recipe import Recipe
from scenefuse.training.scenes import FullScene, TrainingScene, WaldScene
from scenefuse.training.score import Ground
from tests.training.made_scenes import MadePair, made_pair


def overlap(a: Window, b: Window) -> bool:
    return a.y0 < b.y1 and b.y0 < a.y1 and a.x0 < b.x1 and b.x0 < a.x1


@st.composite
def hold_outs(draw: st.DrawFn) -> HoldOut:
    step = draw(st.integers(1, 4))
    return HoldOut(
        shape=(draw(st.integers(1, 24)), draw(st.integers(1, 24))),
        patch_px=step * draw(st.integers(1, 6)),
        block_px=step * draw(st.integers(1, 8)),
        guard_px=draw(st.integers(0, 9)),
        step_px=step,
        origin_px=(draw(st.integers(-40, 40)), draw(st.integers(-40, 40))),
    )


@settings(max_examples=60)
@given(hold_outs())
def test_every_second_block_of_the_grounds_lattice_is_held_out_in_both_directions(hold_out: HoldOut) -> None:
    found = np.zeros(hold_out.shape, int)
    for block in hold_out.blocks():
        found[block.slices] += 1
    (down, right), side = hold_out.origin_px, hold_out.block_px
    y, x = np.mgrid[: hold_out.shape[0], : hold_out.shape[1]]
    np.testing.assert_array_equal(found, ((y + down) // side % 2) * ((x + right) // side % 2))


@settings(max_examples=60)
@given(hold_outs())
def test_windows_are_exactly_those_that_read_no_held_out_pixel(hold_out: HoldOut) -> None:
    rows, columns = hold_out.shape
    patch, step = hold_out.patch_px, hold_out.step_px
    expected = {
        Window(y0=y, y1=y + patch, x0=x, x1=x + patch)
        for y in range(0, rows - patch + 1, step)
        for x in range(0, columns - patch + 1, step)
    }
    blocks = hold_out.blocks()
    expected = {w for w in expected if not any(overlap(w.grow(hold_out.guard_px), block) for block in blocks)}
    found = [hold_out.window(index) for index in range(hold_out.count())]
    assert len(found) == len(expected)
    assert set(found) == expected


@settings(max_examples=30)
@given(st.integers(40, 90), st.integers(40, 90))
def test_planned_blocks_hold_out_a_share_and_leave_windows(rows: int, columns: int) -> None:
    hold_out = plan_hold_out((rows, columns), patch_px=8, guard_px=3, step_px=2)
    held_out = sum(block.shape[0] * block.shape[1] for block in hold_out.blocks())
    assert 0 < held_out <= 0.3 * rows * columns
    assert hold_out.count() > 0


def test_a_scene_too_small_for_both_is_refused_with_the_sizes() -> None:
    with pytest.raises(DataError, match=r"20 x 20 px .* has no room for a held-out block.*smaller --patch-px"):
        plan_hold_out((20, 20), patch_px=16, guard_px=4, step_px=2)


def wald(pair: MadePair) -> WaldScene:
    return WaldScene(name="made", source=pair, hs_sigmas_px=(1.2,) * 4, ms_sigmas_px=(1.0, 2.1))


@pytest.mark.parametrize("protocol", ["wald", "scene"])
def test_training_never_reads_a_held_out_pixel_of_either_image(protocol: str) -> None:
    pair = made_pair(160 if protocol == "wald" else 96)
    scene: TrainingScene = wald(pair) if protocol == "wald" else FullScene(name="made", source=pair)
    hold_out = plan_hold_out(scene.shape, patch_px=8, guard_px=scene.reach_px, step_px=scene.ratio)
    recipe = Recipe(iterations=1, patch_px=8, batch=60, lr=1e-3)
    draw_step([Ground(scene=scene, hold_out=hold_out)], recipe, seed=1, step=0)
    seen_hs, seen_ms = np.zeros(pair.hs.shape[1:], bool), np.zeros(pair.ms.shape[1:], bool)
    for window in pair.hs_reads:
        seen_hs[window.slices] = True
    for window in pair.ms_reads:
        seen_ms[window.slices] = True
    for block in hold_out.blocks():
        fine = block.refine(2) if protocol == "wald" else block
        assert not seen_hs.repeat(2, axis=0).repeat(2, axis=1)[fine.slices].any()
        assert not seen_ms[fine.slices].any()
    assert seen_hs.any()
    assert seen_ms.any()


CRS_WKT = CRS.from_epsg(32633).to_wkt()


def grid_at(row: int, column: int, *, crs: str = CRS_WKT, size_m: float = 30.0) -> RasterGrid:
    return RasterGrid(crs_wkt=crs, transform=(size_m, 0, 600 + 30 * column, 0, -size_m, 900 - 30 * row), shape=(50, 40))


def test_scenes_of_one_ground_hold_out_the_same_ground() -> None:
    grids = (grid_at(0, 0), grid_at(7, -9), grid_at(-3, 30))
    grounds = []
    for grid, origin in zip(grids, shared_origins_px(grids), strict=True):
        down, right = round((900 - grid.transform[5]) / 30), round((grid.transform[2] - 600) / 30)
        inside = np.zeros(grid.shape, bool)
        for block in plan_hold_out(grid.shape, patch_px=4, guard_px=2, step_px=2, origin_px=origin).blocks():
            inside[block.slices] = True
        grounds.append({(y + down, x + right): held for (y, x), held in np.ndenumerate(inside)})
    for one in grounds:
        for other in grounds:
            both = one.keys() & other.keys()
            assert both
            assert all(one[pixel] == other[pixel] for pixel in both)


def test_a_scene_that_joins_two_others_puts_all_on_one_lattice() -> None:
    west, east, between = grid_at(0, 0), grid_at(0, 45), grid_at(3, 22)
    assert shared_origins_px((west, east)) == ((0, 0), (0, 0))
    assert shared_origins_px((west, east, between)) == ((0, 0), (0, 45), (3, 22))


@pytest.mark.parametrize("other", [grid_at(50, 0), grid_at(0, 40), grid_at(-120, 5, size_m=60.0)])
def test_scenes_of_other_ground_have_blocks_of_their_own(other: RasterGrid) -> None:
    assert shared_origins_px((grid_at(0, 0), other))[1] == (0, 0)


def utm(epsg: int, west_m: float, north_m: float, *, wkt: str = "WKT2_2019") -> RasterGrid:
    crs = CRS.from_epsg(epsg).to_wkt(wkt)
    return RasterGrid(crs_wkt=crs, transform=(30.0, 0.0, west_m, 0.0, -30.0, north_m), shape=(50, 40))


def test_two_spellings_of_one_crs_are_one_ground() -> None:
    one, other = utm(32633, 300_000.0, 5_800_000.0), utm(32633, 300_090.0, 5_799_790.0, wkt="WKT1_GDAL")
    assert one.crs_wkt != other.crs_wkt
    assert shared_origins_px((one, other)) == ((0, 0), (7, 3))


def neighbour(one: RasterGrid, *, east_px: float, north_px: float) -> RasterGrid:
    """A scene of the next zone whose middle lies so many pixels from that of one."""
    to = Transformer.from_crs(32632, 32633, always_xy=True)
    middle = one.transform[2] + 30 * (20 + east_px), one.transform[5] - 30 * (25 - north_px)
    x, y = to.transform(*middle)
    return utm(32633, x - 600.0, y + 750.0)


@pytest.mark.parametrize("others", [(0.0, 0.0), (30.0, 40.0), (-38.0, 0.0)])
def test_scenes_that_show_one_ground_in_two_zones_are_refused(others: tuple[float, float]) -> None:
    """Near 12 degrees east, where zones 32 and 33 meet and are turned by almost 5 degrees to each other."""
    one = utm(32632, 705_000.0, 5_800_000.0)
    other = neighbour(one, east_px=others[0], north_px=others[1])
    for grids in ((one, other), (other, one)):
        with pytest.raises(DataError, match="show the same ground in other CRS or pixels"):
            shared_origins_px(grids)


@pytest.mark.parametrize("others", [(46.0, 0.0), (0.0, -56.0), (3000.0, 0.0), (40.0, 51.0)])
def test_scenes_of_two_zones_side_by_side_have_blocks_of_their_own(others: tuple[float, float]) -> None:
    one = utm(32632, 705_000.0, 5_800_000.0)
    other = neighbour(one, east_px=others[0], north_px=others[1])
    assert shared_origins_px((one, other)) == shared_origins_px((other, one)) == ((0, 0), (0, 0))


def test_scenes_of_one_ground_with_other_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="show the same ground in other CRS or pixels"):
        shared_origins_px((grid_at(0, 0), grid_at(5, 5, size_m=20.0)))
