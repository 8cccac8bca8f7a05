from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from scenefuse.archive.scene import Asset, Scene
from scenefuse.cube.image import Image
from scenefuse.cube.pair import PairCube, PairOptions, open_pair
from scenefuse.cube.radiometry import Radiometry, decide_radiometry, to_reflectance
from scenefuse.cube.sampled import sample_bands
from scenefuse.cube.source import PairSource
from scenefuse.errors import DataError
from scenefuse.grid.resample import upsample
from scenefuse.grid.window import Window
from scenefuse.raster.readers import open_raster
from scenefuse.sensors.band import Band
from tests.raster.making import WriteTiff, bare_scene, pair_of, texture, tiff_writer

NM = (450.0, 550.0, 650.0, 850.0)


def whole(cube: PairCube) -> tuple[Window, Window]:
    rows, columns = cube.grid.coarse_shape
    coarse = Window(y0=0, y1=rows, x0=0, x1=columns)
    return coarse, coarse.refine(cube.grid.ratio)


@pytest.fixture
def nested(write_tiff: WriteTiff) -> PairCube:
    hs = write_tiff("hs.tif", texture(4, (40, 42)), wavelengths_nm=NM)
    ms = write_tiff("ms.tif", texture(2, (120, 110), 1), gsd=10.0, wavelengths_nm=(500.0, 800.0))
    return open_pair(pair_of(hs, ms))


def test_nested_pairs_give_the_files_own_pixels(nested: PairCube, tmp_path: Path) -> None:
    with rasterio.open(tmp_path / "hs.tif") as hs, rasterio.open(tmp_path / "ms.tif") as ms:
        window = Window(y0=3, y1=9, x0=4, x1=12)
        expected = hs.read()[(slice(None), *window.slices)] * np.float32(1e-4)
        np.testing.assert_array_equal(nested.read_hs(window), expected.astype(np.float32))
        fine = window.refine(3)
        np.testing.assert_allclose(nested.read_ms(fine), ms.read()[(slice(None), *fine.slices)] * 1e-4, rtol=1e-6)
    assert nested.grid.coarse_shape == (40, 36)
    assert nested.read_hs(window).dtype == np.float32


def test_a_pair_is_a_source_of_the_engine(nested: PairCube) -> None:
    source: PairSource = nested  # the type checker holds this
    assert source.read_ms(Window(y0=0, y1=6, x0=0, x1=3)).shape == (len(source.ms_bands), 6, 3)


def test_windows_outside_the_scene_are_the_callers_mistake(nested: PairCube) -> None:
    with pytest.raises(ValueError, match="not inside"):
        nested.read_hs(Window(y0=-1, y1=3, x0=0, x1=3))


def test_a_pickled_pair_reads_the_same_pixels(nested: PairCube) -> None:
    window = Window(y0=0, y1=6, x0=0, x1=6)
    before = nested.read_ms(window)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(nested)).read_ms(window), before)  # noqa: S301


windows = st.builds(
    lambda y0, x0, h, w: Window(y0=y0, y1=y0 + h, x0=x0, x1=x0 + w),
    st.integers(0, 14), st.integers(0, 14), st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip


@pytest.fixture(scope="module")
def resampled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairCube]:
    """One pair of each kind that needs a resampling, with holes."""
    writer = tiff_writer(tmp_path_factory.mktemp("resampled"))
    pixels = texture(4, (40, 40))
    pixels[:, 11:13, 7] = -99
    fine = texture(2, (340, 330), 1)
    fine[:, 100:110, 50:52] = -99
    hs = writer("hs.tif", pixels, wavelengths_nm=NM, nodata=-99)
    hs32 = writer("hs32.tif", pixels, wavelengths_nm=NM, nodata=-99, crs="EPSG:32632", origin=(825e3, 5820e3))
    off = writer("off.tif", pixels, wavelengths_nm=NM, nodata=-99, origin=(4e5 + 4, 58e5 - 3))
    ms36 = writer("ms36.tif", fine, gsd=3.6, nodata=-99, origin=(4e5 - 2.4, 58e5 + 1.2))
    ms10 = writer("ms10.tif", fine, gsd=10.0, nodata=-99)
    ms33 = writer("ms33.tif", fine, gsd=10.0, nodata=-99, origin=(417000.0, 5810200.0))
    ms20 = writer("ms20.tif", texture(1, (170, 165), 2), gsd=20.0, nodata=-99)
    two = Scene(id="two", href="two", assets=(Asset(key="B08", href=str(ms10)), Asset(key="B8A", href=str(ms20))))
    return {
        "hs-grid": open_pair(pair_of(hs, ms36)),
        "phase": open_pair(pair_of(off, ms10)),
        "zone": open_pair(pair_of(hs32, ms33)),
        "mixed": open_pair(pair_of(hs, two)),
    }


@settings(max_examples=40)
@given(st.sampled_from(["hs-grid", "phase", "zone", "mixed"]), windows)
def test_a_pixel_never_depends_on_the_window_that_is_read(
    resampled: dict[str, PairCube], kind: str, window: Window
) -> None:
    cube = resampled[kind]
    coarse, fine = whole(cube)
    assert np.array_equal(cube.read_hs(window), cube.read_hs(coarse)[(slice(None), *window.slices)], equal_nan=True)
    part = window.refine(cube.grid.ratio)
    assert np.array_equal(cube.read_ms(part), cube.read_ms(fine)[(slice(None), *part.slices)], equal_nan=True)


def test_each_kind_of_pair_says_what_was_resampled(resampled: dict[str, PairCube]) -> None:
    told = {kind: (cube.grid.case, cube.grid.ratio, cube.grid.hs_resampled) for kind, cube in resampled.items()}
    assert told == {
        "hs-grid": ("hs-grid", 8, False),
        "phase": ("ms-grid", 3, True),
        "zone": ("ms-grid", 3, True),
        "mixed": ("ms-grid", 3, False),
    }
    for cube in resampled.values():
        json.dumps(cube.facts())


def test_a_coarser_band_is_upsampled_once_and_keeps_its_gsd(resampled: dict[str, PairCube]) -> None:
    cube = resampled["mixed"]
    assert [(band.name, band.gsd_m) for band in cube.ms_bands] == [("band 1", 10.0), ("band 2", 10.0), ("B8A", 20.0)]
    window = Window(y0=30, y1=60, x0=12, x1=42)
    with rasterio.open(cube.ms_image.files[1].path) as dataset:
        native = dataset.read()[:, 13:32, 4:23].astype(np.float32) * np.float32(1e-4)
    np.testing.assert_allclose(cube.read_ms(window)[2:], upsample(native, 2), atol=1e-6)


def test_a_band_of_less_ground_has_no_data_beyond_it(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=NM)
    part = texture(1, (60, 60), 2)
    files = (
        write_tiff("ms.tif", texture(1, (120, 120), 1), gsd=10.0),
        write_tiff("part.tif", part, gsd=10.0, origin=(4e5 + 300, 58e5 - 300)),
    )
    assets = tuple(Asset(key=file.stem, href=str(file)) for file in files)
    cube = open_pair(pair_of(hs, Scene(id="two", href="two", assets=assets)))
    (band,) = (number for number, band in enumerate(cube.ms_bands) if band.name == "part")
    expected = np.full((120, 120), np.nan, np.float32)
    expected[30:90, 30:90] = part[0] * np.float32(1e-4)
    for window in (Window(y0=y0, y1=y0 + 30, x0=x0, x1=x0 + 30) for y0 in (0, 15, 90) for x0 in (0, 15, 90)):
        np.testing.assert_allclose(cube.read_ms(window)[band], expected[window.slices], rtol=1e-6)


def test_bands_are_sorted_dropped_by_name_and_mapped_back(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=(650.0, 450.0, 850.0, 550.0))
    with rasterio.open(hs, "r+") as dataset:
        dataset.update_tags(3, bbl="0")
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    cube = open_pair(pair_of(hs, ms))
    assert [band.wavelength_nm for band in cube.hs_bands] == [450.0, 550.0, 650.0]
    facts = cube.facts()["hs"]
    assert [entry["file_band"] for entry in facts["band_map"]] == [2, 4, 1]
    assert facts["dropped"] == [{"band": "band 3", "reason": "flagged bad by its file"}]
    chosen = open_pair(pair_of(hs, ms), options=PairOptions(drop_bands=("band 2",), drop_ms_bands=("band 2",)))
    assert [band.name for band in chosen.hs_bands] == ["band 4", "band 1"]
    assert [band.name for band in chosen.ms_bands] == ["band 1"]
    with pytest.raises(DataError, match="no band named 'B99'"):
        open_pair(pair_of(hs, ms), options=PairOptions(drop_bands=("B99",)))


def test_an_msi_band_without_detail_is_left_out(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(2, (40, 40)), wavelengths_nm=(450.0, 550.0))
    fine = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    coarse = write_tiff("B09.tif", texture(1, (20, 20), 2), gsd=60.0)
    assets = tuple(Asset(key=path.stem, href=str(path)) for path in (fine, coarse))
    ms = Scene(id="s2", href="s2", assets=assets, is_stac=False)
    cube = open_pair(pair_of(bare_scene(hs), ms))
    assert [band.name for band in cube.ms_bands] == ["band 1", "band 2"]
    reason = "with pixels of 60 m, which add no detail to 30 m"
    assert cube.facts()["ms"]["dropped"] == [{"band": "B09", "reason": reason}]


def test_an_msi_that_says_it_is_as_coarse_as_the_hsi_is_refused(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(2, (40, 40)), wavelengths_nm=(450.0, 550.0))
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    with pytest.raises(DataError, match=r"bands' pixels are no smaller than the HSI's 30 m.*no detail to add"):
        open_pair(pair_of(bare_scene(hs), bare_scene(ms, gsd_m=30.0)))


def test_bands_of_two_files_that_alternate_in_wavelength_are_read_in_order(write_tiff: WriteTiff) -> None:
    odd, even = texture(2, (40, 40), 2), texture(2, (40, 40), 3)
    files = (
        write_tiff("odd.tif", odd, wavelengths_nm=(450.0, 650.0)),
        write_tiff("even.tif", even, wavelengths_nm=(850.0, 550.0)),
    )
    assets = tuple(Asset(key=file.stem, href=str(file)) for file in files)
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    cube = open_pair(pair_of(Scene(id="two", href="two", assets=assets), ms))
    expected = np.stack([odd[0], even[1], odd[1], even[0]]) * 1e-4
    np.testing.assert_allclose(cube.read_hs(Window(y0=0, y1=40, x0=0, x1=40)), expected, atol=1e-6)


def test_metadata_goes_before_the_file(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(2, (40, 40)), wavelengths_nm=(470.0, 670.0))
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    bands = (Band(name="blue", wavelength_nm=480.0), Band(name="red", wavelength_nm=660.0, gsd_m=60.0))
    described = bare_scene(hs, bands=bands, scale=(2e-4,), offset=(-0.1,), nodata=201.0, checksum="1220ab")
    cube = open_pair(pair_of(described, ms))
    assert [(band.name, band.wavelength_nm, band.fwhm_nm, band.gsd_m) for band in cube.hs_bands] == [
        ("blue", 480.0, 9.5, 30.0),
        ("red", 660.0, 9.5, 60.0),
    ]
    window = Window(y0=0, y1=40, x0=0, x1=40)
    with rasterio.open(hs) as dataset:
        stored = dataset.read()
    expected = np.where(stored == 201, np.nan, stored * 2e-4 - 0.1)
    np.testing.assert_allclose(cube.read_hs(window), expected, atol=1e-6)
    assert cube.inputs[0].checksum == "1220ab"
    of_another = open_pair(pair_of(bare_scene(hs, bands=bands, checksum="1220ab", size_bytes=1), ms))
    assert of_another.inputs[0].checksum_kind == "size+mtime", "the item's checksum is that of a file of another size"
    assert cube.inputs[1].checksum_kind == "size+mtime"
    with pytest.raises(DataError, match="describes 3 bands"):
        open_pair(pair_of(bare_scene(hs, bands=(*bands, Band(name="third"))), ms))


@pytest.mark.parametrize(
    ("wavelengths_nm", "message"), [(None, "2 bands without wavelength"), ((500.0,), "usable band")]
)
def test_an_hsi_needs_wavelengths_and_more_than_one_band(
    write_tiff: WriteTiff, wavelengths_nm: tuple[float, ...] | None, message: str
) -> None:
    hs = write_tiff("hs.tif", texture(len(wavelengths_nm or (1, 2)), (40, 40)), wavelengths_nm=wavelengths_nm)
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    with pytest.raises(DataError, match=message):
        open_pair(pair_of(hs, ms))


def test_an_image_whose_bands_are_all_dropped_is_refused_for_that(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=NM)
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    with pytest.raises(DataError, match=r"no usable band \(2 bands left out: dropped by option\)"):
        open_pair(pair_of(hs, ms), options=PairOptions(drop_ms_bands=("band 1", "band 2")))


def test_integers_without_a_scale_are_refused_and_the_option_gives_it(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=NM, scale=None)
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    with pytest.raises(DataError, match=r"--hs-scale 0\.0001"):
        open_pair(pair_of(hs, ms))
    cube = open_pair(pair_of(hs, ms), options=PairOptions(hs_scale=1e-3))
    assert cube.read_hs(Window(y0=0, y1=2, x0=0, x1=2)).max() <= 6.0
    assert cube.facts()["hs"]["files"][0]["scale_from"] == "option --hs-scale"
    card = bare_scene(hs, scale=(5e-4,), card_fields=("scale",))
    assert open_pair(pair_of(card, ms)).facts()["hs"]["files"][0]["scale_from"] == "the sensor card"


def test_a_card_gives_the_scale_of_files_like_its_product_only(write_tiff: WriteTiff) -> None:
    integers = write_tiff("integers.tif", texture(4, (40, 40)), wavelengths_nm=NM, scale=None)
    floats = write_tiff("floats.tif", texture(4, (40, 40)) / np.float32(1e4), wavelengths_nm=NM, scale=None)
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)

    def of_card(path: Path, scale: float) -> Scene:
        return bare_scene(path, scale=(scale,), card_fields=("scale",))

    assert open_pair(pair_of(of_card(floats, 1.0), ms)).facts()["hs"]["files"][0]["scale_from"] == "the sensor card"
    with pytest.raises(DataError, match=r"--hs-scale 1 if they are reflectance, --hs-scale 0\.0001 if not"):
        open_pair(pair_of(of_card(floats, 1e-4), ms))
    told = open_pair(pair_of(of_card(floats, 1e-4), ms), options=PairOptions(hs_scale=1.0))
    assert 0.3 < told.read_hs(whole(told)[0]).mean() < 0.4
    with pytest.raises(DataError, match="holds int16 values, and neither"):
        open_pair(pair_of(of_card(integers, 1.0), ms))


def test_an_offset_goes_with_the_scale_that_it_was_given_with(write_tiff: WriteTiff) -> None:
    path = write_tiff("hs.tif", texture(1, (8, 8)), scale=2e-4)
    with rasterio.open(path, "r+") as dataset:
        dataset.offsets = [-0.1]
    raster = open_raster(str(path))

    def decided(given_scale: float | None, **asset: Any) -> tuple[float, float]:
        (band,) = decide_radiometry(
            Asset(key="data", href=str(path), **asset), raster, given_scale=given_scale, option="--hs-scale"
        ).bands
        return band.scale, band.offset

    card: dict[str, Any] = {"scale": (5e-4,), "offset": (-0.2,), "card_fields": ("scale", "offset")}
    assert decided(None) == decided(None, **card) == (2e-4, -0.1)
    assert decided(1e-3) == decided(1e-3, **card) == (1e-3, 0.0)
    assert decided(None, scale=(1e-3,)) == (1e-3, 0.0)
    assert decided(1e-3, offset=(0.3,)) == (1e-3, 0.3)
    baseline: dict[str, Any] = {"offset": (-0.1,), "offset_of_integers": True}
    assert decided(1e-4, **baseline) == (1e-4, -0.1)
    assert decided(1.0, **baseline) == decided(None, scale=(1.0,), **baseline) == (1.0, 0.0)
    for scale in (0.0, -1e-4, float("inf"), float("nan")):
        with pytest.raises(DataError, match=rf"has scale {scale:g} \(STAC metadata\).*give --hs-scale"):
            decided(None, scale=(scale,))
        assert decided(1e-4, scale=(scale,)) == (1e-4, 0.0)
    with pytest.raises(DataError, match=r"has offset nan \(STAC metadata\)"):
        decided(1e-4, offset=(float("nan"),))


def test_no_data_is_compared_in_the_type_of_the_stored_values() -> None:
    def missing(stored: list[float], dtype: str, nodata: float) -> list[bool]:
        band = Radiometry(scale=1.0, offset=0.0, nodata=(nodata,))
        return [bool(value) for value in np.isnan(to_reflectance(np.array([[stored]], dtype), (band,)))[0, 0]]

    assert missing([0.1, 0.2], "float32", 0.1) == [True, False]
    assert missing([-3.4e38, -1.0], "float32", -3.4e38) == [True, False]
    assert missing([1, 2], "int16", 1.5) == [False, False]
    assert missing([1, 2], "int16", 2.0) == [False, True]
    assert missing([1, 2], "uint8", -9999) == [False, False]


def test_values_that_are_no_reflectance_are_refused(write_tiff: WriteTiff) -> None:
    reflectance = (texture(4, (40, 40)) / 1e4).astype(np.float32)
    undeclared, integers, noisy = reflectance.copy(), texture(4, (40, 40)).astype(np.float32), reflectance.copy()
    undeclared[:, :6] = -9999.0
    noisy[2, 0, :10] = 40.0  # of 32 x 32 pixels that are looked at
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)

    def opened(pixels: NDArray[np.float32], **options: Any) -> PairCube:
        path = write_tiff("hs.tif", pixels, wavelengths_nm=NM, scale=None)
        return open_pair(pair_of(path, ms), options=PairOptions(**options))

    for pixels in (undeclared, integers):
        with pytest.raises(DataError, match=r"has values beyond 10 in 4 of 4 bands .*--hs-scale"):
            opened(pixels)
    assert len(opened(noisy).hs_bands) == 4
    noisy[2, 0, 10] = 40.0
    without = opened(noisy)
    assert [band.name for band in without.hs_bands] == ["band 1", "band 2", "band 4"]
    assert without.facts()["hs"]["dropped"] == [{"band": "band 3", "reason": "no reflectance: values beyond 10"}]
    noisy[:2, :20] = 40.0
    with pytest.raises(DataError, match=r"3 of 4 bands \(band 1, band 2, band 3\)"):
        opened(noisy)
    assert opened(noisy, hs_scale=1.0).read_hs(Window(y0=0, y1=2, x0=0, x1=2)).max() == 40.0
    with pytest.raises(DataError, match=r"\(option --hs-scale\) has values beyond 10 in 4 of 4 .* correct --hs-scale"):
        opened(integers, hs_scale=1.0)
    floats = write_tiff("ms.tif", texture(2, (120, 120), 1).astype(np.float32), gsd=10.0, scale=None)
    with pytest.raises(DataError, match=r"give --ms-scale\.$"):
        open_pair(pair_of(write_tiff("hs.tif", reflectance, wavelengths_nm=NM, scale=None), floats))


@pytest.mark.parametrize(
    ("told", "by_card", "values", "source"),
    [
        (None, False, "-99.0", "the file"),
        (-99.0, False, "-99.0", "STAC metadata"),
        (0.0, False, "0.0, -99.0", "STAC metadata and the file"),
        (float("nan"), False, "-99.0", "STAC metadata and the file"),
        (0.0, True, "-99.0", "the file"),
    ],
)
def test_the_no_data_of_a_file_counts_beside_that_of_its_item(
    write_tiff: WriteTiff, told: float | None, values: str, source: str, *, by_card: bool
) -> None:
    pixels = texture(4, (40, 40))
    pixels[:, :5], pixels[:, 5] = -99, 0
    hs = bare_scene(write_tiff("hs.tif", pixels, wavelengths_nm=NM, nodata=-99))
    card: dict[str, Any] = {"nodata": told, "card_fields": ("nodata",) if by_card else ()}
    cube = open_pair(
        pair_of(
            replace(hs, assets=(replace(hs.assets[0], **card),)),
            write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0),
        )
    )
    missing = np.isnan(cube.read_hs(whole(cube)[0])).all(axis=(0, 2))
    assert np.flatnonzero(missing).tolist() == ([*range(6)] if values.startswith("0.0") else [*range(5)])
    assert cube.facts()["hs"]["files"][0]["nodata_from"] == source
    assert {band["nodata"] for band in cube.facts()["hs"]["band_map"]} == {values}


def test_floats_without_a_scale_are_reflectance(write_tiff: WriteTiff) -> None:
    pixels = texture(4, (40, 40)).astype(np.float32) / 7000
    pixels[1, 3, 3] = np.nan
    pixels[2, 4, 4] = np.inf
    hs = write_tiff("hs.tif", pixels, wavelengths_nm=NM, scale=None)
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    cube = open_pair(pair_of(hs, ms))
    read = cube.read_hs(Window(y0=0, y1=40, x0=0, x1=40))
    expected = np.where(np.isinf(pixels), np.nan, pixels)
    np.testing.assert_array_equal(read, expected)


def test_bands_without_data_are_dropped_and_a_scene_without_data_is_refused(write_tiff: WriteTiff) -> None:
    pixels = texture(4, (40, 40))
    pixels[2] = -99
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    hs = write_tiff("hs.tif", pixels, wavelengths_nm=NM, nodata=-99)
    cube = open_pair(pair_of(hs, ms))
    assert len(cube.hs_bands) == 3
    assert cube.facts()["hs"]["dropped"][0]["reason"] == "no data in the sampled windows"
    pixels[:] = -99
    with pytest.raises(DataError, match="holds no data"):
        open_pair(pair_of(write_tiff("empty.tif", pixels, wavelengths_nm=NM, nodata=-99), ms))


@pytest.mark.parametrize(("dtype", "per_unit"), [("float32", 1.0), ("int16", 1e4)])
def test_a_band_of_isofit_without_reflectance_is_dropped(write_tiff: WriteTiff, dtype: str, per_unit: float) -> None:
    pixels = (texture(4, (40, 40)) / 1e4 * per_unit).astype(dtype)
    pixels[1, 3, 3] = pixels[2] = -0.01 * per_unit
    pixels[:, :, :8] = -9999
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    hs = write_tiff("emit.tif", pixels, wavelengths_nm=NM, nodata=-9999, scale=1 / per_unit)
    cube = open_pair(pair_of(hs, ms))
    assert [band.name for band in cube.hs_bands] == ["band 1", "band 2", "band 4"]
    reason = "reflectance not retrieved: -0.01 in the sampled windows"
    assert cube.facts()["hs"]["dropped"] == [{"band": "band 3", "reason": reason}]
    assert np.isfinite(cube.read_hs(Window(y0=0, y1=40, x0=8, x1=40))).all()
    pixels[:] = -0.01 * per_unit
    with pytest.raises(DataError, match="holds no data"):
        open_pair(pair_of(write_tiff("none.tif", pixels, wavelengths_nm=NM, scale=1 / per_unit), ms))


def test_a_bad_pixel_at_the_corner_of_a_swath_condemns_no_band() -> None:
    pixels = np.full((3, 200, 200), 0.3, np.float32)
    pixels[:, :60, :60] = np.nan
    pixels[:, 31, 31] = 0.3, 50.0, 0.3  # the only pixel of the first window
    sampled = sample_bands(lambda window: pixels[:, *window.slices], (200, 200))
    assert sampled.measured.all()
    assert not sampled.beyond.any()
    assert not sampled.mostly_beyond.any()


def test_data_outside_the_sampled_windows_still_count(write_tiff: WriteTiff) -> None:
    pixels = np.full((2, 300, 300), -99, np.int16)
    pixels[:, 70:72, 70:72] = 500
    hs = write_tiff("hs.tif", pixels, wavelengths_nm=(500.0, 600.0), nodata=-99)
    ms = write_tiff("ms.tif", texture(1, (900, 900), 1), gsd=10.0)
    assert len(open_pair(pair_of(hs, ms)).hs_bands) == 2


def test_an_alpha_band_is_not_a_measurement(write_tiff: WriteTiff) -> None:
    from rasterio.enums import ColorInterp

    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=NM)
    ms = write_tiff("ms.tif", texture(4, (120, 120), 1), gsd=10.0)
    with rasterio.open(ms, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    assert len(open_pair(pair_of(hs, ms)).ms_bands) == 3


def test_a_band_with_a_wavelength_is_a_measurement_though_gdal_calls_it_alpha(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=NM)
    pixels = (texture(4, (120, 120), 1) // 40).astype(np.uint8)
    pixels[3, 50:60] = 0
    ms = write_tiff("ms.tif", pixels, gsd=10.0, wavelengths_nm=NM, scale=0.004)
    with rasterio.open(ms) as dataset:
        assert dataset.colorinterp[3].name == "alpha", "what GDAL makes of four bands of bytes"
    cube = open_pair(pair_of(hs, ms))
    assert len(cube.ms_bands) == 4
    assert np.isfinite(cube.read_ms(whole(cube)[1])).all(), "a dark pixel of it masks nothing"


def test_the_lazy_cubes_show_the_same_pixels_with_wavelengths_and_crs(resampled: dict[str, PairCube]) -> None:
    cube = resampled["hs-grid"]
    coarse, fine = whole(cube)
    hs, ms = cube.hs, cube.ms
    assert hs.dims == ("band", "y", "x")
    assert hs.chunks is not None
    assert hs.wavelength_nm.values.tolist() == list(NM)
    assert hs.rio.crs.to_epsg() == 32633
    assert [float(part) for part in ms.spatial_ref.attrs["GeoTransform"].split()] == [4e5, 3.75, 0, 58e5, 0, -3.75]
    np.testing.assert_array_equal(hs.values, cube.read_hs(coarse))
    part = ms.isel(band=[1], y=slice(40, 90, 3), x=7).values
    np.testing.assert_array_equal(part, cube.read_ms(fine)[[1], 40:90:3, 7])
    expected = cube.read_ms(fine)
    np.testing.assert_allclose(float(ms.sel(band="band 2").mean()), np.nanmean(expected[1]), rtol=1e-4)


@pytest.fixture
def bands_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bands each later read of an image takes from its files."""
    counts: list[int] = []
    read = Image.read

    def counted(self: Image, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        counts.append(len(bands))
        return read(self, bands, window)

    monkeypatch.setattr(Image, "read", counted)
    return counts


def test_a_lazy_cube_reads_the_bands_that_are_computed_and_no_others(nested: PairCube, bands_read: list[int]) -> None:
    coarse, _ = whole(nested)
    expected = nested.read_hs(coarse)
    bands_read.clear()
    np.testing.assert_array_equal(nested.hs.isel(band=2).values, expected[2])
    np.testing.assert_array_equal(nested.hs.sel(wavelength_nm=460, method="nearest").values, expected[0])
    np.testing.assert_array_equal(nested.hs.isel(band=slice(1, 4, 2), y=5).values, expected[1:4:2, 5])
    assert bands_read == [1, 1, 2]


def test_a_choice_of_bands_is_read_alone(nested: PairCube, bands_read: list[int]) -> None:
    coarse, _ = whole(nested)
    expected = nested.read_hs(coarse)
    hs = nested.hs
    bands_read.clear()
    np.testing.assert_array_equal(hs.isel(band=[3, 0]).values, expected[[3, 0]])
    np.testing.assert_array_equal(hs.isel(band=[-1, 1, 1], y=5).values, expected[[-1, 1, 1], 5])
    np.testing.assert_array_equal(hs[hs.wavelength_nm < 600].values, expected[:2])
    np.testing.assert_array_equal(hs.sel(wavelength_nm=[840, 460], method="nearest").values, expected[[3, 0]])
    np.testing.assert_array_equal(
        hs.sel(band=["band 3", "band 1"]).isel(x=slice(4, 9)).values, expected[[2, 0], :, 4:9]
    )
    assert bands_read == [2, 3, 2, 2, 2]


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray with a new affine
def test_a_choice_of_bands_is_read_alone_after_other_steps(nested: PairCube, bands_read: list[int]) -> None:
    coarse, _ = whole(nested)
    expected = nested.read_hs(coarse)
    hs = nested.hs
    bands_read.clear()
    part = hs.isel(y=slice(30, 2, -3), x=slice(4, 33)).copy(deep=True).isel(band=[3, 0, 2]).isel(x=slice(1, None, 2))
    np.testing.assert_array_equal(part.isel(band=[2, 0]).values, expected[[2, 3], 30:2:-3, 5:33:2])
    clipped = hs.rio.clip_box(*hs[:, 3:8, 2:9].rio.bounds())
    np.testing.assert_array_equal(clipped.isel(band=[1, 2]).values, expected[1:3, 3:8, 2:9])
    assert bands_read == [2, 2]
    np.testing.assert_array_equal(hs.isel(band=[2, 0], x=[7, 3]).values, expected[[2, 0]][:, :, [7, 3]])
    assert hs.isel(band=[]).shape == (0, *expected.shape[1:])
    with pytest.raises(IndexError):
        hs.isel(band=[4])


def test_what_is_written_into_a_lazy_cube_is_there(nested: PairCube) -> None:
    coarse, _ = whole(nested)
    expected = nested.read_hs(coarse)
    hs = nested.hs
    written = hs.copy()
    written[dict(band=1)] = 0.0  # noqa: C408 - as xarray's users write it
    np.testing.assert_array_equal(written.isel(band=[1, 2]).values, np.stack([expected[1] * 0, expected[2]]))
    np.testing.assert_array_equal(written.copy().isel(band=[1]).values, expected[[1]] * 0)
    np.testing.assert_array_equal(hs.isel(band=[1]).values, expected[[1]])


def test_a_lazy_cube_has_the_same_keys_each_time_and_goes_to_other_processes(nested: PairCube) -> None:
    hs, again = nested.hs, nested.hs
    assert (hs.data.name, hs.isel(band=[2]).data.name) == (again.data.name, again.isel(band=[2]).data.name)
    assert len({array.data.name for array in (hs, nested.ms, hs.isel(band=[2]), hs.isel(band=[1]), hs[:, 1:])}) == 5
    sent = pickle.loads(pickle.dumps(hs))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(sent.isel(band=[2]).values, hs.isel(band=[2]).values)


def test_a_lazy_cube_of_bands_on_two_grids_shows_their_pixels(
    resampled: dict[str, PairCube], bands_read: list[int]
) -> None:
    mixed = resampled["mixed"]
    _, fine = whole(mixed)
    expected = mixed.read_ms(fine)
    bands_read.clear()
    for band in range(len(expected)):
        np.testing.assert_array_equal(mixed.ms.isel(band=band).values, expected[band])
    assert set(bands_read) == {1}
    np.testing.assert_array_equal(mixed.ms.isel(band=slice(None, None, -1)).values, expected[::-1])


def test_a_pair_shows_itself_on_a_line(nested: PairCube) -> None:
    assert repr(nested) == (
        "PairCube(hs_ms: hs 4 bands of 450-850 nm, 40 x 36 px of 30 m; ms 2 bands of 500-800 nm, 120 x 108 px of 10 m)"
    )


def test_the_lazy_cubes_have_the_times_of_acquisition_in_utc(write_tiff: WriteTiff) -> None:
    hs = bare_scene(write_tiff("hs.tif", texture(4, (40, 36)), wavelengths_nm=NM))
    ms = bare_scene(write_tiff("ms.tif", texture(2, (120, 108), 1), gsd=10.0))
    when = datetime(2024, 6, 30, 12, 5, 1, 250_000, tzinfo=timezone(timedelta(hours=2)))
    cube = open_pair(pair_of(replace(hs, acquired=when), ms))
    assert cube.hs.time.dims == ()
    assert cube.hs.time.dtype == "datetime64[ns]"
    assert cube.hs.time.values == np.datetime64("2024-06-30T10:05:01.25")
    assert "time" not in cube.ms.coords
    later = open_pair(pair_of(replace(hs, acquired=when + timedelta(days=1)), ms))
    series = xr.concat([cube.hs, later.hs], dim="time")
    assert series.sel(time="2024-07-01").shape == (1, 4, 40, 36)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray with a new affine
def test_a_lazy_cube_names_its_axes_and_writes_its_no_data(nested: PairCube, tmp_path: Path) -> None:
    hs = nested.hs
    assert hs.wavelength_nm.attrs == {
        "long_name": "centre wavelength",
        "standard_name": "sensor_band_central_radiation_wavelength",
        "units": "nm",
    }
    assert hs.band.attrs["standard_name"] == "sensor_band_identifier"
    assert hs.fwhm_nm.attrs["units"] == "nm"
    assert (hs.x.attrs["units"], hs.y.attrs["standard_name"]) == ("metre", "projection_y_coordinate")
    with rasterio.open(tmp_path / "hs.tif") as dataset:
        assert (hs.x[3], hs.y[2]) == dataset.xy(2, 3), "the centre of a pixel"
    hs.isel(band=[0]).rio.to_raster(tmp_path / "one.tif")
    with rasterio.open(tmp_path / "one.tif") as written:
        assert np.isnan(written.nodata)
    bounds = hs.rio.reproject("EPSG:4326").rio.bounds()
    assert 0 < bounds[2] - bounds[0] < 1


def test_registration_is_compensated_in_the_one_resampling(write_tiff: WriteTiff) -> None:
    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=NM)
    pixels = texture(1, (160, 160), 1)
    straight = write_tiff("ms.tif", pixels, gsd=10.0, origin=(4e5 - 200, 58e5 + 200))
    moved = write_tiff("moved.tif", np.roll(pixels, (2, -1), axis=(1, 2)), gsd=10.0, origin=(4e5 - 200, 58e5 + 200))
    first, second = open_pair(pair_of(hs, straight)), open_pair(pair_of(hs, moved)).registered((2.0, -1.0))
    assert second.grid.shift_px == (2.0, -1.0)
    again = open_pair(pair_of(hs, moved)).registered((0.5, -2.0)).registered((1.5, 1.0))
    assert again.plan == second.plan, "a shift comes on top of the one that is known"
    assert not second.grid.hs_resampled
    window = Window(y0=0, y1=90, x0=0, x1=90)
    np.testing.assert_array_equal(first.read_ms(window), second.read_ms(window))
    np.testing.assert_array_equal(first.read_hs(window.coarsen(3)), second.read_hs(window.coarsen(3)))


HOLE = (slice(None), slice(8, 14), slice(20, 31))
"""Fine pixels that a mask leaves out; their stored value is 0."""


def holed(pixels: NDArray[np.int16], hole: tuple[slice, ...]) -> NDArray[np.uint8]:
    """The mask of pixels whose hole is set to 0."""
    pixels[hole] = 0
    mask = np.full(pixels.shape[1:], 255, np.uint8)
    mask[hole[1:]] = 0
    return mask


@pytest.fixture(params=["beside", "alpha", "alpha and nodata"])
def masked_ms(write_tiff: WriteTiff, request: pytest.FixtureRequest) -> Path:
    """An MSI of four bands with HOLE masked, and one wrongly 0 that is data."""
    pixels = texture(4, (120, 120), 1)
    mask = holed(pixels, HOLE)
    pixels[:, 50, 50] = 0
    profile = {"gsd": 10.0, "nodata": -9999 if "nodata" in request.param else None}
    if request.param != "beside":
        pixels = np.concatenate([pixels, mask[np.newaxis].astype(np.int16)])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):  # type: ignore[no-untyped-call]
        path = write_tiff("ms.tif", pixels, tiled=True, blockxsize=16, blockysize=16, **profile)
        with rasterio.open(path, "r+") as dataset:
            if request.param == "beside":
                dataset.write_mask(mask)
            else:
                dataset.colorinterp = [*[ColorInterp.undefined] * 4, ColorInterp.alpha]
    assert {file.name for file in path.parent.iterdir()} == {"ms.tif"}
    return path


def test_pixels_that_a_files_own_mask_leaves_out_are_no_data(write_tiff: WriteTiff, masked_ms: Path) -> None:
    hs = write_tiff("hs.tif", texture(4, (40, 40)), wavelengths_nm=NM)
    cube = open_pair(pair_of(hs, masked_ms))
    assert len(cube.ms_bands) == 4
    expected = np.zeros((4, 120, 120), np.bool_)
    expected[HOLE] = True
    _, fine = whole(cube)
    np.testing.assert_array_equal(np.isnan(cube.read_ms(fine)), expected)
    part = Window(y0=6, y1=18, x0=15, x1=33)
    copy = pickle.loads(pickle.dumps(cube))  # noqa: S301
    with ThreadPoolExecutor(4) as pool:
        for read in pool.map(copy.read_ms, [part] * 16):
            np.testing.assert_array_equal(np.isnan(read), expected[(slice(None), *part.slices)])
    assert cube.facts()["ms"]["files"][0]["nodata_from"].endswith("; the file's mask")
    assert "mask" not in cube.facts()["hs"]["files"][0]["nodata_from"]


def test_a_mask_is_resampled_as_a_no_data_value_is(write_tiff: WriteTiff) -> None:
    pixels = texture(4, (40, 40))
    mask = holed(pixels, (slice(None), slice(10, 16), slice(10, 16)))
    ms = write_tiff("ms.tif", texture(2, (120, 120), 1), gsd=10.0)
    place = {"wavelengths_nm": NM, "origin": (4e5 + 4, 58e5 - 3)}
    valued = open_pair(pair_of(write_tiff("valued.tif", pixels, nodata=0, **place), ms))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):  # type: ignore[no-untyped-call]
        path = write_tiff("masked.tif", pixels, **place)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask)
    masked = open_pair(pair_of(path, ms))
    assert masked.grid.hs_resampled
    coarse, _ = whole(masked)
    assert np.isnan(masked.read_hs(coarse)).any()
    np.testing.assert_array_equal(masked.read_hs(coarse), valued.read_hs(coarse))


def test_a_file_without_a_mask_is_read_without_one(nested: PairCube) -> None:
    assert [file.mask for file in (*nested.hs_image.files, *nested.ms_image.files)] == [None, None]
