from __future__ import annotations

import pickle

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from scenefuse.errors import DataError
from scenefuse.grid.placement import AxisMap, Offset, PointMap, RasterGrid
from scenefuse.grid.planning import PairPlan, placement_of, plan_pair_grid

UTM33 = CRS.from_epsg(32633).to_wkt()
UTM32 = CRS.from_epsg(32632).to_wkt()
WGS84 = CRS.from_epsg(4326).to_wkt()


def raster(
    gsd: float, shape: tuple[int, int], *, x: float = 4e5, y: float = 58e5, crs: str = UTM33, name: str = "raster"
) -> RasterGrid:
    return RasterGrid(crs_wkt=crs, transform=(gsd, 0.0, x, 0.0, -gsd, y), shape=shape, name=name)


def corner(plan: PairPlan) -> tuple[float, float]:
    return plan.grid.fine_transform[2], plan.grid.fine_transform[5]


def test_nested_grids_are_used_untouched_and_cropped_to_the_overlap() -> None:
    hs = raster(30, (40, 50), x=4e5, y=58e5)
    ms = raster(10, (100, 120), x=4e5 + 130, y=58e5 - 70)
    plan = plan_pair_grid(hs, ms)
    assert plan.grid.case == "ms-grid"
    assert plan.grid.ratio == 3
    assert not plan.grid.hs_resampled
    assert not plan.grid.ms_resampled
    # The HSI's corners lie 130 m / 70 m off: the first whole HSI pixel inside the MSI is column 5, row 3.
    assert plan.hs == Offset(y0=3, x0=5)
    assert plan.ms == Offset(y0=2, x0=2)
    assert corner(plan) == (4e5 + 150, 58e5 - 90)
    assert plan.grid.coarse_shape == (32, 39)


@settings(max_examples=60)
@given(
    st.sampled_from([2, 3, 4, 6]),
    st.integers(-40, 40),
    st.integers(-40, 40),
    st.integers(20, 60),
    st.integers(20, 60),
)
def test_the_frame_of_nested_grids_lies_inside_both_rasters(
    r: int, dy: int, dx: int, hs_side: int, ms_side: int
) -> None:
    hs, ms = (
        raster(10 * r, (hs_side, hs_side)),
        raster(10, (ms_side * 3, ms_side * 3), x=4e5 + 10 * dx, y=58e5 - 10 * dy),
    )
    try:
        plan = plan_pair_grid(hs, ms)
    except DataError:
        return
    assert isinstance(plan.hs, Offset)
    assert isinstance(plan.ms, Offset)
    rows, columns = plan.grid.coarse_shape
    assert plan.hs.y0 >= 0
    assert plan.hs.x0 >= 0
    assert plan.hs.y0 + rows <= hs_side
    assert plan.hs.x0 + columns <= hs_side
    assert plan.ms.y0 >= 0
    assert plan.ms.x0 >= 0
    assert plan.ms.y0 + rows * r <= ms_side * 3
    assert plan.ms.x0 + columns * r <= ms_side * 3
    assert corner(plan) == (4e5 + plan.hs.x0 * 10 * r, 58e5 - plan.hs.y0 * 10 * r)
    assert corner(plan) == (ms.transform[2] + plan.ms.x0 * 10, ms.transform[5] - plan.ms.y0 * 10)
    dropped_rows = plan.dropped_px[0]
    assert dropped_rows == hs_side - rows


@settings(max_examples=80)
@given(
    x=st.floats(-0.7, 45.0),
    y=st.floats(-0.7, 45.0),
    dy=st.floats(-4, 4),
    dx=st.floats(-4, 4),
    side=st.integers(30, 45),
    take_phase=st.booleans(),
)
def test_an_untouched_hsi_holds_every_coarse_pixel_and_a_warped_one_every_centre(
    x: float, y: float, dy: float, dx: float, side: int, *, take_phase: bool
) -> None:
    hs, ms = raster(30, (40, 40), x=4e5 + x, y=58e5 - y), raster(10, (3 * side, 3 * side))
    plan = plan_pair_grid(hs, ms, shift_px=(dy, dx), take_phase=take_phase)
    rows, columns = plan.grid.coarse_shape
    assert isinstance(plan.ms, Offset)
    assert min(plan.ms.y0, plan.ms.x0) >= 0
    assert max(plan.ms.y0 + 3 * rows, plan.ms.x0 + 3 * columns) <= 3 * side
    if isinstance(plan.hs, Offset):
        assert plan.grid.phase_rest_px <= (0.5 + 1e-9 if take_phase else 0.05)
        assert min(plan.hs.y0, plan.hs.x0) >= 0
        assert max(plan.hs.y0 + rows, plan.hs.x0 + columns) <= 40
    else:
        assert not take_phase
        native = plan.hs.native(np.array([0.5, rows - 0.5]), np.array([0.5, columns - 0.5]))
        assert np.min(native) >= 0.5 - 0.05 / 3 - 1e-9
        assert np.max(native) <= 39.5 + 0.05 / 3 + 1e-9


def test_a_residual_phase_warps_the_hsi_once() -> None:
    plan = plan_pair_grid(raster(30, (40, 40), x=4e5 + 4, y=58e5 - 3), raster(10, (120, 120)))
    assert plan.grid.case == "ms-grid"
    assert plan.grid.hs_resampled
    assert isinstance(plan.hs, PointMap)
    assert plan.grid.phase_rest_px == pytest.approx(0.4, abs=1e-6)
    rows, columns = plan.hs.native(np.array(0.5), np.array(0.5))
    x, y = corner(plan)
    assert columns == pytest.approx((x + 15 - (4e5 + 4)) / 30)
    assert rows == pytest.approx((58e5 - 3 - (y - 15)) / 30)


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (0.2, -2.3)])
def test_a_residual_phase_is_told_instead_if_the_method_takes_it(shift_px: tuple[float, float]) -> None:
    hs = raster(30, (40, 40), x=4e5 + 4, y=58e5 - 3)
    plan = plan_pair_grid(hs, raster(10, (120, 120)), shift_px=shift_px, take_phase=True)
    assert isinstance(plan.hs, Offset)
    assert not plan.grid.hs_resampled
    assert plan.grid.hs_kernel == "none"
    # The HSI's pixels are where its georeference, corrected by the shift, says: 0.4 and 0.3 pixels off without one.
    assert np.abs(plan.grid.phase_px).max() == pytest.approx(0.4 if shift_px == (0.0, 0.0) else 0.5, abs=1e-6)
    assert max(map(abs, plan.grid.phase_px)) <= 0.5
    x, y = Affine(*plan.grid.coarse_transform) @ (7.5, 5.5)
    there = Affine(*hs.transform) @ (plan.hs.x0 + 7.5, plan.hs.y0 + 5.5)
    assert (x, y) == pytest.approx((there[0] + 10 * shift_px[1], there[1] - 10 * shift_px[0]), abs=1e-5)


def test_a_phase_that_changes_over_the_scene_warps_the_hsi_though_the_method_takes_one() -> None:
    hs = raster(30.009, (300, 300), x=4e5 + 4)  # a drift of 0.27 fine pixels over the scene
    plan = plan_pair_grid(hs, raster(10, (900, 900)), take_phase=True)
    assert plan.grid.case == "ms-grid"
    assert plan.grid.hs_resampled
    assert plan.grid.phase_px == (0.0, 0.0)


def test_a_residual_below_a_twentieth_of_a_pixel_leaves_the_hsi_untouched() -> None:
    plan = plan_pair_grid(raster(30, (40, 40), x=4e5 + 0.4), raster(10, (120, 120)))
    assert not plan.grid.hs_resampled
    assert plan.grid.phase_rest_px == pytest.approx(0.04, abs=1e-6)


def test_registration_moves_the_phase_of_the_coarse_grid() -> None:
    hs, ms = raster(30, (40, 40)), raster(10, (150, 150), x=4e5 - 100, y=58e5 + 100)
    plan = plan_pair_grid(hs, ms, shift_px=(1.0, -2.0))
    assert not plan.grid.hs_resampled
    assert plan.grid.shift_px == (1.0, -2.0)
    # What the HSI shows at its corner (10 fine pixels in), the MSI shows 1 pixel lower and 2 further left.
    assert plan.ms == Offset(y0=11, x0=8)
    assert plan.hs == Offset(y0=0, x0=0)


def test_the_grids_of_berlin_keep_the_hsi_and_resample_the_msi() -> None:
    hs = raster(30, (80, 60), x=383472.37, y=5818302.35)
    ms = raster(3.6, (660, 494), x=383469.97, y=5818303.55)
    plan = plan_pair_grid(hs, ms)
    assert plan.grid.case == "hs-grid"
    assert plan.grid.ratio == 8
    assert plan.grid.native_ratio == pytest.approx(8.3333, abs=1e-3)
    assert plan.hs == Offset(y0=0, x0=0)
    assert isinstance(plan.ms, AxisMap)
    assert plan.ms.scale == pytest.approx((3.75 / 3.6, 3.75 / 3.6))
    assert plan.ms.origin == pytest.approx((1.2 / 3.6, 2.4 / 3.6))
    assert plan.grid.coarse_shape == (79, 59)
    assert plan.dropped_px == (1, 1)
    assert plan.grid.fine_transform[0] == pytest.approx(3.75)


def test_registration_without_nesting_keeps_the_hsi_pixels_and_takes_the_map_coordinates_of_the_msi() -> None:
    hs, ms = raster(30, (40, 40)), raster(3.6, (360, 360), x=4e5 - 36, y=58e5 + 36)
    plan = plan_pair_grid(hs, ms, shift_px=(-0.8, 0.4))
    assert plan.hs == Offset(y0=0, x0=0)
    assert plan.grid.fine_transform == pytest.approx((3.75, 0, 4e5 + 0.4 * 3.75, 0, -3.75, 58e5 + 0.8 * 3.75))
    # A fine pixel is read from where its map coordinates lie in the MSI's raster.
    assert isinstance(plan.ms, AxisMap)
    row, column = (origin + scale * 100.5 for origin, scale in zip(plan.ms.origin, plan.ms.scale, strict=True))
    ground = Affine(*plan.grid.fine_transform) @ (100.5, 100.5)
    assert Affine(*ms.transform) @ (column, row) == pytest.approx(ground)


def test_a_coarse_pixel_that_reaches_out_by_a_hair_is_kept() -> None:
    hs = raster(30, (40, 40))
    for out_px, rows in ((0.04, 40), (0.06, 39)):
        begins = raster(3.6, (400, 400), x=4e5 - 36, y=58e5 - out_px * 3.75)
        ends = raster(3.6, (350, 400), x=4e5 - 36, y=58e5 - 1200 + 350 * 3.6 + out_px * 3.75)
        for ms in (begins, ends):
            assert plan_pair_grid(hs, ms).grid.coarse_shape == (rows, 40)


def test_registration_moves_the_msi_where_the_hsi_is_kept() -> None:
    hs, ms = raster(30, (80, 60)), raster(3.6, (760, 594), x=4e5 - 72, y=58e5 + 72)
    plan, moved = plan_pair_grid(hs, ms), plan_pair_grid(hs, ms, shift_px=(2.0, -1.0))
    assert isinstance(plan.ms, AxisMap)
    assert isinstance(moved.ms, AxisMap)
    # The MSI's content lies 2 fine pixels (7.5 m) lower: it is looked for that much further down.
    assert moved.ms.origin[0] - plan.ms.origin[0] == pytest.approx(7.5 / 3.6)
    assert moved.ms.origin[1] - plan.ms.origin[1] == pytest.approx(-3.75 / 3.6)
    assert moved.hs == plan.hs == Offset(y0=0, x0=0)


@pytest.mark.parametrize(("gsd", "ratio"), [(9.0, 3), (7.8, 4), (4.1, 6), (16.0, None), (0.5, 32)])
def test_the_ratio_asks_at_most_five_percent_more_than_the_msi_has(gsd: float, ratio: int | None) -> None:
    side = int(1200 / gsd)
    if ratio is None:
        with pytest.raises(DataError, match="less than a ratio of 2"):
            plan_pair_grid(raster(30, (40, 40)), raster(gsd, (side, side)))
        return
    plan = plan_pair_grid(raster(30, (40, 40)), raster(gsd, (side, side)))
    assert plan.grid.ratio == ratio
    assert plan.grid.case == "hs-grid"


@pytest.mark.parametrize(("hs_gsd", "case"), [(30.009, "ms-grid"), (29.991, "ms-grid"), (30.011, "hs-grid")])
def test_grids_nest_where_the_ratio_is_an_integer_within_a_thousandth(hs_gsd: float, case: str) -> None:
    plan = plan_pair_grid(raster(hs_gsd, (40, 40)), raster(10, (130, 130)))
    assert (plan.grid.case, plan.grid.ratio) == (case, 3)


@pytest.mark.parametrize(("width", "height", "ratio"), [(10, 9, 3), (9, 10, 3), (5, 7, 4), (7, 5, 4)])
def test_of_pixels_longer_than_wide_the_longer_side_decides(width: int, height: int, ratio: int) -> None:
    ms = RasterGrid(crs_wkt=UTM33, transform=(width, 0, 4e5, 0, -height, 58e5), shape=(240, 240), name="ms")
    plan = plan_pair_grid(raster(30, (40, 40)), ms)
    assert (plan.grid.case, plan.grid.ratio) == ("hs-grid", ratio)


def test_an_msi_coarser_than_the_hsi_is_refused() -> None:
    with pytest.raises(DataError, match="swapped"):
        plan_pair_grid(raster(10, (40, 40)), raster(30, (40, 40)))


def test_rasters_apart_are_refused() -> None:
    with pytest.raises(DataError, match="footprints overlap"):
        plan_pair_grid(raster(30, (40, 40)), raster(10, (40, 40), x=5e5))


def test_a_missing_crs_or_georeference_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"a\.tif has no CRS"):
        plan_pair_grid(raster(30, (4, 4), crs="", name="a.tif"), raster(10, (12, 12)))
    plain = RasterGrid(crs_wkt=UTM33, transform=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), shape=(4, 4), name="b.tif")
    with pytest.raises(DataError, match=r"b\.tif has the geotransform"):
        plan_pair_grid(raster(30, (4, 4)), plain)


def test_another_utm_zone_warps_the_hsi_onto_the_msi() -> None:
    x, y = 825e3, 5820e3  # in zone 32, about 13.8 degrees east
    hs = raster(30, (60, 60), x=x, y=y, crs=UTM32)
    ms = raster(10, (300, 300), x=416500.0, y=5810500.0)
    plan = plan_pair_grid(hs, ms)
    assert plan.grid.ratio == 3
    assert plan.grid.hs_resampled
    assert plan.grid.hs_gsd_m == pytest.approx(30, rel=0.01)
    assert isinstance(plan.hs, PointMap)
    rows, columns = plan.hs.native(np.array(30.5), np.array(20.5))
    ground = Affine(*plan.grid.coarse_transform) @ (20.5, 30.5)
    there = Affine(*hs.transform) @ (float(columns), float(rows))
    from rasterio.warp import transform

    expected = transform("EPSG:32633", "EPSG:32632", [ground[0]], [ground[1]])
    assert there == pytest.approx((expected[0][0], expected[1][0]), abs=1e-3)


def test_etrs89_and_wgs84_utm_nest_without_a_warp() -> None:
    plan = plan_pair_grid(raster(30, (40, 40), crs=CRS.from_epsg(25833).to_wkt()), raster(10, (120, 120)))
    assert not plan.grid.hs_resampled
    assert plan.grid.coarse_shape == (40, 40)


def test_a_geographic_msi_across_the_antimeridian_meets_an_hsi_in_utm() -> None:
    ms = RasterGrid(crs_wkt=WGS84, transform=(1e-4, 0, 179.98, 0, -1e-4, 10.02), shape=(400, 400), name="ms")
    hs = raster(33, (40, 40), x=170000.0, y=1107500.0, crs=CRS.from_epsg(32601).to_wkt())
    plan = plan_pair_grid(hs, ms)
    assert plan.grid.ratio == 3
    assert plan.grid.coarse_shape == (39, 40)
    assert corner(plan) == pytest.approx((179.9903, 10.0053))
    flipped = RasterGrid(crs_wkt=WGS84, transform=(1e-4, 0, -180.02, 0, -1e-4, 10.02), shape=(400, 400), name="ms")
    other = plan_pair_grid(hs, flipped)
    assert other.grid.coarse_shape == plan.grid.coarse_shape
    assert corner(other) == pytest.approx((179.9903 - 360, 10.0053))


@pytest.mark.parametrize(("hs_west", "ms_west"), [(190.0, -170.0), (-170.0, 190.0), (190.0, 190.0)])
def test_geographic_rasters_meet_whichever_turn_their_longitudes_are_from(hs_west: float, ms_west: float) -> None:
    hs = RasterGrid(crs_wkt=WGS84, transform=(3e-4, 0, hs_west, 0, -3e-4, 10), shape=(30, 40), name="hs")
    ms = RasterGrid(crs_wkt=WGS84, transform=(1e-4, 0, ms_west, 0, -1e-4, 10), shape=(90, 120), name="ms")
    plan = plan_pair_grid(hs, ms)
    assert plan.grid.coarse_shape == (30, 40)
    assert not plan.grid.hs_resampled
    assert corner(plan) == pytest.approx((ms_west, 10.0))


def test_the_fine_pixel_is_in_metres_whatever_the_unit_of_the_crs() -> None:
    ms = RasterGrid(crs_wkt=WGS84, transform=(1e-4, 0, 13.5, 0, -1e-4, 10.02), shape=(400, 400), name="ms")
    hs = RasterGrid(crs_wkt=WGS84, transform=(3e-4, 0, 13.5, 0, -3e-4, 10.02), shape=(133, 133), name="hs")
    plan = plan_pair_grid(hs, ms)
    assert plan.grid.fine_transform[0] == 1e-4
    assert plan.grid.fine_gsd_m == pytest.approx(11.0, abs=0.1)
    assert plan_pair_grid(raster(30, (40, 40)), raster(10, (120, 120))).grid.fine_gsd_m == 10.0
    assert plan_pair_grid(raster(30, (80, 60)), raster(3.6, (660, 500))).grid.fine_gsd_m == 3.75


def test_the_fine_pixel_is_that_of_the_ground_where_a_map_stretches_it() -> None:
    mercator, north = CRS.from_epsg(3857).to_wkt(), 84e5  # at 60 degrees
    plan = plan_pair_grid(raster(30, (40, 40), y=north, crs=mercator), raster(10, (120, 120), y=north, crs=mercator))
    assert plan.grid.fine_transform[0] == 10
    assert plan.grid.fine_gsd_m == pytest.approx(5.0, abs=0.05)


def test_geographic_grids_that_do_not_nest_are_fused_on_that_of_the_msi() -> None:
    ms = RasterGrid(crs_wkt=WGS84, transform=(1e-4, 0, 13.5, 0, -1e-4, 50.0), shape=(400, 400), name="ms")
    hs = RasterGrid(crs_wkt=WGS84, transform=(3.4e-4, 0, 13.5, 0, -3.4e-4, 50.0), shape=(110, 110), name="hs")
    plan = plan_pair_grid(hs, ms)
    assert (plan.grid.case, plan.grid.ratio, plan.grid.hs_resampled) == ("ms-grid", 3, True)


def test_an_msi_whose_rows_go_north_turns_the_hsi() -> None:
    ms = RasterGrid(crs_wkt=UTM33, transform=(10, 0, 4e5, 0, 10, 58e5 - 1200), shape=(120, 120), name="ms")
    plan = plan_pair_grid(raster(30, (40, 40)), ms)
    assert plan.grid.coarse_shape == (40, 40)
    assert isinstance(plan.hs, PointMap)
    assert plan.hs.native(np.array(0.5), np.array(0.5)) == pytest.approx((39.5, 0.5))
    finer = RasterGrid(crs_wkt=UTM33, transform=(3.6, 0, 4e5, 0, 3.6, 58e5 - 1200), shape=(333, 333), name="ms")
    assert plan_pair_grid(raster(30, (40, 40)), finer).grid.case == "ms-grid", "rows of the two go opposite ways"


def test_polar_stereographic_pairs_work_and_geographic_ones_near_the_pole_are_refused() -> None:
    polar = CRS.from_epsg(3413).to_wkt()
    plan = plan_pair_grid(
        raster(30, (30, 30), x=-600, y=600, crs=polar), raster(10, (120, 120), x=-600, y=600, crs=polar)
    )
    assert plan.grid.coarse_shape == (30, 30)
    hs = raster(30, (100, 100), x=100e3, y=-900e3, crs=polar)
    ms = RasterGrid(crs_wkt=WGS84, transform=(9e-5, 0, -38.7, 0, -9e-5, 81.68), shape=(900, 5000), name="ms")
    with pytest.raises(DataError, match="near the poles"):
        plan_pair_grid(hs, ms)


def test_a_rotated_hsi_is_warped_and_two_equally_rotated_rasters_nest() -> None:
    turned = Affine.translation(4e5, 58e5) @ Affine.rotation(20) @ Affine.scale(30, -30)
    hs = RasterGrid(crs_wkt=UTM33, transform=tuple(turned)[:6], shape=(40, 40), name="hs")
    plan = plan_pair_grid(hs, raster(10, (300, 300), x=4e5 - 500, y=58e5 + 500))
    assert plan.grid.ratio == 3
    assert isinstance(plan.hs, PointMap)
    fine = turned @ Affine.scale(1 / 3)
    ms = RasterGrid(crs_wkt=UTM33, transform=tuple(fine)[:6], shape=(120, 120), name="ms")
    nested = plan_pair_grid(hs, ms)
    assert nested.hs == Offset(y0=0, x0=0)
    assert nested.grid.coarse_shape == (40, 40)


def test_a_crs_without_a_known_datum_is_not_moved_in_silence() -> None:
    unknown = CRS.from_proj4("+proj=tmerc +lat_0=0 +lon_0=15 +k=0.9996 +x_0=500000 +ellps=bessel +units=m").to_wkt()
    with pytest.raises(DataError, match="known datum"):
        plan_pair_grid(raster(30, (40, 40), crs=unknown), raster(10, (120, 120)))


def test_a_coarser_band_is_placed_in_its_own_grid() -> None:
    hs, ms = raster(30, (40, 40)), raster(10, (120, 120), x=4e5 - 20, y=58e5 + 40)
    plan = plan_pair_grid(hs, ms)
    placed = placement_of(raster(20, (60, 60), x=4e5 - 20, y=58e5 + 40), ms, plan)
    assert placed == AxisMap(origin=(2.0, 1.0), scale=(0.5, 0.5))
    assert placement_of(ms, ms, plan) == plan.ms
    with pytest.raises(DataError, match="different CRS"):
        placement_of(raster(20, (60, 60), crs=UTM32), ms, plan)


def test_a_plan_survives_pickling() -> None:
    plan = plan_pair_grid(raster(30, (40, 40), x=4e5 + 4), raster(10, (120, 120)))
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - our own bytes
