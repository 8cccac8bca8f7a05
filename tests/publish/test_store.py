"""Static catalogues and products on an object store: the real requests, against an S3 server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scenefuse.engine.lease import Lease, LeaseHeldError
from scenefuse.errors import DataError, StorageError, WorkError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.place.store import StorePlace
from scenefuse.product.files import LEASE
from scenefuse.product.stac_item import read_item
from scenefuse.product.verify import verify
from scenefuse.publish.transfer import put_in_place
from tests.object_store import Proxy
from tests.publish.making import copy_of, make_product, published

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> list[Place]:
    out = tmp_path_factory.mktemp("output")
    return [make_product(out, number) for number in (1, 2, 3)]


def _outcomes(folders: list[Place], root: Place) -> list[str]:
    return [done.outcome for done in published(folders, root)]


def _linked(root: Place) -> set[str]:
    links = json.loads((root / "collection.json").read())["links"]
    return {link["href"].split("/")[1] for link in links if link["rel"] == "item"}


def _writes(proxy: Proxy) -> list[tuple[str, str]]:
    return [request for request in proxy.requests if request[0] not in {"GET", "HEAD"}]


def test_a_product_on_a_disk_is_published_on_a_store_and_then_left_alone(
    products: list[Place], prefix: StorePlace, proxy: Proxy
) -> None:
    (done,) = published(products[:1], prefix)
    assert (done.outcome, done.href) == ("added", str(prefix / products[0].name / f"{products[0].name}.json"))
    copy = prefix / products[0].name
    assert verify(copy).ok
    assert {*copy.files()} == {*(name for name in products[0].files() if not name.endswith(".lock"))}
    assert _linked(prefix) == {products[0].name}
    proxy.requests.clear()
    assert _outcomes(products[:1], prefix) == ["unchanged"]
    assert _writes(proxy) == []


def test_what_differs_or_is_damaged_on_a_store_is_put_again(
    products: list[Place], prefix: StorePlace, tmp_path: Path
) -> None:
    _outcomes(products[:1], prefix)
    copy = prefix / products[0].name
    (copy / "quicklook.png").put(b"")
    (copy / "weights.json").put(b"of an older release")
    assert _outcomes(products[:1], prefix) == ["replaced"]
    assert verify(copy).ok
    assert not (copy / "weights.json").exists()
    without = make_product(tmp_path, 1, cog=False)
    assert _outcomes([without], prefix) == ["replaced"]
    assert verify(copy).ok
    assert not (copy / "fused.tif").exists()


def test_products_go_from_a_store_to_a_store_and_to_a_disk(
    products: list[Place], prefix: StorePlace, tmp_path: Path
) -> None:
    _outcomes(products[:2], prefix / "a")
    there: list[Place] = [prefix / "a" / product.name for product in products[:2]]
    assert _outcomes(there, prefix / "b") == ["added", "added"]
    assert verify(prefix / "b" / products[0].name).ok
    assert _outcomes(there, place_at(tmp_path / "www")) == ["added", "added"]
    assert verify(tmp_path / "www" / products[0].name).ok
    assert _outcomes(there, place_at(tmp_path / "www")) == ["unchanged", "unchanged"]
    with pytest.raises(DataError, match="already in"):
        published(there, prefix / "a")


def test_a_large_file_goes_to_a_store_and_back_in_blocks(
    products: list[Place], prefix: StorePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenefuse.publish.transfer._BLOCK_BYTES", 5000)
    assert _outcomes(products[:1], prefix) == ["added"]
    assert verify(prefix / products[0].name).ok
    assert _outcomes([prefix / products[0].name], place_at(tmp_path)) == ["added"]
    assert verify(tmp_path / products[0].name).ok


def test_sources_on_a_disk_are_no_links_of_an_item_on_a_store(
    products: list[Place], prefix: StorePlace, tmp_path: Path
) -> None:
    product = copy_of(products[0], tmp_path / "out")
    item = read_item(product)
    (tmp_path / "ms.json").write_text("{}")
    for href in ("../../ms.json", (tmp_path / "ms.json").as_uri(), "s3://archive/ms.json"):
        item["links"].append({"rel": "derived_from", "href": href})
    (product / f"{product.name}.json").put(json.dumps(item).encode())
    _outcomes([product], prefix)
    sources = [link["href"] for link in read_item(prefix / product.name)["links"] if link["rel"] == "derived_from"]
    web = [f"https://a.example/{scene}1.json" for scene in ("HS", "MS")]
    assert sorted(sources) == ["./model.json", *web, "s3://archive/ms.json"]
    _outcomes([product], place_at(tmp_path / "www"))
    sources = [
        link["href"] for link in read_item(tmp_path / "www" / product.name)["links"] if link["rel"] == "derived_from"
    ]
    assert sorted(sources) == ["../../ms.json", "../../ms.json", "./model.json", *web, "s3://archive/ms.json"]


def test_publishers_at_once_lose_nothing(products: list[Place], prefix: StorePlace) -> None:
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(_outcomes, [product], prefix) for product in (*products, *products)]
        outcomes = [run.result()[0] for run in runs]
    assert _linked(prefix) == {product.name for product in products}
    assert all(verify(prefix / product.name).ok for product in products)
    assert outcomes.count("added") >= 3
    assert _outcomes(products, prefix) == ["unchanged"] * 3


def test_a_store_that_fails_leaves_no_item_and_the_same_call_goes_on(
    products: list[Place], prefix: StorePlace, proxy: Proxy
) -> None:
    second = products[1].name
    proxy.fail("403", method="PUT", path=f"{second}/.*zarr", times=10**6)
    with pytest.raises(WorkError, match="after 1 of 2 products") as stopped:
        published(products[:2], prefix)
    assert isinstance(stopped.value.__cause__, StorageError)
    assert not (prefix / second / f"{second}.json").exists()
    assert _linked(prefix) == {products[0].name}
    proxy.faults.clear()
    proxy.fail("503", method="PUT", times=2, after=3)
    proxy.fail("lost", method="PUT", times=2, after=5)
    assert _outcomes(products[:2], prefix) == ["unchanged", "added"]
    assert verify(prefix / second).ok


def test_a_product_that_is_being_replaced_has_no_item(
    products: list[Place], prefix: StorePlace, proxy: Proxy, tmp_path: Path
) -> None:
    _outcomes(products[:1], prefix)
    changed = make_product(tmp_path, 1, cog=False)
    fault = proxy.fail("403", method="PUT", path="zarr", times=10**6)
    with pytest.raises(StorageError, match="not allowed"):
        _outcomes([changed], prefix)
    assert fault.seen
    assert not (prefix / changed.name / f"{changed.name}.json").exists()
    proxy.faults.clear()
    assert _outcomes([changed], prefix) == ["added"]
    assert verify(prefix / changed.name).ok


def test_the_lease_outlasts_what_else_goes_from_the_folder(products: list[Place], prefix: StorePlace) -> None:
    target = prefix / products[0].name
    (target / "weights.json").put(b"of an older release")
    with Lease(target / LEASE) as lease:
        put_in_place(products[0], target, read_item(products[0]))
        lease.check()
    assert not (target / "weights.json").exists()


def test_a_publisher_waits_for_another_of_the_same_product(
    products: list[Place], prefix: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenefuse.publish.static._PATIENCE_S", 0.5)
    with Lease(prefix / products[0].name / LEASE), pytest.raises(LeaseHeldError, match="in use by process"):
        _outcomes(products[:1], prefix)
    assert not (prefix / products[0].name / "fused.zarr").exists()
    assert _outcomes(products[:1], prefix) == ["added"]


def test_a_bucket_that_is_not_there_is_refused_before_any_file(products: list[Place], proxy: Proxy) -> None:
    with pytest.raises(StorageError, match="nobody-made-it does not exist"):
        published(products[:1], StorePlace(bucket="nobody-made-it", key="www"))
    assert len(_writes(proxy)) == 1


def test_links_to_versions_follow_them_onto_a_store(prefix: StorePlace, tmp_path: Path) -> None:
    old = make_product(tmp_path, 1, version="a", cog=False)
    _outcomes([old], prefix)
    new = make_product(tmp_path, 1, version="b", cog=False)
    assert _outcomes([new], prefix) == ["added"]
    published = read_item(prefix / old.name)
    assert published["properties"]["deprecated"] is True
    links = {link["rel"]: link["href"] for link in published["links"]}
    assert links["successor-version"] == f"../{new.name}/{new.name}.json"
    assert _outcomes([new, old], prefix) == ["unchanged", "unchanged"]
