"""The service's loop under a clock that tests set: when passes begin, what becomes of missed and failed ones."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scenefuse.archive.pair_search import find_in_archive
from scenefuse.engine.lease import Lease
from scenefuse.errors import DataError, StorageError, TransientError, UsageError
from scenefuse.place.local import LocalPlace
from scenefuse.workflow import one_pass
from scenefuse.workflow.one_pass import run_pass
from scenefuse.workflow.pass_record import PassUnderWayError
from scenefuse.workflow.schedule import ScheduleSpec
from scenefuse.workflow.serve import serve
from scenefuse.workflow.specification import Workflow, read_workflow
from tests.workflow.making import EndOfTestError, Passes, SetClock, history, workflow_of, write_archive, write_workflow

START = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
HOURLY = '[schedule]\nevery = "1h"\n'


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    """Hourly, over an archive with nothing in it."""
    write_archive(tmp_path / "archive", {}, (tmp_path, tmp_path))
    return workflow_of(tmp_path, more=HOURLY)


def served(workflows: list[Workflow], hours: float, **options: object) -> Passes:
    """What the service did in so many hours from 00:30 on."""
    clock = SetClock(time=START, end=START + timedelta(hours=hours))
    passes = Passes(clock=clock)
    for name, value in options.items():
        setattr(passes if name == "do" else clock, name, value)
    with pytest.raises(EndOfTestError):
        serve(workflows, clock=clock, observer=passes)
    return passes


def test_passes_begin_when_they_are_due_and_not_before(workflow: Workflow, tmp_path: Path) -> None:
    passes = served([workflow], 3)
    assert passes.times("began") == passes.times("ended") == ["01 01:00:00", "01 02:00:00", "01 03:00:00"]
    assert passes.events[0][1:] == (
        "serving",
        {"workflow": "w", "schedule": "every 1h", "next": START.replace(hour=1, minute=0)},
    )
    assert history(tmp_path)["last"]["outcome"] == "done"


def test_what_was_missed_in_a_long_pass_is_done_once_at_once(workflow: Workflow) -> None:
    clock = SetClock(time=START, end=START + timedelta(hours=6))
    passes = Passes(clock=clock)
    long = iter([timedelta(hours=2.25)])

    def take_long() -> None:
        clock.time += next(long, timedelta())

    passes.do = {"began": take_long}
    with pytest.raises(EndOfTestError):
        serve([workflow], clock=clock, observer=passes)
    assert passes.times("ended") == ["01 03:15:00", "01 03:15:00", "01 04:00:00", "01 05:00:00", "01 06:00:00"]


def test_what_a_machine_slept_through_is_done_once(workflow: Workflow) -> None:
    asleep = [timedelta(), timedelta(days=3, hours=4)]
    assert served([workflow], 78, jumps=asleep).times("began") == ["04 04:30:40", "04 05:00:00", "04 06:00:00"]


def test_a_clock_that_was_ahead_and_is_set_right_stops_nothing(workflow: Workflow) -> None:
    passes = served([workflow], 4, jumps=[timedelta(hours=2), *[timedelta()] * 5, timedelta(hours=-2)])
    assert passes.times("began") == ["01 02:30:20", "01 01:00:00", "01 02:00:00", "01 03:00:00", "01 04:00:00"]


def away(*_: object, **__: object) -> None:
    raise TransientError("the archive does not answer", "nothing is found", "try again")


def under_way(*_: object, **__: object) -> None:
    raise PassUnderWayError("a pass is under way", "two at a time would do the same work", "wait")


@pytest.mark.parametrize("stop", [away, under_way])
def test_a_clock_that_is_set_right_does_not_put_off_what_is_to_be_tried_again(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, stop: Callable[..., None]
) -> None:
    due = datetime(2026, 3, 8, tzinfo=UTC)
    clock = SetClock(time=due - timedelta(minutes=1), end=due + timedelta(hours=1))
    passes = Passes(clock=clock)
    sleep = clock.sleep

    def is_set_right(seconds: float) -> None:
        sleep(seconds)
        if passes.times("began") == ["08 00:00:00"]:
            clock.time -= timedelta(days=5)
            monkeypatch.setattr(one_pass, "find_in_archive", find_in_archive)
            monkeypatch.setattr(clock, "sleep", sleep)

    monkeypatch.setattr(one_pass, "find_in_archive", stop)
    monkeypatch.setattr(clock, "sleep", is_set_right)
    with pytest.raises(EndOfTestError):
        serve([replace(workflow, schedule=ScheduleSpec(every="30d"))], clock=clock, observer=passes)
    assert passes.times("ended")[:1] == ["03 01:00:20"]


def test_a_failure_that_may_pass_is_tried_again_after_ever_longer_pauses(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(one_pass, "find_in_archive", away)
    clock = SetClock(time=START, end=START + timedelta(hours=2))
    passes = Passes(clock=clock)

    def comes_back() -> None:
        if len(passes.times("failed")) == 4:
            monkeypatch.setattr(one_pass, "find_in_archive", find_in_archive)

    passes.do = {"failed": comes_back}
    with pytest.raises(EndOfTestError):
        serve([workflow], clock=clock, observer=passes)
    assert passes.times("began") == [f"01 01:{minute:02}:00" for minute in (0, 1, 3, 7, 15)] + ["01 02:00:00"]
    failed = next(facts for _, what, facts in passes.events if what == "failed")
    assert (failed["kind"], failed["retryable"], failed["next"]) == (
        "transient",
        True,
        clock.time.replace(hour=1, minute=1, second=0),
    )
    assert "does not answer" in failed["cause"]
    assert passes.times("ended") == ["01 01:15:00", "01 02:00:00"]
    assert history(tmp_path)["failed_in_a_row"] == 0


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSPC, errno.EIO])
def test_what_the_system_refuses_is_tried_again_soon(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/srv/fused")

    monkeypatch.setattr(one_pass, "find_in_archive", refused)
    assert served([workflow], 1).times("began")[:3] == ["01 01:00:00", "01 01:01:00", "01 01:03:00"]


def test_what_will_not_pass_by_itself_waits_for_the_schedule_and_ends_nothing(
    workflow: Workflow, tmp_path: Path
) -> None:
    (tmp_path / "archive" / "catalog.json").write_text("{")
    passes = served([workflow], 2)
    assert passes.times("began") == passes.times("failed") == ["01 01:00:00", "01 02:00:00"]
    assert {facts["kind"] for _, what, facts in passes.events if what == "failed"} == {DataError.kind}
    remembered = history(tmp_path)
    assert (remembered["failed_in_a_row"], remembered["last"]["outcome"], remembered["last_good"]) == (
        2,
        "failed",
        None,
    )
    assert remembered["last"]["error"]["kind"] == "data"


def test_a_bug_in_a_pass_is_told_with_its_traceback(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "find_in_archive", lambda *_, **__: 1 / 0)
    passes = served([workflow], 1)
    (failed,) = (facts for _, what, facts in passes.events if what == "failed")
    assert failed["kind"] == "bug"
    assert "test_serve.py" in failed["traceback"]


def test_a_restart_does_what_was_missed_once_and_nothing_that_was_not(workflow: Workflow) -> None:
    run_pass(workflow, now=START - timedelta(hours=5))
    assert served([workflow], 1).times("began") == ["01 00:30:00", "01 01:00:00"]
    run_pass(workflow, now=START - timedelta(minutes=20))
    assert served([workflow], 1).times("began") == ["01 01:00:00"]


def test_a_pass_that_was_killed_or_stopped_is_due_at_once(workflow: Workflow, tmp_path: Path) -> None:
    run_pass(workflow, now=START - timedelta(minutes=20))
    path = tmp_path / "out" / ".workflows" / "w.json"
    document = json.loads(path.read_bytes())
    for ended in ({"ended": None, "outcome": None}, {"outcome": "interrupted"}):
        path.write_text(json.dumps(document | {"last": document["last"] | ended}))
        assert served([workflow], 0.25).times("began") == ["01 00:30:00"]


HOLD = """
import sys, time
from pathlib import Path
from scenefuse.engine.lease import Lease
with Lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_pass_of_another_process_is_waited_for_and_not_repeated(workflow: Workflow, tmp_path: Path) -> None:
    lease = tmp_path / "out" / ".workflows" / "w.lease"
    lease.parent.mkdir(parents=True)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lease], stdout=subprocess.PIPE, env={**os.environ})
    clock = SetClock(time=START, end=START + timedelta(hours=2))
    passes = Passes(clock=clock)
    sleeps = 0
    sleep = clock.sleep

    def other_ends_and_was_good(seconds: float) -> None:
        nonlocal sleeps
        sleeps += bool(passes.times("elsewhere"))
        if sleeps == 20:  # more than six minutes later
            holder.kill()
            holder.wait()
            run_pass(workflow, now=START.replace(hour=1, minute=0))
        sleep(seconds)

    clock.sleep = other_ends_and_was_good  # type: ignore[method-assign] # the moment at which the other one ends
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(EndOfTestError):
            serve([workflow], clock=clock, observer=passes)
    finally:
        holder.kill()
        holder.communicate()
    assert passes.times("elsewhere") == ["01 01:00:00"]  # told once, looked at every minute
    assert passes.times("ended") == ["01 02:00:00"]


def test_a_pass_that_another_machine_began_earlier_by_its_jitter_is_not_repeated(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = ScheduleSpec(every="1h", jitter="30min")
    monkeypatch.setattr("socket.gethostname", lambda: "standby")
    begins = [schedule.jittered(START.replace(hour=hour, minute=0), "w") for hour in (1, 2)]
    assert [begin.minute > 0 for begin in begins] == [True, True]
    clock = SetClock(time=START, end=START.replace(hour=3, minute=0))
    passes = Passes(clock=clock)
    sleep = clock.sleep

    def other_is_earlier(seconds: float) -> None:
        sleep(seconds)
        if clock.time == START.replace(hour=1, minute=0):
            run_pass(workflow, now=clock.time)

    monkeypatch.setattr(clock, "sleep", other_is_earlier)
    with pytest.raises(EndOfTestError):
        serve([replace(workflow, schedule=schedule)], clock=clock, observer=passes)
    assert passes.times("began") == [f"{begins[1]:%d %H:%M:%S}"]


def test_a_pass_of_a_process_that_died_is_taken_over(workflow: Workflow, tmp_path: Path) -> None:
    lease = tmp_path / "out" / ".workflows" / "w.lease"
    lease.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLD, lease], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    assert served([workflow], 1).times("ended") == ["01 01:00:00"]


def test_two_workflows_take_turns(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", {}, (tmp_path, tmp_path))
    one = workflow_of(tmp_path, more=HOURLY)
    path = write_workflow(tmp_path, more='[schedule]\ncron = "*/30 * * * *"\n')
    path.write_text(path.read_text().replace('name = "w"', 'name = "v"'))
    passes = served([one, read_workflow(path)], 1.75)
    done = [(time, facts["workflow"]) for time, what, facts in passes.events if what == "ended"]
    assert sorted(done) == [
        ("01 01:00:00", "v"),
        ("01 01:00:00", "w"),
        ("01 01:30:00", "v"),
        ("01 02:00:00", "v"),
        ("01 02:00:00", "w"),
    ]
    kinds = [what for _, what, _ in passes.events if what != "serving"]
    assert kinds == ["began", "ended"] * 5


def test_what_no_pass_could_get_past_is_refused_before_the_first(
    workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"no \[schedule\]"):
        serve([workflow_of(tmp_path)])
    with pytest.raises(UsageError, match="share one record"):
        serve([workflow, workflow])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        serve([workflow])
    (tmp_path / "out" / "letter.txt").unlink()

    def refuse(_: LocalPlace) -> int:
        raise StorageError("it is read only", "no product can be put there", "choose another")

    monkeypatch.setattr(LocalPlace, "free_bytes", refuse)
    with pytest.raises(StorageError, match="read only"):
        serve([workflow])


def test_a_pass_under_way_refuses_a_second_one(workflow: Workflow, tmp_path: Path) -> None:
    (tmp_path / "out" / ".workflows").mkdir(parents=True)
    with Lease(tmp_path / "out" / ".workflows" / "w.lease"), pytest.raises(PassUnderWayError, match="under way"):
        run_pass(workflow)
