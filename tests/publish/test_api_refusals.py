"""What is no STAC API that can be written, and where credentials go: on a stub, which a real API is not for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from scenefuse.archive.access import AccessPolicy
from scenefuse.errors import DataError, SceneFuseError, StorageError, UsageError
from scenefuse.publish.asset_root import AssetRoot
from scenefuse.publish.comparison import is_held
from scenefuse.publish.stac_api import StacApi
from tests.archive.server import Stub, serve

CONFORMS = "https://api.stacspec.org/v1.0.0/ogcapi-features/extensions/transaction"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serve() as running:
        yield running


def _landing(**changed: Any) -> bytes:
    return json.dumps({"type": "Catalog", "conformsTo": [CONFORMS], "links": [], **changed}).encode()


def _open(stub: Stub, path: str = "", *hosts: str) -> StacApi:
    return StacApi(f"{stub.url}{path}", AccessPolicy(allow_hosts=(stub.host, *hosts)))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html><head><style>p {}</style></head><body><p>Welcome</p></body></html>", "no JSON but 'Welcome'"),
        (200, b"[1, 2]", "a JSON list"),
        (200, b'{"type": "Collection", "links": []}', "type 'Collection' without conformsTo"),
        (404, b'{"detail": "Not Found"}', r"answered 404 \(Not Found\)"),
        (200, _landing(conformsTo=["https://api.stacspec.org/v1.0.0/core"]), "does not conform to the Transaction"),
    ],
)
def test_what_is_no_api_that_can_be_written_is_refused(stub: Stub, status: int, body: bytes, said: str) -> None:
    stub.replies["/"] = [(status, {}, body)]
    with pytest.raises(DataError, match=said):
        _open(stub, "/")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, StorageError), (403, StorageError), (400, DataError), (413, DataError), (422, DataError)]
)
def test_refusals_are_told_by_type_in_the_apis_words(stub: Stub, status: int, kind: type[SceneFuseError]) -> None:
    stub.replies["/"] = [(200, {}, _landing())]
    said = {"detail": [{"loc": ["body", "bbox"], "msg": "is no box"}]}
    stub.replies["/collections/c/items"] = [(status, {}, json.dumps(said).encode())]
    with (
        _open(stub) as api,
        pytest.raises(kind, match=rf"POST http.*/items answered {status} \(body.bbox: is no box\)"),
    ):
        api.create({"id": "a"}, collection="c")
    assert [request[0] for request in stub.requests] == ["GET", "POST"], "not tried again"


def test_credentials_go_with_every_request_to_the_api(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENEFUSE_STAC_HEADER", "X-Api-Key: secret")
    stub.replies["/"] = [(200, {}, _landing())]
    stub.replies["/collections/c"] = [(404, {}, b"")]
    with _open(stub) as api:
        assert api.read("c") is None
    assert [request[2]["X-Api-Key"] for request in stub.requests] == ["secret", "secret"]


@pytest.mark.parametrize(
    "variable", [("SCENEFUSE_STAC_TOKEN", "secret"), ("SCENEFUSE_STAC_HEADER", "X-Api-Key: secret")]
)
def test_credentials_never_follow_a_redirect_to_another_host(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    monkeypatch.setenv(*variable)
    with serve() as other:
        stub.replies["/"] = [(302, {"Location": f"{other.url}/"}, b"")]
        other.replies["/"] = [(200, {}, _landing())]
        with pytest.raises(DataError, match=f"redirects to {other.url}.*not sent to a host that was not named"):
            _open(stub, "", other.host)
        stub.replies["/"] = [(200, {}, _landing())]
        stub.replies["/collections/c/items"] = [(307, {"Location": f"{other.url}/taken"}, b"")]
        other.replies["/taken"] = [(401, {}, b""), (201, {}, b"")]
        with _open(stub, "", other.host) as api:
            with pytest.raises(StorageError, match="401"):
                api.create({"id": "a"}, collection="c")
            with pytest.raises(DataError, match=f"redirects to {other.url}/taken"):
                api.create({"id": "a"}, collection="c")
        assert [request[1] for request in other.requests] == ["/", "/taken", "/taken"]
        assert not any("secret" in str(request[2]) for request in other.requests)
        assert all("secret" in str(request[2]) for request in stub.requests)


@pytest.mark.parametrize("path", ["/stac", "/stac/collections/c/items"], ids=["landing page", "item"])
def test_credentials_are_never_sent_in_the_clear_where_https_was_named(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """An API that does not know of the proxy that has the certificate redirects to http on its host."""
    asked: list[httpx.Request] = []

    def answer(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.scheme == "https" and request.url.path == path:
            return httpx.Response(307, headers={"Location": f"http://api.example{path}/"})
        return httpx.Response(200 if request.method == "GET" else 201, content=_landing())

    monkeypatch.setenv("SCENEFUSE_STAC_TOKEN", "secret")
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    with (
        pytest.raises(DataError, match=r"https://api\.example/stac redirects to http://api\.example/.*nor without TLS"),
        StacApi("https://api.example/stac", AccessPolicy(allow_hosts=("api.example",))) as api,
    ):
        api.create({"id": "a"}, collection="c")
    assert asked[-1].url.scheme == "http"
    assert all("Authorization" not in request.headers for request in asked if request.url.scheme == "http")


def test_a_page_to_sign_in_on_has_not_taken_the_item(stub: Stub) -> None:
    stub.replies["/"] = [(200, {}, _landing())]
    stub.replies["/collections/c/items"] = [(303, {"Location": "/login"}, b"")]
    stub.replies["/login"] = [(200, {}, b"<html><title>x</title><h1>Sign in</h1></html>")]
    with _open(stub) as api, pytest.raises(DataError, match=r"/login answered no JSON but '.*Sign in'"):
        api.create({"id": "a"}, collection="c")


def test_an_api_that_moved_on_its_own_host_is_followed(stub: Stub) -> None:
    stub.replies["/"] = [(302, {"Location": "/stac/v1/"}, b"")]
    stub.replies["/stac/v1/"] = [(200, {}, _landing())]
    with _open(stub) as api:
        assert api.address("a b", "c/d") == f"{stub.url}/stac/v1/collections/a%20b/items/c%2Fd"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SCENEFUSE_STAC_TOKEN": "se\ncret"}, "characters that a header cannot have"),
        ({"SCENEFUSE_STAC_HEADER": "secret"}, "not a header"),
        ({"SCENEFUSE_STAC_HEADER": "X Y: secret"}, "not a header"),
        ({"SCENEFUSE_STAC_TOKEN": "secret", "SCENEFUSE_STAC_HEADER": "X: secret"}, "both set"),
    ],
)
def test_credentials_that_cannot_be_sent_are_wrong_usage(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said) as refused:
        _open(stub)
    assert "secret" not in str(refused.value)
    assert stub.requests == []


def test_pages_are_asked_of_the_api_itself_whatever_host_it_believes_to_be(stub: Stub) -> None:
    stub.replies["/"] = [(200, {}, _landing())]
    following = {"rel": "next", "href": "http://inside:8080/collections/c/items?token=next:2&limit=250"}
    pages = [{"features": [{"id": "a"}], "links": [following]}, {"features": [{"id": "b"}], "links": []}]
    stub.replies["/collections/c/items"] = [(200, {}, json.dumps(page).encode()) for page in pages]
    with _open(stub) as api:
        assert [item["id"] for item in api.items("c")] == ["a", "b"]
    assert stub.requests[-1][1] == "/collections/c/items?limit=250&token=next%3A2"


def test_pages_that_never_end_are_refused(stub: Stub) -> None:
    stub.replies["/"] = [(200, {}, _landing())]
    page = {"features": [{"id": "a"}], "links": [{"rel": "next", "href": "?token=1"}]}
    stub.replies["/collections/c/items"] = [(200, {}, json.dumps(page).encode())]
    with _open(stub) as api, pytest.raises(DataError, match="the same next page twice"):
        list(api.items("c"))


def test_links_that_are_no_objects_are_passed_over(stub: Stub) -> None:
    search = "https://api.stacspec.org/v1.0.0/item-search"
    stub.replies["/"] = [(200, {}, _landing(conformsTo=[CONFORMS, search], links=["/search", None]))]
    page = {"features": [{"id": "a"}, 7], "links": ["?token=1", None]}
    stub.replies["/collections/c/items"] = [(200, {}, json.dumps(page).encode())]
    with _open(stub) as api:
        assert list(api.items("c")) == [{"id": "a"}]


def test_items_are_asked_for_by_their_ids_until_all_are_given(stub: Stub) -> None:
    search = [{"rel": "search", "href": "http://inside:8080/search", "method": method} for method in ("GET", "POST")]
    conforms = [CONFORMS, *(f"https://api.stacspec.org/v1.0.0/item-search{end}" for end in ("", "#fields"))]
    stub.replies["/"] = [(200, {}, _landing(conformsTo=conforms, links=search))]
    more = [{"rel": "next", "href": "http://inside:8080/search", "method": "POST", "body": {"token": "next:b"}}]
    pages = [
        {"features": [{"id": "b"}, {"id": "x"}], "links": more},
        {"features": [{"id": "c"}], "links": [], "context": {"matched": 2}},
    ]
    stub.replies["/search"] = [(200, {}, json.dumps(page).encode()) for page in pages]
    with _open(stub) as api:
        assert [item["id"] for item in api.find("s", ["a", "b", "c", "b"], ("id",))] == ["b", "c"]
    fields = {"include": ["id"], "exclude": []}
    assert [request[3] for request in stub.requests[1:]] == [
        {"collections": ["s"], "ids": ["a", "b", "c"], "limit": 3, "fields": fields},
        {"collections": ["s"], "ids": ["a", "c"], "limit": 2, "fields": fields},
    ]


@pytest.mark.parametrize("links", [[], [{"rel": "search", "href": "/search"}]], ids=["no search", "search by GET"])
def test_an_api_that_cannot_be_asked_for_ids_lists_its_items(stub: Stub, links: list[dict[str, str]]) -> None:
    stub.replies["/"] = [(200, {}, _landing(links=links))]
    page = {"features": [{"id": name} for name in "abc"], "links": []}
    stub.replies["/collections/s/items"] = [(200, {}, json.dumps(page).encode())]
    stub.replies["/collections/s/items/b"] = [(200, {}, b'{"id": "b", "assets": {}}')]
    stub.replies["/collections/s/items/z"] = [(404, {}, b"{}")]
    with _open(stub) as api:
        assert [item["id"] for item in api.find("s", ["z", "b"], ("id",))] == ["b"]
        assert list(api.find("s", ["z", "b"])) == [{"id": "b", "assets": {}}]
    assert [request[0] for request in stub.requests] == ["GET"] * 4


def test_hrefs_under_an_asset_root_are_escaped() -> None:
    assert AssetRoot(url="https://a.example/x/").href("a b", "c#.tif") == "https://a.example/x/a%20b/c%23.tif"


ITEM: dict[str, Any] = {
    "id": "a",
    "bbox": [1.0, 2.0, 3.0, 4.0],
    "properties": {"datetime": "2024-05-01T10:00:00Z", "created": "2024-05-02T10:00:00Z", "proj:code": None, "n": 1},
    "assets": {"data": {"href": "https://a.example/x.tif", "file:size": 3}},
    "links": [
        {"rel": "derived_from", "href": "https://a.example/y.json"},
        {"rel": "self", "href": "https://b.example/a"},
    ],
    "stac_extensions": ["https://e.example/b.json", "https://e.example/a.json"],
    "stac_version": "1.1.0",
}


@pytest.mark.parametrize(
    "change",
    [
        {"stac_version": "1.0.0", "created_by": "the server"},
        {"bbox": [1, 2, 3, 4]},
        {"properties": {"datetime": "2024-05-01T12:00:00.000+02:00", "created": "2026-01-01T00:00:00Z", "n": 1.0}},
        {"properties": ITEM["properties"] | {"updated": "2026-01-01T00:00:00Z"}},
        {"links": [{"rel": "self", "href": "https://c.example/"}, {"rel": "tiles", "href": "/t"}, ITEM["links"][0]]},
        {"stac_extensions": [*reversed(ITEM["stac_extensions"]), "https://e.example/c.json"]},
    ],
)
def test_what_a_server_adds_or_writes_otherwise_is_the_same_item(change: dict[str, Any]) -> None:
    assert is_held(ITEM, ITEM | change)


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [1.0, 2.0, 3.0, 4.1]},
        {"properties": ITEM["properties"] | {"datetime": "2024-05-01T10:00:01Z"}},
        {"properties": ITEM["properties"] | {"n": True}},
        {"properties": ITEM["properties"] | {"deprecated": True}},
        {"properties": {"datetime": "2024-05-01T10:00:00Z"}},
        {"assets": {}},
        {"assets": ITEM["assets"] | {"more": {"href": "https://a.example/z.tif"}}},
        {"links": []},
        {"links": [*ITEM["links"], {"rel": "successor-version", "href": "https://a.example/z.json"}]},
        {"stac_extensions": []},
    ],
)
def test_what_differs_is_not_the_same_item(change: dict[str, Any]) -> None:
    assert not is_held(ITEM, ITEM | change)
