"""The bar on a terminal and the lines elsewhere."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from scenefuse.cli import progress
from scenefuse.cli.log import open_log
from scenefuse.engine.protocols import Event

SECONDS = {
    "read": 1.0,
    "compute": 2.0,
    "write": 1.0,
    "starved": 1.0,
    "blocked": 0.5,
    "drain": 0.5,
    "whole": 5.0,
}


def shown(monkeypatch: pytest.MonkeyPatch, *events: Event, terminal: bool, width: int = 200) -> str:
    file = io.StringIO()

    def console(**options: Any) -> Console:
        return Console(
            **{**options, "stderr": False}, file=file, force_terminal=terminal, width=width, color_system=None
        )

    monkeypatch.setattr(progress, "NotesConsole", console)
    with progress.ProgressBar() as bar:
        for event in events:
            bar.notify(event)
        bar._bar.refresh()
    return file.getvalue()


def group(tiles: int) -> Event:
    facts = {"tiles": [[0, i] for i in range(tiles)], "fine_px": tiles * 10**6, "seconds": SECONDS}
    return Event(kind="group", facts=facts)


def test_a_terminal_shows_tiles_speed_shares_and_how_busy_the_device_is(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Event(kind="begin", facts={"item_id": "a_b", "dashboard": "http://127.0.0.1:8787/status"})
    plan = Event(kind="plan", facts={"tiles": 8, "skipped": 2})
    text = shown(monkeypatch, begin, plan, group(1), group(3), terminal=True)
    assert "Watch the workers at http://127.0.0.1:8787/status" in text
    assert "8 tiles, 2 of them done before" in text
    assert "6/8" in text
    assert "Mpx/s" in text
    assert "read 25% compute 50% write 25%  busy 60% starved 20% blocked 10%" in text


def test_a_services_log_names_a_pair_that_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = {"hs_id": "hs", "ms_id": "ms", "number": 1, "pairs": 2}
    with open_log(names_failed=True) as log:
        log.notify(Event(kind="pair", facts=facts | {"status": "data", "cause": "hs.tif is damaged"}))
        log.notify(Event(kind="pair", facts=facts | {"status": "done"}))
    assert capsys.readouterr().err.strip() == "warning: hs with ms: hs.tif is damaged"


@pytest.mark.parametrize("width", [80, 48])
def test_a_narrow_terminal_shows_the_tiles_and_the_time_left(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    plan = Event(kind="plan", facts={"tiles": 1000})
    text = shown(monkeypatch, plan, group(100), terminal=True, width=width)
    lines = [line for line in text.replace("\r", "\n").split("\n") if "100/1000" in line]
    assert lines
    assert re.search(r"fusing .*100/1000 [0-9.]+ Mpx/s .*:..", lines[-1])
    assert "  read 25% compute 50% write 25%" in text


def test_elsewhere_there_are_lines_and_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Event(kind="begin", facts={"item_id": "a_b", "dashboard": "http://127.0.0.1:8787/status"})
    stage = Event(kind="stage", facts={"stage": "scene/fill", "seconds": 1.25})
    warning = Event(kind="warning", facts={"message": "look here"})
    plan = Event(kind="plan", facts={"tiles": 8})
    text = shown(monkeypatch, begin, stage, plan, group(4), warning, terminal=False)
    assert text.split("\n")[:4] == ["a_b", "  scene/fill: 1.2 s", "  8 tiles", "  warning: look here"]
    assert "Mpx/s" not in text
