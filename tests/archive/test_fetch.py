"""Requests under the policy."""

from __future__ import annotations

import gzip
import logging
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NoReturn
from urllib.parse import urlsplit

import httpx
import pytest

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.fetch import Fetcher
from scenefuse.errors import DataError, TransientError
from tests.archive.server import Stub, serve


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serve() as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def fetcher(stub: Stub, waits: list[float]) -> Iterator[Fetcher]:
    with Fetcher(AccessPolicy(allow_hosts=(stub.host,)), timeout_s=2, sleep=waits.append) as running:
        yield running


def test_no_log_tells_a_signature(stub: Stub, fetcher: Fetcher, caplog: pytest.LogCaptureFixture) -> None:
    stub.replies["/a"] = [(200, {}, b"fine")]
    with caplog.at_level(logging.DEBUG):
        fetcher.get(f"{stub.url}/a?sig=secret")
    assert "secret" not in caplog.text


def test_loopback_is_refused_before_anything_is_sent(stub: Stub) -> None:
    with Fetcher(AccessPolicy()) as fetcher, pytest.raises(DataError, match="allow-host"):
        fetcher.get(f"{stub.url}/a.json")
    assert stub.requests == []


def test_busy_servers_are_asked_again_with_growing_waits(stub: Stub, fetcher: Fetcher, waits: list[float]) -> None:
    stub.replies["/a"] = [(503, {}, b""), (429, {"Retry-After": "7"}, b""), (200, {}, b"fine")]
    assert fetcher.get(f"{stub.url}/a") == b"fine"
    assert 0.5 <= waits[0] < 0.7
    assert waits[1] == 7.0


def test_a_busy_server_may_name_a_date(stub: Stub, fetcher: Fetcher, waits: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    stub.replies["/a"] = [(503, {"Retry-After": later}, b""), (503, {"Retry-After": "soon"}, b""), (200, {}, b"fine")]
    assert fetcher.get(f"{stub.url}/a") == b"fine"
    assert 7 <= waits[0] <= 9
    assert 1.0 <= waits[1] < 1.3


def test_digits_that_are_no_number_are_no_wait(stub: Stub, fetcher: Fetcher, waits: list[float]) -> None:
    stub.replies["/a"] = [(503, {"Retry-After": "\N{SUPERSCRIPT TWO}"}, b""), (200, {}, b"fine")]
    assert fetcher.get(f"{stub.url}/a") == b"fine"
    assert 0.5 <= waits[0] < 0.7


def test_a_size_of_thousands_of_digits_is_refused(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a.tif"] = [(206, {"Content-Range": f"bytes 0-0/{'9' * 5000}"}, b"a")]
    with pytest.raises(DataError, match="only served whole"):
        fetcher.get_range(f"{stub.url}/a.tif", 0, 1)


def test_a_server_that_stays_busy_is_a_transient_error(stub: Stub, fetcher: Fetcher, waits: list[float]) -> None:
    stub.replies["/a"] = [(500, {}, b"")]
    with pytest.raises(TransientError, match="4 times") as caught:
        fetcher.get(f"{stub.url}/a?sig=secret")
    assert len(stub.requests) == 4
    assert len(waits) == 3
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_transient_error(waits: list[float]) -> None:
    policy = AccessPolicy(allow_hosts=("127.0.0.1",))
    with Fetcher(policy, sleep=waits.append) as fetcher, pytest.raises(TransientError, match="ConnectError"):
        fetcher.get("http://127.0.0.1:1/a")


@pytest.mark.parametrize(("status", "message"), [(404, "404"), (401, "credentials"), (403, "credentials")])
def test_final_answers_are_not_asked_again(stub: Stub, fetcher: Fetcher, status: int, message: str) -> None:
    stub.replies["/a"] = [(status, {}, b"")]
    with pytest.raises(DataError, match=message):
        fetcher.get(f"{stub.url}/a")
    assert len(stub.requests) == 1


def test_a_redirect_is_followed_to_an_allowed_place(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a"] = [(302, {"Location": "/b?x=1"}, b"")]
    stub.replies["/b"] = [(200, {}, b"there")]
    assert fetcher.get(f"{stub.url}/a") == b"there"


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "https://169.254.169.254/latest/meta-data/",
        "http://localhost:1/",
        "s3://bucket/a",
        "ftp://x.example.org/",
    ],
)
def test_a_redirect_to_a_forbidden_place_is_refused(stub: Stub, fetcher: Fetcher, target: str) -> None:
    stub.replies["/a"] = [(302, {"Location": target}, b"")]
    with pytest.raises(DataError):
        fetcher.get(f"{stub.url}/a")
    assert len(stub.requests) == 1


def test_connections_are_used_again_after_redirects(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a"] = [(302, {"Location": "/b"}, b"<html>moved</html>")]
    stub.replies["/b"] = [(200, {}, b"there")]
    for _ in range(3):
        assert fetcher.get(f"{stub.url}/a") == b"there"
    assert (len(stub.requests), stub.connections) == (6, 1)


def test_a_long_page_beside_a_redirect_is_not_read(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a"] = [(302, {"Location": "/b"}, bytes(2**26))]
    stub.replies["/b"] = [(200, {}, b"there")]
    assert fetcher.get(f"{stub.url}/a") == b"there"
    assert stub.connections == 2


def test_endless_redirects_end(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a"] = [(302, {"Location": "/a"}, b"")]
    with pytest.raises(DataError, match="more than 5 times"):
        fetcher.get(f"{stub.url}/a")


def test_credentials_do_not_follow_to_another_host(stub: Stub) -> None:
    with serve() as other:
        stub.replies["/a"] = [(307, {"Location": f"{other.url}/b"}, b"")]
        other.replies["/b"] = [(200, {}, b"there")]
        with Fetcher(AccessPolicy(allow_hosts=("127.0.0.1",))) as fetcher:
            assert fetcher.get(f"{stub.url}/a", headers={"Authorization": "Bearer secret"}) == b"there"
        assert stub.requests[0][2]["Authorization"] == "Bearer secret"
        assert "Authorization" not in other.requests[0][2]


def test_credentials_do_not_follow_to_the_same_host_without_tls() -> None:
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.scheme, request.headers.get("Authorization")))
        plain = {"Location": "http://mine.example/a"}
        return httpx.Response(302, headers=plain) if request.url.scheme == "https" else httpx.Response(200)

    with Fetcher(AccessPolicy(allow_hosts=("mine.example",))) as fetcher:
        fetcher._client = httpx.Client(transport=httpx.MockTransport(answer))
        fetcher.get("https://mine.example/a", headers={"Authorization": "Bearer secret"})
    assert seen == [("https", "Bearer secret"), ("http", None)]


def test_a_body_over_the_limit_is_refused(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a"] = [(200, {}, b"x" * 5000)]
    assert len(fetcher.get(f"{stub.url}/a", max_bytes=5000)) == 5000
    with pytest.raises(DataError, match="larger"):
        fetcher.get(f"{stub.url}/a", max_bytes=4999)


def test_a_reply_that_is_not_packed_as_it_says_is_refused(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a"] = [(200, {"Content-Encoding": "gzip"}, b"{}")]
    with pytest.raises(DataError, match="Content-Encoding"):
        fetcher.get(f"{stub.url}/a")


def test_parts_of_a_packed_file_are_refused_at_once(stub: Stub, fetcher: Fetcher) -> None:
    packed = gzip.compress(b"pixels" * 100)
    headers = {"Content-Encoding": "gzip", "Content-Range": f"bytes 0-0/{len(packed)}"}
    stub.replies["/a.tif"] = [(206, headers, packed[:1])]
    with pytest.raises(DataError, match="Content-Encoding: gzip"):
        fetcher.get_range(f"{stub.url}/a.tif", 0, 1)
    assert len(stub.requests) == 1


def test_what_is_no_url_for_the_client_is_refused(stub: Stub, fetcher: Fetcher) -> None:
    with pytest.raises(DataError, match="too long"):
        fetcher.get(f"{stub.url}/{'a' * 70_000}")


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Names resolve to these addresses, one after the other, the last one for ever; no proxy is set."""
    found = list(answers)

    def resolve(_host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        address = found.pop(0) if len(found) > 1 else found[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_nothing_is_sent_to_a_name_that_resolves_anew(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "93.184.215.14", "127.0.0.1")
    monkeypatch.setattr(AccessPolicy, "check", lambda _policy, href, _base: href)  # http needs no certificate
    with Fetcher(AccessPolicy()) as fetcher, pytest.raises(DataError, match=r"leads to 127\.0\.0\.1"):
        fetcher.get(f"http://inside.example.org:{urlsplit(stub.url).port}/a")
    assert stub.requests == []


def test_what_goes_around_the_proxy_is_judged(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "127.0.0.1")
    there = f"inside.example.org:{urlsplit(stub.url).port}"
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", there)
    with Fetcher(AccessPolicy()) as fetcher, pytest.raises(DataError, match=r"leads to 127\.0\.0\.1"):
        fetcher.get(f"https://{there}/a")


@pytest.mark.parametrize("name", ["https_proxy", "all_proxy"])
def test_a_proxy_resolves_names_by_its_own_rules(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, waits: list[float], name: str
) -> None:
    resolve(monkeypatch, "127.0.0.1")
    monkeypatch.setenv(name, stub.url)
    with Fetcher(AccessPolicy(), sleep=waits.append) as fetcher, pytest.raises(TransientError, match="ProxyError"):
        fetcher.get("https://data.example.org/a")  # the stub does not know CONNECT


def test_a_certificate_that_is_not_trusted_is_refused_at_once(
    stub: Stub, fetcher: Fetcher, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistrust(*_: object, **__: object) -> NoReturn:
        raise ssl.SSLCertVerificationError("self-signed certificate")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", mistrust)
    with pytest.raises(DataError, match="SSL_CERT_FILE"):
        fetcher.get(f"https://{stub.host}/a")
    assert waits == []


def test_a_name_that_nobody_could_resolve_is_asked_for_again(
    stub: Stub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")] * 2

    def resolve(_host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        if failures:
            raise failures.pop()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(AccessPolicy, "check", lambda _policy, href, _base: href)
    monkeypatch.setattr(AccessPolicy, "check_address", lambda *_: None)
    stub.replies["/a"] = [(200, {}, b"there")]
    with Fetcher(AccessPolicy(), sleep=waits.append) as fetcher:
        assert fetcher.get(f"http://data.example.org:{urlsplit(stub.url).port}/a") == b"there"
    assert len(waits) == 2


def test_a_name_that_is_not_there_is_refused_at_once(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with Fetcher(AccessPolicy(), sleep=waits.append) as fetcher, pytest.raises(DataError, match="has no address"):
        fetcher.get("https://gone.example.org/a")
    assert waits == []
