from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from scenefuse.cube.image import Choice, open_image
from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.raster.readers import open_raster
from tests.raster.making import bare_scene, texture
from tests.raster.native_products import EMIT_STEP_DEG, SWATH, write_emit, write_prisma

PART = Window(y0=3, y1=12, x0=5, x1=9)
WHOLE = Window(y0=0, y1=20, x0=0, x1=30)


def prisma_numbers(shape: tuple[int, int] = (20, 30)) -> dict[str, NDArray[np.uint16]]:
    return {
        "Vnir": 9 * texture(6, shape).astype(np.uint16) + 1,
        "Swir": 9 * texture(5, shape, 1).astype(np.uint16) + 1,
    }


def test_prisma_is_read_as_its_specification_says(tmp_path: Path) -> None:
    dn = prisma_numbers()
    raster = open_raster(str(write_prisma(tmp_path / "PRS_L2D_STD_1.he5", dn)))
    assert [band.name for band in raster.bands] == [
        *(f"vnir {i}" for i in range(1, 6)),
        *(f"swir {i}" for i in range(1, 5)),
    ]
    # Of falling wavelength in the file, of rising here; the band without data is left out.
    assert [band.wavelength_nm for band in raster.bands[:2]] == [523.6, 645.2]
    assert raster.bands[5].wavelength_nm == pytest.approx(920)
    np.testing.assert_array_equal(
        raster.pixels.read([8, 0, 5], PART),
        [dn[name][i][3:12, 5:9] for name, i in (("Swir", 1), ("Vnir", 4), ("Swir", 4))],
    )
    assert raster.grid.transform == pytest.approx((30.0, 0.0, 6e5, 0.0, -30.0, 5e6))
    assert "32632" in raster.grid.crs_wkt


def test_reflectance_of_prisma_is_by_detector_and_zero_counts_inside_the_swath(tmp_path: Path) -> None:
    dn = prisma_numbers()
    for cube in dn.values():
        cube[:, :, :4] = 0  # beside the swath
    dn["Swir"][2, 7, 11] = 0  # in it, in the water vapour
    path = write_prisma(tmp_path / "a.he5", dn)
    image = open_image(bare_scene(path), "hsi", Choice())
    reflectance = image.read(range(len(image.bands)), WHOLE)
    assert np.isnan(reflectance[:, :, :4]).all()
    assert np.isfinite(reflectance[:, :, 4:]).all()
    by_name = {band.name: plane for band, plane in zip(image.bands, reflectance, strict=True)}
    assert by_name["swir 3"][7, 11] == np.float32(-0.05)
    assert by_name["swir 3"][7, 12] == pytest.approx(-0.05 + dn["Swir"][2, 7, 12] * 0.95 / 65535, abs=1e-6)
    assert by_name["vnir 1"][7, 12] == pytest.approx(dn["Vnir"][4, 7, 12] * 1.2 / 65535, abs=1e-6)


@pytest.mark.parametrize("at", ["centres", "edges"])
def test_prisma_lies_where_its_latitudes_and_longitudes_say(tmp_path: Path, at: str) -> None:
    raster = open_raster(str(write_prisma(tmp_path / "a.he5", prisma_numbers(), at=at)))
    assert raster.grid.transform == pytest.approx((30.0, 0.0, 6e5, 0.0, -30.0, 5e6))


def test_a_prisma_file_that_contradicts_itself_on_its_place_is_refused(tmp_path: Path) -> None:
    path = write_prisma(tmp_path / "a.he5", prisma_numbers())
    with h5py.File(path, "r+") as file:
        latitude = file[f"{SWATH}/Geolocation Fields/Latitude"]
        latitude[...] = latitude[...][::-1]
    with pytest.raises(DataError, match=r"lie 19\.\d pixels from its Latitude"):
        open_raster(str(path))


def test_another_level_of_prisma_is_refused_with_the_level_that_is_needed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "PRS_L1.he5", "w") as file:
        file["HDFEOS/SWATHS/PRS_L1_HCO/Data Fields/VNIR_Cube"] = np.zeros((2, 2, 2), np.uint16)
    with pytest.raises(DataError, match="process the scene as L2D"):
        open_raster(str(tmp_path / "PRS_L1.he5"))


def emit_lookup(shape: tuple[int, int], image: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A swath turned by 30 degrees on the map; gaps are 0, filled ones negative."""
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array(shape)[:, None, None] / 2
    lines = np.rint(0.87 * y + 0.5 * x + image[0] / 2).astype(np.int32)
    samples = np.rint(-0.5 * y + 0.87 * x + image[1] / 2).astype(np.int32)
    outside = (lines < 1) | (lines > image[0]) | (samples < 1) | (samples > image[1])
    lines[outside] = samples[outside] = 0
    filled = (np.arange(lines.size).reshape(shape) % 7 == 0) & ~outside
    lines[filled] *= -1
    samples[filled] *= -1
    return lines, samples


def test_emit_is_read_through_its_lookup_table(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((90, 70, 8), np.float32)
    image[40, 30] = -9999.0
    lines, samples = emit_lookup((110, 120), (90, 70))
    raster = open_raster(str(write_emit(tmp_path / "EMIT_L2A_RFL_1.nc", image, lines, samples)))
    window = Window(y0=5, y1=104, x0=9, x1=117)
    found = raster.pixels.read([6, 1], window)
    for y in range(5, 104):
        for x in range(9, 117):
            line, sample = abs(lines[y, x]), abs(samples[y, x])
            expected = image[line - 1, sample - 1, [6, 1]] if line else (-9999.0, -9999.0)
            assert tuple(found[:, y - 5, x - 9]) == tuple(expected), (y, x)
    assert raster.grid.transform == (EMIT_STEP_DEG, 0.0, 8.0, 0.0, -EMIT_STEP_DEG, 47.0)
    assert "4326" in raster.grid.crs_wkt
    assert [band.bad for band in raster.bands] == [False] * 4 + [True] + [False] * 3
    assert {band.nodata for band in raster.bands} == {-9999.0}


def test_a_wide_strip_of_emit_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((300, 200, 2), np.float32)
    lines, samples = emit_lookup((400, 400), (300, 200))
    raster = open_raster(str(write_emit(tmp_path / "a.nc", image, lines, samples)))
    strip = Window(y0=190, y1=200, x0=0, x1=400)
    read = h5py.Dataset.__getitem__
    boxes: list[int] = []

    def counted(dataset: h5py.Dataset, where: object) -> object:
        part = read(dataset, where)
        if dataset.name == "/reflectance":
            boxes.append(part.shape[0] * part.shape[1])
        return part

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    found = raster.pixels.read([0], strip)[0]
    there = lines[strip.slices] != 0
    assert sum(boxes) < 5 * there.sum()  # in one box it would be 12 times as many
    assert max(boxes) < 2000
    assert (found[there] >= 0).all()
    assert (found[~there] == -9999).all()


def test_a_lookup_table_that_leads_outside_the_image_is_refused(tmp_path: Path) -> None:
    lines, samples = emit_lookup((50, 50), (60, 60))
    path = write_emit(tmp_path / "a.nc", np.zeros((40, 60, 3), np.float32), lines, samples)
    with pytest.raises(DataError, match="lookup table leads to line"):
        open_raster(str(path)).pixels.read([0], Window(y0=0, y1=50, x0=0, x1=50))


@pytest.mark.parametrize("kind", ["external", "soft", "virtual", "stored elsewhere"])
def test_hdf5_that_leads_out_of_the_file_is_not_followed(tmp_path: Path, kind: str) -> None:
    lines, samples = emit_lookup((20, 20), (30, 30))
    image = np.zeros((30, 30, 3), np.float32)
    path = write_emit(tmp_path / "a.nc", image, lines, samples)
    write_emit(tmp_path / "secret.nc", image, lines, samples)
    with h5py.File(path, "r+") as file:
        del file["reflectance"]
        if kind == "external":
            file["reflectance"] = h5py.ExternalLink("secret.nc", "/reflectance")
        elif kind == "soft":
            file["reflectance"] = h5py.SoftLink("/location/glt_x")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape=image.shape, dtype=np.float32)
            layout[...] = h5py.VirtualSource("secret.nc", "reflectance", shape=image.shape)
            file.create_virtual_dataset("reflectance", layout)
        else:
            file.create_dataset("reflectance", image.shape, np.float32, external=[("/etc/passwd", 0, image.nbytes)])
    with pytest.raises(DataError, match="not an array of its own but a link"):
        open_raster(str(path))


def test_a_group_in_another_file_is_not_opened_to_tell_the_product(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.he5", "w") as file:
        file["HDFEOS"] = h5py.ExternalLink("nowhere.he5", "/HDFEOS")  # followed, it would seem to be no group at all
    with pytest.raises(DataError, match="not an array of its own but a link"):
        open_raster(str(tmp_path / "a.he5"))


def test_a_truncated_or_foreign_hdf5_is_refused(tmp_path: Path) -> None:
    path = write_prisma(tmp_path / "a.he5", prisma_numbers())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cannot be opened as HDF5"):
        open_raster(str(path))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["reflectance"] = np.zeros((3, 4, 5))
    with pytest.raises(DataError, match="neither EMIT's L2A reflectance nor PRISMA's L2D"):
        open_raster(str(tmp_path / "b.h5"))


def test_a_place_or_a_table_of_another_kind_is_an_error_of_the_file(tmp_path: Path) -> None:
    lines, samples = emit_lookup((20, 20), (30, 30))
    path = write_emit(tmp_path / "a.nc", np.zeros((30, 30, 3), np.float32), lines, samples)
    with h5py.File(path, "r+") as file:
        file.attrs["spatial_ref"] = np.array([1, 2])
    with pytest.raises(DataError, match="cannot be placed on the ground"):
        open_raster(str(path))
    with h5py.File(path, "r+") as file:
        del file["sensor_band_parameters/fwhm"]
        file["sensor_band_parameters/fwhm"] = 8.5
    with pytest.raises(DataError, match=r"fwhm cannot be read \(Illegal slicing"):
        open_raster(str(path))


def test_a_pickled_reader_opens_the_file_anew(tmp_path: Path) -> None:
    dn = prisma_numbers()
    raster = open_raster(str(write_prisma(tmp_path / "a.he5", dn)))
    copy = pickle.loads(pickle.dumps(raster))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(copy.pixels.read([0], PART), raster.pixels.read([0], PART))


def test_jpeg_2000_is_read_as_rasterio_reads_it(tmp_path: Path) -> None:
    pixels = texture(1, (300, 200)).astype(np.uint16)
    path = tmp_path / "T32TQM_B02_10m.jp2"
    profile = {"driver": "JP2OpenJPEG", "count": 1, "height": 300, "width": 200, "dtype": "uint16", "crs": "EPSG:32632"}
    with rasterio.open(
        path, "w", **profile, transform=Affine(10, 0, 6e5, 0, -10, 5e6), QUALITY="100", REVERSIBLE="YES"
    ) as file:
        file.write(pixels)
    raster = open_raster(str(path))
    np.testing.assert_array_equal(raster.pixels.read([0], PART), pixels[:, 3:12, 5:9])
    assert raster.grid.transform == (10.0, 0.0, 6e5, 0.0, -10.0, 5e6)
    assert (raster.dtype, raster.bands[0].scale) == ("uint16", None)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(DataError, match="its last pixel cannot be decoded"):
        open_raster(str(path))
