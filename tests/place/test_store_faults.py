"""An object store that fails: what passes is tried again, what does not is a typed failure."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError

from scenefuse.engine.lease import Lease, LeaseHeldError
from scenefuse.errors import StorageError, TransientError
from scenefuse.place import requests, store
from scenefuse.place.store import StorePlace
from tests.object_store import KEY_ID, SECRET, FaultKind, Proxy

DATA = bytes(range(256)) * 40

ACTIONS: dict[str, tuple[str, Callable[[StorePlace], Any], Any]] = {
    "put": ("PUT", lambda place: place.put(DATA) is not None, True),
    "read": ("GET", lambda place: place.read(), DATA),
    "range": ("GET", lambda place: place.read_range(100, 1000), DATA[100:1100]),
    "tail": ("GET", lambda place: place.read_range(-100), DATA[-100:]),
    "measure": ("GET", lambda place: place.measure(), (len(DATA), hashlib.sha256(DATA).hexdigest())),
    "head": ("HEAD", lambda place: place.is_file(), True),
    "list": ("GET", lambda place: place.parent.files(), ["a"]),
    "update": ("PUT", lambda place: place.update(lambda _: DATA[:-1]), True),
    "discard": ("POST|DELETE", lambda place: place.discard(), None),
}
PASSING: tuple[FaultKind, ...] = ("500", "503", "timeout", "reset", "lost")


def _meet(proxy: Proxy, place: StorePlace, action: str, kind: FaultKind, times: int) -> Any:
    """What the action gives when it meets the fault so many times."""
    place.put(DATA)
    method, act, _ = ACTIONS[action]
    proxy.fail(kind, method=method, path="prefix|delete|" + place.parent.key, times=times)
    proxy.requests.clear()
    return act(place)


@pytest.mark.parametrize("kind", ["500", "503", "reset", "lost"])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_passes_is_tried_again(proxy: Proxy, prefix: StorePlace, action: str, kind: FaultKind) -> None:
    assert _meet(proxy, prefix / "a", action, kind, 2) == ACTIONS[action][2]
    assert sum(fault.seen >= 3 for fault in proxy.faults) == 1, proxy.requests


@pytest.mark.parametrize("action", ["put", "read", "update"])
def test_an_answer_that_does_not_come_in_time_is_asked_for_again(proxy: Proxy, prefix: StorePlace, action: str) -> None:
    assert _meet(proxy, prefix / "a", action, "timeout", 1) == ACTIONS[action][2]


def test_a_large_object_is_measured_by_requests_that_each_have_their_time(
    proxy: Proxy, prefix: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_BLOCK_BYTES", 4000)
    place = prefix / "a"
    place.put(DATA)
    proxy.requests.clear()
    assert place.measure() == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert len(proxy.requests) == 1 + 3


def test_a_tag_spares_reading_what_was_put(proxy: Proxy, prefix: StorePlace) -> None:
    tag = (prefix / "a").put(DATA)
    proxy.requests.clear()
    assert (prefix / "a").holds(len(DATA), hashlib.sha256(DATA).hexdigest(), tag)
    assert [method for method, _ in proxy.requests] == ["HEAD"]


def test_an_object_that_is_replaced_while_it_is_read_is_of_no_digest(
    prefix: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = prefix / "a"
    place.put(DATA)
    found = place.stat()
    place.put(DATA[::-1])
    monkeypatch.setattr(StorePlace, "stat", lambda _: found)
    with pytest.raises(TransientError, match="changed while it was read"):
        place.measure()


def test_an_upload_that_is_not_whole_is_noticed(prefix: StorePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = obstore.put
    monkeypatch.setattr(obstore, "put", lambda store, key, _, **options: whole(store, key, b"half", **options))
    with pytest.raises(TransientError, match="a different size"), (prefix / "a").writing() as path:
        path.write_bytes(DATA)


def test_what_shall_go_last_goes_in_a_later_request(prefix: StorePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/b", ".lease", "z"):
        (prefix / name).put(b"1")
    gone: list[list[str]] = []
    delete = obstore.delete

    def watched(store: Any, paths: list[str]) -> None:
        gone.append([path.removeprefix(f"{prefix.key}/") for path in paths])
        delete(store, paths)

    monkeypatch.setattr(obstore, "delete", watched)
    prefix.clear(last=".lease")
    assert gone == [["a/b", "z"], [".lease"]], "a store removes those of one request in any order"


@pytest.mark.parametrize(
    ("said", "told", "tries"),
    [
        ("429 Too Many Requests", "failed 5 times", 5),
        ("409 Conflict", "failed 5 times", 5),
        ("400 Bad Request: <Error><Code>RequestTimeout</Code></Error>", "failed 5 times", 5),
        ("400 Bad Request: <Error><Code>InvalidArgument</Code></Error>", "is refused", 1),
        ("401 Unauthorized", "is not allowed", 1),
        ("501 Not Implemented", "failed 5 times", 5),
    ],
)
@pytest.mark.usefixtures("proxy")  # for its short pauses
def test_a_status_tells_what_may_pass(said: str, told: str, tries: int) -> None:
    calls: list[int] = []

    def request() -> None:
        calls.append(1)
        raise GenericError(f"Generic S3 error: Server returned non-2xx status code: {said}")

    with pytest.raises(TransientError if tries > 1 else StorageError, match=told):
        requests.attempt(request, "Reading s3://bucket/a.tif")
    assert len(calls) == tries


@pytest.mark.parametrize("kind", ["truncated", "slow"])
@pytest.mark.parametrize("action", ["read", "range", "measure"])
def test_a_body_cut_short_or_too_slow_is_never_taken_for_the_whole(
    proxy: Proxy, prefix: StorePlace, action: str, kind: FaultKind
) -> None:
    assert _meet(proxy, prefix / "a", action, kind, 1) == ACTIONS[action][2]
    assert proxy.faults[0].seen >= 2


@pytest.mark.parametrize("kind", ["503", "reset", "truncated"])
def test_a_store_that_goes_on_failing_is_a_transient_failure(proxy: Proxy, prefix: StorePlace, kind: FaultKind) -> None:
    with pytest.raises(TransientError, match="failed 5 times") as failed:
        _meet(proxy, prefix / "a", "read", kind, 1000)
    assert len(proxy.requests) == 1 + len(requests.PAUSES_S)
    assert failed.value.retryable
    for secret in (KEY_ID, SECRET, "Signature"):
        assert secret not in str(failed.value)


@pytest.mark.parametrize("action", ["put", "read", "head", "list"])
def test_a_right_that_was_lost_is_a_typed_failure_at_once(proxy: Proxy, prefix: StorePlace, action: str) -> None:
    with pytest.raises(StorageError, match="not allowed") as failed:
        _meet(proxy, prefix / "a", action, "403", 1000)
    assert len(proxy.requests) == 1
    assert "AWS_ACCESS_KEY_ID" in failed.value.cure


def test_a_bucket_that_is_not_there_is_refused(proxy: Proxy) -> None:
    with pytest.raises(StorageError, match="nobody-has-this does not exist"):
        StorePlace(bucket="nobody-has-this", key="a").free_bytes()
    assert proxy.requests


def test_an_endpoint_that_the_environment_forbids_is_told_at_once(
    prefix: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    requests.open_bucket.cache_clear()
    with pytest.raises(StorageError, match="is refused") as failed:
        prefix.read()
    assert "AWS_ALLOW_HTTP" in failed.value.cure


def test_a_lease_whose_answer_was_lost_is_still_held_by_one_alone(proxy: Proxy, prefix: StorePlace) -> None:
    proxy.fail("lost", method="PUT", times=1)
    with Lease(prefix / ".lease") as lease:
        lease.check()
        with pytest.raises(LeaseHeldError):
            Lease(prefix / ".lease")


def test_updates_of_many_whose_answers_are_lost_now_and_then_are_all_made(proxy: Proxy, prefix: StorePlace) -> None:
    for after in (1, 4, 7):
        proxy.fail("lost", method="PUT", times=1, after=after)

    def add(line: str) -> None:
        (prefix / "list").update(lambda old: "\n".join(sorted({*(old or b"").decode().split(), line})).encode())

    def add_some(name: str) -> None:
        for number in range(3):
            add(f"{name}{number}")

    threads = [threading.Thread(target=add_some, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (prefix / "list").read().decode().split() == [f"{name}{number}" for name in "abc" for number in range(3)]


def test_where_there_are_no_keys_the_cure_says_which_are_wanted() -> None:
    """Where the environment has none, the client asks a cloud's metadata service, and tells of that alone."""
    calls: list[int] = []

    def request() -> None:
        calls.append(1)
        raise GenericError(
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 2ms - ..."
        )

    with pytest.raises(StorageError, match=r"needs keys.*AWS_SKIP_SIGNATURE=true"):
        requests.attempt(request, "Reading s3://bucket/a.tif")
    assert len(calls) == 1
