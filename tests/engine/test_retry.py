from __future__ import annotations

import time
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any, cast

import pytest
from distributed import KilledWorker

from scenefuse.engine.lanes import Call, InProcessLane, Outcome, TimeLimitError
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.retry import RetryPolicy, TaskFailure, Work, results_in_order, work_off
from scenefuse.errors import DataError, StorageError, TransientError

AT_ONCE = RetryPolicy(backoff_s=0.0)
KILLED = KilledWorker("a", cast("Any", SimpleNamespace(address="tcp://127.0.0.1:1")), 0)


def fail(error: BaseException) -> None:
    raise error


def only_end(work: Work, lane: InProcessLane | None = None, retry_policy: RetryPolicy = AT_ONCE) -> Any:
    ((_, end),) = work_off([work], lane or InProcessLane(), retry_policy=retry_policy, observer=NullObserver())
    return end


@pytest.mark.parametrize(
    ("error", "kind", "attempts", "retryable"),
    [
        (TransientError("a", "b", "c"), "transient", 5, True),
        (ConnectionResetError(), "transient", 5, True),
        (TimeoutError(), "transient", 5, True),
        (CancelledError(), "transient", 5, True),
        (KILLED, "worker", 4, True),
        (TimeLimitError(), "time", 2, True),
        (MemoryError(), "resource", 1, False),
        (OSError(28, "No space left on device"), "resource", 1, False),
        (DataError("a", "b", "c"), "data", 1, False),
        (ZeroDivisionError(), "bug", 1, False),
    ],
)
def test_what_may_pass_is_tried_as_often_as_its_kind_allows(
    error: BaseException, kind: str, attempts: int, *, retryable: bool
) -> None:
    failure = only_end(Work(name="a", function=fail, argument=error))
    assert isinstance(failure, TaskFailure)
    assert (failure.kind, failure.attempts, failure.retryable) == (kind, attempts, retryable)
    assert bool(failure.trace) == (kind == "bug")


@pytest.mark.parametrize(
    ("error", "sizes"), [(MemoryError(), [4, 2, 1]), (OSError(28, "full"), [4]), (StorageError("a", "b", "c"), [4])]
)
def test_a_smaller_task_is_tried_where_memory_ran_out_and_not_where_a_disk_is_full(
    error: BaseException, sizes: list[int]
) -> None:
    seen: list[int] = []

    def measured(size: int) -> None:
        seen.append(size)
        raise error

    only_end(Work(name="a", function=measured, argument=4, shrink=lambda size: size // 2 or None))
    assert seen == sizes


def test_pauses_grow_while_a_store_is_away() -> None:
    at: list[float] = []

    def away(_: None) -> None:
        at.append(time.monotonic())
        raise TransientError("a", "b", "c")

    only_end(Work(name="a", function=away, argument=None), retry_policy=RetryPolicy(transient=2, backoff_s=0.05))
    assert at[1] - at[0] >= 0.05
    assert at[2] - at[1] >= 0.2


class DyingLane(InProcessLane):
    """A lane whose workers die with every call still waiting."""

    def settle(self, timeout_s: float) -> Outcome | None:
        assert timeout_s > 0
        return Outcome(key=self._calls.popleft().key, error=KILLED, began=False)


def test_a_task_beside_which_workers_go_on_dying_is_suspected_in_the_end() -> None:
    failure = only_end(Work(name="a", function=fail, argument=None), DyingLane())
    assert (failure.kind, failure.attempts) == ("worker", 8 + 4)


def test_a_step_that_fails_gives_its_calls_up_at_once_and_not_when_its_error_is_forgotten() -> None:
    """By then the lane may have another step's."""
    lane, error = InProcessLane(), DataError("a", "b", "c")
    works = [Work(name="a", function=fail, argument=error), Work(name="b", function=abs, argument=-1)]
    ended = work_off(works, lane, retry_policy=AT_ONCE, observer=NullObserver())
    with pytest.raises(DataError):
        results_in_order(works, ended, lambda _, failure: DataError(failure.cause, "b", "c"))
    assert not lane._calls
    assert list(ended) == []


class CountingLane(InProcessLane):
    """A lane that knows how many calls it had at most."""

    most = 0

    def submit(self, call: Call) -> None:
        super().submit(call)
        self.most = max(self.most, len(self._calls))


def test_no_more_than_twice_the_lanes_width_is_in_flight_and_nothing_once_the_caller_stops() -> None:
    lane = CountingLane()
    works = [Work(name=f"{number}", function=abs, argument=-number) for number in range(20)]
    ended = work_off(works, lane, retry_policy=AT_ONCE, observer=NullObserver())
    assert [result for _, result in (next(ended), next(ended), next(ended))] == [0, 1, 2]
    ended.close()
    assert lane.most == 2
    assert not lane._calls
