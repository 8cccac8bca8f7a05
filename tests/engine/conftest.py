"""Fixtures of the engine's tests."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.lanes import Lane


@pytest.fixture(scope="session")
def lane() -> Iterator[Lane]:
    with open_lane(ClusterSpec(workers=2, memory_limit_bytes=2 * 2**30)) as lane:
        yield lane


@pytest.fixture
def killable_lane(lane: Lane) -> Iterator[Lane]:
    """The lane, whose workers a test may kill; at its end they are back."""
    yield lane
    while lane.width < 2:
        time.sleep(0.05)
