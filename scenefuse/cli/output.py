"""What a command prints: one JSON document on stdout, or tables; progress and notes on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich import box
from rich.console import Console
from rich.table import Table

from scenefuse.errors import SceneFuseError

if TYPE_CHECKING:
    from scenefuse.archive.search import SkippedItem
    from scenefuse.pipeline.several import ProductFailure

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def emit_json(document: Any) -> None:
    """Print the document on stdout, indented, keys in their own order."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=plain, allow_nan=False))


def show_failures(failures: Iterable[ProductFailure]) -> None:
    """Say which products could not be looked at, and why."""
    for failure in failures:
        click.echo(f"Failed: {failure.product} ({failure.kind}): {failure.cause}")


def note_skipped(skipped: Iterable[SkippedItem]) -> None:
    """Say on stderr which items of an archive could not be read, and why."""
    for entry in skipped:
        note(f"Left out {entry.href}: {entry.reason}")


def error_record(error: SceneFuseError) -> dict[str, Any]:
    """What a document says of an error: its parts, and the exit code."""
    parts = {name: getattr(error, name) for name in ("kind", "value", "consequence", "cure", "retryable")}
    return {"error": parts, "exit_code": error.exit_code}


def plain(value: object) -> str:
    """What JSON has no type for, as text; times as ISO 8601 writes them, with a T."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def note(text: str) -> None:
    """Print a line for people on stderr; when nobody reads it any more, that stops no work."""
    try:
        click.echo(text, err=True)
    except BrokenPipeError:
        discard(sys.stderr)


class PlainConsole(Console):
    """A console that prints text as it is: rich would take `[b]` in a path for a style, and `:100:` for a picture."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


class NotesConsole(PlainConsole):
    """A console for stderr; when nobody reads it any more, that stops no work."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Go on in silence, where rich would end the process."""
        self.quiet = True
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """From now on what is written to the stream goes nowhere, what waits in its buffer too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_WIDEST = 10_000
"""Columns of a table that is piped: enough for every name, so that a row is a line."""


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on stdout: numbers to the right, None as a dash; nothing is cut when output is piped."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    body = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in body)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in body:
        table.add_row(*(_cell(value) for value in row))
    console = PlainConsole()
    if console.is_terminal:
        console.print(table)
        return
    whole = PlainConsole(width=_WIDEST)
    with whole.capture() as printed:
        whole.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
