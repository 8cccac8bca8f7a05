"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scenefuse.engine.cluster import ClusterSpec
from scenefuse.engine.lanes import InProcessLane, Lane
from tests.cli import scenes
from tests.cli.command import Command


@pytest.fixture
def scenefuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`scenefuse` as a function of its arguments."""
    return Command(capture=capsys, monkeypatch=monkeypatch)


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is done in this process: workers take seconds to start, and have tests of their own."""

    @contextmanager
    def here(_spec: ClusterSpec) -> Iterator[Lane]:
        yield InProcessLane()

    for room in ("fuse", "batch", "refill"):
        monkeypatch.setattr(f"scenefuse.pipeline.{room}.open_lane", here)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good HSI (20 x 20 px of 30 m, 32 bands) and a good MSI (60 x 60 px of 10 m, 4 bands); read only."""
    folder = tmp_path_factory.mktemp("pair")
    return scenes.write_hs(folder / "hs.tif"), scenes.write_ms(folder / "ms.tif")
