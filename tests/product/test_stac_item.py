from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from pyproj import CRS
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from scenefuse.archive.scene import Scene, ScenePair
from scenefuse.errors import DataError
from scenefuse.product.commit import finish_data
from scenefuse.product.provenance import Provenance
from scenefuse.product.schemas import schema_errors, schema_map
from scenefuse.product.spec import ProductSpec
from scenefuse.product.stac_item import EXTENSIONS, build_item, footprint
from tests.product.making import GRID, ITEM_ID, PAIR, PROVENANCE, RUN, SPEC, large_spec, random_scene, write_scene


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def _build(
    tmp_path: Path, spec: ProductSpec = SPEC, pair: ScenePair = PAIR, provenance: Provenance = PROVENANCE
) -> dict[str, object]:
    return build_item(tmp_path, spec, pair=pair, provenance=provenance, finished=RUN.finished)


@pytest.mark.filterwarnings("ignore:The 'stac_validator' package:DeprecationWarning")
@pytest.mark.parametrize("name", [f"{ITEM_ID}/{ITEM_ID}.json", "collection.json", "catalog.json"])
def test_stac_validator_accepts_the_core_of_every_document_offline(committed: Path, name: str) -> None:
    from stac_validator.stac_validator import StacValidate  # type: ignore[attr-defined]

    validator = StacValidate(str(committed.parent / name), core=True, schema_map=schema_map())
    assert validator.run(), validator.message


@pytest.mark.filterwarnings("ignore:The 'stac_validator' package:DeprecationWarning")
@pytest.mark.parametrize("url", [url for url in EXTENSIONS if url in schema_map()])
def test_stac_validator_accepts_the_items_extensions_offline(committed: Path, url: str) -> None:
    from stac_validator.stac_validator import StacValidate  # type: ignore[attr-defined]

    path = committed / f"{ITEM_ID}.json"
    validator = StacValidate(str(path), custom=schema_map()[url], schema_map=schema_map())
    assert validator.run(), validator.message


@pytest.mark.filterwarnings("ignore:The 'stac_validator' package:DeprecationWarning")
def test_stac_validator_accepts_the_item_with_every_extension(committed: Path, test_data: Path) -> None:
    from stac_validator.stac_validator import StacValidate  # type: ignore[attr-defined]

    more = test_data / "stac-schemas"
    if not more.is_dir():
        pytest.skip(
            "no schemas of eo 2.0, raster 2.0 and processing 1.2 in stac-schemas/<host>/<path> of the test data"
        )
    schemas = schema_map() | {f"https://{path.relative_to(more)}": str(path) for path in more.rglob("*.json")}
    validator = StacValidate(str(committed / f"{ITEM_ID}.json"), schema_map=schemas)
    assert validator.run(), validator.message


def test_the_collection_says_what_its_items_have(committed: Path) -> None:
    collection = pystac.Collection.from_file(str(committed.parent / "collection.json"))
    (item,) = collection.get_items()
    assert collection.summaries.get_list("proj:code") == [item.properties["proj:code"]]
    assert collection.summaries.get_list("scenefuse:method") == ["gsa"]
    bands = collection.summaries.get_range("scenefuse:band_count")
    assert bands is not None
    assert (bands.minimum, bands.maximum) == (12, 12)
    assert collection.item_assets.keys() == item.assets.keys()
    for key, asset in collection.item_assets.items():
        own = item.assets[key]
        assert (asset.title, asset.media_type, asset.roles) == (own.title, own.media_type, own.roles)
    assert collection.item_assets["cog"].properties["raster:scale"] == 1e-4
    assert len((committed.parent / "collection.json").read_bytes()) < 8000, "bands stand in the items"


def test_pystac_reads_the_output_as_one_linked_catalogue(committed: Path) -> None:
    catalog = pystac.Catalog.from_file(str(committed.parent / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    assert [item.id for item in items] == [ITEM_ID]
    collection = items[0].get_collection()
    assert collection is not None
    assert collection.extent.spatial.bboxes == [items[0].bbox]
    assert items[0].get_root() is catalog
    hrefs = [asset.get_absolute_href() for asset in items[0].assets.values()]
    assert all(href and Path(href).exists() for href in hrefs)


def test_bands_are_in_micrometres_and_no_old_band_fields_are_used(committed: Path) -> None:
    text = (committed / f"{ITEM_ID}.json").read_text()
    item = json.loads(text)
    bands = item["assets"]["reflectance"]["bands"]
    assert bands[4] == {"name": "band 4", "eo:center_wavelength": 0.65, "eo:full_width_half_max": 0.008}
    assert item["assets"]["cog"]["bands"] == bands
    assert item["assets"]["cog"]["raster:scale"] == 1e-4
    assert "eo:bands" not in text
    assert "raster:bands" not in text


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform:rasterio.errors.NotGeoreferencedWarning")
def test_the_quicklook_has_a_shape_of_its_own(tmp_path: Path) -> None:
    """An asset has the item's proj: fields unless it says otherwise, and a large product is drawn smaller."""
    spec = large_spec()
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True)
    item = _build(tmp_path, spec=spec)
    assert isinstance(item["properties"], dict)
    assert isinstance(item["assets"], dict)
    for key in ("cog", "quality", "quicklook"):
        asset = item["assets"][key]
        placed = {field: asset.get(field, item["properties"][field]) for field in ("proj:shape", "proj:transform")}
        with rasterio.open(tmp_path / asset["href"]) as dataset:
            assert list(dataset.shape) == placed["proj:shape"], key
            assert key == "quicklook" or list(dataset.transform)[:6] == placed["proj:transform"], key
    assert item["assets"]["quicklook"]["proj:transform"] == [20.0, 0.0, 400_000.0, 0.0, -20.0, 5_800_000.0]


def test_times_are_the_hsis_with_both_as_the_interval(tmp_path: Path) -> None:
    properties = _build(tmp_path)["properties"]
    assert isinstance(properties, dict)
    assert properties["datetime"] == properties["start_datetime"] == "2024-05-01T10:00:00Z"
    assert properties["end_datetime"] == "2024-05-01T12:00:00Z"
    assert properties["scenefuse:gap_hours"] == 2.0
    assert "scenefuse:datetime_from" not in properties
    turned = _build(tmp_path, pair=replace(PAIR, hs=PAIR.ms, ms=PAIR.hs))["properties"]
    assert isinstance(turned, dict)
    assert turned["datetime"] == turned["end_datetime"] == "2024-05-01T12:00:00Z"
    assert turned["start_datetime"] == "2024-05-01T10:00:00Z"


def test_the_time_is_the_msis_where_that_of_the_hsi_is_unknown(tmp_path: Path) -> None:
    properties = _build(tmp_path, pair=replace(PAIR, hs=replace(PAIR.hs, acquired=None), gap_hours=None))["properties"]
    assert isinstance(properties, dict)
    assert (properties["datetime"], properties["scenefuse:datetime_from"]) == ("2024-05-01T12:00:00Z", "msi")
    assert not {"start_datetime", "scenefuse:gap_hours"} & properties.keys()


def test_the_box_and_what_the_run_found_are_properties(tmp_path: Path) -> None:
    checks = {"seams": {"rms": 1e-5, "p999": 2e-4, "max": 3e-3}, "drift": None}
    properties = _build(tmp_path, provenance=replace(PROVENANCE, checks=checks))["properties"]
    assert isinstance(properties, dict)
    assert properties["proj:bbox"] == [400_000, 5_797_000, 401_980, 5_800_000]
    assert (properties["scenefuse:seam_rms"], properties["scenefuse:seam_p999"]) == (1e-5, 2e-4)
    assert "scenefuse:drift_rms" not in properties


def _scenes(hs: dict[str, object], ms: dict[str, object]) -> ScenePair:
    return replace(PAIR, hs=replace(PAIR.hs, properties=hs), ms=replace(PAIR.ms, properties=ms))


def test_instruments_are_those_of_both_scenes_and_each_platform_is_told(tmp_path: Path) -> None:
    pair = _scenes(
        {"platform": "enmap", "instruments": ["hsi"]},
        {"platform": "sentinel-2a", "constellation": "sentinel-2", "instruments": ["msi", "hsi"]},
    )
    item = pystac.Item.from_dict(_build(tmp_path, pair=pair))
    assert item.common_metadata.instruments == ["hsi", "msi"]
    assert (item.properties["scenefuse:hs_platform"], item.properties["scenefuse:ms_platform"]) == (
        "enmap",
        "sentinel-2a",
    )
    assert item.common_metadata.platform is item.common_metadata.constellation is None, "neither is the product's"


def test_a_platform_that_carries_both_instruments_is_the_products(tmp_path: Path) -> None:
    both: dict[str, object] = {"platform": "gf-5", "constellation": "gaofen", "instruments": ["ahsi"]}
    item = pystac.Item.from_dict(_build(tmp_path, pair=_scenes(both, both | {"instruments": ["vims"]})))
    assert (item.common_metadata.platform, item.common_metadata.constellation) == ("gf-5", "gaofen")
    assert item.common_metadata.instruments == ["ahsi", "vims"]


@pytest.mark.parametrize("odd", [{}, {"platform": None, "instruments": None}, {"platform": 2, "instruments": "msi"}])
def test_an_item_says_nothing_of_instruments_that_are_not_known(odd: dict[str, object], tmp_path: Path) -> None:
    document = _build(tmp_path, pair=_scenes(odd, odd))
    assert isinstance(document["properties"], dict)
    assert not {"platform", "constellation", "instruments", "scenefuse:hs_platform"} & document["properties"].keys()
    assert not [error for error in schema_errors(document)[0] if "properties" in error]


def test_the_gap_is_told_of_every_pair_whose_times_are_known(tmp_path: Path) -> None:
    """A pair that was named, not found in an archive, does not carry its gap."""
    earlier = replace(PAIR.ms, acquired=datetime(2024, 4, 29, 8, 30, tzinfo=UTC))
    for pair, hours in ((replace(PAIR, gap_hours=None), 2.0), (replace(PAIR, ms=earlier, gap_hours=None), 49.5)):
        properties = _build(tmp_path, pair=pair)["properties"]
        assert isinstance(properties, dict)
        assert properties["scenefuse:gap_hours"] == hours
    unknown = _build(tmp_path, pair=replace(PAIR, ms=replace(PAIR.ms, acquired=None), gap_hours=None))["properties"]
    assert isinstance(unknown, dict)
    assert "scenefuse:gap_hours" not in unknown


def test_an_unknown_time_is_not_passed_off_as_the_acquisition(tmp_path: Path) -> None:
    bare = ScenePair(
        hs=Scene(id="a", assets=(), href="/x/a.bsq", is_stac=False),
        ms=Scene(id="b", assets=(), href="/x/b.bsq", is_stac=False),
    )
    item = _build(tmp_path, pair=bare)
    assert isinstance(item["properties"], dict)
    assert item["properties"]["scenefuse:datetime_from"] == "processing"
    assert isinstance(item["links"], list)
    assert {link["rel"] for link in item["links"]} == {"collection", "parent", "root"}


def test_links_to_the_sources_carry_no_signature(committed: Path) -> None:
    text = (committed / f"{ITEM_ID}.json").read_text()
    links = [link for link in json.loads(text)["links"] if link["rel"] == "derived_from"]
    assert [link["href"] for link in links] == [
        "https://a.example/hs1.json",
        "https://a.example/ms1.json",
        "./model.json",
    ]
    assert not any("secret" in path.read_text(errors="ignore") for path in committed.iterdir() if path.is_file())


def test_the_link_to_a_network_carries_its_name(tmp_path: Path) -> None:
    """The MLM extension asks for it, so that a reader knows the link without following it."""
    model = {"id": "aelf-t-1", "properties": {"title": "AELF-t", "mlm:name": "aelf-t-1"}}
    (tmp_path / "model.json").write_text(json.dumps(model))
    item = _build(tmp_path)
    assert isinstance(item["links"], list)
    (link,) = (link for link in item["links"] if link["href"] == "./model.json")
    assert (link["rel"], link["title"], link["mlm:name"]) == ("derived_from", "AELF-t", "aelf-t-1")


def test_sources_on_this_disk_are_linked_relatively(tmp_path: Path) -> None:
    pair = replace(PAIR, hs=replace(PAIR.hs, href=str(tmp_path / "archive/hs1.json")))
    item = _build(tmp_path / "out" / ITEM_ID, pair=pair)
    assert isinstance(item["links"], list)
    hrefs = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    assert hrefs == ["../../archive/hs1.json", "https://a.example/ms1.json"]


def test_the_footprint_covers_what_gdal_says_the_bounds_are() -> None:
    geometry, bbox = footprint(SPEC)
    bounds = array_bounds(*GRID.fine_shape, Affine(*GRID.fine_transform))  # type: ignore[no-untyped-call]
    left, bottom, right, top = bounds
    expected = transform_bounds(  # type: ignore[no-untyped-call]
        "EPSG:32633", "EPSG:4326", left, bottom, right, top, densify_pts=21
    )
    np.testing.assert_allclose(bbox, expected, atol=1e-6)
    ring = np.array(geometry["coordinates"][0])
    assert len(ring) == 81
    x, y = ring[:, 0], ring[:, 1]
    assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0, "the outer ring is counter-clockwise (RFC 7946)"


def test_a_grid_across_the_antimeridian_is_refused() -> None:
    grid = replace(
        GRID, crs_wkt=CRS.from_epsg(32660).to_wkt(), fine_transform=(10.0, 0.0, 833_000.0, 0.0, -10.0, 100_000.0)
    )
    with pytest.raises(DataError, match="antimeridian"):
        footprint(replace(SPEC, grid=replace(grid, coarse_shape=(100, 100))))


def test_longitudes_from_0_to_360_are_told_from_180_west_to_180_east() -> None:
    grid = replace(GRID, crs_wkt=CRS.from_epsg(4326).to_wkt(), fine_transform=(1e-3, 0.0, 190.0, 0.0, -1e-3, 10.0))
    west, _, east, _ = footprint(replace(SPEC, grid=grid))[1]
    assert west == pytest.approx(-170.0)
    assert -170.0 < east < -169.0
    across = replace(grid, fine_transform=(1e-3, 0.0, 179.99, 0.0, -1e-3, 10.0))
    with pytest.raises(DataError, match="antimeridian"):
        footprint(replace(SPEC, grid=across))


def test_a_crs_without_a_code_is_given_as_projjson(tmp_path: Path) -> None:
    crs = CRS.from_proj4("+proj=laea +lat_0=51 +lon_0=9 +ellps=GRS80 +units=m")
    grid = replace(GRID, crs_wkt=crs.to_wkt(), fine_transform=(10.0, 0.0, 0.0, 0.0, -10.0, 0.0))
    item = _build(tmp_path, spec=replace(SPEC, grid=grid))
    assert isinstance(item["properties"], dict)
    assert item["properties"]["proj:code"] is None
    assert CRS.from_json_dict(item["properties"]["proj:projjson"]) == crs
    errors, _ = schema_errors(item)
    assert not [error for error in errors if "projection" in error]
