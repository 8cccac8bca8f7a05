"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

KILL_ROUNDS = int(os.environ.get("SCENEFUSE_KILLS", "3"))
"""Random kills of each test of resuming: 3 in CI; SCENEFUSE_KILLS=20 for a longer run by hand."""


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real scenes; tests that need a file that is not there are skipped with the reason."""
    root = Path(os.environ.get("SCENEFUSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}: set SCENEFUSE_TEST_DATA")
    os.environ["CPL_VSIL_GZIP_WRITE_PROPERTIES"] = "NO"  # or a test's own rasterio writes beside gzip-compressed files
    return root
