"""Logs of a service on stderr: one line per event with its time, for people or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from scenefuse.cli.output import note, plain
from scenefuse.cli.progress import ProgressBar
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.engine.protocols import Event

log_json_option = click.option("--log-json", is_flag=True, help="Log one JSON object per line on stderr, for programs.")

_LEVELS = {"retry": "warning", "warning": "warning", "failed": "error"}
_SKIPPED = {"group", "done"}
"""Events that occur every few seconds during a run."""


class Log(AbstractContextManager["Log"]):
    """An Observer for a service: a line for each event of a pass and each failed pair, a progress bar for the rest."""

    def __init__(self) -> None:
        self._bar = ProgressBar()

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.__exit__(kind, error, tb)

    def notify(self, event: Event) -> None:
        """Write the event."""
        if event.kind == "pass":
            note(f"{moment_text(datetime.now(UTC))} {event.facts['workflow']}: {_sentence(event.facts)}")
        elif event.kind == "pair" and "cause" in event.facts:
            pair = f"{event.facts['hs_id']} with {event.facts['ms_id']}"
            self._bar.warn(f"{pair}: {event.facts['cause']}")
        else:
            self._bar.notify(event)


class JsonLog(AbstractContextManager["JsonLog"]):
    """An Observer that writes one JSON object per line: time, level, event and the event's facts."""

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""

    def notify(self, event: Event) -> None:
        """Write the event."""
        if event.kind not in _SKIPPED:
            facts = dict(event.facts)
            name = f"pass-{facts.pop('what')}" if event.kind == "pass" else event.kind
            level = "warning" if event.kind == "pair" and "cause" in facts else "info"
            log_line(name, level=_LEVELS.get(event.facts.get("what", event.kind), level), **facts)


def open_log(*, as_json: bool = False, names_failed: bool) -> Log | JsonLog | ProgressBar:
    """Open the log for programs, or for people.

    names_failed: whether the log for people names each failed pair; a command that does so at its end would repeat it.
    """
    if as_json:
        return JsonLog()
    return Log() if names_failed else ProgressBar()


def log_line(event: str, *, level: str, **facts: Any) -> None:
    """Write one JSON object on a line of stderr."""
    note(json_line(event, level=level, **facts))


def json_line(event: str, *, level: str, **facts: Any) -> str:
    """One JSON object: time, level, event and the event's facts."""
    head = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event}
    return json.dumps({**head, **facts}, ensure_ascii=False, default=plain, allow_nan=False)


def moment_text(moment: datetime) -> str:
    """A time for people, in UTC: `2026-11-26 02:30:00Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def counts_text(counts: Mapping[str, int]) -> str:
    """Outcome of a pass's pairs in words; zero counts are left out, except the first three."""
    words = {"fused": "fused", "found": "found", "failed": "failed", "busy": "in progress elsewhere"}
    words |= {"published": "published", "unpublished": "not published"}
    told = [f"{counts.get(name, 0)} {word}" for name, word in words.items() if counts.get(name) or word == name]
    told = [text for text in told if not text.startswith("0 published")]
    return f"{counted(counts.get('pairs', 0), 'pair')}: {', '.join(told)}"


def _sentence(facts: dict[str, Any]) -> str:
    following = f"; next pass at {moment_text(facts['next'])}" if "next" in facts else ""
    if facts["what"] == "serving":
        return f"{facts['schedule']}{following}"
    if facts["what"] == "began":
        return "pass begins"
    if facts["what"] == "elsewhere":
        return f"left to another process: {facts['message']}"
    if facts["what"] == "failed":
        retry = following.replace("next pass", "next try")
        return f"{facts.get('traceback', '')}pass failed ({facts['kind']}): {facts['cause']}{retry}"
    return f"{counts_text(facts)}, in {facts['seconds']:.1f} s{following}"
