"""Sources and searches."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pystac
import pytest
from pyarrow import parquet
from stac_geoparquet.arrow import parse_stac_items_to_parquet

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.scene import Scene
from scenefuse.archive.search import SkippedItem, collect, search
from scenefuse.archive.source import load_scene, open_source
from scenefuse.errors import DataError
from scenefuse.raster.readers import open_raster
from tests.archive.server import Stub, serve
from tests.archive.test_items import make_item

OLD_HOSTS = AccessPolicy(allow_hosts=("example.com",))


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serve() as running:
        yield running


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def catalogue(*links: tuple[str, str]) -> dict[str, Any]:
    return {
        "type": "Catalog", "stac_version": "1.1.0", "id": "c", "description": "c",
        "links": [{"rel": rel, "href": href} for rel, href in links],
    }  # fmt: skip


def numbered(count: int, collection: str = "a") -> list[dict[str, Any]]:
    return [
        make_item(
            id=f"{collection}{i}", collection=collection, properties={"datetime": f"2024-06-{i + 1:02}T10:00:00Z"}
        )
        for i in range(count)
    ]


def ids(found: Iterator[Scene | SkippedItem]) -> list[str]:
    return [scene.id for scene in collect(found).scenes]


def test_a_catalogue_gives_the_items_that_pystac_finds(test_data: Path) -> None:
    root = test_data / "stac/pystac-catalogs/planet-example-v1.0.0-beta.2"
    expected = {
        item.id for item in pystac.Collection.from_file(str(root / "collection.json")).get_items(recursive=True)
    }
    result = collect(search(open_source(str(root))))
    assert {scene.id for scene in result.scenes} == expected
    assert result.skipped == ()


def test_items_that_are_not_there_are_skipped_with_file_and_position(test_data: Path) -> None:
    result = collect(search(open_source(str(test_data / "stac/pystac-catalogs/test-case-1"), policy=OLD_HOSTS)))
    assert [scene.id for scene in result.scenes] == [f"area-{i}-{j}-imagery" for i in (1, 2) for j in (1, 2)]
    assert len(result.skipped) == 4
    assert "area-1-1/collection.json, links[1]" in result.skipped[0].reason
    assert "does not exist" in result.skipped[0].reason


def test_a_missing_child_stops_the_search_with_file_and_position(test_data: Path) -> None:
    source = open_source(str(test_data / "stac/pystac/catalogs__cbers-partial__catalog.json"))
    with pytest.raises(DataError, match=r"catalog\.json, links\[1\].*does not exist"):
        collect(search(source))


def test_an_invalid_catalogue_is_refused(test_data: Path) -> None:
    with pytest.raises(DataError, match=r"invalid-catalog__catalog\.json.*without stac_version"):
        open_source(str(test_data / "stac/pystac/catalogs__invalid-catalog__catalog.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "Catalog",\n "id": }', "line 2, column 8"),
        ("[1, 2]", "list"),
        ('{"type": "Topology"}', "not a STAC"),
        ('{"type": "FeatureCollection"}', "without a list of features"),
        ('{"type": "Catalog", "stac_version": "1.0.0"}', "without a list of links"),
        ('{"type": "Feature", "id": "a"}', "without stac_version"),
        ("[" * 100000, "maximum recursion|line 1"),
        ('{"id": ' + "9" * 5000 + "}", "4300 digits"),
        ("\udcff".encode("utf-8", "surrogateescape").decode("latin1"), "line 1"),
    ],
)
def test_a_document_that_is_not_stac_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "catalog.json", text)
    with pytest.raises(DataError, match=message) as caught:
        open_source(str(path))
    assert str(path) in str(caught.value)


def test_broken_items_do_not_stop_a_search(tmp_path: Path) -> None:
    write(tmp_path / "good.json", make_item(id="good"))
    write(tmp_path / "bad.json", "{")
    write(tmp_path / "odd.json", make_item(id="odd", properties={"eo:cloud_cover": 200}))
    links = ("item", "bad.json"), ("item", "odd.json"), ("item", "https://localhost/x.json"), ("item", "good.json")
    result = collect(search(open_source(str(write(tmp_path / "catalog.json", catalogue(*links))))))
    assert [scene.id for scene in result.scenes] == ["good"]
    assert ["line 1" in result.skipped[0].reason, "odd" in result.skipped[1].reason] == [True, True]
    assert "localhost" in result.skipped[2].reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"properties": {"platform": 8}}, "AttributeError"),
        ({"properties": {"constellation": ["sentinel-2"]}}, "AttributeError"),
        ({"bbox": ["13", "52", "14", "53"]}, "bbox is '13'"),
        ({"assets": {"data": 5}}, "AttributeError"),
        ({"collection": ["a"]}, "collection is ['a']"),
        ({"type": 5}, "STACTypeError"),
        ({"bbox": [13, 10**400, 14, 53]}, "bbox has 401 digits"),
        ({"bbox": None, "geometry": {"type": "Point", "coordinates": [10**400, 52]}}, "geometry has 401 digits"),
    ],
)
def test_an_item_with_a_value_of_the_wrong_type_is_skipped_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    features = [make_item(id="odd", **changes), make_item(id="good")]
    source = open_source(str(write(tmp_path / "all.json", {"type": "FeatureCollection", "features": features})))
    result = collect(search(source, bbox=(13, 52, 14, 53)))
    assert [scene.id for scene in result.scenes] == ["good"]
    (skipped,) = result.skipped
    assert skipped.reason.startswith("odd: ")
    assert reason in skipped.reason


def test_an_asset_whose_media_type_is_no_text_is_left_out(tmp_path: Path) -> None:
    features = [make_item(id="odd", assets={"data": {"href": "./a.tif", "type": 5}}), make_item(id="good")]
    source = open_source(str(write(tmp_path / "all.json", {"type": "FeatureCollection", "features": features})))
    odd, good = collect(search(source)).scenes
    assert (odd.assets, odd.role, good.role) == ((), None, "msi")


def test_children_are_walked_in_the_order_of_their_links(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / name / "item.json", make_item(id=name))
        write(tmp_path / name / "catalog.json", catalogue(("item", "item.json")))
    links = ("child", "b/catalog.json"), ("child", "a/catalog.json")
    assert ids(search(open_source(str(write(tmp_path / "catalog.json", catalogue(*links)))))) == ["b", "a"]


@pytest.mark.parametrize("below", [False, True])
def test_a_collection_of_an_api_is_refused_with_the_landing_page(tmp_path: Path, *, below: bool) -> None:
    """Walked as a catalogue it has no scene: APIs link `items`, a search, where static catalogues link each `item`."""
    root = "https://api.example.org/stac"
    links = ("root", root), ("items", f"{root}/collections/s2/items")
    write(tmp_path / "s2.json", catalogue(*links) | {"type": "Collection", "id": "s2"})
    write(tmp_path / "catalog.json", catalogue(("child", "s2.json")))
    source = open_source(str(tmp_path / ("catalog.json" if below else "s2.json")))
    with pytest.raises(DataError, match=rf"s2\.json is a collection of a STAC API.*{root}, with --collection s2"):
        collect(search(source))


def test_a_bound_without_a_zone_is_utc_wherever_the_machine_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(write(tmp_path / "one.json", make_item())))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        found = ids(search(source, since=datetime(2024, 6, 1, 9, 59), until=datetime(2024, 6, 1, 10, 1)))  # noqa: DTZ001
    time.tzset()
    assert found == ["one"]


def test_a_catalogue_that_links_to_itself_ends(tmp_path: Path) -> None:
    write(tmp_path / "a" / "catalog.json", catalogue(("child", "../catalog.json"), ("item", "one.json")))
    write(tmp_path / "a" / "one.json", make_item())
    root = write(
        tmp_path / "catalog.json", catalogue(("child", "./a/catalog.json"), ("child", "./a/../a/catalog.json"))
    )
    assert ids(search(open_source(root.as_uri()))) == ["one"]


def test_assets_of_items_in_subfolders_may_lie_anywhere_below_the_catalogue(tmp_path: Path) -> None:
    item = make_item()
    item["assets"]["data"]["href"] = "../data/one.tif"
    write(tmp_path / "items" / "one.json", item)
    root = write(tmp_path / "catalog.json", catalogue(("item", "items/one.json")))
    (scene,) = collect(search(open_source(str(root)))).scenes
    assert scene.assets[0].href == str((tmp_path / "data" / "one.tif").resolve())
    with pytest.raises(DataError, match="outside the catalogue"):
        load_scene(str(tmp_path / "items" / "one.json"))


def test_an_item_collection_is_searched_by_place_time_and_collection(tmp_path: Path) -> None:
    features = [*numbered(4), *numbered(2, "b"), "nonsense"]
    source = open_source(str(write(tmp_path / "all.json", {"type": "FeatureCollection", "features": features})))
    assert ids(search(source)) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    assert len(collect(search(source)).skipped) == 1
    assert ids(search(source, collections=["b"])) == ["b0", "b1"]
    assert ids(search(source, limit=3)) == ["a0", "a1", "a2"]
    odd_first = write(tmp_path / "odd.json", {"type": "FeatureCollection", "features": features[::-1]})
    found = collect(search(open_source(str(odd_first)), limit=1))
    assert (len(found.scenes), len(found.skipped)) == (1, 1)
    assert ids(search(source, since=datetime(2024, 6, 4, 10, tzinfo=UTC))) == ["a3"]
    naive = datetime(2024, 6, 2)  # noqa: DTZ001 - a time without zone is UTC
    assert ids(search(source, since=naive, until=datetime(2024, 6, 3, 10, tzinfo=UTC))) == [
        "a1",
        "a2",
        "b1",
    ]
    assert ids(search(source, bbox=(13.5, 52.5, 20, 60), limit=1)) == ["a0"]
    assert ids(search(source, bbox=(15, 52, 16, 53))) == []
    assert ids(search(source, bbox=(170, 52, 13.5, 53), limit=1)) == ["a0"]
    assert ids(search(source, bbox=(170, 52, -170, 53))) == []


@pytest.mark.parametrize("east", [-179.0, 181.0])
@pytest.mark.parametrize("has_bbox", [True, False])
def test_a_scene_across_the_antimeridian_is_found_on_both_sides_and_nowhere_else(
    tmp_path: Path,
    east: float,
    has_bbox: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    (item,) = numbered(1)
    ring = [[179.0, -18.0], [east, -18.0], [east, -17.0], [179.0, -17.0], [179.0, -18.0]]
    item["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    item["bbox"] = [179.0, -18.0, east, -17.0] if has_bbox else None
    source = open_source(str(write(tmp_path / "all.json", {"type": "FeatureCollection", "features": [item]})))
    for west, found in ((179.5, ["a0"]), (-179.6, ["a0"]), (0.0, []), (178.0, []), (-178.0, [])):
        assert ids(search(source, bbox=(west, -18, west + 0.1, -17))) == found


@pytest.mark.parametrize("posts", [True, False])
def test_a_stac_api_is_searched_page_by_page(stub: Stub, posts: bool) -> None:  # noqa: FBT001 - a parameter of the test
    stub.items, stub.posts = [*numbered(5), *numbered(3, "b")], posts
    source = open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))
    assert source.kind == "api"
    assert ids(search(source, collections=["a"])) == ["a0", "a1", "a2", "a3", "a4"]
    assert ids(search(source, limit=6)) == ["a0", "a1", "a2", "a3", "a4", "b0"]
    methods = {method for method, path, *_ in stub.requests if path.startswith("/search")}
    assert methods == {"POST" if posts else "GET"}


def test_a_stac_api_that_names_its_search_by_the_link_alone_is_searched(stub: Stub) -> None:
    stub.items = numbered(3)
    landing = stub.api("GET", "/", None) | {"conformsTo": ["https://api.stacspec.org/v1.0.0/core"]}
    stub.replies["/"] = [(200, {}, json.dumps(landing).encode())]
    source = open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))
    assert ids(search(source)) == ["a0", "a1", "a2"]


@pytest.mark.parametrize("following", ["/search?token=2", "search?token=2", "?token=2"])
def test_the_next_page_of_a_stac_api_may_be_relative_to_the_one_before(stub: Stub, following: str) -> None:
    stub.items, stub.posts = numbered(4), False
    source = open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))
    first, second = (stub.api("GET", f"/search?token={token}", None) for token in (0, 2))
    first["links"] = [{"rel": "next", "href": following}]
    stub.replies["/search"] = [(200, {}, json.dumps(page).encode()) for page in (first, second)]
    assert ids(search(source)) == ["a0", "a1", "a2", "a3"]
    assert stub.requests[-1][1] == "/search?token=2"


def test_a_stac_api_is_asked_for_place_and_time(stub: Stub) -> None:
    stub.items = numbered(1)
    source = open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))
    collect(
        search(
            source,
            bbox=(13, 52, 14, 53),
            since=datetime(2024, 6, 1, tzinfo=UTC),
            until=datetime(2024, 7, 1, tzinfo=UTC),
        )
    )
    body = stub.requests[-1][3]
    assert body["bbox"] == [13, 52, 14, 53]
    assert body["datetime"].startswith("2024-06-01T00:00:00")
    assert "/2024-07-01T00:00:00" in body["datetime"]


def test_a_stac_api_is_asked_for_times_in_utc(stub: Stub) -> None:
    source = open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))
    summer = timezone(timedelta(hours=2))
    collect(search(source, since=datetime(2024, 7, 14, tzinfo=summer), until=datetime(2024, 7, 15, tzinfo=summer)))
    assert stub.requests[-1][3]["datetime"] == "2024-07-13T22:00:00.000000Z/2024-07-14T22:00:00.000000Z"


def test_a_broken_item_of_an_api_is_skipped(stub: Stub) -> None:
    stub.items = [*numbered(2), make_item(id="odd", properties={"eo:cloud_cover": 101})]
    result = collect(search(open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))))
    assert [scene.id for scene in result.scenes] == ["a0", "a1"]
    assert "odd" in result.skipped[0].reason


def test_an_api_that_sends_its_client_elsewhere_is_refused(stub: Stub) -> None:
    stub.items = numbered(3)
    source = open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))
    page = {
        "type": "FeatureCollection",
        "features": numbered(1),
        "links": [{"rel": "next", "href": "https://10.0.0.1/x"}],
    }
    stub.replies["/search"] = [(200, {}, json.dumps(page).encode())]
    with pytest.raises(DataError, match=r"10\.0\.0\.1"):
        collect(search(source))


def test_an_api_cannot_make_its_client_read_local_files(stub: Stub, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.json", {"type": "FeatureCollection", "features": numbered(1)})
    policy = AccessPolicy(allow_hosts=(stub.host,))
    landing = stub.api("GET", "/", None)
    landing["links"][0]["href"] = secret.as_uri()
    stub.replies["/"] = [(200, {}, json.dumps(landing).encode())]
    with pytest.raises(DataError):
        collect(search(open_source(stub.url, policy=policy)))
    stub.replies.clear()
    (item,) = numbered(1)
    item["links"] = [{"rel": "self", "href": secret.as_uri()}]
    item["assets"]["data"]["href"] = "./secret.tif"
    stub.items = [item]
    result = collect(search(open_source(stub.url, policy=policy)))
    assert result.scenes == ()
    assert "local file" in result.skipped[0].reason


def test_an_api_that_answers_nonsense_is_a_data_error(stub: Stub) -> None:
    source = open_source(stub.url, policy=AccessPolicy(allow_hosts=(stub.host,)))
    stub.replies["/search"] = [(200, {}, b"[1]")]
    with pytest.raises(DataError, match="STAC API"):
        collect(search(source))


def test_a_static_catalogue_is_read_over_http(stub: Stub) -> None:
    stub.replies["/c/catalog.json"] = [(200, {}, json.dumps(catalogue(("item", "./i/one.json"))).encode())]
    item = make_item()
    item["assets"]["data"]["href"] = "./one.tif"
    stub.replies["/c/i/one.json"] = [(200, {}, json.dumps(item).encode())]
    policy = AccessPolicy(allow_hosts=(stub.host,))
    (scene,) = collect(search(open_source(f"{stub.url}/c/catalog.json", policy=policy))).scenes
    assert scene.assets[0].href == f"{stub.url}/c/i/one.tif"
    assert load_scene(f"{stub.url}/c/i/one.json", policy=policy) == scene


def test_a_raster_is_a_scene_of_which_only_the_file_can_tell(tmp_path: Path) -> None:
    path = tmp_path / "berlin.bsq"
    path.write_bytes(b"\0\1")
    scene = load_scene(str(path))
    assert (scene.id, scene.is_stac, scene.role) == ("berlin", False, None)
    assert (scene.assets[0].key, scene.assets[0].href, scene.assets[0].bands) == ("data", str(path), ())
    assert load_scene("https://data.example.org/x/one.tif?sig=1").id == "one"
    assert load_scene("s3://bucket/one.tif").is_stac is False


def test_an_item_is_told_from_a_raster_by_its_content(tmp_path: Path) -> None:
    path = write(tmp_path / "item_without_suffix", make_item())
    assert load_scene(str(path)).is_stac


def test_a_scene_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    path.touch()

    def forbid(*_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbid)  # root may read anything
    for read in (load_scene, open_raster):
        with pytest.raises(DataError, match="Permission denied: it cannot be read"):
            read(str(path))


def test_scenes_that_are_not_there_or_not_one_scene_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_scene(str(tmp_path / "absent.tif"))
    with pytest.raises(DataError, match="folder"):
        load_scene(str(tmp_path))
    with pytest.raises(DataError, match="kind catalog"):
        load_scene(str(write(tmp_path / "catalog.json", catalogue())))
    listed = write(tmp_path / "items.json", {"type": "FeatureCollection", "features": []})
    with pytest.raises(DataError, match="kind items, not a single item"):
        load_scene(str(listed))
    with pytest.raises(DataError, match="has no item gone"):
        load_scene(str(listed), item_id="gone")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="not a catalogue"):
        open_source(str(empty))
    with pytest.raises(DataError, match="https and s3 only"):
        open_source("gs://bucket/catalog.json")


def test_stac_geoparquet_gives_the_scenes_of_the_same_items(test_data: Path, tmp_path: Path) -> None:
    items = [
        json.loads(path.read_text()) | {"links": []}
        for path in sorted((test_data / "stac/pystac").glob("*.json"))
        if '"type": "Feature"' in path.read_text() and "raster" in path.name
    ]
    items += numbered(5, "near")
    for item in items[-5:]:
        item["assets"]["data"]["href"] = f"./{item['id']}.tif"
    for item in items:
        item.setdefault("stac_extensions", [])
    write(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    parse_stac_items_to_parquet(items, output_path=tmp_path / "items.parquet")
    plain = collect(search(open_source(str(tmp_path / "items.json"), policy=OLD_HOSTS)))
    table = collect(search(open_source(str(tmp_path / "items.parquet"), policy=OLD_HOSTS)))
    assert len(plain.scenes) >= 6
    by_id = {scene.id: scene for scene in table.scenes}
    for scene in plain.scenes:
        found = by_id[scene.id]
        assert repr(found.assets) == repr(scene.assets)  # a no-data value is NaN
        assert (found.acquired, found.crs, found.role, found.platform) == (
            scene.acquired, scene.crs, scene.role, scene.platform,
        )  # fmt: skip
        assert found.footprint == scene.footprint
    near = search(
        open_source(str(tmp_path / "items.parquet"), policy=OLD_HOSTS),
        collections=["near"],
        since=datetime(2024, 6, 3, tzinfo=UTC),
    )
    assert ids(near) == ["near2", "near3", "near4"]


def test_parquet_that_holds_no_items_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has no column assets, geometry, id"):
        list(search(open_source(str(tmp_path / "a.parquet"))))
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be read as stac-geoparquet"):
        list(search(open_source(str(tmp_path / "b.parquet"))))


def test_without_its_reader_stac_geoparquet_is_refused_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse_stac_items_to_parquet(numbered(1), output_path=tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "stac_geoparquet.arrow", None)
    with pytest.raises(DataError, match=r"scenefuse\[geoparquet\]"):
        list(search(open_source(str(tmp_path / "a.parquet"))))
