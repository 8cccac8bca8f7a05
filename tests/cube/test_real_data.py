from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from scenefuse.archive.scene import Asset, Scene
from scenefuse.cube.image import Choice, open_image
from scenefuse.cube.pair import PairCube, open_pair
from scenefuse.cube.registration import estimate_shift
from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.raster.readers import open_raster
from tests.grid.blocks import block_mean
from tests.raster.making import bare_scene, pair_of


def needed(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="module")
def berlin(test_data: Path) -> PairCube:
    folder = test_data / "pairs" / "berlin"
    hs = needed(folder, "EnMAP_BerlinUrbanGradient_177.bsq")
    return open_pair(pair_of(hs, needed(folder, "HighResolution_BerlinUrbanGradient.bsq")))


def test_berlin_keeps_the_hsi_grid_at_ratio_eight(berlin: PairCube) -> None:
    assert (berlin.grid.case, berlin.grid.ratio, berlin.grid.coarse_shape) == ("hs-grid", 8, (79, 59))
    assert len(berlin.hs_bands) == 177
    assert berlin.hs_bands[0].wavelength_nm == pytest.approx(460)
    window = Window(y0=10, y1=30, x0=5, x1=50)
    with rasterio.open(berlin.hs_image.files[0].path) as dataset:
        stored = dataset.read()[(slice(None), *window.slices)]
    np.testing.assert_allclose(berlin.read_hs(window), stored / 1e4, atol=1e-7)
    assert "[* 10000]" in berlin.facts()["hs"]["files"][0]["scale_from"]


def test_the_resampled_msi_of_berlin_matches_the_hsi(berlin: PairCube) -> None:
    coarse = Window(y0=0, y1=79, x0=0, x1=59)
    hs, ms = berlin.read_hs(coarse), block_mean(berlin.read_ms(coarse.refine(8)), 8)
    centres = np.array([band.wavelength_nm for band in berlin.hs_bands])
    for position, band in enumerate(berlin.ms_bands):
        nearest = int(np.abs(centres - (band.wavelength_nm or 0)).argmin())
        assert np.corrcoef(ms[position].ravel(), hs[nearest].ravel())[0, 1] > 0.93


def test_the_shift_of_berlin_is_estimated(berlin: PairCube) -> None:
    centres = np.array([band.wavelength_nm for band in berlin.hs_bands])
    response = np.stack([np.exp(-(((centres - (band.wavelength_nm or 0)) / 10) ** 2)) for band in berlin.ms_bands])
    shift = estimate_shift(berlin, response)
    assert shift.peak > 0.5
    assert abs(shift.dy_px) < 8
    assert abs(shift.dx_px) < 8
    again = estimate_shift(berlin.registered((shift.dy_px, shift.dx_px)), response)
    assert abs(again.dy_px) < 0.3
    assert abs(again.dx_px) < 0.3


def test_unsorted_wavelengths_come_out_sorted_with_the_way_back(test_data: Path) -> None:
    path = needed(test_data / "pairs" / "berlin", "EnMAP_BerlinUrbanGradient_raw244.bsq")
    image = open_image(bare_scene(path), "hsi", Choice())
    centres = [band.wavelength_nm or 0 for band in image.bands]
    assert centres == sorted(centres)
    order = [source.file_band for source in image.sources]
    assert order != sorted(order)
    window = Window(y0=0, y1=80, x0=0, x1=60)
    read = image.read(tuple(range(len(image.bands))), window)
    with rasterio.open(path) as dataset:
        stored = dataset.read([band + 1 for band in order])
    np.testing.assert_allclose(read, np.where(stored == -99, np.nan, stored / 1e4), atol=1e-7)


@pytest.mark.parametrize("tile", ["160_128", "160_160", "160_64", "160_96"])
def test_enmap_tiles_drop_bad_bands_by_name_and_sort_the_overlap(test_data: Path, tile: str) -> None:
    path = needed(test_data / "satellite" / "enmap_potsdam", f"enmap_potsdam_tile_{tile}.tif")
    image = open_image(bare_scene(path), "hsi", Choice())
    assert [name for name, _ in image.dropped] == [f"band {i}" for i in range(130, 136)]
    assert len(image.bands) == 218
    centres = [band.wavelength_nm or 0 for band in image.bands]
    assert centres == sorted(centres)
    assert image.bands[0].fwhm_nm == pytest.approx(6.99561)
    window = Window(y0=4, y1=20, x0=8, x1=31)
    order = [source.file_band + 1 for source in image.sources]
    assert order != sorted(order)
    with rasterio.open(path) as dataset:
        stored = dataset.read(order)[(slice(None), *window.slices)]
    read = image.read(tuple(range(218)), window)
    np.testing.assert_allclose(read, np.where(stored == -32768, np.nan, stored * 1e-4), atol=1e-6)


@pytest.mark.parametrize(
    "name", ["image_nan.tif", "image_missing_nodata.tif", "image_north.tif", "image_with_offsets.tif"]
)
def test_odd_rasters_are_read_as_rasterio_reads_them(
    test_data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenefuse.cube.sampled.GREATEST", np.inf)  # with offsets there is no reflectance
    path = needed(test_data / "bad", name)
    scene = Scene(id=name, href=str(path), assets=(Asset(key="data", href=str(path)),))
    scale = None if name in {"image_nan.tif", "image_with_offsets.tif"} else 1e-4
    if scale is not None:
        with pytest.raises(DataError, match="--ms-scale"):
            open_image(scene, "msi", Choice())
    image = open_image(scene, "msi", Choice(scale=scale))
    window = Window(y0=100, y1=200, x0=50, x1=256)
    with rasterio.open(path) as dataset:
        stored = dataset.read(masked=True)[(slice(None), *window.slices)].astype(np.float64)
        expected = (stored * (scale or dataset.scales[0]) + (0 if scale else dataset.offsets[0])).filled(np.nan)
    np.testing.assert_allclose(image.read((0,), window), expected, rtol=1e-6)


def test_a_one_band_raster_is_no_hsi_and_a_mat_file_no_raster(test_data: Path) -> None:
    path = needed(test_data / "bad", "image_north.tif")
    with pytest.raises(DataError, match="usable band"):
        open_image(bare_scene(path), "hsi", Choice(scale=1e-4))
    with pytest.raises(DataError, match="GeoTIFF, JPEG 2000, ENVI, Zarr"):
        open_raster(str(needed(test_data / "bad", "salton_sea_roi.mat")))
