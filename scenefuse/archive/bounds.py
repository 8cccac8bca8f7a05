"""Bounds: where and when to search for scenes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from scenefuse.errors import UsageError

BBox = tuple[float, float, float, float]
"""West, south, east, north in degrees; west > east crosses the antimeridian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where and when to search for scenes; None means everywhere or always."""

    bbox: BBox | None = None
    """West, south, east, north in degrees."""
    since: datetime | None = None
    """Earliest acquisition, inclusive; UTC if it has no time zone."""
    until: datetime | None = None
    """Latest acquisition, inclusive; UTC if it has no time zone."""

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            object.__setattr__(self, name, _moment(name, getattr(self, name)))
        if self.bbox is not None:
            if len(self.bbox) != 4:  # one for each side
                raise UsageError(
                    f"bbox {self.bbox!r} has {len(self.bbox)} numbers",
                    "it is not a box",
                    "Give west, south, east, north",
                )
            west, south, east, north = self.bbox
            if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
                raise UsageError(
                    f"bbox {west:g} {south:g} {east:g} {north:g}",
                    "it is not a box on the globe, and no scene would be found",
                    "Give west, south, east, north in degrees, the southern latitude first",
                )
        if self.since is not None and self.until is not None and self.since > self.until:
            raise UsageError(
                f"since {self.since.isoformat()} is after until {self.until.isoformat()}",
                "no scene would be found",
                "Swap the two",
            )


def _moment(name: str, given: object) -> datetime | None:
    """The given time, UTC if it has no zone; UsageError for a date or a string, which is not a moment."""
    if given is None:
        return None
    if not isinstance(given, datetime):
        raise UsageError(f"{name} is {given!r}", "it is not a datetime", "Write it like datetime(2026, 7, 14)")
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def parse_time(name: str, text: str | None, *, day_ends: bool = False) -> datetime | None:
    """An ISO 8601 date or time, UTC if it has no zone; None stays None.

    A date means its first moment, or with day_ends its last, so that an upper bound includes the day.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{name} {text!r}", "it is not an ISO 8601 date or time", "Write it like 2026-07-14"
        ) from error
    if day_ends and _is_day(text):
        moment = datetime.combine(moment, time.max)
    return _moment(name, moment)


def _is_day(text: str) -> bool:
    """True if ISO 8601 text is a date without a time."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
