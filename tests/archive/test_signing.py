"""Files that open with a token which their archive gives to everyone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from scenefuse.archive import fetch, signing
from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.known import TokenSource
from scenefuse.archive.remote import open_remote
from scenefuse.errors import DataError
from tests.archive.server import Stub, serve

DATA = bytes(range(256)) * 20


class Guarded(Stub):
    """A server whose files open with the newest token only."""

    token = 0
    lasts_s = 3600.0
    asked = 0

    def answer(self, _: str, target: str, __: object) -> tuple[int, dict[str, str], bytes]:
        path, query = urlsplit(target).path, urlsplit(target).query
        if path.startswith("/token/"):
            assert path == "/token/127/sentinel2-l2"
            self.asked += 1
            self.token += 1
            expiry = datetime.now(UTC) + timedelta(seconds=self.lasts_s)
            reply = {"msft:expiry": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"), "token": f"se=1&sig=secret{self.token}"}
            return 200, {}, json.dumps(reply).encode()
        if query != f"se=1&sig=secret{self.token}":
            return 403, {}, b""
        asked = self.requests[-1][2]["Range"].removeprefix("bytes=")
        first, last = map(int, asked.split("-"))
        headers = {"Content-Range": f"bytes {first}-{last}/{len(DATA)}", "ETag": '"1"'}
        return 206, headers, DATA[first : last + 1]


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.setattr(fetch, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(signing, "_tokens", {})
    stub = Guarded()
    with serve(stub):
        source = TokenSource(hosts=("127.0.0.1",), url=stub.url + "/token/{account}/{container}")
        monkeypatch.setattr(signing, "_sources", lambda: {"127.0.0.1": source})
        yield stub


def address(stub: Stub) -> str:
    return f"{stub.url}/sentinel2-l2/33/a.tif"


def test_a_file_is_opened_with_a_token_that_is_asked_for_once(guarded: Guarded) -> None:
    file = open_remote(address(guarded), AccessPolicy(allow_hosts=(guarded.host,)))
    assert file.read((5, 700)) == DATA[5:700]
    assert file.read((0, 10)) == DATA[:10]
    assert guarded.asked == 1
    assert file.url == address(guarded)  # the token is no part of what is kept
    assert "secret" not in f"{file} {file!r}"


def test_a_token_is_renewed_before_it_ends(guarded: Guarded) -> None:
    guarded.lasts_s = signing.RENEWED_BEFORE_S + 2
    file = open_remote(address(guarded), AccessPolicy(allow_hosts=(guarded.host,)))
    assert file.read((0, 10)) == DATA[:10]
    assert guarded.asked == 1
    later = datetime.now(UTC).timestamp() + 3
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr("scenefuse.archive.signing.time.time", lambda: later)
        assert file.read((0, 10)) == DATA[:10]
    assert guarded.asked == 2


def test_an_address_that_is_signed_keeps_its_signature(guarded: Guarded) -> None:
    guarded.token = 7
    file = open_remote(f"{address(guarded)}?se=1&sig=secret7", AccessPolicy(allow_hosts=(guarded.host,)))
    assert file.read((0, 10)) == DATA[:10]
    assert guarded.asked == 0


@pytest.mark.parametrize("reply", [b"<html>", b"{}", b'{"msft:expiry": "soon", "token": "a"}', b"[]"])
def test_a_reply_that_is_no_token_is_told(guarded: Guarded, reply: bytes) -> None:
    with pytest.raises(DataError, match="did not answer with a token"):
        signing.signed(address(guarded), lambda _: reply)


def test_the_planetary_computers_files_are_signed_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "_tokens", {})
    asked: list[str] = []

    def get(url: str) -> bytes:
        asked.append(url)
        return b'{"msft:expiry": "2999-01-01T00:00:00Z", "token": "sig=x"}'

    file = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/33/U/UU/2024/B02.tif"
    assert signing.signed(file, get) == f"{file}?sig=x"
    assert asked == ["https://planetarycomputer.microsoft.com/api/sas/v1/token/sentinel2l2a01/sentinel2-l2"]
    for other in ("https://example.blob.core.windows.net/a/b.tif", "https://sentinel-cogs.s3.amazonaws.com/b.tif"):
        assert signing.signed(other, get) == other
    assert len(asked) == 1
