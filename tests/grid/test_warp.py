from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from scenefuse.grid.placement import AxisMap, PointMap, RasterGrid
from scenefuse.grid.resample import upsample
from scenefuse.grid.warp import warp_axes, warp_points
from scenefuse.grid.window import Window

UTM33 = CRS.from_epsg(32633).to_wkt()
UTM32 = CRS.from_epsg(32632).to_wkt()


windows = st.builds(
    lambda y0, x0, h, w: Window(y0=y0, y1=y0 + h, x0=x0, x1=x0 + w),
    st.integers(0, 15), st.integers(0, 15), st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip


class Scene:
    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self.pixels = pixels

    def __call__(self, window: Window) -> NDArray[np.float32]:
        assert window == window.clip(self.pixels.shape[1:])
        return self.pixels[(slice(None), *window.slices)]


def smooth(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    waves = [np.sin(rng.uniform(0.05, 0.5) * y + rng.uniform(0.05, 0.5) * x + phase) for phase in range(4)]
    return np.stack([0.3 + 0.05 * sum(waves), 0.2 + 0.1 * waves[0]]).astype(np.float32)


def test_half_scale_equals_upsample_by_two() -> None:
    pixels = np.random.default_rng(0).random((2, 20, 22)).astype(np.float32)
    placed = AxisMap(origin=(2.0, 2.0), scale=(0.5, 0.5))
    fine = warp_axes(Scene(pixels), (20, 22), placed, Window(y0=0, y1=32, x0=0, x1=36))
    np.testing.assert_allclose(fine, upsample(pixels, 2), atol=3e-7)


@pytest.mark.parametrize("step", [3.75 / 3.6, 1.27, 0.5])
def test_warp_axes_agrees_with_gdal_cubic(step: float) -> None:
    pixels = smooth((70, 80), 1)
    placed = AxisMap(origin=(8.3, 9.6), scale=(step, step))
    window = Window(y0=0, y1=24, x0=0, x1=32)
    ours = warp_axes(Scene(pixels), (70, 80), placed, window)
    source = Affine(30, 0, 4e5, 0, -30, 58e5)
    target = source @ Affine.translation(9.6, 8.3) @ Affine.scale(step)
    theirs = np.zeros_like(ours)
    reproject(
        pixels, theirs, src_transform=source, dst_transform=target, src_crs="EPSG:32633", dst_crs="EPSG:32633",
        resampling=Resampling.cubic, tolerance=0,
    )  # fmt: skip
    np.testing.assert_allclose(ours, theirs, atol=5e-3 if step > 1 else 1e-5)


def test_what_is_finer_than_a_target_pixel_averages_out() -> None:
    stripes = np.broadcast_to(np.arange(40) % 2, (1, 40, 40)).astype(np.float32)
    placed = AxisMap(origin=(0.5, 0.5), scale=(2.0, 2.0))  # each target's centre is that of a bright column
    coarse = warp_axes(Scene(stripes), (40, 40), placed, Window(y0=2, y1=17, x0=2, x1=17))
    np.testing.assert_allclose(coarse, 0.5, atol=1e-6)


def test_warp_points_agrees_with_gdal_cubic_across_utm_zones() -> None:
    pixels = smooth((90, 90), 2)
    hs = RasterGrid(crs_wkt=UTM32, transform=(30, 0, 825e3, 0, -30, 5820e3), shape=(90, 90))
    frame = (30.0, 0.0, 416500.0, 0.0, -30.0, 5810500.0)
    placed = PointMap(frame_transform=frame, frame_crs_wkt=UTM33, raster=hs)
    ours = warp_points(Scene(pixels), (90, 90), placed, Window(y0=0, y1=100, x0=0, x1=100))
    assert ours is not None
    theirs = np.full_like(ours, np.nan)
    reproject(
        pixels, theirs, src_transform=Affine(*hs.transform), dst_transform=Affine(*frame), src_crs="EPSG:32632",
        dst_crs="EPSG:32633", resampling=Resampling.cubic, init_dest_nodata=True, dst_nodata=np.nan, tolerance=0,
    )  # fmt: skip
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    assert both.mean() > 0.3
    assert (np.isnan(ours) == np.isnan(theirs)).mean() > 0.99
    inner = scipy.ndimage.binary_erosion(both[0], iterations=3)  # GDAL treats the raster's border otherwise
    np.testing.assert_allclose(ours[:, inner], theirs[:, inner], atol=1e-5)


@settings(max_examples=30)
@given(st.floats(0.4, 3.0), st.floats(-5, 5), windows)
def test_a_window_of_warp_axes_equals_the_window_of_the_whole(scale: float, origin: float, window: Window) -> None:
    pixels = np.random.default_rng(3).random((2, 30, 31)).astype(np.float32)
    pixels[:, 11:13, 8] = np.nan
    placed = AxisMap(origin=(origin, -origin), scale=(scale, scale))
    whole = warp_axes(Scene(pixels), (30, 31), placed, Window(y0=0, y1=24, x0=0, x1=24))
    part = warp_axes(Scene(pixels), (30, 31), placed, window)
    assert np.array_equal(part, whole[(slice(None), *window.slices)], equal_nan=True)


@settings(max_examples=30)
@given(st.floats(0, 90), st.floats(-3, 3), windows)
def test_a_window_of_warp_points_equals_the_window_of_the_whole(degrees: float, shift: float, window: Window) -> None:
    pixels = np.random.default_rng(4).random((2, 30, 31)).astype(np.float32)
    pixels[:, 11:13, 8] = np.nan
    turned = Affine.translation(4e5, 58e5) @ Affine.rotation(degrees) @ Affine.scale(30, -30)
    hs = RasterGrid(crs_wkt=UTM33, transform=tuple(turned)[:6], shape=(30, 31))
    placed = PointMap(
        frame_transform=(30, 0, 4e5, 0, -30, 58e5), frame_crs_wkt=UTM33, raster=hs, shift_px=(shift, -shift)
    )
    whole = warp_points(Scene(pixels), (30, 31), placed, Window(y0=0, y1=24, x0=0, x1=24))
    part = warp_points(Scene(pixels), (30, 31), placed, window)
    cut = np.full((2, 24, 24), np.nan) if whole is None else whole
    cut = cut[(slice(None), *window.slices)]
    assert np.isnan(cut).all() if part is None else np.array_equal(part, cut, equal_nan=True)


def test_a_hole_keeps_its_place() -> None:
    pixels = np.full((1, 12, 12), 0.4, np.float32)
    pixels[0, 5, 7] = np.nan
    placed = AxisMap(origin=(0.0, 0.0), scale=(0.5, 0.5))
    fine = warp_axes(Scene(pixels), (12, 12), placed, Window(y0=0, y1=24, x0=0, x1=24))
    assert np.isnan(fine[0, 10:12, 14:16]).all()
    assert np.isnan(fine).sum() == 4


def test_a_hole_keeps_its_place_when_points_are_warped() -> None:
    pixels = np.full((1, 12, 12), 0.4, np.float32)
    pixels[0, 5, 7] = np.nan
    hs = RasterGrid(crs_wkt=UTM33, transform=(30, 0, 4e5, 0, -30, 58e5), shape=(12, 12))
    placed = PointMap(frame_transform=hs.transform, frame_crs_wkt=UTM33, raster=hs, shift_px=(0.2, -0.3))
    frame = warp_points(Scene(pixels), (12, 12), placed, Window(y0=1, y1=11, x0=1, x1=11))
    assert frame is not None
    assert np.argwhere(np.isnan(frame)).tolist() == [[0, 4, 6]]
    np.testing.assert_allclose(frame[~np.isnan(frame)], 0.4, atol=1e-7)


def test_what_lies_outside_the_raster_is_no_data() -> None:
    pixels = np.full((1, 6, 6), 0.4, np.float32)
    placed = AxisMap(origin=(-2.0, 0.0), scale=(1.0, 1.0))
    frame = warp_axes(Scene(pixels), (6, 6), placed, Window(y0=0, y1=6, x0=0, x1=6))
    assert np.isnan(frame[0, :2]).all()
    np.testing.assert_allclose(frame[0, 2:], 0.4, atol=1e-7)
