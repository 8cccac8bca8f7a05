"""Spans of time as people write them: `10d` of a look-back, `1mo` of a step; and a range cut into steps."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scenefuse.errors import UsageError

_SPAN = re.compile(r"([0-9]+) ?(s|min|h|d|w|mo)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST = timedelta(days=366 * 200)
_MOMENT = timedelta(microseconds=1)
"""What two windows that follow each other lie apart, as both include their ends."""


def is_span(text: str) -> bool:
    """Whether the text has the form of a span, and not of a day or a time.

    >>> is_span("10d"), is_span("2026-07-14")
    (True, False)
    """
    return _SPAN.fullmatch(text.strip()) is not None


def parse_span(name: str, text: str) -> timedelta:
    """The length of a span such as `30s`, `15min`, `6h`, `10d` or `2w`; `name` is what messages call it.

    >>> parse_span("since", "10d").days
    10
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None or match[2] == "mo":
        raise UsageError(f"{name} is {text!r}", "it is not a time span", "Write it like 30s, 15min, 6h, 10d or 2w")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds == 0 or seconds > _LONGEST.total_seconds():
        raise UsageError(f"{name} is {text!r}", "the span is out of range", "Give one second to 200 years")
    return timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How long the parts of a range are: months of the calendar, or a fixed time."""

    months: int = 0
    """Months; 0 for a fixed time."""
    length: timedelta = timedelta()
    """The fixed time; zero where months are counted."""

    def after(self, start: datetime, count: int) -> datetime:
        """The moment so many steps after start; where a month lacks its day, the month's last.

        Counted from the start itself: steps of a month from the 31st of January end on the 29th (or 28th) of February
        and on the 31st of March.
        """
        if not self.months:
            return start + count * self.length
        year, month = divmod(start.year * 12 + start.month - 1 + count * self.months, 12)
        day = min(start.day, calendar.monthrange(year, month + 1)[1])
        return start.replace(year=year, month=month + 1, day=day)


def parse_step(name: str, text: str) -> Step:
    """A step such as `1mo`, `7d` or `12h`.

    >>> parse_step("--step", "3mo").months
    3
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{name} is {text!r}", "the range cannot be cut by it", "Write it like 1mo, 7d or 12h")
    if match[2] != "mo":
        return Step(length=parse_span(name, text))
    months = int(match[1])
    if not 0 < months <= 1200:
        raise UsageError(f"{name} is {text!r}", "the range cannot be cut by it", "Give 1mo to 1200mo")
    return Step(months=months)


def cut(since: datetime, until: datetime, step: Step) -> Iterator[tuple[datetime, datetime]]:
    """First and last moment of each part of the range, the oldest first; together they are the range, in UTC.

    A moment belongs to one part: the next begins a microsecond after the last one's end.
    """
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    count, start = 0, since
    while start <= until:
        count += 1
        following = step.after(since, count)
        yield start, min(following - _MOMENT, until)
        start = following
