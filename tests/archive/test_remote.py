"""Files on the network, by ranges: over HTTP from a web server, from S3 through a proxy that fails."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from scenefuse.archive import fetch, remote, signing
from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.remote import RemoteFile, open_remote, read_object
from scenefuse.archive.source import open_source
from scenefuse.errors import DataError, StorageError, TransientError
from scenefuse.place import requests
from scenefuse.place.store import StorePlace
from tests.object_store import Proxy
from tests.range_server import WebFolder, web_folder

DATA = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebFolder]:
    (tmp_path / "a b.tif").write_bytes(DATA)
    monkeypatch.setattr(fetch, "_BACKOFF_S", 0.001)
    with web_folder(tmp_path) as running:
        yield running


def opened(web: WebFolder) -> RemoteFile:
    return open_remote(web.url("a%20b.tif"), AccessPolicy(allow_hosts=(web.host,)))


@pytest.fixture
def stored(prefix: StorePlace) -> StorePlace:
    place = prefix / "a.tif"
    place.put(DATA)
    return place


def open_stored(place: StorePlace) -> RemoteFile:
    return open_remote(str(place), AccessPolicy())


@pytest.mark.parametrize("etags", [True, False])
def test_a_web_file_is_read_by_ranges(web: WebFolder, etags: bool) -> None:  # noqa: FBT001 - parametrised
    web.etags = etags
    file = pickle.loads(pickle.dumps(opened(web)))  # noqa: S301 - our own
    assert file.size_bytes == len(DATA)
    assert file.tag.startswith('"') == etags
    assert file.read((5, 5000)) == DATA[5:5000]
    assert file.read((99_000, 100_000)) == DATA[99_000:]
    assert web.served_bytes == 1 + 4995 + 1000
    assert "secret" not in f"{file} {file!r}"


def test_what_passes_is_tried_again(web: WebFolder) -> None:
    file = opened(web)
    web.faults += ["500", "short"]
    assert file.read((0, 50_000)) == DATA[:50_000]
    web.faults += ["short"] * 4
    with pytest.raises(TransientError, match="failed 4 times"):
        file.read((0, 50_000))


def test_a_file_that_changes_is_not_read_on(web: WebFolder) -> None:
    file = opened(web)
    (web.folder / "a b.tif").write_bytes(DATA[::-1])
    os.utime(web.folder / "a b.tif", (1, 1))
    with pytest.raises(DataError, match="changed while it was read"):
        file.read((0, 10))


def test_a_file_that_could_change_unseen_is_refused(web: WebFolder) -> None:
    web.etags = web.times = False
    with pytest.raises(DataError, match="neither ETag nor Last-Modified"):
        opened(web)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("whole", "only served whole"),
        ("403", "needs credentials"),
        ("elsewhere", "http can be altered"),
    ],
)
def test_what_a_web_server_refuses_is_said(web: WebFolder, fault: str, said: str) -> None:
    web.faults.append(fault)  # type: ignore[arg-type] # one of the kinds
    with pytest.raises(DataError, match=said) as caught:
        opened(web)
    assert "secret" not in str(caught.value)


def test_loopback_is_refused_unless_it_is_allowed(web: WebFolder) -> None:
    with pytest.raises(DataError, match="--allow-host"):
        open_remote(web.url("a%20b.tif"), AccessPolicy())
    assert web.ranges == []


def test_a_part_beyond_the_end_is_refused(web: WebFolder) -> None:
    with pytest.raises(DataError, match="ends before byte"):
        opened(web).read((99_999, 100_001))
    (web.folder / "empty.tif").write_bytes(b"")
    with pytest.raises(DataError, match="ends before byte"):
        open_remote(web.url("empty.tif"), AccessPolicy(allow_hosts=(web.host,)))


def test_an_object_is_read_by_ranges_through_failures(stored: StorePlace, proxy: Proxy) -> None:
    file = open_stored(stored)
    assert file.size_bytes == len(DATA)
    for kind in ("500", "503", "truncated", "reset", "timeout"):
        proxy.fail(kind, method="GET")
        assert file.read((7, 60_000)) == DATA[7:60_000]
    proxy.fail("403", method="GET")
    with pytest.raises(StorageError, match="not allowed"):
        file.read((0, 10))


def test_temporary_keys_and_a_reader_who_pays_are_told_to_the_store(
    stored: StorePlace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for-an-hour")
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    requests.open_bucket.cache_clear()
    proxy.headers.clear()
    assert open_stored(stored).read((0, 10)) == DATA[:10]
    told = [(sent["x-amz-security-token"], sent["x-amz-request-payer"]) for sent in proxy.headers]
    assert told == [("for-an-hour", "requester")] * 2


def test_an_object_that_is_forbidden_is_refused_as_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_place: StorePlace) -> NoReturn:
        raise StorageError("Reading s3://bucket/a.json is not allowed", "what is finished is kept", "Check the keys")

    monkeypatch.setattr(StorePlace, "stat", forbid)
    with pytest.raises(DataError, match=r"not allowed: it cannot be read\. Check the keys"):
        read_object("s3://bucket/a.json", most_bytes=10)


def test_an_object_that_changes_is_not_read_on(stored: StorePlace) -> None:
    file = open_stored(stored)
    stored.put(DATA[::-1])
    with pytest.raises(DataError, match="changed while it was read"):
        file.read((0, 10))
    stored.discard()
    with pytest.raises(DataError, match="changed while it was read"):
        file.read((0, 10))
    with pytest.raises(DataError, match="does not exist"):
        open_stored(stored)


def test_a_document_on_a_store_is_read_whole_and_refused_when_it_is_too_large(stored: StorePlace) -> None:
    assert read_object(str(stored), most_bytes=len(DATA)) == DATA
    with pytest.raises(DataError, match="documents of more than"):
        read_object(str(stored), most_bytes=len(DATA) - 1)
    stored.put(b"")
    assert read_object(str(stored), most_bytes=10) == b""


def test_other_stores_are_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"lies on gs://.*https:// and s3://"):
        open_remote("gs://bucket/a.tif", AccessPolicy())


def test_one_client_serves_a_policy() -> None:
    assert remote._fetcher(AccessPolicy()) is remote._fetcher(AccessPolicy())


@pytest.mark.parametrize("key", ["a?b.tif", "a#b.tif", "a?", "a.tif?versionId=3"])
def test_a_key_that_a_url_cannot_hold_is_refused_in_place_of_reading_another_object(
    prefix: StorePlace, key: str
) -> None:
    (prefix / "a").put(b"{}")
    (prefix / "a.tif").put(b"another")
    said = r"continues with a \? or a #"
    with pytest.raises(DataError, match=said):
        open_remote(f"{prefix}/{key}", AccessPolicy())
    with pytest.raises(DataError, match=said):
        open_source(f"{prefix}/{key}")


def test_a_forked_child_has_connections_of_its_own(web: WebFolder) -> None:
    file = opened(web)
    ours = remote._fetcher(file.policy)
    with signing._asking:  # as if another thread were asking for a token
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            own = remote._fetcher(file.policy) is not ours and not signing._asking.locked()
            os._exit(0 if own and file.read((5, 90)) == DATA[5:90] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
