"""Fixtures of the workflows' tests: a small pair, and work without worker processes."""

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


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good HSI and a good MSI; read only."""
    folder = tmp_path_factory.mktemp("pair")
    return scenes.write_hs(folder / "hs.tif"), scenes.write_ms(folder / "ms.tif")


@pytest.fixture
def lanes_opened(monkeypatch: pytest.MonkeyPatch) -> list[ClusterSpec]:
    """Work is done in this process; the clusters that would have been started are listed."""
    opened: list[ClusterSpec] = []

    @contextmanager
    def here(spec: ClusterSpec) -> Iterator[Lane]:
        opened.append(spec)
        yield InProcessLane()

    monkeypatch.setattr("scenefuse.pipeline.batch.open_lane", here)
    return opened
