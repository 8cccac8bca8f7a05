"""The process's cache of remote files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import pytest

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.remote import RemoteFile
from scenefuse.raster import mirror_cache
from scenefuse.raster.mirror import Mirror

SLOW, FAST = (
    RemoteFile(url=f"https://{host}.example/a.tif", size_bytes=100, tag="1", policy=AccessPolicy())
    for host in ("slow", "fast")
)


@dataclass(eq=False)
class Opened:
    """A file whose opening waits where it is the slow host's."""

    mirror: Mirror
    answered = threading.Event()
    asked = threading.Semaphore(0)

    @classmethod
    def of(cls, mirror: Mirror) -> Self:
        if mirror.file == SLOW:
            cls.asked.release()
            assert cls.answered.wait(30)
        return cls(mirror)


@pytest.fixture(autouse=True)
def _none_known() -> Iterator[None]:
    Opened.answered.clear()
    mirror_cache._forget()
    yield
    mirror_cache._forget()


def test_a_slow_host_holds_up_no_other() -> None:
    with ThreadPoolExecutor(3) as threads:
        slow = [threads.submit(mirror_cache.mirrored, Opened, SLOW) for _ in range(2)]
        assert Opened.asked.acquire(timeout=30)
        try:
            fast = threads.submit(mirror_cache.mirrored, Opened, FAST).result(timeout=10)
            assert mirror_cache.mirrored(Opened, FAST) is fast
        finally:
            Opened.answered.set()
        first, second = (future.result(timeout=30) for future in slow)
    assert first is second, "who asks while a file is opened gets the same"
    assert not Opened.asked.acquire(blocking=False), "it was opened once"
