"""Progress on stderr: tiles, Mpx/s, where the time goes, how busy devices are, time left."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from scenefuse.cli.output import NotesConsole
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.engine.protocols import Event


class _TwoLines(Progress):
    """A bar with a second line for where the time goes: on one line of 80 columns, the tiles would not fit."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines from top to bottom."""
        yield from super().get_renderables()
        for task in self.tasks:
            yield Text(task.fields["shares"], style="dim", no_wrap=True, overflow="ellipsis")


class ProgressBar:
    """An Observer that draws a bar on a terminal; elsewhere it writes a line per pair and warning."""

    def __init__(self) -> None:
        self._console = NotesConsole()
        self._bar = _TwoLines(
            SpinnerColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(max_width=24)),  # shrinks first on a narrow terminal
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._started = 0.0
        self._pixels = 0
        self._seconds = dict.fromkeys(("read", "compute", "write", "starved", "blocked", "drain", "whole"), 0.0)
        self._dashboard: str | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()

    def notify(self, event: Event) -> None:
        """Show the event."""
        facts = event.facts
        if event.kind == "begin":
            self._point_to(facts.get("dashboard"))
            self._bar.console.print(facts["item_id"], soft_wrap=True)
        elif event.kind == "known":
            stages = ", ".join(facts["stages"])
            self._bar.console.print(f"  known from an earlier run: {stages}", style="dim", soft_wrap=True)
        elif event.kind in ("stage", "phase"):
            self._bar.console.print(f"  {facts[event.kind]}: {facts['seconds']:.1f} s", style="dim", soft_wrap=True)
        elif event.kind == "plan":
            self._begin(int(facts["tiles"]), int(facts.get("skipped", 0)))
        elif event.kind == "group":
            self._advance(len(facts["tiles"]), int(facts["fine_px"]), facts["seconds"])
        elif event.kind in ("retry", "warning"):
            text = facts.get("message") or ", ".join(f"{name} {value}" for name, value in facts.items())
            self.warn(text, word=event.kind)
        elif event.kind == "done" and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def warn(self, text: str, *, word: str = "warning") -> None:
        """Print a line that deserves attention."""
        self._bar.console.print(f"  {word}: {text}", style="yellow", soft_wrap=True)

    def _point_to(self, dashboard: str | None) -> None:
        """Print the address of the workers' dashboard once."""
        if dashboard and dashboard != self._dashboard and self._console.is_terminal:
            self._bar.console.print(f"Watch the workers at {dashboard}", style="dim", soft_wrap=True)
            self._dashboard = dashboard

    def _begin(self, tiles: int, done: int) -> None:
        self._started, self._pixels = time.monotonic(), 0
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        self._bar.console.print(
            f"  {counted(tiles, 'tile')}" + (f", {done} of them done before" if done else ""),
            style="dim",
            soft_wrap=True,
        )
        self._task = self._bar.add_task("fusing", total=tiles, completed=done, speed="", shares="")

    def _advance(self, tiles: int, pixels: int, seconds: dict[str, float]) -> None:
        self._pixels += pixels
        for name in self._seconds:
            self._seconds[name] += seconds[name]
        if self._task is None:
            return
        speed = self._pixels / 1e6 / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, advance=tiles, speed=f"{speed:.2f} Mpx/s", shares=f"  {_where(self._seconds)}")


def _where(seconds: dict[str, float]) -> str:
    """Where the time of groups went: shares of the work, how busy devices were, and which queue they waited for."""
    work = {name: seconds[name] for name in ("read", "compute", "write")}
    waits = {name: seconds[name] for name in ("starved", "blocked")}
    busy = seconds["whole"] - sum(waits.values()) - seconds["drain"]
    return f"{_shares(work, sum(work.values()))}  {_shares({'busy': busy, **waits}, seconds['whole'])}"


def _shares(parts: dict[str, float], whole: float) -> str:
    return " ".join(f"{name} {100 * part / (whole or 1.0):.0f}%" for name, part in parts.items())
