"""Fixtures of this room's tests."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _distributed_leaves_sockets_to_the_collector() -> Iterator[None]:
    """Where a cluster was closed in this process, its sockets are collected here and not in another test."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
        gc.collect()
