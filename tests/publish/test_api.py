"""Products into a real STAC API, stac-fastapi-pgstac on PostgreSQL, behind a network that fails as it is told."""

from __future__ import annotations

import functools
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pystac
import pytest
import rasterio
from pystac_client import Client

from scenefuse.archive import fetch
from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.remote import open_remote
from scenefuse.cli.app import main
from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.errors import DataError, MismatchError, StorageError, TransientError, WorkError
from scenefuse.pipeline.fuse import fuse
from scenefuse.place.place import Place
from scenefuse.product.schemas import schema_errors, schema_map
from scenefuse.product.stac_item import COLLECTION_ID, read_item
from scenefuse.product.verify import VerifyReport, verify
from scenefuse.publish.api import ApiCatalogue
from scenefuse.publish.asset_root import AssetRoot
from scenefuse.publish.stac_api import StacApi
from tests.object_store import Proxy, fault_proxy
from tests.pipeline.making import write_pair
from tests.publish.making import copy_of, make_product
from tests.range_server import web_folder
from tests.serving import serving
from tests.stac_api import StacServers, missing, stac_servers

pytestmark = pytest.mark.slow

POLICY = AccessPolicy(allow_hosts=("127.0.0.1",))
ROOT = AssetRoot(url="https://files.example/fused")


@pytest.fixture(scope="module")
def servers() -> Iterator[StacServers]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with stac_servers() as running:
        yield running


@pytest.fixture
def api(servers: StacServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before an API without any collection; retries are made with short pauses."""
    httpx.delete(f"http://{servers.address}/collections/{COLLECTION_ID}")
    monkeypatch.setattr(fetch, "_BACKOFF_S", 0.01)
    with fault_proxy(servers.address) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> list[Place]:
    """Products of six pairs, each at a place and a day of its own."""
    out = tmp_path_factory.mktemp("output")
    return [make_product(out, number, cog=number == 1) for number in range(1, 7)]


def _catalogue(proxy: Proxy, root: AssetRoot = ROOT) -> ApiCatalogue:
    return ApiCatalogue(url=f"http://{proxy.address}/", root=root, policy=POLICY)


def _outcomes(proxy: Proxy, *folders: Place) -> list[str]:
    return [done.outcome for done in _catalogue(proxy).publish(folders)]


def _writes(proxy: Proxy) -> list[str]:
    return [method for method, _ in proxy.requests if method not in {"GET", "HEAD"}]


def _get(proxy: Proxy, item: str | None = None) -> dict[str, Any]:
    path = f"/collections/{COLLECTION_ID}" + (f"/items/{item}" if item else "")
    document: dict[str, Any] = httpx.get(f"http://{proxy.address}{path}").raise_for_status().json()
    return document


def _assert_holds(proxy: Proxy, folders: list[Place]) -> None:
    """The collection says where and when all the products are, and what they were made from."""
    collection, items = _get(proxy), [read_item(folder) for folder in folders]
    west, south, east, north = collection["extent"]["spatial"]["bbox"][0]
    corners = list(zip(*(item["bbox"] for item in items), strict=True))
    assert (west, south, east, north) == (*map(min, corners[:2]), *map(max, corners[2:]))
    start, end = collection["extent"]["temporal"]["interval"][0]
    assert start == min(item["properties"]["start_datetime"] for item in items)
    assert end == max(item["properties"]["end_datetime"] for item in items)
    platforms = {item["properties"]["platform"] for item in items}
    assert {*collection["summaries"]["platform"]} == platforms
    assert {*collection["item_assets"]} == {key for item in items for key in item["assets"]}


def _links(document: dict[str, Any], rel: str) -> list[str]:
    return [link["href"] for link in document["links"] if link["rel"] == rel]


# --- what readers find ------------------------------------------------------------------------------------------------


def test_a_fused_pair_is_found_by_search_and_read_by_its_href(api: Proxy, tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "pair", ratio=4, coarse_shape=(20, 20))
    product = fuse(
        pair.hs, pair.ms, out=tmp_path / "out", config=RunConfig(model="gsa", core_px=64), lane=InProcessLane()
    )
    with web_folder(tmp_path / "out") as web:
        root = AssetRoot(url=f"http://{web.host}")
        checking = ApiCatalogue(url=f"http://{api.address}", root=root, policy=POLICY, checks_assets=True)
        (done,) = checking.publish([product.location.parent])
        found = pystac.Item.from_dict(httpx.get(done.href).json())
        cog = found.assets["cog"]
        there = open_remote(cog.href, POLICY)
        (tmp_path / "fetched.tif").write_bytes(there.read((0, there.size_bytes)))
    with rasterio.open(tmp_path / "fetched.tif") as image, rasterio.open(product.folder / "fused.tif") as here:
        assert (image.read() == here.read()).all()
        assert image.count == len(cog.extra_fields["bands"])
    assert found.assets["reflectance"].href == f"http://{web.host}/{product.item_id}/fused.zarr"


def test_a_product_is_found_by_place_time_collection_and_properties(api: Proxy, products: list[Place]) -> None:
    _outcomes(api, *products)
    client = Client.open(f"http://{api.address}/")
    second = read_item(products[1])
    west, south, east, north = second["bbox"]
    x, y = (west + east) / 2, (south + north) / 2

    def found(**asked: Any) -> set[str]:
        return {item.id for item in client.search(collections=[COLLECTION_ID], **asked).items()}

    assert found() == {product.name for product in products}
    assert found(bbox=[x, y, x + 1e-4, y + 1e-4]) == {second["id"]}
    assert found(datetime="2024-05-03T00:00:00Z/2024-05-03T23:59:59Z") == {second["id"]}
    assert found(query={"platform": {"eq": "satellite-2"}}) == {second["id"]}
    assert found(query={"scenefuse:band_count": {"gte": 13}}) == set()
    by_processing = {"op": "=", "args": [{"property": "processing:lineage"}, "HS2 fused with MS2 by gsa"]}
    assert found(filter=by_processing, filter_lang="cql2-json") == {second["id"]}


@pytest.mark.filterwarnings("ignore:The 'stac_validator' package:DeprecationWarning")
def test_what_comes_back_is_valid_stac_and_its_links_stay_in_the_api(
    api: Proxy, products: list[Place], tmp_path: Path
) -> None:
    from stac_validator.stac_validator import StacValidate  # type: ignore[attr-defined]

    _outcomes(api, *products[:2])
    base, name = f"http://{api.address}", products[0].name
    for document in (_get(api), _get(api, name)):
        path = tmp_path / f"{document['id']}.json"
        path.write_text(json.dumps(document))
        validator = StacValidate(str(path), core=True, schema_map=schema_map())
        assert validator.run(), validator.message
    item = _get(api, name)
    assert schema_errors(item)[0] == []
    assert _links(item, "collection") == _links(item, "parent") == [f"{base}/collections/{COLLECTION_ID}"]
    assert _links(item, "self") == [f"{base}/collections/{COLLECTION_ID}/items/{name}"]
    assert _links(item, "derived_from") == [
        "https://a.example/HS1.json",
        "https://a.example/MS1.json",
        f"{ROOT.url}/{name}/model.json",
    ]
    assert "secret" not in json.dumps(item)
    assert {asset["href"].rpartition("/")[0] for asset in item["assets"].values()} == {f"{ROOT.url}/{name}"}
    collection = Client.open(f"{base}/").get_collection(COLLECTION_ID)
    assert collection is not None
    assert next(entry.get_collection() for entry in collection.get_items(name)) == collection


# --- again, and changed -----------------------------------------------------------------------------------------------


def test_publishing_again_writes_nothing(api: Proxy, products: list[Place]) -> None:
    assert _outcomes(api, *products[:2]) == ["added", "added"]
    before = _get(api), _get(api, products[0].name)
    api.requests.clear()
    assert _outcomes(api, *products[:2]) == ["unchanged", "unchanged"]
    assert _writes(api) == []
    assert (_get(api), _get(api, products[0].name)) == before


def test_a_pass_asks_for_its_own_items_alone_page_by_page(
    api: Proxy, products: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    _outcomes(api, *products[:5])
    changed = _get(api, products[1].name)
    changed["properties"]["scenefuse:seam_rms"] = 0.5
    items = f"http://{api.address}/collections/{COLLECTION_ID}/items"
    httpx.put(f"{items}/{changed['id']}", json=changed).raise_for_status()
    verified: list[Place] = []

    def noted(folder: Place) -> VerifyReport:
        verified.append(folder)
        return verify(folder)

    monkeypatch.setattr("scenefuse.publish.api.verify", noted)
    monkeypatch.setattr("scenefuse.publish.api.PAGE", 2)
    monkeypatch.setattr("scenefuse.publish.stac_api.PAGE", 2)
    api.requests.clear()
    names = {product.name for product in products}
    done = _catalogue(api).publish([*products[:3], products[5]], trusted=names - {products[5].name})
    assert [entry.outcome for entry in done] == ["unchanged", "replaced", "unchanged", "added"]
    assert verified == [products[1], products[5]]
    read = [path for method, path in api.requests if method == "GET"]
    assert not any(products[number].name in path for path in read for number in (0, 2, 3, 4))
    api.requests.clear()
    assert _catalogue(api).held([*names, "other"]) == names
    assert [path for method, path in api.requests if method == "POST"] == ["/search"] * 4
    assert not any("/items" in path for _, path in api.requests)


def test_an_item_that_differs_is_replaced(api: Proxy, products: list[Place], tmp_path: Path) -> None:
    _outcomes(api, products[0])
    changed = make_product(tmp_path, 1, cog=False)  # the same id, without the COG
    assert changed.name == products[0].name
    assert _outcomes(api, changed) == ["replaced"]
    assert "cog" not in _get(api, changed.name)["assets"]
    assert _outcomes(api, products[0]) == ["replaced"]
    elsewhere = AssetRoot(url="s3://bucket/fused")
    assert _catalogue(api, elsewhere).publish(products[:1])[0].outcome == "replaced"
    assert _get(api, changed.name)["assets"]["cog"]["href"] == f"s3://bucket/fused/{changed.name}/fused.tif"


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].update(deprecated=True),
        lambda item: item["properties"].update({"scenefuse:seam_rms": 0.5}),
        lambda item: item["assets"].pop("quicklook"),
        lambda item: item["assets"]["quality"].update(href="https://other.example/q.tif"),
        lambda item: item["links"].append({"rel": "successor-version", "href": "https://a.example/x.json"}),
    ],
    ids=["deprecated", "property", "asset", "href", "link"],
)
def test_what_somebody_changed_in_the_api_is_put_right(
    api: Proxy, products: list[Place], change: Callable[[dict[str, Any]], None]
) -> None:
    _outcomes(api, products[0])
    item = _get(api, products[0].name)
    change(item)
    httpx.put(f"http://{api.address}/collections/{COLLECTION_ID}/items/{item['id']}", json=item).raise_for_status()
    assert _outcomes(api, products[0]) == ["replaced"]
    assert _outcomes(api, products[0]) == ["unchanged"]


def test_a_corrected_input_deprecates_the_old_item(api: Proxy, tmp_path: Path) -> None:
    old = make_product(tmp_path, 1, version="a", cog=False)
    before = copy_of(old, tmp_path / "before")
    _outcomes(api, before)
    new = make_product(tmp_path, 1, version="b", cog=False)
    assert _outcomes(api, new) == ["added"]
    items = f"http://{api.address}/collections/{COLLECTION_ID}/items"
    deprecated = _get(api, old.name)
    assert deprecated["properties"]["deprecated"] is True
    assert _links(deprecated, "successor-version") == [f"{items}/{new.name}"]
    assert _links(_get(api, new.name), "predecessor-version") == [f"{items}/{old.name}"]
    assert _outcomes(api, old, new) == ["unchanged", "unchanged"]
    again = make_product(tmp_path, 1, version="a", cog=False)  # asked for last: current again
    assert _outcomes(api, again) == ["replaced"]
    assert _links(_get(api, new.name), "successor-version") == [f"{items}/{old.name}"]
    assert _links(_get(api, new.name), "predecessor-version") == []
    assert "deprecated" not in _get(api, old.name)["properties"]


def test_versions_that_the_api_does_not_have_are_not_linked(api: Proxy, tmp_path: Path) -> None:
    old = make_product(tmp_path, 1, version="a", cog=False)
    new = make_product(tmp_path, 1, version="b", cog=False)
    _outcomes(api, new)
    assert _links(_get(api, new.name), "predecessor-version") == []
    assert _outcomes(api, new, old) == ["replaced", "added"]
    assert _outcomes(api, new, old) == ["unchanged", "unchanged"]


# --- the collection ---------------------------------------------------------------------------------------------------


def test_a_later_product_takes_nothing_from_the_collection(api: Proxy, products: list[Place]) -> None:
    for product in (products[2], products[0], products[1]):
        _outcomes(api, product)
    _assert_holds(api, products[:3])


def test_a_collection_that_others_began_keeps_what_is_theirs(api: Proxy, products: list[Place]) -> None:
    theirs = {
        "type": "Collection", "stac_version": "1.0.0", "id": COLLECTION_ID, "description": "Ours", "license": "MIT",
        "title": "Fused over Brandenburg", "keywords": ["a"], "providers": [{"name": "Us", "roles": ["host"]}],
        "extent": {"spatial": {"bbox": [[11.0, 51.0, 0.0, 11.5, 51.5, 9.0]]}, "temporal": {"interval": [[None, None]]}},
        "links": [{"rel": "license", "href": "https://a.example/licence"}], "summaries": {},
    }  # fmt: skip
    httpx.post(f"http://{api.address}/collections", json=theirs).raise_for_status()
    _outcomes(api, *products[:2])
    collection = _get(api)
    kept = ("description", "license", "title", "keywords", "providers")
    assert {name: collection[name] for name in kept} == {name: theirs[name] for name in kept}
    assert _links(collection, "license") == ["https://a.example/licence"]
    assert collection["extent"]["temporal"]["interval"] == [[None, None]]
    assert collection["extent"]["spatial"]["bbox"][0][:2] == [11.0, 51.0]
    assert collection["summaries"]["platform"] == ["satellite-1", "satellite-2"]


@pytest.mark.bench
def test_publishers_at_once_lose_nothing(api: Proxy, products: list[Place]) -> None:
    for _ in range(3):
        httpx.delete(f"http://{api.address}/collections/{COLLECTION_ID}")
        with ThreadPoolExecutor(len(products)) as pool:
            runs = [pool.submit(_until_it_passes, api, product) for product in products]
            assert {run.result() for run in runs} <= {"added", "unchanged"}
        _assert_holds(api, products)


def _until_it_passes(proxy: Proxy, product: Place) -> str:
    """What publishing did in the end: while several make a new collection at once, pgSTAC may answer 500 for a time."""
    for _ in range(10):
        with suppress(TransientError):
            (outcome,) = _outcomes(proxy, product)
            return outcome
    raise AssertionError(product)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)], ids=["item", "assets"])
def test_what_another_put_between_reading_and_writing_is_not_lost(
    api: Proxy, products: list[Place], monkeypatch: pytest.MonkeyPatch, order: tuple[int, int, int]
) -> None:
    """The last of the three is published meanwhile; number 0 alone has a COG, which the collection has to describe."""
    first, late, between = (products[number] for number in order)
    _outcomes(api, first)
    replace = StacApi.replace
    held: list[dict[str, Any]] = []

    def replace_late(self: StacApi, document: dict[str, Any], *, collection: str | None = None) -> bool:
        if collection is None and not held:
            held.append(document)
            assert _outcomes(api, between) == ["added"]
            assert {*read_item(between)["assets"]} <= {*_get(api)["item_assets"]}
        return replace(self, document, collection=collection)

    monkeypatch.setattr(StacApi, "replace", replace_late)
    assert _outcomes(api, late) == ["added"]
    _assert_holds(api, [first, late, between])


def test_a_collection_that_lost_an_item_is_mended(api: Proxy, products: list[Place]) -> None:
    _outcomes(api, *products[:3])
    collection = _get(api)
    collection["summaries"]["platform"] = ["satellite-3"]
    httpx.put(f"http://{api.address}/collections/{COLLECTION_ID}", json=collection).raise_for_status()
    assert _outcomes(api, products[0]) == ["replaced"]
    _assert_holds(api, products[:3])
    assert _outcomes(api, *products[:3]) == ["unchanged"] * 3


def test_a_collection_of_many_pages_is_read_whole(
    api: Proxy, products: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenefuse.publish.stac_api.PAGE", 2)
    _outcomes(api, *products)
    collection = _get(api)
    collection["summaries"]["platform"] = []
    httpx.put(f"http://{api.address}/collections/{COLLECTION_ID}", json=collection).raise_for_status()
    _outcomes(api, products[0])
    _assert_holds(api, products)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_product_that_does_not_verify_is_not_published(api: Proxy, products: list[Place], tmp_path: Path) -> None:
    damaged = copy_of(products[1], tmp_path)
    (damaged / "quicklook.png").put(b"")
    with pytest.raises(MismatchError, match=r"quicklook\.png"):
        _outcomes(api, products[0], damaged)
    assert _writes(api) == []


def test_assets_that_are_not_at_their_root_are_told(api: Proxy, products: list[Place], tmp_path: Path) -> None:
    out = tmp_path / "served"
    copy = copy_of(products[0], out)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=out))
    with serving(server):
        root = AssetRoot(url=f"http://127.0.0.1:{server.server_port}")
        checking = ApiCatalogue(url=f"http://{api.address}", root=root, policy=POLICY, checks_assets=True)
        shutil.rmtree(out / copy.name / "fused.zarr")
        with pytest.raises(DataError, match=r"fused\.zarr/zarr\.json answered 404.*asset-root"):
            checking.publish(products[:1])
        (copy / "quality.tif").put(b"cut short")
        with pytest.raises(DataError, match=r"quality\.tif has 9 bytes, not"):
            checking.publish(products[:1])
    assert _writes(api) == []


def test_an_api_without_transactions_is_refused(servers: StacServers, products: list[Place]) -> None:
    catalogue = ApiCatalogue(url=f"http://{servers.read_only}", root=ROOT, policy=POLICY)
    with pytest.raises(DataError, match=r"Transaction extension.*ENABLE_TRANSACTIONS_EXTENSIONS"):
        catalogue.publish(products[:1])


def test_an_item_that_the_api_does_not_take_is_told_in_its_words(
    api: Proxy, products: list[Place], tmp_path: Path
) -> None:
    odd = make_product(tmp_path, 9, hs_id="HS+9", cog=False)
    _outcomes(api, products[2])
    with pytest.raises(WorkError, match=r"cannot contain.*after 1 of 3 products"):
        _outcomes(api, products[0], odd, products[1])
    with pytest.raises(DataError, match=r"answered 400 \(ID \(HS\+9.* cannot contain") as refused:
        _outcomes(api, odd)
    assert not refused.value.retryable
    _assert_holds(api, [products[0], products[2]])
    assert _outcomes(api, *products[:2]) == ["unchanged", "added"]


def test_a_token_is_needed_sent_and_never_told(
    api: Proxy, products: list[Place], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api.bearer = "right-one"
    for wrong in (None, "wrong-one"):
        if wrong is not None:
            monkeypatch.setenv("SCENEFUSE_STAC_TOKEN", wrong)
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(StorageError, match=r"401 \(Not authenticated\).*SCENEFUSE_STAC_TOKEN") as refused,
        ):
            _outcomes(api, products[0])
        assert "wrong-one" not in f"{refused.value}{caplog.text}"
    monkeypatch.setenv("SCENEFUSE_STAC_TOKEN", "right-one\n")
    with caplog.at_level(logging.DEBUG):
        assert _outcomes(api, products[0]) == ["added"]
    assert "right-one" not in f"{caplog.text}{_get(api)}{_get(api, products[0].name)}"
    monkeypatch.delenv("SCENEFUSE_STAC_TOKEN")
    monkeypatch.setenv("SCENEFUSE_STAC_HEADER", "Authorization: Bearer right-one")
    assert _outcomes(api, *products[:2]) == ["unchanged", "added"]


# --- a network that fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, method) for kind in ("500", "503", "reset", "lost", "truncated") for method in ("GET", "POST", "PUT")]
    + [("slow", "POST")],
)
def test_what_passes_is_tried_again(api: Proxy, products: list[Place], kind: Any, method: str) -> None:
    if method == "PUT":
        _outcomes(api, products[1])
    fault = api.fail(kind, method=method, times=3)
    assert _outcomes(api, products[0]) == ["added"]
    assert fault.seen >= 1
    _assert_holds(api, products[:2] if method == "PUT" else products[:1])
    assert _outcomes(api, products[0]) == ["unchanged"]


def test_a_server_that_asks_for_patience_gets_it(api: Proxy, products: list[Place]) -> None:
    api.fail("429", method="POST", path="items$")
    began = time.monotonic()
    assert _outcomes(api, products[0]) == ["added"]
    assert time.monotonic() - began > 1


def test_a_server_that_stays_away_is_a_failure_that_passes(api: Proxy, products: list[Place]) -> None:
    fault = api.fail("503", method="POST", path="items$", times=10**6)
    with pytest.raises(TransientError, match=r"POST http.*items failed 4 times \(status 503: .*Told"):
        _outcomes(api, products[0])
    assert fault.seen == 4
    fault.after = fault.seen + 1
    with pytest.raises(WorkError, match=r"failed 4 times.*after 1 of 2 products"):
        _outcomes(api, *products[:2])
    _assert_holds(api, products[:1])
    api.faults.clear()
    assert _outcomes(api, *products[:2]) == ["unchanged", "added"]


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_command_publishes_what_it_says(
    api: Proxy, products: list[Place], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["scenefuse", "publish", str(products[0]), "--to", f"http://{api.address}", "--asset-root", ROOT.url]
    monkeypatch.setattr("sys.argv", [*call, "--allow-host", "127.0.0.1", "--json"])
    for outcome in ("added", "unchanged"):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        (entry,) = json.loads(capsys.readouterr().out)["published"]
        href = f"http://{api.address}/collections/{COLLECTION_ID}/items/{products[0].name}"
        assert entry == {"item_id": products[0].name, "outcome": outcome, "href": href}
