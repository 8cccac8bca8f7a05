"""Clouds by a scene's own masks, on the pixels of its images."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.scene import Asset, CloudAsset, CloudCode, Scene
from scenefuse.archive.source import load_scene
from scenefuse.cube.cloud_mask import CloudMask, check_placed, open_cloud_mask
from scenefuse.cube.image import Choice, open_image
from scenefuse.cube.pair import PairOptions, open_pair
from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.window import Window
from scenefuse.raster.readers import open_raster
from tests.raster.making import WriteTiff, bare_scene, pair_of, texture
from tests.raster.native_products import write_emit


def told(path: Path, code: CloudCode = "scl") -> CloudAsset:
    return CloudAsset(asset=Asset(key=path.stem, href=str(path)), code=code)


def read(mask: Path, image: Path, window: Window, code: CloudCode = "scl") -> NDArray[np.bool_]:
    opened = pickle.loads(pickle.dumps(open_cloud_mask(told(mask, code), AccessPolicy())))  # noqa: S301 - our own
    return np.asarray(opened.read(open_raster(str(image)).grid, window))


@pytest.mark.parametrize(
    ("code", "cloudy"),
    [
        ("scl", {3, 8, 9, 10}),
        ("qa-pixel", {value for value in range(256) if value & 0b11110}),
        ("fmask", {value for value in range(256) if value & 0b1110}),
        ("flag", {value for value in range(256) if value & 1}),
    ],
)
def test_each_code_means_what_its_archive_says(write_tiff: WriteTiff, code: CloudCode, cloudy: set[int]) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    path = write_tiff("mask.tif", values, scale=None)
    found = read(path, path, Window(y0=0, y1=16, x0=0, x1=16), code)
    assert set(values[0][found].tolist()) == cloudy


def test_a_mask_of_coarser_pixels_covers_the_pixels_within(write_tiff: WriteTiff) -> None:
    scl = np.random.default_rng(0).integers(0, 12, (1, 30, 20)).astype(np.uint8)
    mask = write_tiff("scl.tif", scl, gsd=20.0, scale=None)
    image = write_tiff("fine.tif", texture(1, (60, 40)), gsd=10.0)
    expected = np.isin(scl[0], (3, 8, 9, 10)).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(read(mask, image, Window(y0=7, y1=52, x0=11, x1=38)), expected[7:52, 11:38])


def test_a_pixel_larger_than_the_mask_s_has_a_cloud_where_any_of_these_has(write_tiff: WriteTiff) -> None:
    scl = np.full((1, 60, 60), 4, np.uint8)
    scl[0, 7, 8] = 9
    mask = write_tiff("scl.tif", scl, gsd=10.0, scale=None)
    image = write_tiff("coarse.tif", texture(1, (20, 20)), gsd=30.0)
    found = read(mask, image, Window(y0=0, y1=20, x0=0, x1=20))
    assert np.argwhere(found).tolist() == [[2, 2]]


@pytest.mark.parametrize("place", range(7))
def test_a_cloud_of_one_pixel_is_seen_whatever_the_ratio_of_the_pixels(write_tiff: WriteTiff, place: int) -> None:
    scl = np.full((1, 42, 42), 4, np.uint8)
    scl[0, place::7, place::7] = 9
    mask = write_tiff("scl.tif", scl, gsd=10.0, scale=None)
    image = write_tiff("coarse.tif", texture(1, (30, 30)), gsd=14.0)
    found = read(mask, image, Window(y0=0, y1=30, x0=0, x1=30))
    clouds = np.argwhere(scl[0] == 9) + 0.5
    assert found[tuple((clouds / 1.4).astype(int).T)].all()


def test_beyond_the_mask_nothing_is_cloud(write_tiff: WriteTiff) -> None:
    scl = np.full((1, 10, 10), 9, np.uint8)
    mask = write_tiff("scl.tif", scl, gsd=20.0, origin=(4e5 + 100, 58e5 - 60), scale=None)
    image = write_tiff("fine.tif", texture(1, (60, 60)), gsd=10.0)
    found = read(mask, image, Window(y0=0, y1=60, x0=0, x1=60))
    expected = np.zeros((60, 60), np.bool_)
    expected[6:26, 10:30] = True
    np.testing.assert_array_equal(found, expected)
    assert not read(mask, image, Window(y0=40, y1=50, x0=0, x1=10)).any()


def test_a_mask_that_cannot_be_laid_on_the_image_is_refused(write_tiff: WriteTiff) -> None:
    image = open_raster(str(write_tiff("fine.tif", texture(1, (60, 60)), gsd=10.0))).grid
    other = write_tiff("scl.tif", np.ones((1, 30, 30), np.uint8), gsd=20.0, crs="EPSG:32632", scale=None)
    with pytest.raises(DataError, match="has a different CRS"):
        check_placed(open_cloud_mask(told(other), AccessPolicy()), image)
    floats = write_tiff("floats.tif", np.ones((1, 30, 30), np.float32), gsd=20.0, scale=None)
    with pytest.raises(DataError, match="holds 1 band of float32 values"):
        open_cloud_mask(told(floats), AccessPolicy())


def test_emit_s_flags_of_clouds_lie_where_its_image_lies(tmp_path: Path) -> None:
    lines, samples = np.mgrid[1:31, 1:41].astype(np.int32)
    lines, samples = np.roll(lines, 3, axis=1), np.roll(samples, 3, axis=1)  # a map that is not the sensor's geometry
    flags = np.zeros((30, 40, 8), np.float32)
    for band, (line, sample) in enumerate(((2, 3), (7, 8), (11, 4), (12, 13), (20, 21), (22, 9), (23, 30), (25, 5))):
        flags[line, sample, band] = 1.0
    image = np.random.default_rng(0).random((30, 40, 6), np.float32)
    image[flags.any(axis=2)] = 0.9
    product = write_emit(tmp_path / "EMIT_L2A_RFL_001_20240829T142812_2424209_010.nc", image, lines, samples)
    mask = write_emit(
        tmp_path / product.name.replace("RFL", "MASK"), flags, lines, samples, corner=(8.0, 47.0), name="mask"
    )
    found = read(mask, product, Window(y0=0, y1=30, x0=0, x1=40), "emit")
    clouds = np.asarray(flags[..., [0, 1, 4]].any(axis=2))  # cloud, cirrus, dilated cloud
    expected = clouds[lines - 1, samples - 1]
    np.testing.assert_array_equal(found, expected)
    scene = load_scene(str(product))  # the mask lies beside it
    masked = open_image(scene, "hsi", Choice(mask_clouds=True))
    missing = np.isnan(masked.read([0], Window(y0=0, y1=30, x0=0, x1=40))[0])
    np.testing.assert_array_equal(missing, expected)


def test_another_file_is_no_mask_of_emit(tmp_path: Path) -> None:
    lines, samples = np.mgrid[1:31, 1:41].astype(np.int32)
    few = write_emit(tmp_path / "a.nc", np.zeros((30, 40, 4), np.float32), lines, samples, name="mask")
    with pytest.raises(DataError, match="holds 4 bands of float32 values"):
        open_cloud_mask(told(few, "emit"), AccessPolicy())
    mask = write_emit(tmp_path / "b.nc", np.ones((30, 40, 8), np.float32), lines, samples, name="mask")
    with pytest.raises(DataError, match=r"8 bands without wavelength .they are EMIT's mask"):
        open_image(bare_scene(mask), "hsi", Choice())


def scene_with_clouds(write_tiff: WriteTiff) -> tuple[Scene, NDArray[np.bool_]]:
    scl = np.full((1, 60, 60), 4, np.uint8)
    scl[0, 10:20, 30:45] = 8
    image = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0, wavelengths_nm=(500.0, 800.0))
    mask = write_tiff("scl.tif", scl, gsd=20.0, scale=None)
    cloudy = np.isin(scl[0], (8,)).repeat(2, 0).repeat(2, 1)
    return replace(bare_scene(image), clouds=(told(mask),)), cloudy


def test_clouds_are_no_data_when_they_are_asked_for(write_tiff: WriteTiff) -> None:
    scene, cloudy = scene_with_clouds(write_tiff)
    window = Window(y0=0, y1=120, x0=0, x1=120)
    image = open_image(scene, "msi", Choice(mask_clouds=True))
    np.testing.assert_array_equal(np.isnan(image.read([0, 1], window)), np.stack([cloudy, cloudy]))
    assert [Path(file.href).name for file in image.inputs] == ["ms.tif", "scl.tif"]
    without = open_image(scene, "msi", Choice())
    assert not np.isnan(without.read([0, 1], window)).any()
    assert [Path(file.href).name for file in without.inputs] == ["ms.tif"]


def test_a_mask_is_read_once_for_all_files_of_a_window(write_tiff: WriteTiff, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, cloudy = scene_with_clouds(write_tiff)
    other = write_tiff("other.tif", texture(1, (120, 120), 3), gsd=10.0, wavelengths_nm=(650.0,))
    image = open_image(
        replace(scene, assets=(*scene.assets, Asset(key="other", href=str(other)))), "msi", Choice(mask_clouds=True)
    )
    asked: list[Window] = []
    read_mask = CloudMask.read

    def counted(self: CloudMask, grid: RasterGrid, window: Window) -> NDArray[np.bool_]:
        asked.append(window)
        return read_mask(self, grid, window)

    monkeypatch.setattr(CloudMask, "read", counted)
    reflectance = image.read([0, 1, 2], Window(y0=0, y1=120, x0=0, x1=120))
    np.testing.assert_array_equal(np.isnan(reflectance), np.stack([cloudy] * 3))
    assert len(asked) == 1


def test_a_pair_without_any_mask_is_refused_where_clouds_are_to_be_masked(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(2, (40, 40)), wavelengths_nm=(450.0, 550.0))
    scene, _ = scene_with_clouds(write_tiff)
    options = PairOptions(mask_clouds=True)
    assert open_pair(pair_of(hs, scene), options=options).facts()["ms"]["clouds"] == ["scl"]
    with pytest.raises(DataError, match="neither hs nor ms has a known cloud mask"):
        open_pair(pair_of(hs, replace(scene, clouds=())), options=options)
