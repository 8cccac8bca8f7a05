"""Time spans as users write them, `10d` for a look-back or `1mo` for a step, and ranges cut into steps."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta

from scenefuse.errors import UsageError

_SPAN = re.compile(r"([0-9]+) ?(s|min|h|d|w|mo)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST = timedelta(days=366 * 200)
_MOMENT = timedelta(microseconds=1)
"""Gap between consecutive time windows, which both include their ends."""


def is_span(text: str) -> bool:
    """Whether the text has the form of a span, rather than of a date or time.

    >>> is_span("10d"), is_span("2026-07-14")
    (True, False)
    """
    return _SPAN.fullmatch(text.strip()) is not None


def parse_span(name: str, text: str) -> timedelta:
    """The length of a span such as `30s`, `15min`, `6h`, `10d` or `2w`; `name` is its name in error messages.

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
    """Length of the parts of a range: calendar months or a fixed time."""

    months: int = 0
    """Months; 0 for a fixed time."""
    length: timedelta = timedelta()
    """Fixed time; zero if months are given."""

    def after(self, start: datetime, count: int) -> datetime:
        """The moment `count` steps after start; the month's last day if the month is too short.

        Counted from the start itself: monthly steps from 31 January end on 28 (or 29) February and on 31 March.
        OverflowError beyond the year 9999.
        """
        if not self.months:
            return start + count * self.length
        year, month = divmod(start.year * 12 + start.month - 1 + count * self.months, 12)
        if year > MAXYEAR:
            raise OverflowError(f"year {year}")
        day = min(start.day, calendar.monthrange(year, month + 1)[1])
        return start.replace(year=year, month=month + 1, day=day)


def parse_step(name: str, text: str) -> Step:
    """Parse a step such as `1mo`, `7d` or `12h`.

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
    """First and last moment of each part of the range, in UTC, oldest first; together they cover the range.

    Each moment belongs to one part: the next part begins a microsecond after the end of the last.
    """
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    count, start = 0, since
    while start <= until:
        count += 1
        try:
            following = step.after(since, count)
        except OverflowError:  # until is 9999-12-31, the open end of some archives
            yield start, until
            return
        yield start, min(following - _MOMENT, until)
        start = following
