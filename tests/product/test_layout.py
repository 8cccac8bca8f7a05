from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import rasterio.transform
import rioxarray  # noqa: F401 -- the accessor .rio
import xarray
from affine import Affine
from pyproj import CRS
from zarr.storage import LocalStore, WrapperStore

from scenefuse.errors import DataError
from scenefuse.product.layout import lay_out
from scenefuse.raster.readers import open_raster
from tests.product.making import GRID, ITEM_ID, SPEC, large_spec, random_scene, write_scene


def _open(store: Path) -> xarray.Dataset:
    dataset: xarray.Dataset = xarray.open_zarr(
        store, consolidated=False, decode_coords="all", mask_and_scale=True, chunks=None
    )
    return dataset


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_xarray_reads_reflectance_with_its_grid_and_wavelengths(tmp_path: Path) -> None:
    fused, quality = random_scene()
    write_scene(tmp_path / ITEM_ID, fused, quality)
    dataset = _open(tmp_path / ITEM_ID / "fused.zarr")
    reflectance = dataset["reflectance"]
    np.testing.assert_allclose(reflectance.to_numpy(), fused, atol=0.5001e-4)
    assert np.isnan(reflectance.to_numpy()[:, 40:90, 20:150]).all()
    np.testing.assert_array_equal(dataset["quality"].to_numpy(), quality)
    assert dataset["quality"].dtype == np.uint8
    assert dataset.rio.crs == rasterio.crs.CRS.from_epsg(32633)
    assert dataset.rio.transform() == Affine(*GRID.fine_transform)
    assert reflectance.rio.crs == dataset.rio.crs
    xs, _ = rasterio.transform.xy(Affine(*GRID.fine_transform), np.zeros(198), np.arange(198))  # type: ignore[no-untyped-call]
    _, ys = rasterio.transform.xy(Affine(*GRID.fine_transform), np.arange(300), np.zeros(300))  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(dataset["x"], xs)
    np.testing.assert_array_equal(dataset["y"], ys)
    np.testing.assert_array_equal(dataset["wavelength_nm"], [band.wavelength_nm for band in SPEC.bands])
    assert set(dataset.coords) >= {"wavelength_nm", "fwhm_nm", "spatial_ref"}


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_every_overview_is_a_dataset_on_its_own_grid(tmp_path: Path) -> None:
    spec = large_spec()
    store = lay_out(tmp_path / ITEM_ID, spec).local_path()
    attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    layout = attributes["multiscales"]["layout"]
    assert [level["asset"] for level in layout] == [".", "overviews/2", "overviews/4"]
    for level, factor in zip(layout, (1, 2, 4), strict=True):
        dataset = _open(store / level["asset"])
        assert list(dataset["reflectance"].shape[1:]) == level["spatial:shape"] == list(spec.level_shape(factor))
        assert list(dataset.rio.transform())[:6] == level["spatial:transform"]
        assert open_raster(str(store / level["asset"])).grid.transform == spec.level_transform(factor)
        assert dataset.rio.crs.to_epsg() == 32633
    assert attributes["proj:code"] == "EPSG:32633"


class Unlisted(WrapperStore[LocalStore]):
    """A store as a web server is one: it gives what is asked for by name, and no list."""

    supports_listing = False

    def list(self) -> AsyncIterator[str]:
        raise PermissionError("403")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise PermissionError(f"403 {prefix}")

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise PermissionError(f"403 {prefix}")


def test_every_level_opens_where_nobody_can_list_folders(tmp_path: Path) -> None:
    store = lay_out(tmp_path / ITEM_ID, large_spec()).local_path()
    for level in ("", "overviews/2", "overviews/4"):
        dataset = xarray.open_zarr(Unlisted(LocalStore(store / level)), decode_coords="all", chunks=None)
        xarray.testing.assert_identical(dataset, _open(store / level))
        assert "wavelength_nm" in dataset["reflectance"].coords
    groups = xarray.open_groups(Unlisted(LocalStore(store)), engine="zarr", chunks=None)  # type: ignore[arg-type]
    assert groups.keys() == {"/", "/overviews", "/overviews/2", "/overviews/4"}


def test_the_zarr_conventions_are_called_as_their_schemas_want(tmp_path: Path) -> None:
    """Names and URLs are constants in the schemas of zarr-conventions at tag v0.1."""
    store = lay_out(tmp_path / ITEM_ID, SPEC).local_path()
    declared = json.loads((store / "zarr.json").read_text())["attributes"]["zarr_conventions"]
    assert [(convention["name"], convention["uuid"]) for convention in declared] == [
        ("multiscales", "d35379db-88df-4056-af3a-620245f8e347"),
        ("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f"),
        ("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"),
    ]
    for convention in declared:
        name = convention["name"]
        assert convention["spec_url"] == f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md"
        assert convention["schema_url"] == (
            f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json"
        )


@pytest.mark.parametrize("level", ["", "overviews/2", "overviews/4"])
def test_every_level_knows_its_bands_by_name_and_its_time(tmp_path: Path, level: str) -> None:
    acquired = datetime(2024, 6, 4, 12, 45, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    spec = replace(large_spec(), acquired=acquired)
    dataset = _open(lay_out(tmp_path / ITEM_ID, spec).local_path() / level)
    assert dataset["reflectance"].sel(band="band 1")["wavelength_nm"] == 500.0
    assert dataset["time"].to_numpy() == np.datetime64("2024-06-04T10:45:00.123456")
    names = {name: array.attrs.get("standard_name") for name, array in dataset["reflectance"].coords.items()}
    assert names == {
        "band": "sensor_band_identifier",
        "wavelength_nm": "sensor_band_central_radiation_wavelength",
        "fwhm_nm": "sensor_band_spectral_width",
        "time": "time",
        "y": "projection_y_coordinate",
        "x": "projection_x_coordinate",
        "spatial_ref": None,
    }
    described = set(dataset["reflectance"].attrs.get("ancillary_variables", "").split())
    assert described == set(dataset) - {"reflectance"}


def test_without_a_time_of_acquisition_there_is_no_time(tmp_path: Path) -> None:
    dataset = _open(lay_out(tmp_path / ITEM_ID, SPEC).local_path())
    assert "time" not in dataset.variables


def test_a_crs_without_a_code_is_kept_as_wkt(tmp_path: Path) -> None:
    crs = CRS.from_proj4("+proj=laea +lat_0=51 +lon_0=9 +ellps=GRS80 +units=m")
    store = lay_out(tmp_path / ITEM_ID, replace(SPEC, grid=replace(GRID, crs_wkt=crs.to_wkt()))).local_path()
    assert CRS.from_wkt(_open(store)["spatial_ref"].attrs["crs_wkt"]) == crs
    assert "proj:code" not in json.loads((store / "zarr.json").read_text())["attributes"]


def test_laying_out_again_keeps_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / ITEM_ID
    write_scene(folder, *random_scene())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    lay_out(folder, SPEC)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_laying_out_finishes_what_an_interruption_left(tmp_path: Path) -> None:
    folder = tmp_path / ITEM_ID
    store = lay_out(folder, SPEC).local_path()
    whole = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    (store / "zarr.json").unlink()
    (store / "x" / "c" / "0").unlink()
    lay_out(folder, SPEC)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == whole


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("")
    with pytest.raises(DataError, match=r"thesis\.docx"):
        lay_out(tmp_path, SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_store_of_another_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = lay_out(tmp_path, SPEC).local_path()
    before = (store / "reflectance" / "zarr.json").read_bytes()
    with pytest.raises(DataError, match="differs from the layout"):
        lay_out(tmp_path, replace(SPEC, core_px=64))
    assert (store / "reflectance" / "zarr.json").read_bytes() == before
