"""Where and when scenes are looked for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from scenefuse.archive.bounds import Bounds, parse_time
from scenefuse.errors import UsageError


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024-07-14", datetime(2024, 7, 14, tzinfo=UTC), datetime(2024, 7, 14, 23, 59, 59, 999999, tzinfo=UTC)),
        ("20240714", datetime(2024, 7, 14, tzinfo=UTC), datetime(2024, 7, 14, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2024-07-14T00:00", datetime(2024, 7, 14, tzinfo=UTC), datetime(2024, 7, 14, tzinfo=UTC)),
        (
            "2024-07-14T00:00+02:00",
            datetime(2024, 7, 13, 22, tzinfo=UTC),
            datetime(2024, 7, 13, 22, tzinfo=UTC),
        ),
    ],
)
def test_a_day_ends_with_its_last_moment_and_a_time_is_itself(text: str, first: datetime, last: datetime) -> None:
    assert parse_time("since", text) == first
    assert parse_time("until", text, day_ends=True) == last


def test_a_time_without_a_zone_is_utc_beside_one_that_has_one() -> None:
    bounds = Bounds(since=datetime(2024, 7, 14), until=datetime(2024, 7, 15, tzinfo=UTC))  # noqa: DTZ001 # meant so
    assert bounds.since == datetime(2024, 7, 14, tzinfo=UTC)


@pytest.mark.parametrize("given", ["2024-07-14", date(2024, 7, 14)])
def test_what_is_no_moment_is_refused_before_any_search(given: Any) -> None:
    with pytest.raises(UsageError, match=r"since is .*2024.*datetime\(2026, 7, 14\)"):
        Bounds(since=given)


def test_a_box_of_three_numbers_is_refused() -> None:
    box: Any = (12, 51, 14)
    with pytest.raises(UsageError, match="has 3 numbers"):
        Bounds(bbox=box)
