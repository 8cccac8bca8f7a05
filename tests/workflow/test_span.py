"""Spans and steps: calendar months against dateutil, and parts that are the range, each moment once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.errors import UsageError
from scenefuse.workflow.span import Step, cut, is_span, parse_span, parse_step

MOMENT = timedelta(microseconds=1)


def days(text: str, step: str, until: str) -> list[tuple[str, str]]:
    since, last = (datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (text, until))
    parts = cut(since, last + timedelta(days=1) - MOMENT, parse_step("--step", step))
    return [(f"{start:%Y-%m-%d}", f"{end:%Y-%m-%d}") for start, end in parts]


def test_months_go_across_the_end_of_a_year_and_know_leap_days() -> None:
    assert days("2023-12-15", "1mo", "2024-03-20") == [
        ("2023-12-15", "2024-01-14"),
        ("2024-01-15", "2024-02-14"),
        ("2024-02-15", "2024-03-14"),
        ("2024-03-15", "2024-03-20"),
    ]
    assert days("2024-02-01", "1mo", "2024-03-31") == [("2024-02-01", "2024-02-29"), ("2024-03-01", "2024-03-31")]
    assert days("2024-02-29", "12mo", "2025-03-01") == [("2024-02-29", "2025-02-27"), ("2025-02-28", "2025-03-01")]


def test_months_from_the_31st_end_with_each_month_and_come_back_to_it() -> None:
    starts = [start for start, _ in days("2024-01-31", "1mo", "2024-06-01")]
    assert starts == ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"]


def test_days_and_hours_are_cut_evenly_and_the_last_part_is_what_is_left() -> None:
    assert days("2024-02-26", "7d", "2024-03-05") == [("2024-02-26", "2024-03-03"), ("2024-03-04", "2024-03-05")]
    assert len(days("2024-02-28", "12h", "2024-03-01")) == 6
    assert days("2024-02-28", "1w", "2024-02-28") == [("2024-02-28", "2024-02-28")]


@pytest.mark.parametrize("step", ["1000mo", "36500d"])
def test_a_range_may_end_with_the_last_day_there_is(step: str) -> None:
    end = datetime.max.replace(tzinfo=UTC)
    parts = list(cut(datetime(2024, 1, 1, tzinfo=UTC), end, parse_step("--step", step)))
    assert parts[-1][0] < parts[-1][1] == end
    assert all(second[0] - first[1] == MOMENT for first, second in pairwise(parts))


@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    months=st.integers(1, 30),
    count=st.integers(0, 40),
)
def test_months_are_those_of_dateutil(start: datetime, months: int, count: int) -> None:
    assert Step(months=months).after(start, count) == start + relativedelta(months=months * count)


@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    length=st.timedeltas(timedelta(), timedelta(days=800)),
    step=st.sampled_from(["1mo", "5mo", "7d", "13h"]),
)
def test_the_parts_are_the_range_and_no_moment_is_in_two(start: datetime, length: timedelta, step: str) -> None:
    parts = list(cut(start, start + length, parse_step("--step", step)))
    assert (parts[0][0], parts[-1][1]) == (start, start + length)
    for (first, last), (following, _) in pairwise(parts):
        assert first <= last
        assert following - last == MOMENT


def test_spans_have_a_unit_and_days_are_none() -> None:
    assert parse_span("since", "10d") == timedelta(days=10)
    assert parse_span("since", " 90 min ") == timedelta(minutes=90)
    assert not is_span("2024-06-04")
    assert not is_span("20240604")


@pytest.mark.parametrize("text", ["", "d", "10", "-3d", "0d", "1.5h", "1mo", "99999999w", "ten days"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="since is"):
        parse_span("since", text)


@pytest.mark.parametrize("text", ["", "0mo", "month", "0d", "5000mo"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--step is"):
        parse_step("--step", text)
