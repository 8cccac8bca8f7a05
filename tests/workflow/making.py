"""Archives and workflow files for the tests of this room, and a clock that they set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from scenefuse.engine.protocols import Event
from scenefuse.workflow.specification import Workflow, read_workflow
from tests.cli import scenes

Pair = tuple[Path, Path]

TEXT = """name = "w"
[source]
catalogs = ["archive/catalog.json"]
{source}
[fuse]
model = "gsa"
format = ["zarr"]
core_px = 48
workers = 1
[output]
products = "out"
{output}
"""


def write_archive(folder: Path, pairs: dict[str, str], files: Pair) -> Path:
    """A catalogue of pairs by name and day; each has copies of the two files, and a MSI an hour after its HSI."""
    items = []
    for name, day in pairs.items():
        for path, role, hour in zip(files, ("hsi", "msi"), ("10", "11"), strict=True):
            data = folder / f"{path.stem}-{name}.tif"
            if not data.exists():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, data)
            place = folder / f"{path.stem}-{name}.json"
            properties = {"datetime": f"{day}T{hour}:00:00Z"}
            items.append(scenes.write_item(place, href=f"./{data.name}", role=role, properties=properties))
    folder.mkdir(parents=True, exist_ok=True)
    return scenes.write_catalogue(folder, items)


def write_workflow(folder: Path, *, source: str = "", output: str = "", more: str = "") -> Path:
    """A workflow file beside the archive `archive/`, products in `out/`."""
    path = folder / "w.toml"
    path.write_text(TEXT.format(source=source, output=output) + more)
    return path


def workflow_of(folder: Path, **tables: str) -> Workflow:
    return read_workflow(write_workflow(folder, **tables))


class EndOfTestError(KeyboardInterrupt):
    """The clock has come to its end: as when somebody stops the service."""


@dataclass(kw_only=True)
class SetClock:
    """A clock that goes on only by sleeping; at its end the service is stopped."""

    time: datetime
    end: datetime
    jumps: list[timedelta] = field(default_factory=list)
    """How much longer than asked for the next sleeps take: a machine that was asleep."""

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds) + (self.jumps.pop(0) if self.jumps else timedelta())
        if self.time >= self.end:
            raise EndOfTestError


@dataclass(kw_only=True)
class Passes:
    """An observer that keeps the service's events with the clock's time, and may do something at each."""

    clock: SetClock
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    do: dict[str, Callable[[], None]] = field(default_factory=dict)

    def notify(self, event: Event) -> None:
        if event.kind == "pass":
            facts = dict(event.facts)
            what = facts.pop("what")
            self.events.append((f"{self.clock.time:%d %H:%M:%S}", what, facts))
            if what in self.do:
                self.do[what]()

    def times(self, what: str) -> list[str]:
        return [time for time, name, _ in self.events if name == what]


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder below, with inode, size and time of change."""
    stats = {path: path.lstat() for path in sorted(folder.rglob("*"))}
    return {str(path): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def history(folder: Path, name: str = "w") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "out" / ".workflows" / f"{name}.json").read_bytes())
    return document
