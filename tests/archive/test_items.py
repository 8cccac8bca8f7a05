"""From STAC items to scenes."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.items import scene_from_item
from scenefuse.archive.scene import Scene
from scenefuse.archive.source import load_scene
from scenefuse.errors import DataError

OLD_HOSTS = AccessPolicy(allow_hosts=("landsat-pds.s3.amazonaws.com", "cool-sat.com", "example.com"))
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def make_item(**changes: Any) -> dict[str, Any]:
    """A STAC 1.1 item of four bands; changes to properties, assets or any other key."""
    bands = [
        {"name": f"B{i}", "eo:center_wavelength": nm / 1000, "eo:full_width_half_max": 0.06}
        for i, nm in enumerate((485, 555, 660, 830), start=1)
    ]
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": "one",
        "geometry": {"type": "Polygon", "coordinates": [[[13, 52], [14, 52], [14, 53], [13, 53], [13, 52]]]},
        "bbox": [13, 52, 14, 53],
        "properties": {"datetime": "2024-06-01T10:00:00Z"},
        "links": [],
        "assets": {
            "data": {"href": "https://data.example.org/one.tif", "type": COG, "roles": ["data"], "bands": bands}
        },
    }
    item["properties"] |= changes.pop("properties", {})
    return item | changes


def read(item: dict[str, Any]) -> Scene:
    return scene_from_item(item, href="https://archive.example.org/one.json", policy=AccessPolicy())


def test_bands_of_stac_1_1_are_read_in_nanometres(test_data: Path) -> None:
    scene = load_scene(str(test_data / "stac/eo-extension/item.json"))
    (asset,) = scene.assets
    assert (asset.key, scene.role) == ("analytic", "msi")
    assert [band.wavelength_nm for band in asset.bands] == [470.0, 560.0, 645.0, 800.0]
    assert [band.fwhm_nm for band in asset.bands] == [70.0, 80.0, 90.0, 152.0]
    assert asset.gsd_m == 0.66
    assert scene.cloud_fraction == pytest.approx(0.012)
    assert scene.acquired == datetime(2020, 12, 11, 22, 38, 32, 125000, tzinfo=UTC)


def test_an_asset_of_one_band_may_describe_it_without_a_list() -> None:
    told = [("blue", 0.49, "B02"), ("green", 0.56, "B03"), (None, 11.0, "B10")]
    assets = {
        key: {"href": f"./{key}.tif", "type": COG, "roles": ["data"], "eo:common_name": common, "raster:scale": 1e-4}
        | {"eo:center_wavelength": um, "eo:full_width_half_max": 0.06}
        for common, um, key in told
    }
    scene = read(make_item(assets=assets | {"aot": {"href": "./aot.tif", "type": COG, "roles": ["data"]}}))
    bands = [asset.bands for asset in scene.assets]
    assert [(band.name, band.wavelength_nm, band.fwhm_nm) for (band,) in bands] == [
        ("B02", 490.0, 60.0),
        ("B03", 560.0, 60.0),
    ]
    assert [asset.scale for asset in scene.assets] == [(1e-4,), (1e-4,)]
    assert scene.role == "msi"


def test_bands_inherit_what_their_asset_says_of_all_of_them() -> None:
    item = make_item()
    data = item["assets"]["data"]
    for band in data["bands"]:
        del band["eo:full_width_half_max"]
    data["bands"][3] |= {"raster:scale": 2e-4, "eo:full_width_half_max": 0.1}
    data |= {"eo:full_width_half_max": 0.06, "raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}
    (asset,) = read(item).assets
    assert [band.fwhm_nm for band in asset.bands] == [60.0, 60.0, 60.0, 100.0]
    assert asset.scale == (1e-4, 1e-4, 1e-4, 2e-4)
    assert (asset.offset, asset.nodata) == ((-0.1,), 0.0)


@pytest.mark.parametrize("version", ["0.8.1", "0.9.0"])
def test_items_before_1_0_give_the_same_bands_by_index(test_data: Path, version: str) -> None:
    path = test_data / f"stac/pystac/eo__examples__{version}__landsat8-sample.json"
    scene = load_scene(str(path), policy=OLD_HOSTS)
    assert [asset.key for asset in scene.assets] == ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9"]
    centres = [asset.bands[0].wavelength_nm for asset in scene.assets]
    assert centres == pytest.approx([440, 480, 560, 650, 860, 1600, 2200, 1370], abs=10)  # where known the card's
    assert scene.role == "msi"
    assert any("B8, B10, B11" in note for note in scene.notes)


def test_the_encoding_of_another_product_level_is_not_taken_from_the_card(test_data: Path) -> None:
    scene = load_scene(str(test_data / "stac/pystac/eo__eo-landsat-example.json"))
    assert all(asset.scale is None and asset.offset is None for asset in scene.assets)
    assert any("not taken from the card" in note for note in scene.notes)


def test_an_aviris_item_has_its_224_bands_in_the_order_of_the_file(test_data: Path) -> None:
    path = test_data / "stac/azavea-aviris/aviris_l1_cog_item.json"
    scene = load_scene(str(path))
    (asset,) = scene.assets
    listed = json.loads(path.read_text())["properties"]["eo:bands"]
    by_name = {band["name"]: band["center_wavelength"] for band in listed}
    assert [band["name"] for band in listed][:3] == ["1", "10", "100"]
    assert [band.name for band in asset.bands] == [str(i) for i in range(1, 225)]
    assert asset.bands[99].wavelength_nm == pytest.approx(by_name["100"] * 1000, abs=1e-5)
    assert (scene.role, scene.crs) == ("hsi", "EPSG:32611")
    assert scene.role_reason == "224 bands with wavelengths"


def test_an_index_into_bands_that_the_item_does_not_have_describes_nothing(test_data: Path) -> None:
    scene = load_scene(str(test_data / "stac/pystac/eo__examples__0.8.1__sentinel2-sample.json"), policy=OLD_HOSTS)
    assert all(asset.bands == () for asset in scene.assets)
    assert scene.role is None
    assert scene.role_reason


def test_sentinel2_of_an_old_baseline_has_no_offset(test_data: Path) -> None:
    scene = load_scene(str(test_data / "stac/pystac/raster__raster-sentinel2-example.json"))
    assert len(scene.assets) == 12
    assert all(asset.scale == (0.0001,) and asset.offset == (0.0,) for asset in scene.assets)
    assert [asset.key for asset in scene.assets if asset.nodata != 0.0] == ["B09"]  # of which the item says NaN
    assert "scale" in scene.assets[0].card_fields
    assert {asset.key: asset.gsd_m for asset in scene.assets}["B8A"] == 20.0
    assert scene.crs == "EPSG:32633"
    assert any("02.14" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("properties", "stated", "expected"),
    [
        ({"s2:processing_baseline": "05.10"}, None, (-0.1,)),
        ({"s2:processing_baseline": "03.01"}, None, (0.0,)),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}, -0.1, (0.0,)),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": False}, -0.1, (-0.1,)),
        ({"s2:product_uri": "S2A_MSIL2A_20240601T100031_N0510_R122_T33UUU_20240601T140000.SAFE"}, None, (-0.1,)),
        ({"s2:processing_baseline": "99.99"}, None, None),  # a user's product, by whatever version
        ({"s2:processing_baseline": "99.99"}, 0.0, (0.0,)),
        ({}, None, None),
        ({}, -0.1, (-0.1,)),
    ],
)
def test_the_sentinel2_offset_follows_flag_and_baseline(
    properties: dict[str, Any], stated: float | None, expected: tuple[float, ...] | None
) -> None:
    item = make_item(id="S2A_33UUU_20240601_0_L2A", properties={"platform": "sentinel-2a", **properties})
    item["assets"] = {"red": {"href": "./B04.tif", "type": COG, "roles": ["data", "reflectance"], "bands": [
        {"name": "B04", "eo:common_name": "red", "eo:center_wavelength": 0.665},
        {"name": "B03", "eo:common_name": "green", "eo:center_wavelength": 0.56}]}}  # fmt: skip
    if stated is not None:
        item["assets"]["red"] |= {"raster:scale": 0.0001, "raster:offset": stated}
    (asset,) = read(item).assets
    assert asset.offset == expected
    assert asset.scale == (0.0001,)
    assert [band.fwhm_nm for band in asset.bands] == [30.0, 35.0]  # from the card


@pytest.mark.parametrize(
    "said",
    [
        {"platform": "sentinel-2b"},
        {"platform": "sentinel-2c"},
        {"platform": "Sentinel-2D"},
        {"constellation": "sentinel-2"},
    ],
)
def test_an_offset_that_was_applied_is_not_applied_again_whichever_sentinel2_it_is(said: dict[str, Any]) -> None:
    item = make_item(properties={**said, "s2:processing_baseline": "05.11", "earthsearch:boa_offset_applied": True})
    item["assets"]["data"] |= {"raster:scale": 1e-4, "raster:offset": -0.1}
    scene = read(item)
    assert [asset.offset for asset in scene.assets] == [(0.0,)]
    assert any("boa_offset_applied" in note for note in scene.notes)


def test_duplicate_and_coarser_files_of_a_band_are_left_out() -> None:
    def asset(gsd: float, name: str, **more: Any) -> dict[str, Any]:
        band = {"name": name, "eo:center_wavelength": {"B02": 0.49, "B04": 0.665, "B8A": 0.865}[name]}
        return {
            "href": f"./{name}_{gsd}.tif",
            "type": "image/jp2",
            "roles": ["data"],
            "gsd": gsd,
            "bands": [band],
            **more,
        }

    assets = {
        "B02_20m": asset(20, "B02"), "B02_10m": asset(10, "B02"), "B04_10m": asset(10, "B04"),
        "red-jp2": asset(10, "B04"), "B8A_20m": asset(20, "B8A"),
        "SCL_20m": {"href": "./SCL.tif", "type": COG, "roles": ["data", "reflectance"]},
        "TCI_10m": asset(10, "B04", roles=["visual"]),
        "thumbnail": {"href": "./t.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        "zip": {"href": "./all.zip", "type": "application/zip", "roles": ["data"]},
    }  # fmt: skip
    scene = read(make_item(assets=assets))
    assert [asset.key for asset in scene.assets] == ["B02_10m", "B04_10m", "B8A_20m"]


def test_files_of_a_band_that_has_a_name_only_are_told_by_it() -> None:
    def asset(gsd: float, name: str) -> dict[str, Any]:
        return {"href": f"./{name}_{gsd}.tif", "type": COG, "gsd": gsd, "roles": ["data"], "bands": [{"name": name}]}

    assets = {"B02_20m": asset(20, "B02"), "B02_10m": asset(10, "B02"), "B05_20m": asset(20, "B05")}
    item = make_item(assets=assets, properties={"platform": "sentinel-2a"})
    assert [asset.key for asset in read(item).assets] == ["B02_10m", "B05_20m"]


def test_a_file_finer_than_the_instrument_s_pixels_has_theirs() -> None:
    assets = {
        name: {"href": f"./{name}.tif", "type": COG, "gsd": gsd, "roles": ["data"], "bands": [{"name": name}]}
        for name, gsd in (("B01", 20), ("B02", 20), ("B03", 10))
    }
    scene = read(make_item(assets=assets, properties={"platform": "sentinel-2a"}))
    assert [asset.bands[0].gsd_m for asset in scene.assets] == [60.0, 20.0, 10.0]


def test_of_the_files_of_an_emit_scene_the_reflectance_is_taken() -> None:
    base = "https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/EMITL2ARFL.001/"
    names = [f"EMIT_L2A_{kind}_001_20240829T142812_2424209_010" for kind in ("MASK", "RFLUNCERT", "RFL")]
    of_key = {name: {"href": f"{base}{name}.nc", "roles": ["data"]} for name in names}
    of_file = {f"data{i}": asset | {"type": "application/x-netcdf"} for i, asset in enumerate(of_key.values())}
    bare = {f"data{i or ''}": {"href": asset["href"]} for i, asset in enumerate(of_key.values())}
    for assets in (of_key, of_file, bare):
        scene = read(make_item(id=names[2], assets=assets, properties={"instruments": ["EMIT"]}))
        assert [asset.href for asset in scene.assets] == [f"{base}{names[2]}.nc"]
        assert f"by their names, these are no reflectance and are left out: {names[0]}.nc, {names[1]}.nc" in scene.notes
        assert scene.role == "hsi"
        silent = read(make_item(id=names[2], assets=assets, properties={}))  # as CMR-STAC's items are
        assert (silent.role, silent.platform) == ("hsi", "EMIT")
    alone = {"data": {"href": "./enmap_cloud_mask_applied.tif", "roles": ["data"]}}
    assert [asset.key for asset in read(make_item(assets=alone)).assets] == ["data"]


@pytest.mark.parametrize(
    ("part", "bands", "others"),
    [
        ("S30", ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"], ["B09", "B10"]),
        ("L30", ["B01", "B02", "B03", "B04", "B05", "B06", "B07"], ["B09", "B10", "B11"]),
    ],
)
def test_of_the_files_of_an_hls_scene_the_bands_are_taken(part: str, bands: list[str], others: list[str]) -> None:
    name = f"HLS.{part}.T32TQM.2022205T103629.v2.0"  # items as CMR-STAC's: no platform, no bands, no media types
    base = f"https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/HLS{part}.020/{name}/{name}"
    keys = ["VAA", *bands, *others, "Fmask", "SZA", "SAA", "VZA"]
    item = make_item(id=name, collection=f"HLS{part}_2.0", assets={key: {"href": f"{base}.{key}.tif"} for key in keys})
    scene = read(item)
    assert [asset.key for asset in scene.assets] == bands
    assert (scene.role, scene.platform) == ("msi", f"HLS {part}")
    assert [(mask.asset.key, mask.code) for mask in scene.clouds] == [("Fmask", "fmask")]
    assert {(asset.scale, asset.offset, asset.nodata) for asset in scene.assets} == {((1e-4,), (0.0,), -9999.0)}
    assert [round(asset.bands[0].wavelength_nm or 0) for asset in scene.assets[:4]] == [443, 483, 561, 655]
    assert any("no bands by their keys, and left out: VAA, B09, B10" in note for note in scene.notes)


def test_harmonised_reflectance_has_no_offset_of_its_sentinel2() -> None:
    said = {"platform": "sentinel-2a", "s2:processing_baseline": "05.10"}
    scene = read(make_item(id="HLS.S30.T32TQM.2022205T103629.v2.0", properties=said))
    assert {asset.offset for asset in scene.assets} == {(0.0,)}


def test_scale_offset_and_nodata_may_differ_in_where_they_are_said() -> None:
    old = make_item(stac_version="1.0.0")
    old["assets"]["data"]["eo:bands"] = [
        {"name": "a", "center_wavelength": 0.5},
        {"name": "b", "center_wavelength": 0.6},
    ]
    del old["assets"]["data"]["bands"]
    old["assets"]["data"]["raster:bands"] = [
        {"scale": 0.1, "offset": 0, "nodata": "nan", "unit": "W/m2"}, {"scale": 0.2, "offset": 0, "nodata": "nan"},
    ]  # fmt: skip
    scene = read(old)
    (asset,) = scene.assets
    assert (asset.scale, asset.offset) == ((0.1, 0.2), (0.0,))
    assert asset.nodata != asset.nodata
    assert any("not reflectance" in note for note in scene.notes)
    new = make_item()
    new["assets"]["data"] |= {
        "raster:scale": 1e-4,
        "raster:offset": -0.1,
        "nodata": 0,
        "file:size": 7,
        "file:checksum": "12",
    }
    (asset,) = read(new).assets
    assert (asset.scale, asset.offset, asset.nodata) == ((1e-4,), (-0.1,), 0.0)
    assert (asset.size_bytes, asset.checksum) == (7, "12")


def test_hundreds_of_bands_of_enmap_get_the_cards_encoding() -> None:
    bands = [{"name": f"band {i + 1}", "eo:center_wavelength": 0.42 + 0.009 * i} for i in range(224)]
    item = make_item(id="ENMAP01-____L2A-DT0000001", properties={"platform": "EnMAP", "instruments": ["HSI"]})
    item["assets"] = {"image": {"href": "./SPECTRAL_IMAGE.TIF", "type": COG, "roles": ["data"], "bands": bands}}
    scene = read(item)
    (asset,) = scene.assets
    assert (scene.role, len(asset.bands)) == ("hsi", 224)
    assert (asset.scale, asset.offset, asset.nodata) == ((1e-4,), (0.0,), -32768.0)
    assert asset.card_fields == ("scale", "offset", "nodata")


def test_an_msi_is_seen_by_its_cards_response_where_the_item_tells_whole_widths(test_data: Path) -> None:
    """The bands as Element84's and ESA's items tell them, against the response that ESA publishes."""
    openpyxl = pytest.importorskip("openpyxl")
    told = {"B02": (0.49, 0.098), "B03": (0.56, 0.045), "B08": (0.842, 0.145), "B11": (1.61, 0.143)}
    item = make_item(properties={"platform": "sentinel-2b", "instruments": ["msi"]})
    item["assets"] = {
        name: {
            "href": f"./{name}.tif",
            "type": COG,
            "roles": ["data"],
            "bands": [{"name": name, "eo:center_wavelength": um, "eo:full_width_half_max": width_um}],
        }
        for name, (um, width_um) in told.items()
    }
    bands = {asset.key: asset.bands[0] for asset in read(item).assets}
    path = test_data / "srf/sentinel2/Sentinel-2_MSI_Spectral_Responses.xlsx"
    with closing(openpyxl.load_workbook(path, read_only=True)) as book:
        head, *rows = book["Spectral Responses (S2B)"].iter_rows(values_only=True)
    table = np.array([[float(value or 0) for value in row[: len(head)]] for row in rows])
    names = [str(title).rpartition("_")[2] for title in head]
    for name, (um, width_um) in told.items():
        response = table[:, names.index(name if name in names else name.replace("B0", "B"))]
        above = table[response >= response.max() / 2, 0]
        width_nm = above[-1] - above[0] + 1
        centre_nm = float((table[:, 0] * response).sum() / response.sum())
        assert bands[name].fwhm_nm == pytest.approx(width_nm, rel=0.1)
        assert abs(1000 * width_um - width_nm) > 0.2 * width_nm
        assert abs((bands[name].wavelength_nm or 0) - centre_nm) <= abs(1000 * um - centre_nm)


def test_a_spectrometer_keeps_what_its_item_tells() -> None:
    bands = [
        {"name": f"B{i}", "eo:center_wavelength": 0.4185 + 0.006 * i, "eo:full_width_half_max": 0.0071}
        for i in range(40)
    ]
    item = make_item(properties={"platform": "EnMAP", "instruments": ["HSI"]})
    item["assets"] = {"image": {"href": "./a.tif", "type": COG, "roles": ["data"], "bands": bands}}
    (asset,) = read(item).assets
    assert {band.fwhm_nm for band in asset.bands} == {7.1}
    assert asset.bands[1].wavelength_nm == pytest.approx(424.5)


@pytest.mark.parametrize("values", [[400.0 + 9 * i for i in range(40)], [0.4 + 0.009 * i for i in range(40)]])
def test_wavelengths_of_the_hsi_extension_are_read_in_either_unit(values: list[float]) -> None:
    item = make_item(properties={"hsi:wavelengths": values})
    item["assets"] = {"cube": {"href": "./cube.h5", "roles": ["data"]}}
    scene = read(item)
    assert scene.role == "hsi"
    assert [band.wavelength_nm for band in scene.assets[0].bands] == pytest.approx([400.0 + 9 * i for i in range(40)])


def test_the_crs_comes_from_code_epsg_wkt_or_projjson() -> None:
    wkt = pyproj.CRS(32633).to_wkt()
    assert read(make_item(properties={"proj:code": "EPSG:32633"})).crs == "EPSG:32633"
    assert read(make_item(properties={"proj:wkt2": wkt})).crs == wkt
    from_json = read(make_item(properties={"proj:projjson": pyproj.CRS(32633).to_json_dict()})).crs
    assert from_json is not None
    assert pyproj.CRS(from_json) == pyproj.CRS(32633)
    assert read(make_item()).crs is None
    old = make_item(
        stac_version="1.0.0",
        stac_extensions=["https://stac-extensions.github.io/projection/v1.0.0/schema.json"],
        properties={"proj:epsg": 32633},
    )
    assert read(old).crs == "EPSG:32633"


def test_a_negative_cloud_cover_says_that_it_is_not_known() -> None:
    assert read(make_item(properties={"eo:cloud_cover": -1})).cloud_fraction is None
    assert read(make_item(properties={"eo:cloud_cover": 0})).cloud_fraction == 0.0


def test_conflicting_crs_are_noted(test_data: Path) -> None:
    scene = load_scene(str(test_data / "stac/pystac/projection__example-with-version-1.2.json"))
    assert any("conflicting" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"properties": {"datetime": "yesterday"}}, "STAC"),
        ({"properties": {"eo:cloud_cover": 130}}, "percentage"),
        ({"properties": {"eo:cloud_cover": "little"}}, "number"),
        ({"assets": {"data": {"href": "file:///etc/passwd", "type": COG}}}, "local file"),
        (
            {
                "assets": {
                    "data": {"href": "./a.tif", "type": COG, "bands": [{"name": "a", "eo:center_wavelength": -1}]}
                }
            },
            "positive",
        ),
        (
            {
                "assets": {
                    "data": {"href": "./a.tif", "type": COG, "bands": [{"name": "a", "eo:center_wavelength": 490}]}
                }
            },
            "is 490: STAC counts it in micrometres",
        ),
        ({"assets": None}, "not a valid STAC item"),
        ({"properties": {"proj:projjson": {"type": "nonsense"}}}, "not a CRS"),
        (
            {
                "assets": {
                    "data": {"href": "./a.tif", "type": COG, "bands": [{"name": "a", "nodata": 0}, {"name": "b"}]}
                }
            },
            "1 of 2 bands",
        ),
        (
            {
                "assets": {
                    "d": {
                        "href": "./a.tif",
                        "type": COG,
                        "bands": [{"name": "a", "nodata": 0}, {"name": "b", "nodata": 1}],
                    }
                }
            },
            "different no-data",
        ),
    ],
)
def test_an_item_that_cannot_be_read_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(make_item(**changes))
    assert "one.json" in str(caught.value)


def test_an_item_without_geometry_takes_its_bbox_and_an_interval_its_middle() -> None:
    scene = read(
        make_item(
            geometry=None,
            properties={
                "datetime": None,
                "start_datetime": "2024-06-01T10:00:00Z",
                "end_datetime": "2024-06-01T10:01:00Z",
            },
        )
    )
    assert scene.footprint is not None
    assert scene.footprint["coordinates"][0][0] == [13, 52]
    assert scene.acquired == datetime(2024, 6, 1, 10, 0, 30, tzinfo=UTC)


def test_every_item_of_the_collection_is_read_or_refused_with_a_cure(test_data: Path) -> None:
    paths = sorted((test_data / "stac").rglob("*.json"))
    assert len(paths) >= 40
    scenes, refused = [], []
    for path in paths:
        try:
            scenes.append(load_scene(str(path), policy=OLD_HOSTS))
        except DataError as error:
            refused.append((path, error))
    assert len(scenes) >= 22
    assert all(scene.id and (scene.role or scene.role_reason) for scene in scenes)
    assert all(str(path) in str(error) and error.cure for path, error in refused)


def test_a_scene_is_a_line_in_a_notebook_and_shows_no_signature() -> None:
    item = make_item(properties={"platform": "sentinel-2b"})
    item["assets"]["data"]["href"] += "?sig=secret"
    assert repr(read(item)) == "Scene(one, msi, 4 bands, 2024-06-01 10:00)"
    assert repr(load_scene("s3://bucket/two.tif")) == "Scene(two)"
