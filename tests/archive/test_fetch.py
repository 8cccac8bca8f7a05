"""Requests under the policy."""

from __future__ import annotations

from collections.abc import Iterator

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


def test_loopback_is_refused_before_anything_is_sent(stub: Stub) -> None:
    with Fetcher(AccessPolicy()) as fetcher, pytest.raises(DataError, match="allow-host"):
        fetcher.get(f"{stub.url}/a.json")
    assert stub.requests == []


def test_busy_servers_are_asked_again_with_growing_waits(stub: Stub, fetcher: Fetcher, waits: list[float]) -> None:
    stub.replies["/a"] = [(503, {}, b""), (429, {"Retry-After": "7"}, b""), (200, {}, b"fine")]
    assert fetcher.get(f"{stub.url}/a") == b"fine"
    assert 0.5 <= waits[0] < 0.7
    assert waits[1] == 7.0


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


def test_a_body_over_the_limit_is_refused(stub: Stub, fetcher: Fetcher) -> None:
    stub.replies["/a"] = [(200, {}, b"x" * 5000)]
    assert len(fetcher.get(f"{stub.url}/a", max_bytes=5000)) == 5000
    with pytest.raises(DataError, match="larger"):
        fetcher.get(f"{stub.url}/a", max_bytes=4999)
