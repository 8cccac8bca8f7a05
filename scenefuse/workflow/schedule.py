"""Schedule of a workflow's passes: a cron expression in a time zone, or an interval."""

from __future__ import annotations

import hashlib
import re
import socket
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from scenefuse.errors import UsageError
from scenefuse.workflow.span import parse_span

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
"""Days of the week in crontab's numbering; 7 is Sunday, too."""
_SHIFT = timedelta(hours=3)
"""Longer than any change of the clocks."""
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE = 'Write it like cron = "30 2 * * *" (minute, hour, day of the month, month, day of the week)'


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """When passes are due: by either `cron` or `every`."""

    cron: str | None = None
    """Minute, hour, day of the month, month, day of the week, as in crontab."""
    time_zone: str = "UTC"
    """IANA name of the time zone of cron: `Europe/Berlin`."""
    every: str | None = None
    """Interval between passes, counted from midnight UTC of 1970-01-01: `6h`."""
    jitter: str | None = None
    """Longest delay of a pass, `10min`, so that machines do not all query an archive at once; None for no delay."""

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.every is None):
            given = "neither cron nor every" if self.cron is None else "both cron and every"
            raise UsageError(f"[schedule] has {given}", "it is not clear when to run", "Give one of the two")
        if self.every is not None:
            parse_span("every", self.every)
            if self.time_zone != "UTC":
                raise UsageError(
                    f"time_zone {self.time_zone!r} with every = {self.every!r}",
                    "an interval is the same in all zones",
                    "Leave out time_zone, or give a cron expression",
                )
        if self.jitter is not None:
            parse_span("jitter", self.jitter)
        if self.cron is not None:
            _zone(self.time_zone)
            if next(_walls(self.cron, datetime(2024, 1, 1)), None) is None:  # noqa: DTZ001 - a clock on a wall
                raise UsageError(f"cron {self.cron!r}", "there is no such day", "Correct day and month")

    def __str__(self) -> str:
        when = f"every {self.every}" if self.every is not None else f'"{self.cron}" in {self.time_zone}'
        return when if self.jitter is None else f"{when}, up to {self.jitter} later"

    def next_after(self, moment: datetime) -> datetime:
        """The first planned time after the moment, UTC, without jitter.

        Changes of the clocks are handled as in Debian's cron: a time skipped when clocks go forward runs at the change,
        a time shown twice when they go back runs the first time. But an expression with `*` for minutes or hours
        follows the clocks: it does not run in a skipped hour and runs twice in a repeated one.
        """
        if self.every is not None:
            length = parse_span("every", self.every)
            return _EPOCH + ((moment - _EPOCH) // length + 1) * length
        return _next_by_cron(str(self.cron), _zone(self.time_zone), moment)

    def jittered(self, planned: datetime, name: str) -> datetime:
        """When the pass of the workflow of that name begins on this machine; the same at each call."""
        if self.jitter is None:
            return planned
        seed = f"{socket.gethostname()}|{name}|{planned.isoformat()}"
        share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32
        return planned + share * parse_span("jitter", self.jitter)

    def coming(self, moment: datetime, name: str) -> Iterator[datetime]:
        """Yield when the passes after the moment begin on this machine, jitter included."""
        planned = moment if self.jitter is None else moment - parse_span("jitter", self.jitter)
        while True:
            planned = self.next_after(planned)
            if (begin := self.jittered(planned, name)) > moment:
                yield begin


def _next_by_cron(cron: str, zone: tzinfo, moment: datetime) -> datetime:
    """The first time after the moment at which the zone's clocks match the expression.

    APScheduler is used only in UTC, which has no changes of the clocks: in a zone with them it skips days around a
    change (3.11.3: `0 0 * * *` in Europe/Berlin skips 30 March 2026).
    """
    shown = moment.astimezone(zone).replace(tzinfo=None)
    around = {(moment + shift).astimezone(zone).utcoffset() for shift in (-_SHIFT, timedelta(), _SHIFT)}
    shift = timedelta() if len(around) == 1 else _SHIFT  # near a change, times shown are out of order
    found: list[datetime] = []
    for wall in _walls(cron, shown - shift):
        if found and wall > shown + shift:
            break
        found += [time for time in _times(wall, zone, often=_is_often(cron)) if time > moment]
    if not found:
        raise UsageError(f"cron {cron!r}", "there is no such day any more", "Correct day and month")
    return min(found)


def _is_often(cron: str) -> bool:
    """Whether crontab treats the expression as one that recurs within the day, not as one at fixed times."""
    minute, hour, *_ = cron.split()
    return minute.startswith("*") or hour.startswith("*")


def _times(wall: datetime, zone: tzinfo, *, often: bool) -> tuple[datetime, ...]:
    """When the zone's clocks show this time, UTC: twice or never for `often` expressions at a change, else once.

    A skipped time that is not `often` counts at the moment of the change, a repeated one the first time.
    """
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return (first,)
    if first < second:  # the clocks go back between the two
        return (first, second) if often else (first,)
    if often:
        return ()
    before = second.astimezone(zone).utcoffset()
    minutes = range(int((first - second) / _MINUTE) + 1)
    passed = bisect_left(minutes, True, key=lambda n: (second + n * _MINUTE).astimezone(zone).utcoffset() != before)
    return (second + passed * _MINUTE,)


def _walls(cron: str, start: datetime) -> Iterator[datetime]:
    """Wall-clock times, without zone, that match the expression from start on."""
    trigger, shown = _trigger(cron), start.replace(tzinfo=UTC)
    while (wall := trigger.get_next_fire_time(None, shown)) is not None:
        yield wall.replace(tzinfo=None)
        shown = wall + timedelta(seconds=1)


@cache
def _trigger(cron: str) -> CronTrigger:
    """The expression as a trigger of APScheduler; UsageError if it is not valid."""
    fields = cron.split()
    if len(fields) != 5:
        raise UsageError(f"cron {cron!r} has {len(fields)} fields", "crontab has five", _EXAMPLE)
    minute, hour, day, month, week_day = fields
    if not day.startswith("*") and not week_day.startswith("*"):
        raise UsageError(
            f"cron {cron!r} names both days of the month and days of the week",
            "programs disagree: crontab runs on either, others only on both",
            "Leave * for one of them",
        )
    try:
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_week_days(week_day), timezone=UTC
        )
    except (ValueError, IndexError) as error:
        raise UsageError(f"cron {cron!r} ({error})", "it does not name times", _EXAMPLE) from error


def _week_days(field: str) -> str:
    """Crontab's days of the week by name, because APScheduler counts from Monday, crontab from Sunday.

    >>> _week_days("1-5")
    'mon,tue,wed,thu,fri'
    """
    if field == "*":
        return field
    chosen: set[int] = set()
    for part in field.lower().split(","):
        match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]))?", part)
        if match is None or (match[3] and match[1] and match[2] is None):
            raise ValueError(f"{part!r} is no day of the week")
        first = 0 if match[1] is None else _week_day(match[1])
        last = 6 if match[1] is None else _week_day(match[2] or match[1])
        last = 7 if last == 0 and first > 0 else last  # fri-sun
        if last < first:
            raise ValueError(f"{part!r} ends before it begins")
        chosen |= {day % 7 for day in range(first, last + 1, int(match[3] or 1))}
    return ",".join(_DAYS[day] for day in sorted(chosen))


def _week_day(text: str) -> int:
    """Number of a day of the week: 0 for Sunday to 6 for Saturday, 7 for Sunday."""
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    raise ValueError(f"{text!r} is no day of the week")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(
            f"time_zone {name!r}",
            "this machine knows no such zone",
            "Give an IANA name like Europe/Berlin, or UTC; the system package tzdata provides them",
        ) from error
