from __future__ import annotations

import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the accessor .rio
import xarray as xr
import zarr
from affine import Affine
from numpy.typing import NDArray

from scenefuse.cube.image import Choice, open_image
from scenefuse.errors import DataError
from scenefuse.grid.transform import Transform
from scenefuse.grid.window import Window
from scenefuse.raster.readers import open_raster
from tests.raster.making import WriteTiff, bare_scene, texture

PART = Window(y0=3, y1=12, x0=5, x1=9)


def write_envi(folder: Path, pixels: NDArray[np.int16], *, compressed: bool = False, extra: str = "") -> Path:
    path = folder / "a.bsq"
    data = pixels.astype("<i2").tobytes()
    path.write_bytes(gzip.compress(data) if compressed else data)
    bands, lines, samples = pixels.shape
    centres = ", ".join(str(0.4 + 0.1 * i) for i in range(bands))
    path.with_suffix(".hdr").write_text(
        f"ENVI\ndescription = {{test}}\nsamples = {samples}\nlines = {lines}\nbands = {bands}\nheader offset = 0\n"
        f"file type = ENVI Standard\ndata type = 2\ninterleave = bsq\nbyte order = 0\n"
        f"file compression = {int(compressed)}\nwavelength units = Micrometers\nwavelength = {{\n {centres}}}\n"
        f"map info = {{UTM, 1, 1, 400000, 5800000, 30, 30, 33, North, WGS-84, units=Meters}}\n{extra}\n"
    )
    return path


@pytest.mark.parametrize(("named", "linked"), [("a.hdr", "a.bsq"), ("a.bsq", "a.hdr")])
def test_neither_data_nor_header_may_be_links_out_of_a_catalogue(tmp_path: Path, named: str, linked: str) -> None:
    catalogue, outside = tmp_path / "catalogue", tmp_path / "outside"
    for folder in (catalogue, outside):
        folder.mkdir()
        write_envi(folder, texture(3, (20, 30)), extra="reflectance scale factor = 10000")
    scene = replace(bare_scene(catalogue / named), href=str(catalogue / "item.json"), is_stac=True)
    assert len(open_image(scene, "hsi", Choice()).bands) == 3
    (catalogue / linked).unlink()
    (catalogue / linked).symlink_to(outside / linked)
    with pytest.raises(DataError, match="lies outside the catalogue's folder"):
        open_image(scene, "hsi", Choice())
    assert len(open_image(replace(scene, is_stac=False), "hsi", Choice()).bands) == 3  # the operator's own


@pytest.mark.parametrize("compressed", [False, True])
def test_envi_files_are_read_as_rasterio_reads_them(tmp_path: Path, *, compressed: bool) -> None:
    pixels = texture(3, (20, 30))
    path = write_envi(
        tmp_path, pixels, compressed=compressed, extra="reflectance scale factor = 10000\nbbl = {1, 0, 1}"
    )
    raster = open_raster(str(path))
    assert raster.format == "ENVI"
    np.testing.assert_array_equal(raster.pixels.read([2, 0], PART), pixels[[2, 0], 3:12, 5:9])
    assert [band.wavelength_nm for band in raster.bands] == pytest.approx([400, 500, 600])
    assert [band.bad for band in raster.bands] == [False, True, False]
    assert [band.scale for band in raster.bands] == [1e-4] * 3
    assert raster.scale_source == "the header's reflectance scale factor 10000"
    assert open_raster(str(path.with_suffix(".hdr"))).path == path
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bsq", "a.hdr"]


@pytest.mark.parametrize(("degrees", "south_up"), [(0, False), (15, False), (-70, False), (180, True)])
def test_the_tie_point_of_a_turned_envi_image_stays_where_it_is(
    tmp_path: Path, degrees: float, *, south_up: bool
) -> None:
    """A part cut from a turned scene keeps the scene's corner as its tie point, which then lies outside it."""
    path = write_envi(tmp_path, texture(3, (20, 30)), extra="reflectance scale factor = 10000")
    header = path.with_suffix(".hdr")
    whole = header.read_text().replace("units=Meters", f"units=Meters, rotation={degrees}")
    header.write_text(whole)
    scene = Affine(*open_raster(str(path)).grid.transform)
    assert (scene.e > 0) == south_up
    header.write_text(whole.replace("{UTM, 1, 1,", "{UTM, -499, -199,"))
    part = open_raster(str(path)).grid
    np.testing.assert_allclose(part.transform, tuple(scene @ Affine.translation(500, 200))[:6], atol=1e-6)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_envi_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path, *, compressed: bool) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)), compressed=compressed)
    header = path.with_suffix(".hdr")
    text = header.read_text()
    header.write_text(text.replace("lines = 20", "lines = 21"))
    with pytest.raises(DataError, match="holds 3600 bytes where its header promises"):
        open_raster(str(path))
    header.write_text(text)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="read as zeros"):
        open_raster(str(path))


@pytest.mark.parametrize(
    "end", [b"", b"\x08", b"\x08" + bytes(7) + b"\xff" * 50], ids=["2 bytes", "3 bytes", "no deflate"]
)
def test_a_compressed_envi_file_of_which_nothing_can_be_unpacked_is_refused(tmp_path: Path, end: bytes) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)), compressed=True)
    path.write_bytes(b"\x1f\x8b" + end)
    with pytest.raises(DataError, match="holds 0 bytes where its header promises"):
        open_raster(str(path))


def test_a_header_leads_to_its_own_data_where_another_image_has_the_same_stem(tmp_path: Path) -> None:
    own, other = texture(3, (20, 30)), texture(3, (20, 30), 1)
    path = write_envi(tmp_path, other)
    path.with_suffix(".hdr").rename(tmp_path / "a.bsq.hdr")
    (tmp_path / "b").mkdir()
    image = write_envi(tmp_path / "b", own)
    image.rename(tmp_path / "a.img")
    image.with_suffix(".hdr").rename(tmp_path / "a.hdr")
    for header, pixels in (("a.hdr", own), ("a.bsq.hdr", other)):
        raster = open_raster(str(tmp_path / header))
        np.testing.assert_array_equal(raster.pixels.read([1], PART), pixels[[1], 3:12, 5:9])


@pytest.mark.parametrize(("data", "header"), [("A.BSQ", "A.HDR"), ("a.bsq", "a.bsq.HDR"), ("A.IMG", "A.hdr")])
def test_envi_files_with_names_in_capitals_are_read(tmp_path: Path, data: str, header: str) -> None:
    pixels = texture(3, (20, 30))
    path = write_envi(tmp_path, pixels)
    path.with_suffix(".hdr").rename(tmp_path / header)
    path = path.rename(tmp_path / data)
    for place in (path, tmp_path / header):
        raster = open_raster(str(place))
        np.testing.assert_array_equal(raster.pixels.read([1], PART), pixels[[1], 3:12, 5:9])


def test_envi_wavelengths_without_a_unit_are_not_guessed(tmp_path: Path) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)))
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("Micrometers", "Unknown"))
    raster = open_raster(str(path))
    assert raster.bands[0].wavelength_nm is None
    assert raster.wavelength_note == "the header's wavelength units are 'Unknown'"


def test_what_precedes_the_pixels_of_an_envi_file_is_not_counted_as_pixels(tmp_path: Path) -> None:
    pixels = texture(3, (20, 30))
    path = write_envi(tmp_path, pixels)
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("header offset = 0", "header offset = 100"))
    with pytest.raises(DataError, match="holds 3600 bytes where its header promises"):
        open_raster(str(path))
    path.write_bytes(bytes(100) + path.read_bytes())
    np.testing.assert_array_equal(open_raster(str(path)).pixels.read([1], PART), pixels[[1], 3:12, 5:9])


def test_comments_in_an_envi_list_are_no_values(tmp_path: Path) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)), extra="bbl = {1,\n; the second is dead, as we know\n0, 1}")
    assert [band.bad for band in open_raster(str(path)).bands] == [False, True, False]


def test_gains_and_offsets_of_an_envi_header_go_together_and_first(tmp_path: Path) -> None:
    extra = "reflectance scale factor = 10000\ndata gain values = {1e-3, 2e-3}\ndata offset values = {0.5, -0.5}"
    raster = open_raster(str(write_envi(tmp_path, texture(2, (20, 30)), extra=extra)))
    assert [(band.scale, band.offset) for band in raster.bands] == [(1e-3, 0.5), (2e-3, -0.5)]
    assert raster.scale_source == "the header's data gain values"


def test_gains_of_reflectance_go_before_those_of_radiance(tmp_path: Path) -> None:
    extra = "data gain values = {0.1, 0.2}\ndata offset values = {-5, -6}\ndata reflectance gain values = {1e-4, 2e-4}"
    raster = open_raster(str(write_envi(tmp_path, texture(2, (20, 30)), extra=extra)))
    assert [(band.scale, band.offset) for band in raster.bands] == [(1e-4, 0.0), (2e-4, 0.0)]
    assert raster.scale_source == "the header's data reflectance gain values"


def test_bad_bands_are_known_by_the_key_that_exports_of_emit_have(tmp_path: Path) -> None:
    raster = open_raster(str(write_envi(tmp_path, texture(3, (20, 30)), extra="good_wavelengths = {1 , 0 , 1}")))
    assert [band.bad for band in raster.bands] == [False, True, False]


def test_envi_lists_of_the_wrong_length_are_refused(tmp_path: Path) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)), extra="bbl = {1, 0}")
    with pytest.raises(DataError, match="'bbl' has 2 values for 3 bands"):
        open_raster(str(path))


def test_an_envi_band_without_a_wavelength_or_a_name_is_a_band_that_has_none(tmp_path: Path) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)), extra="bbl = {1, 0, 1}\nband names = {red, , nir}")
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace(", 0.5, ", ", 0, ") + "fwhm = {0.01, 0, 0.02}\n")
    raster = open_raster(str(path))
    assert [band.name for band in raster.bands] == ["red", "band 2", "nir"]
    assert [band.wavelength_nm for band in raster.bands] == [400, None, pytest.approx(600)]
    assert [band.fwhm_nm for band in raster.bands] == [10, None, 20]
    image = open_image(bare_scene(path), "hsi", Choice(scale=1e-4))
    assert [band.name for band in image.bands] == ["red", "nir"]
    assert image.dropped == (("band 2", "flagged bad by its file"),)


@pytest.mark.parametrize(
    "extra", ["reflectance scale factor = 0", "reflectance scale factor = -1", "z plot titles = {reflectance [* 0]}"]
)
def test_an_envi_scale_factor_that_is_not_above_zero_is_refused(tmp_path: Path, extra: str) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)), extra=extra)
    with pytest.raises(DataError, match="stored values per unit reflectance"):
        open_raster(str(path))


def test_a_description_that_is_a_wavelength_only_is_no_name(write_tiff: WriteTiff) -> None:
    path = write_tiff("a.tif", texture(2, (8, 8)))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ["(450.0 nm)", "red (650 nm)"]
    assert [band.name for band in open_raster(str(path)).bands] == ["band 1", "red"]


@pytest.mark.parametrize("empty", ["sensor type =", "sensor type = ", "sensor type ={}"])
def test_an_envi_key_without_a_value_does_not_take_the_next_one(tmp_path: Path, empty: str) -> None:
    raster = open_raster(str(write_envi(tmp_path, texture(3, (20, 30)), extra=f"{empty}\nbbl =\n{{1, 0,\n 1}}")))
    assert [band.bad for band in raster.bands] == [False, True, False]


def test_a_damaged_size_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = write_envi(tmp_path, texture(3, (20, 30)))
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("samples = 30", "samples = 2000000000"))
    with pytest.raises(DataError, match="damaged header"):
        open_raster(str(path))


@pytest.mark.parametrize("profile", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}])
def test_a_truncated_tiff_is_refused(write_tiff: WriteTiff, profile: dict[str, object]) -> None:
    path = write_tiff("a.tif", texture(3, (64, 64)), **profile)
    open_raster(str(path))
    # GDAL writes the directory last; a cog-like copy with the directory first is what a broken download truncates.
    copy = path.with_name("copy.tif")
    with rasterio.open(path) as source, rasterio.open(copy, "w", **(source.profile | {"interleave": "band"})) as target:
        target.write(source.read())
    path.write_bytes(copy.read_bytes()[:-3000])
    with pytest.raises(
        DataError, match=r"ends at byte \d+, the last block of band \d at byte \d+: .* read as zeros"
    ) as cut:
        open_raster(str(path))
    is_at, should_be_at = (int(number) for number in re.findall(r"at byte (\d+)", str(cut.value)))
    assert is_at < should_be_at


def test_a_tiff_whose_mask_is_truncated_is_refused(write_tiff: WriteTiff) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):  # type: ignore[no-untyped-call]
        path = write_tiff("a.tif", texture(2, (64, 64)), tiled=True, blockxsize=32, blockysize=32)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask((texture(1, (64, 64), 1)[0] > 3000).astype(np.uint8) * 255)
    open_raster(str(path))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="last block of its mask"):
        open_raster(str(path))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_stores_of_rioxarray_are_read(tmp_path: Path, version: int) -> None:
    pixels = texture(3, (20, 30)).astype(np.int16)
    array = xr.DataArray(
        pixels, dims=("band", "y", "x"), name="reflectance",
        coords={
            "wavelength": ("band", [0.45, 0.0, 0.65], {"units": "um"}),
            "y": 58e5 - 15 - 30.0 * np.arange(20), "x": 4e5 + 15 + 30.0 * np.arange(30),
        },
        attrs={"scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": -99},
    ).rio.write_crs("EPSG:32633")  # fmt: skip
    array.to_dataset().to_zarr(tmp_path / "a", zarr_format=version, consolidated=False)
    raster = open_raster(str(tmp_path / "a"))
    assert raster.format == "Zarr"
    assert raster.grid.transform == (30.0, 0.0, 4e5, 0.0, -30.0, 58e5)
    assert "32633" in raster.grid.crs_wkt
    assert [band.wavelength_nm for band in raster.bands] == [pytest.approx(450), None, pytest.approx(650)]
    assert (raster.bands[0].scale, raster.bands[0].offset, raster.bands[0].nodata) == (1e-4, -0.1, -99.0)
    np.testing.assert_array_equal(raster.pixels.read([2, 0], PART), pixels[[2, 0], 3:12, 5:9])


def placed(dtype: str = "float64") -> xr.Dataset:
    """A dataset of 20 x 30 pixels as rioxarray places it: coordinates and GeoTransform."""
    west, north, step = 390_000.1, 5_800_020.7, 30.0
    transform = Affine(step, 0, west, 0, -step, north)
    array = xr.DataArray(
        texture(2, (20, 30)), dims=("band", "y", "x"), name="reflectance",
        coords={
            "y": np.linspace(north - step / 2, north - 19.5 * step, 20).astype(dtype),
            "x": np.linspace(west + step / 2, west + 29.5 * step, 30).astype(dtype),
        },
    )  # fmt: skip
    dataset: xr.Dataset = array.rio.write_crs("EPSG:32633").rio.write_transform(transform).to_dataset()
    return dataset


def transform_of(dataset: xr.Dataset, path: Path) -> Transform:
    dataset.to_zarr(path, consolidated=False)
    return open_raster(str(path)).grid.transform


def test_a_zarr_written_with_an_encoding_keeps_its_place(tmp_path: Path) -> None:
    dataset = placed()
    dataset.to_zarr(tmp_path / "a", consolidated=False, encoding={"reflectance": {"chunks": (2, 10, 10)}})
    assert "grid_mapping" not in xr.open_zarr(tmp_path / "a", consolidated=False)["reflectance"].attrs
    grid = open_raster(str(tmp_path / "a")).grid
    assert "32633" in grid.crs_wkt
    assert grid.transform == (30.0, 0.0, 390_000.1, 0.0, -30.0, 5_800_020.7)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_cropped_zarr_lies_where_it_was_cropped(tmp_path: Path, dtype: str) -> None:
    whole = placed(dtype)
    assert transform_of(whole, tmp_path / "whole") == (30.0, 0.0, 390_000.1, 0.0, -30.0, 5_800_020.7)
    crop = transform_of(whole.isel(y=slice(4, None), x=slice(7, 20)), tmp_path / "crop")
    assert crop == (30.0, 0.0, 390_000.1 + 7 * 30, 0.0, -30.0, 5_800_020.7 - 4 * 30)
    line = transform_of(whole.isel(y=[11]), tmp_path / "line")
    assert line == (30.0, 0.0, 390_000.1, 0.0, -30.0, 5_800_020.7 - 11 * 30)


def test_a_thinned_or_flipped_zarr_lies_where_its_coordinates_are(tmp_path: Path) -> None:
    thin = transform_of(placed().isel(y=slice(1, None, 2), x=slice(0, None, 3)), tmp_path / "thin")
    assert thin == pytest.approx((90.0, 0.0, 390_000.1 - 30, 0.0, -60.0, 5_800_020.7 - 15), abs=1e-6)
    flipped = transform_of(placed().isel(y=slice(None, None, -1)), tmp_path / "flipped")
    assert flipped == pytest.approx((30.0, 0.0, 390_000.1, 0.0, 30.0, 5_800_020.7 - 600), abs=1e-6)


def test_a_thinned_zarr_of_pixels_of_one_metre_is_not_taken_for_numbered(tmp_path: Path) -> None:
    half = xr.DataArray(
        texture(2, (20, 30)), dims=("band", "y", "x"), name="reflectance",
        coords={"y": 58e5 - 0.25 - 0.5 * np.arange(20), "x": 4e5 + 0.25 + 0.5 * np.arange(30)},
    )  # fmt: skip
    transform = Affine(0.5, 0, 4e5, 0, -0.5, 58e5)
    dataset = half.rio.write_crs("EPSG:32633").rio.write_transform(transform).to_dataset()
    thin = transform_of(dataset.isel(y=slice(None, None, 2), x=slice(None, None, 2)), tmp_path / "thin")
    assert thin == pytest.approx((1.0, 0.0, 4e5 - 0.25, 0.0, -1.0, 58e5 + 0.25))


def test_a_zarr_whose_coordinates_do_not_place_it_lies_where_its_geotransform_says(tmp_path: Path) -> None:
    expected = (30.0, 0.0, 390_000.1, 0.0, -30.0, 5_800_020.7)
    assert transform_of(placed().drop_vars(("x", "y")), tmp_path / "without") == expected
    assert transform_of(placed().assign_coords(x=np.arange(30), y=np.arange(20)), tmp_path / "numbers") == expected
    assert transform_of(placed().assign_coords(x=np.arange(30) ** 2.0), tmp_path / "uneven") == expected
    assert transform_of(placed().assign_coords(y=np.full(20, np.nan)), tmp_path / "nan") == expected
    rotated = placed().rio.write_transform(Affine(24, 18, 39e4, 18, -24, 58e5))
    assert transform_of(rotated, tmp_path / "rotated") == (24.0, 18.0, 39e4, 18.0, -24.0, 58e5)


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_zarr_that_would_be_unpickled_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)  # as before numcodecs 0.16.6
    dataset = placed()
    dataset.to_zarr(tmp_path / "a", zarr_format=2, consolidated=False)
    pickled, texts = {"id": "pickle", "protocol": 4}, {"id": "vlen-utf8"}
    codecs: dict[str, object] = {"filters": [texts, pickled], "compressor": None}
    if place == "compressor":
        codecs = {"filters": [texts], "compressor": pickled}
    band = tmp_path / "a" / "band"
    band.mkdir()
    kind = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "|O", "fill_value": "", "order": "C"}
    (band / ".zarray").write_text(json.dumps(kind | codecs))
    (band / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["band"]}')
    (band / "0").write_bytes(b"cos\nmkdir\n(V" + str(tmp_path / "ran").encode() + b"\ntR.")
    with pytest.raises(DataError, match="'band' is pickled"):
        open_raster(str(tmp_path / "a"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("version", "codec"), [(2, "blosc"), (3, "blosc"), (3, "zstd"), (3, "gzip")])
def test_a_zarr_with_a_chunk_cut_short_is_refused(tmp_path: Path, version: int, codec: str) -> None:
    compressor: object = zarr.codecs.GzipCodec() if codec == "gzip" else zarr.codecs.ZstdCodec()
    if codec == "blosc":
        compressor = zarr.codecs.BloscCodec() if version == 3 else numcodecs.registry.get_codec({"id": "blosc"})
    array = xr.DataArray(texture(3, (40, 40)), dims=("band", "y", "x"), name="image")
    dataset = array.rio.write_crs("EPSG:32633").rio.write_transform(Affine(30, 0, 4e5, 0, -30, 58e5)).to_dataset()
    dataset["image"].encoding |= {"chunks": (3, 20, 20), "compressors": (compressor,)}
    dataset.to_zarr(tmp_path / "a", zarr_format=version, consolidated=False)
    whole = Window(y0=0, y1=40, x0=0, x1=40)
    np.testing.assert_array_equal(open_raster(str(tmp_path / "a")).pixels.read(range(3), whole), array.values)
    chunk = tmp_path / "a" / "image" / ("0.1.0" if version == 2 else "c/0/1/0")
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    with pytest.raises(DataError, match=r"read as zeros"):
        open_raster(str(tmp_path / "a")).pixels.read(range(3), whole)


@pytest.mark.parametrize(
    ("array", "key", "value"),
    [
        ("reflectance", "scale_factor", [1e-4, 1e-4]),
        ("reflectance", "add_offset", "none"),
        ("spatial_ref", "GeoTransform", "390000, 30, 0, 5800000, 0, -30"),
        ("spatial_ref", "crs_wkt", "nonsense"),
    ],
)
def test_a_zarr_with_an_attribute_of_the_wrong_kind_is_refused(
    tmp_path: Path, array: str, key: str, value: object
) -> None:
    dataset = placed()
    dataset[array].attrs = {**dataset[array].attrs, key: value}
    if key == "crs_wkt":
        dataset[array].attrs = {key: value}
    dataset.to_zarr(tmp_path / "a", consolidated=False)
    with pytest.raises(DataError, match="is malformed"):
        open_raster(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("array", "key", "value"),
    [("reflectance", "shape", [2, None, 30]), ("x", "codecs", 0), ("reflectance", "attributes", {"coordinates": [1]})],
)
def test_a_zarr_with_metadata_of_the_wrong_kind_is_refused(tmp_path: Path, array: str, key: str, value: object) -> None:
    placed().to_zarr(tmp_path / "a", consolidated=False, zarr_format=3)
    metadata = tmp_path / "a" / array / "zarr.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {key: value}))
    with pytest.raises(DataError, match="cannot be opened as a Zarr group"):
        open_raster(str(tmp_path / "a"))


@pytest.mark.parametrize(
    "attributes",
    [
        {"missing_value": -9999.0},  # beside it xarray writes _FillValue = NaN
        {"missing_value": -9999.0, "_FillValue": -9999.0},
        {"add_offset": 0.25},
        {"add_offset": 0.25, "missing_value": -9999.0},
    ],
)
def test_a_zarr_of_floats_is_decoded_as_xarray_decodes_it(tmp_path: Path, attributes: dict[str, float]) -> None:
    dataset = placed()
    values = np.linspace(0.1, 0.5, 1200, dtype=np.float32).reshape(2, 20, 30)
    values[0, 3:7] = values[1, :, 4] = -9999.0 if "missing_value" in attributes else 0.7
    dataset["reflectance"] = (("band", "y", "x"), values, {**attributes, "grid_mapping": "spatial_ref"})
    dataset.to_zarr(tmp_path / "a", consolidated=False)
    expected = xr.open_zarr(tmp_path / "a", consolidated=False)["reflectance"].values
    whole = Window(y0=0, y1=20, x0=0, x1=30)
    found = open_image(bare_scene(tmp_path / "a"), "msi", Choice()).read([0, 1], whole)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"missing_value": -9999, "_FillValue": -1}, "the two no-data values -9999, -1"),
        ({"_Unsigned": "true"}, "has the attribute _Unsigned"),
    ],
)
def test_a_zarr_whose_integers_have_two_meanings_is_refused(
    tmp_path: Path, attributes: dict[str, object], message: str
) -> None:
    dataset = placed()
    dataset["reflectance"].attrs |= attributes
    dataset.to_zarr(tmp_path / "a", consolidated=False)
    with pytest.raises(DataError, match=message):
        open_raster(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("unit", "centre_nm"), [("micrometre", 450), ("\N{GREEK SMALL LETTER MU}m", 450), ("cm", None)]
)
def test_wavelengths_of_a_zarr_are_read_in_the_units_that_are_known(
    tmp_path: Path, unit: str, centre_nm: float | None
) -> None:
    dataset = placed().assign_coords(wavelength=("band", [0.45, 0.65], {"units": unit}))
    dataset.to_zarr(tmp_path / "a", consolidated=False)
    raster = open_raster(str(tmp_path / "a"))
    assert raster.bands[0].wavelength_nm == (None if centre_nm is None else pytest.approx(centre_nm))
    assert raster.wavelength_note == (None if centre_nm else "the units of 'wavelength' are 'cm'")


def test_a_zarr_of_an_item_is_not_read_through_a_link_out_of_the_catalogue(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue"
    placed().to_zarr(catalogue / "a.zarr", zarr_format=2, consolidated=False)
    chunk = catalogue / "a.zarr" / "reflectance" / "0.0.0"
    chunk.rename(tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    scene = bare_scene(catalogue / "a.zarr", scale=(1e-3,))
    open_image(scene, "msi", Choice())
    with pytest.raises(DataError, match="outside the catalogue"):
        open_image(replace(scene, is_stac=True, root=str(catalogue)), "msi", Choice())


def test_a_zarr_that_cannot_be_placed_is_refused(tmp_path: Path) -> None:
    bare = placed().drop_vars("spatial_ref").drop_encoding()
    with pytest.raises(DataError, match="neither a GeoTransform nor coordinates"):
        transform_of(bare.drop_vars(("x", "y")), tmp_path / "without")
    with pytest.raises(DataError, match="x is not evenly spaced"):
        transform_of(bare.assign_coords(x=np.arange(30) ** 2.0), tmp_path / "uneven")


def test_the_format_is_told_from_the_content(write_tiff: WriteTiff, tmp_path: Path) -> None:
    path = write_tiff("a.tif", texture(1, (8, 8)))
    renamed = path.rename(tmp_path / "a.jpg")
    assert open_raster(str(renamed)).format == "GeoTIFF"
    other = tmp_path / "b.tif"
    for magic, name in ((b"\x89HDF\r\n\x1a\n", "HDF5"), (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JP2OpenJPEG")):
        other.write_bytes(magic + bytes(64))
        with pytest.raises(DataError, match=name):
            open_raster(str(other))
    vrt = tmp_path / "c.tif"
    vrt.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"/>')
    with pytest.raises(DataError, match="GDAL VRT"):
        open_raster(str(vrt))


def test_a_packed_product_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*")
    for name, kind in (("LC09_L2SP.tar", "tar"), ("S2B.SAFE.zip", "zip")):
        packed = Path(shutil.make_archive(str(tmp_path / name.removesuffix(f".{kind}")), kind, tmp_path, "a.tif"))
        with pytest.raises(DataError, match=r"is a packed archive.*Unpack it, and give the product's folder"):
            open_raster(str(packed))


@pytest.mark.parametrize("href", ["/vsizip/a.zip/b.tif", "nowhere.tif"])
def test_what_is_not_a_file_is_refused(href: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_raster(href)


def test_a_refused_address_is_told_without_its_signature() -> None:
    with pytest.raises(DataError, match="it has a user name") as refusal:
        open_raster("https://me:secret@example.com/a.tif?sig=abc")
    assert "secret" not in str(refusal.value)
    assert "abc" not in str(refusal.value)


def test_side_files_are_neither_read_nor_written(write_tiff: WriteTiff, tmp_path: Path) -> None:
    path = write_tiff("a.tif", texture(1, (8, 8)))
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    assert open_raster(str(path)).bands[0].nodata is None
    envi = write_envi(tmp_path, texture(1, (20, 30)))
    shutil.copy(tmp_path / "a.tif.aux.xml", tmp_path / "a.bsq.aux.xml")
    raster = open_raster(str(envi))
    raster.pixels.read([0], PART)
    assert raster.bands[0].nodata is None
    assert {file.name for file in tmp_path.iterdir()} == {
        "a.tif", "a.tif.aux.xml", "a.bsq", "a.hdr", "a.bsq.aux.xml"
    }  # fmt: skip


def test_an_envi_header_that_names_another_folder_reads_its_own_data(tmp_path: Path) -> None:
    header = tmp_path / "lonely.hdr"
    header.write_text("ENVI\nsamples = 1\nlines = 1\nbands = 1\n")
    with pytest.raises(DataError, match="without its data file"):
        open_raster(str(header))


def test_a_stated_checksum_counts_for_a_file_of_the_stated_size_only(write_tiff: WriteTiff) -> None:
    path = write_tiff("a.tif", texture(2, (20, 30)))
    size = path.stat().st_size
    for stated, kind in ((size, "file:checksum"), (None, "file:checksum"), (size - 1, "size+mtime")):
        scene = bare_scene(path, checksum="1220ab", size_bytes=stated)
        (file,) = open_image(scene, "msi", Choice()).inputs
        assert (file.checksum_kind, file.size_bytes) == (kind, size)
        assert (file.checksum == "1220ab") == (kind == "file:checksum")


def test_a_band_asked_for_twice_is_read_twice(write_tiff: WriteTiff) -> None:
    """GDAL 3.10 by itself gets one in a hundred such calls wrong, where threads decode."""
    stored = texture(7, (300, 410))
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "interleave": "band"}
    path = write_tiff("a.tif", stored, **profile)
    bands = [5, 0, 5, 4, 0, 5]
    for number in range(200):
        window = Window(y0=number, y1=number + 90, x0=number, x1=number + 200)
        found = open_raster(str(path)).pixels.read(bands, window)
        np.testing.assert_array_equal(found, stored[bands][:, window.y0 : window.y1, window.x0 : window.x1])
