"""EMIT's, PRISMA's and Sentinel-2's own files are fused to what GeoTIFFs of the same reflectance are fused to."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from numpy.typing import NDArray

from scenefuse.config import RunConfig
from scenefuse.cube.image import Choice, open_image
from scenefuse.engine.lanes import InProcessLane
from scenefuse.grid.window import Window
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.replay import replay
from tests import delivered
from tests.delivered import write_enmap
from tests.models.classical_pairs import drawn_pair
from tests.range_server import web_folder
from tests.raster.making import bare_scene
from tests.raster.native_products import UTM, write_emit, write_prisma

CONFIG = RunConfig(model="gsa", core_px=64, format=("zarr",), workers=1, report=False)
RATIO, SIDE = 3, 40


def write_reflectance(path: Path, native: Path) -> Path:
    """What is read of a native file, as a GeoTIFF of float32 reflectance by rasterio."""
    image = open_image(bare_scene(native), "hsi", Choice())
    grid = image.grids[0]
    pixels = image.read(range(len(image.bands)), Window(y0=0, y1=grid.shape[0], x0=0, x1=grid.shape[1]))
    with rasterio.open(
        path, "w", driver="GTiff", count=len(pixels), height=grid.shape[0], width=grid.shape[1], dtype="float32",
        crs=rasterio.CRS.from_wkt(grid.crs_wkt), transform=Affine(*grid.transform), nodata=np.nan,
    ) as file:  # fmt: skip
        file.write(pixels)
        for number, band in enumerate(image.bands, start=1):
            file.update_tags(number, wavelength=band.wavelength_nm, wavelength_units="nm", fwhm=band.fwhm_nm)
    return path


def write_msi(path: Path, reflectance: NDArray[np.float32], transform: Affine) -> Path:
    bands, rows, columns = reflectance.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=rows, width=columns, dtype="float32", crs=UTM,
        transform=transform,
    ) as file:  # fmt: skip
        file.write(reflectance)
        for number, nm in enumerate((490.0, 560.0, 665.0, 842.0), start=1):
            file.update_tags(number, wavelength=nm, wavelength_units="nm", fwhm=60.0)
    return path


def fused(
    hs: Path | str, ms: Path | str, out: Path, *, allow_host: str = "nowhere.example"
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    result = fuse(hs, ms, out=out, config=replace(CONFIG, allow_host=(allow_host,)), lane=InProcessLane())
    store = zarr.open_group(result.folder / "fused.zarr", mode="r")
    return np.asarray(store["reflectance"]), np.asarray(store["quality"])


def write_sentinel2(folder: Path, reflectance: NDArray[np.float32], transform: Affine) -> Path:
    """An item of JPEG 2000 files, one a band, as the Copernicus archive has them, silent on scale and no-data."""
    assets = {}
    for key, band in zip(("B02", "B03", "B04", "B08"), reflectance, strict=True):
        profile = {"driver": "JP2OpenJPEG", "count": 1, "height": band.shape[0], "width": band.shape[1]}
        with rasterio.open(
            folder / f"{key}_10m.jp2", "w", **profile, dtype="uint16", crs=UTM, transform=transform, QUALITY="100",
            REVERSIBLE="YES",
        ) as file:  # fmt: skip
            file.write(np.rint((band + 0.1) * 1e4).astype(np.uint16), 1)
        assets[key] = {"href": f"./{key}_10m.jp2", "type": "image/jp2", "roles": ["data"], "bands": [{"name": key}]}
    properties = {"platform": "sentinel-2a", "instruments": ["msi"], "processing:version": "05.10"}
    return write_item(folder / "S2A_MSIL2A_20240829T101021_N0510_R022_T32TNR.json", assets, properties)


def write_item(path: Path, assets: dict[str, Any], properties: dict[str, Any]) -> Path:
    item = {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "id": path.stem, "links": [],
        "bbox": [9.0, 44.9, 9.1, 45.0], "properties": {"datetime": "2024-08-29T10:10:21Z", **properties},
        "geometry": {"type": "Polygon", "coordinates": [[[9, 44.9], [9.1, 44.9], [9.1, 45], [9, 45], [9, 44.9]]]},
        "assets": assets,
    }  # fmt: skip
    path.write_text(json.dumps(item))
    return path


def emit_pair(folder: Path) -> tuple[Path, NDArray[np.float32], Affine]:
    """An EMIT file, and the MSI over the middle of its map, whose pixels are 42.6 m wide there and 60.2 m high."""
    hs, ms = drawn_pair(RATIO, coarse_side=SIDE, hs_bands=12, ms_bands=4)
    lines, samples = np.mgrid[1 : SIDE + 1, 1 : SIDE + 1].astype(np.int32)
    lines[:, 35:] = samples[:, 35:] = 0  # beside the swath
    native = write_emit(folder / "EMIT_L2A_RFL_1.nc", np.moveaxis(hs, 0, 2), lines, samples, corner=(9.0, 45.0))
    return native, ms[:, :90, :84], Affine(20, 0, 500_020, 0, -20, 4_983_000)


@pytest.mark.parametrize("product", ["PRISMA", "EMIT"])
def test_a_native_file_is_fused_as_a_geotiff_of_its_reflectance(tmp_path: Path, product: str) -> None:
    if product == "PRISMA":
        hs, ms = drawn_pair(RATIO, coarse_side=SIDE, hs_bands=12, ms_bands=4)
        dn = np.rint(hs[::-1] / 1.2 * 65535).astype(np.uint16)
        spans = {"Vnir": (880.0, 450.0), "Swir": (1100.0, 900.0)}
        native = write_prisma(tmp_path / "PRS_L2D_1.he5", {"Vnir": dn[2:], "Swir": dn[:4]}, spans_nm=spans)
        transform = Affine(10, 0, 6e5, 0, -10, 5e6)
    else:
        native, ms, transform = emit_pair(tmp_path)
    msi = write_msi(tmp_path / "ms.tif", ms, transform)
    plain = write_reflectance(tmp_path / "plain.tif", native)
    found, quality = fused(native, msi, tmp_path / "native")
    expected, expected_quality = fused(plain, msi, tmp_path / "plain")
    assert len(found) == (12 if product == "PRISMA" else 11)
    assert (quality & 1 == 0).mean() > 0.6
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(quality, expected_quality)


@pytest.mark.parametrize("gsd_m", [10, 30])
def test_products_as_delivered_are_fused_and_replayed(tmp_path: Path, gsd_m: int) -> None:
    hs, ms = drawn_pair(RATIO, coarse_side=SIDE, hs_bands=12, ms_bands=4)
    dn, fine = np.rint(hs * 1e4).astype(np.int16), Affine(gsd_m, 0, 6e5, 0, -gsd_m, 5e6)
    wavelengths_nm = tuple(np.linspace(440, 1100, 12).round(1).tolist())
    enmap = write_enmap(tmp_path, dn, wavelengths_nm, fine @ Affine.scale(RATIO))
    product = (delivered.write_sentinel2 if gsd_m == 10 else delivered.write_landsat)(tmp_path, ms, fine)
    msi = write_msi(tmp_path / "ms.tif", ms, fine)
    expected, _ = fused(enmap / f"{enmap.name}-SPECTRAL_IMAGE.TIF", msi, tmp_path / "plain")
    result = fuse(enmap, product, out=tmp_path / "out", config=CONFIG, lane=InProcessLane())
    found = np.asarray(zarr.open_group(result.folder / "fused.zarr", mode="r")["reflectance"])
    assert result.item_id.startswith(f"{enmap.name}_{product.name.removesuffix('.SAFE')}_gsa_")
    gap = np.abs(found.astype(np.int32) - expected)
    assert gap.max() <= 6  # their reflectance is rounded, and seen through the instrument's responses
    item = json.loads((result.folder / f"{result.item_id}.json").read_text())
    assert item["properties"]["scenefuse:hs_platform"] == "ENMAP"
    assert all(core.identical for core in replay(result.folder, every_tile=True).cores)


def test_clouds_by_the_scene_s_own_mask_are_fused_like_no_data(tmp_path: Path) -> None:
    hs, ms = drawn_pair(RATIO, coarse_side=SIDE, hs_bands=12, ms_bands=4)
    dn, fine = np.rint(hs * 1e4).astype(np.int16), Affine(10, 0, 6e5, 0, -10, 5e6)
    wavelengths_nm = tuple(np.linspace(440, 1100, 12).round(1).tolist())
    enmap = write_enmap(tmp_path, dn, wavelengths_nm, fine @ Affine.scale(RATIO))
    cloudy = np.zeros((60, 60), np.bool_)
    cloudy[20:30, 31:50] = True
    fine_cloudy = cloudy.repeat(2, 0).repeat(2, 1)
    clouded = np.where(fine_cloudy, np.float32(0.8), ms)
    safe = delivered.write_sentinel2(tmp_path, clouded, fine, cloudy=cloudy)
    # The same bands where the clouds have been cut out by hand: DN 0, which is no data.
    cut = delivered.write_sentinel2(tmp_path / "cut-out", np.where(fine_cloudy, np.float32(-0.1), ms), fine)
    masking = replace(CONFIG, mask_clouds=True)
    made, plain, expected = (
        fuse(enmap, product, out=tmp_path / name, config=config, lane=InProcessLane())
        for product, name, config in ((safe, "masked", masking), (safe, "plain", CONFIG), (cut, "cut", CONFIG))
    )
    stores = [zarr.open_group(product.folder / "fused.zarr", mode="r") for product in (made, plain, expected)]
    images = [np.asarray(store["reflectance"]) for store in stores]
    np.testing.assert_array_equal(images[0], images[2])
    flags = [np.asarray(store["quality"]) for store in stores]
    np.testing.assert_array_equal(flags[0], flags[2])
    assert (flags[0][fine_cloudy] & 1).all()
    assert np.median(images[1][:, fine_cloudy]) > 2 * np.median(images[0][:, ~fine_cloudy])  # fused like ground
    assert made.item_id != plain.item_id
    assert "clouds of the MSI are no data, by T32TQM_20220724T103629_SCL_20m" in made.notes
    assert "clouds of the HSI are not masked: it names no mask that is known" in made.notes
    (told,) = (note for note in plain.notes if "cloud" in note)
    assert told.endswith("_SCL_20m tells them: --mask-clouds")
    assert all(core.identical for core in replay(made.folder, every_tile=True).cores)


def test_items_of_native_files_are_fused(tmp_path: Path) -> None:
    native, ms, transform = emit_pair(tmp_path)
    plain, msi = write_reflectance(tmp_path / "plain.tif", native), write_msi(tmp_path / "ms.tif", ms, transform)
    (tmp_path / "EMIT_L2A_MASK_1.nc").write_bytes(native.read_bytes())
    files = ("EMIT_L2A_MASK_1.nc", native.name)
    assets = {f"data{i}": {"href": f"./{name}", "roles": ["data"]} for i, name in enumerate(files)}
    hs_item = write_item(tmp_path / "EMIT_L2A_RFL_1.json", assets, {"platform": "ISS", "instruments": ["EMIT"]})
    found, _ = fused(hs_item, write_sentinel2(tmp_path, ms, transform), tmp_path / "items")
    expected, _ = fused(plain, msi, tmp_path / "plain")
    gap = np.abs(found.astype(np.int32) - expected)[(found != found.min()) & (expected != expected.min())]
    assert gap.size > 0.6 * found.size
    assert gap.max() <= 5  # the MSI's reflectance is rounded to 1e-4
    (product,) = (tmp_path / "items").glob("*/provenance.json")
    formats = set(re.findall(r'"format\\?": \\?"([^"\\]+)', product.read_text()))
    assert formats == {"EMIT L2A (netCDF-4)", "JPEG 2000"}


def test_scenes_of_native_files_on_the_web_are_fused_as_those_on_a_disk(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    native, ms, transform = emit_pair(folder)
    msi = write_sentinel2(folder, ms, transform)
    expected, expected_quality = fused(native, msi, tmp_path / "disk")
    with web_folder(folder) as web:
        # As CMR describes it: neither bands nor roles nor instrument, three files, told apart by their names.
        files = ("EMIT_L2A_RFLUNCERT_1.nc", native.name, "EMIT_L2A_MASK_1.nc")
        assets = {f"data{i or ''}": {"href": web.url(name)} for i, name in enumerate(files)}
        item = write_item(folder / "EMIT_L2A_RFL_1.json", assets, {})
        for number, hs in enumerate((web.url(native.name), web.url(item.name))):
            found, quality = fused(hs, web.url(msi.name), tmp_path / f"web{number}", allow_host=web.host)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(quality, expected_quality)
    for record in tmp_path.glob("web[01]/*/*.json"):
        assert "secret" not in record.read_text(), record
