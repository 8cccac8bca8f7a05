"""Where and when scenes are looked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from scenefuse.archive.bounds import parse_time


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
