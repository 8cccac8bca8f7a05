"""When passes are due: what crontab means, also where clocks are changed, against an evaluator that is not ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from scenefuse.errors import UsageError
from scenefuse.workflow.schedule import ScheduleSpec

BERLIN = "Europe/Berlin"


def coming(schedule: ScheduleSpec, moment: datetime, count: int) -> list[datetime]:
    return list(islice(schedule.coming(moment, "nightly"), count))


def local(cron: str, start: datetime, count: int, zone: str = BERLIN) -> list[str]:
    times = coming(ScheduleSpec(cron=cron, time_zone=zone), start, count)
    return [f"{time.astimezone(ZoneInfo(zone)):%d %H:%M%z}" for time in times]


SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)


def test_a_time_that_clocks_pass_over_comes_at_the_change_and_no_night_is_left_out() -> None:
    assert local("30 2 * * *", SPRING, 3) == ["29 03:00+0200", "30 02:30+0200", "31 02:30+0200"]
    assert local("0 0 * * *", SPRING, 3) == ["29 00:00+0100", "30 00:00+0200", "31 00:00+0200"]
    midnight = datetime(2026, 3, 28, 12, tzinfo=UTC)  # Beirut's clocks pass over midnight itself
    assert local("0 0 * * *", midnight, 2, "Asia/Beirut") == ["29 01:00+0300", "30 00:00+0300"]


def test_a_time_that_clocks_show_twice_counts_once_and_every_hour_is_every_hour() -> None:
    assert local("30 2 * * *", AUTUMN, 2) == ["25 02:30+0200", "26 02:30+0100"]
    hours = coming(ScheduleSpec(cron="0 * * * *", time_zone=BERLIN), AUTUMN, 24)
    assert {after - before for before, after in pairwise(hours)} == {timedelta(hours=1)}


def test_days_of_the_week_by_name_may_go_over_sunday() -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
    times = coming(ScheduleSpec(cron="0 6 * * fri-sun"), start, 4)
    assert [f"{time:%a}" for time in times] == ["Fri", "Sat", "Sun", "Fri"]


NUMBERS = st.integers(0, 59)
MINUTES = st.one_of(
    st.just("*"), st.just("*/15"), NUMBERS.map(str), st.tuples(NUMBERS, NUMBERS).map("{0[0]},{0[1]}".format)
)
HOURS = st.one_of(st.just("*"), st.just("*/3"), st.integers(0, 4).map(str), st.just("1-3"), st.just("22,2"))
MONTH_DAYS = [("*", "*"), ("29", "*"), ("1-7", "*"), ("*/2", "*")]
WEEK_DAYS = ["0", "7", "1-5", "sun", "0-2", "mon,wed", "1-5/2", "*/2", "5-7"]
DAYS = st.sampled_from([*MONTH_DAYS, *(("*", week_day) for week_day in WEEK_DAYS)])
MONTHS = st.sampled_from(["*", "3,10", "2", "*/5", "mar-oct"])
ZONES = st.sampled_from(["UTC", BERLIN, "Asia/Beirut", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata"])
STARTS = st.one_of(
    st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    st.timedeltas(timedelta(), timedelta(days=2)).map(lambda later: datetime(2026, 3, 28, tzinfo=UTC) + later),
    st.timedeltas(timedelta(), timedelta(days=2)).map(lambda later: datetime(2026, 10, 24, tzinfo=UTC) + later),
)


@settings(max_examples=50)
@given(minute=MINUTES, hour=HOURS, days=DAYS, month=MONTHS, zone=ZONES, start=STARTS)
def test_the_times_are_those_of_debians_cron(
    minute: str, hour: str, days: tuple[str, str], month: str, zone: str, start: datetime
) -> None:
    cron = f"{minute} {hour} {days[0]} {month} {days[1]}"
    expected = [time.astimezone(UTC) for time in islice(CronSim(cron, start.astimezone(ZoneInfo(zone))), 4)]
    assert coming(ScheduleSpec(cron=cron, time_zone=zone), start, 4) == expected


def test_an_interval_is_counted_from_the_epoch_whenever_the_service_was_started() -> None:
    schedule = ScheduleSpec(every="6h")
    start = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    assert [f"{time:%d %H:%M}" for time in coming(schedule, start, 3)] == ["01 00:00", "01 06:00", "01 12:00"]
    assert schedule.next_after(datetime(2026, 3, 1, tzinfo=UTC)) == datetime(2026, 3, 1, 6, tzinfo=UTC)


def test_jitter_comes_later_by_less_than_it_says_and_is_the_same_when_asked_again() -> None:
    plain, schedule = ScheduleSpec(every="1h"), ScheduleSpec(every="1h", jitter="10min")
    start = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    late = [b - p for b, p in zip(coming(schedule, start, 200), coming(plain, start, 200), strict=True)]
    assert all(timedelta() <= lateness < timedelta(minutes=10) for lateness in late)
    assert len(set(late)) == 200
    begin = coming(schedule, start, 1)[0]
    assert coming(schedule, begin - timedelta(seconds=1), 1) == [begin]
    assert coming(schedule, begin, 1)[0] > begin
    other = list(islice(schedule.coming(start, "other"), 1))
    assert other != [begin]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "neither cron nor every"),
        ({"cron": "0 0 * * *", "every": "1h"}, "both cron and every"),
        ({"cron": "0 0 * *"}, "has 4 fields"),
        ({"cron": "61 0 * * *"}, "does not name times"),
        ({"cron": "0 0 * foo *"}, "does not name times"),
        ({"cron": "0 0 * * 8"}, "does not name times"),
        ({"cron": "0 0 * * fri-mon"}, "ends before it begins"),
        ({"cron": "0 0 30 2 *"}, "there is no such day"),
        ({"cron": "0 0 1 * 1"}, "both days of the month and days of the week"),
        ({"cron": "0 0 * * *", "time_zone": "Europe/Berlim"}, "Europe/Berlim"),
        ({"cron": "0 0 * * *", "time_zone": "../../etc"}, "no such zone"),
        ({"every": "1h", "time_zone": BERLIN}, "Leave out time_zone"),
        ({"every": "soon"}, "every is 'soon'"),
        ({"every": "1h", "jitter": "a bit"}, "jitter is 'a bit'"),
    ],
)
def test_a_schedule_that_is_none_is_refused(table: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ScheduleSpec(**table)
