"""Command output: one JSON document or tables on stdout; progress and notes on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from scenefuse.errors import SceneFuseError

if TYPE_CHECKING:
    from scenefuse.archive.search import SkippedItem
    from scenefuse.pipeline.each_product import ProductFailure

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def emit_json(document: Any) -> None:
    """Print the document on stdout, indented, with keys in their original order."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=plain, allow_nan=False))


def show_failures(failures: Iterable[ProductFailure]) -> None:
    """Print which products failed, and why."""
    for failure in failures:
        click.echo(f"Failed: {failure.product} ({failure.kind}): {failure.cause}")


def note_skipped(skipped: Iterable[SkippedItem]) -> None:
    """Note on stderr which items of an archive could not be read, and why."""
    for entry in skipped:
        note(f"Left out {entry.href}: {entry.reason}")


def error_record(error: SceneFuseError) -> dict[str, Any]:
    """An error as part of a JSON document: its parts and the exit code."""
    parts = {name: getattr(error, name) for name in ("kind", "value", "consequence", "cure", "retryable")}
    return {"error": parts, "exit_code": error.exit_code}


def plain(value: object) -> str:
    """Text for values that JSON has no type for; times as ISO 8601, with a T."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def note(text: str) -> None:
    """Print a line for people on stderr; if nobody reads it any more, carry on."""
    try:
        click.echo(text, err=True)
    except BrokenPipeError:
        discard(sys.stderr)


class PlainConsole(Console):
    """A console that prints text verbatim: rich would take `[b]` in a path for a style and `:100:` for an emoji."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


class NotesConsole(PlainConsole):
    """A console for stderr; if nobody reads it any more, the work goes on."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Go on silently; rich would end the process."""
        self.quiet = True
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Redirect the stream to the null device, including what is still in its buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_WIDEST = 10_000
"""Columns of a piped table: enough for every name, so that each row is one line."""
_LEAST_TEXT = 6
"""Minimum width of a text column, in characters, on the narrowest terminal."""
_BESIDE, _BETWEEN = 2, 3
"""Terminal columns beside a table, and between two of its columns."""


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on stdout: numbers right-aligned, None as a dash; nothing is cut when output is piped.

    On a narrow terminal, text wraps. Numbers do not, as the first part of one could be taken for the whole.
    """
    body = [list(row) for row in rows]
    console = PlainConsole()
    width = console.width if console.is_terminal else _WIDEST
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    natural, least = [], []
    for index, column in enumerate(columns):
        numbers = [cell_len(_cell(row[index])) for row in body if isinstance(row[index], int | float)]
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
        natural.append(max((cell_len(_cell(row[index])) for row in [columns, *body]), default=0))
        least.append(max(numbers, default=min(_LEAST_TEXT, natural[-1])))
    room = width - _BESIDE - _BETWEEN * (len(columns) - 1)
    for column_of_table, fitted in zip(table.columns, _fitted(natural, least, room), strict=True):
        column_of_table.width = fitted
    for row in body:
        table.add_row(*(_cell(value) for value in row))
    if console.is_terminal:
        console.print(table, crop=False)
        return
    whole = PlainConsole(width=_WIDEST)
    with whole.capture() as printed:
        whole.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def _fitted(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Column widths that fit in room together: the widest column shrinks first, none below its least width.

    >>> _fitted([30, 8, 12], [6, 8, 6], 32)
    [12, 8, 12]
    """
    widths = list(natural)
    while sum(widths) > room:
        yielding = [index for index, width in enumerate(widths) if width > least[index]]
        if not yielding:
            break
        widths[max(yielding, key=widths.__getitem__)] -= 1
    return widths


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
