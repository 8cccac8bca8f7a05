"""Which assets of an item tell its clouds."""

from __future__ import annotations

from typing import Any

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.clouds import cloud_assets

BASE = "https://archive.example/items/a.json"


def found(assets: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    masks, _ = cloud_assets(assets, href=BASE, policy=AccessPolicy())
    return [(mask.asset.key, mask.code) for mask in masks]


def of_files(*names: str) -> dict[str, dict[str, Any]]:
    return {f"asset{i}": {"href": f"./{name}"} for i, name in enumerate(names)}


def test_masks_are_told_by_key_or_by_file() -> None:
    other = {"href": "./x.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    assert found({"scl": other, "red": other, "cloud": other}) == [("scl", "scl")]
    assert found({"qa_pixel": other, "qa_radsat": other, "qa": other}) == [("qa_pixel", "qa-pixel")]
    assert found({"Fmask": other, "B02": other}) == [("Fmask", "fmask")]
    assert found(of_files("LC09_L2SP_1_QA_PIXEL.TIF", "LC09_L2SP_1_QA_RADSAT.TIF")) == [("asset0", "qa-pixel")]
    assert found(of_files("HLS.S30.T32TQM.2022205T103629.v2.0.Fmask.tif")) == [("asset0", "fmask")]
    emit = {"href": "./EMIT_L2A_MASK_001_20240829T142812_2424209_010.nc", "type": "application/x-netcdf"}
    assert found({"data1": emit, "data": {**emit, "href": "./EMIT_L2A_RFL_001_2024.nc"}}) == [("data1", "emit")]
    enmap = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z-QL_QUALITY_"
    kinds = ("CLASSES_COG.TIF", "CLOUD_COG.TIF", "CLOUDSHADOW_COG.TIF", "HAZE_COG.TIF")
    assert found(of_files(*(enmap + kind for kind in kinds))) == [("asset1", "flag"), ("asset2", "flag")]


def test_of_one_mask_at_several_pixel_sizes_the_finest_is_taken() -> None:
    named = {f"SCL_{gsd}m": {"href": f"./T32TQM_SCL_{gsd}m.jp2", "type": "image/jp2"} for gsd in (60, 20)}
    assert found(named) == [("SCL_20m", "scl")]
    told = {"scl": {"href": "./SCL.tif", "gsd": 60}, "SCL_x": {"href": "./a_SCL.tif", "gsd": 20}}
    assert found(told) == [("SCL_x", "scl")]


def test_pictures_and_documents_are_no_masks() -> None:
    assert found({"scl": {"href": "./SCL.xml", "type": "application/xml"}}) == []


def test_a_mask_is_what_its_item_says_of_its_file() -> None:
    assets = {"scl": {"href": "./SCL.tif", "file:checksum": "1220ab", "file:size": 7}}
    (mask,), notes = cloud_assets(assets, href=BASE, policy=AccessPolicy())
    assert not notes
    assert mask.asset.href == "https://archive.example/items/SCL.tif"
    assert (mask.asset.checksum, mask.asset.size_bytes) == ("1220ab", 7)


def test_a_mask_that_the_policy_does_not_allow_is_left_out_and_told() -> None:
    assets = {"scl": {"href": "https://10.0.0.1/SCL.tif"}}
    masks, (note,) = cloud_assets(assets, href=BASE, policy=AccessPolicy())
    assert masks == ()
    assert "mask scl is left out" in note
    assert "10.0.0.1" in note


def test_a_mask_of_a_pixel_size_that_is_none_is_left_out_and_told() -> None:
    masks, (note,) = cloud_assets({"scl": {"href": "./SCL.tif", "gsd": "20 m"}}, href=BASE, policy=AccessPolicy())
    assert masks == ()
    assert "mask scl is left out: asset scl: gsd is '20 m'" in note
