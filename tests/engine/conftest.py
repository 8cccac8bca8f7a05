"""Fixtures of the engine's tests."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.dask_lane import DaskLane
from scenefuse.engine.lanes import Lane

WORKERS = 2


@pytest.fixture(scope="session")
def lane() -> Iterator[Lane]:
    with open_lane(ClusterSpec(workers=WORKERS, memory_limit_bytes=2 * 2**30)) as lane:
        yield lane


@pytest.fixture
def killable_lane(lane: Lane) -> Iterator[Lane]:
    """The lane, whose workers a test may kill; at its end all answer again.

    The scheduler's count would not do: it holds a dead worker until its connection is seen to be closed.
    """
    yield lane
    while answering(lane) < WORKERS:
        time.sleep(0.05)


def answering(lane: Lane) -> int:
    """Workers of the lane that answer; 0 while one that is still listed does not."""
    assert isinstance(lane, DaskLane)
    with contextlib.suppress(OSError):
        return len(lane._client.run(os.getpid))
    return 0
