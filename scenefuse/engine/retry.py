"""Work off tasks: a limited number of calls in flight, and further attempts where they make sense."""

from __future__ import annotations

import heapq
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from distributed import KilledWorker
from torch import AcceleratorError

from scenefuse.engine.device import is_out_of_memory
from scenefuse.engine.lanes import Call, Lane, Outcome, TimeLimitError
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import SceneFuseError, StorageError, WorkError
from scenefuse.failure import Failure

Kind = Literal["transient", "worker", "time", "resource", "data", "model", "usage", "mismatch", "work", "bug"]

_WINDOW_PER_WORKER = 2
"""Calls in flight per call that can run at a time: while one runs, the next is already waiting there."""
_LONGEST_WAIT_S = 5.0
"""Longest wait for one outcome before pauses are checked again."""
_BYSTANDER_LIMIT = 8
"""Worker deaths a task may survive while only waiting there; after more, the task itself is suspected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A task that may take several attempts."""

    name: str
    """Key without the attempt: a hash of nouns."""
    function: Callable[[Any], Any]
    """A module-level function."""
    argument: Any
    """Its argument; picklable."""
    shrink: Callable[[Any], Any | None] | None = None
    """Returns a smaller argument after a resource failure, or None if there is none."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts for records: its group, its tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a task is retried, by the kind of failure."""

    transient: int = 4
    """Further attempts after a failure of a network or store, with growing pauses."""
    worker: int = 3
    """Further attempts after the worker that ran it died."""
    time: int = 1
    """Further attempts after exceeding the time limit."""
    backoff_s: float = 1.0
    """Pause before the second attempt after a transient failure; quadruples each time."""
    time_limit_s: float = 3600.0
    """Seconds that one attempt may run."""

    def allows(self, kind: Kind, earlier: int) -> bool:
        """True if a task that has already failed `earlier` times in this way is retried."""
        limits = {"transient": self.transient, "worker": self.worker, "time": self.time}
        return earlier < limits.get(kind, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailure:
    """Why a task was given up; one JSON record."""

    kind: Kind
    """Kind of the last failure."""
    cause: str
    """Message of the last failure."""
    retryable: bool
    """True if a later run may succeed with nothing changed."""
    attempts: int
    """Attempts made."""
    facts: dict[str, Any]
    """The task's own facts."""
    trace: str = ""
    """Traceback if it is a bug."""


class GivenUpError(WorkError):
    """A task that its step cannot do without was given up; records show the task's failure."""

    def __init__(self, value: str, consequence: str, cure: str, failure: TaskFailure | None = None) -> None:
        super().__init__(value, consequence, cure)
        self.failure = failure
        """Why the task was given up."""


def kind_of(error: BaseException) -> Kind:
    """The kind of a task's failure, including failures of its device, worker and scheduler."""
    if is_out_of_memory(error):
        return "resource"
    if isinstance(error, KilledWorker | AcceleratorError):
        return "worker"
    if isinstance(error, TimeLimitError):
        return "time"
    failure = Failure.of(error)
    if failure.retryable or isinstance(error, CancelledError):
        return "transient"
    return failure.kind  # type: ignore[return-value]


def work_off(
    works: Iterable[Work], lane: Lane, *, retry_policy: RetryPolicy, observer: Observer
) -> Generator[tuple[Work, Any | TaskFailure], None, None]:
    """Yield each task with its result or TaskFailure, as they end; at most twice the lane's width are in flight.

    If the caller stops early, calls in flight are given up.
    """
    crew = _Crew(lane=lane, retry_policy=retry_policy, observer=observer)
    waiting = deque(works)
    try:
        while waiting or crew.busy:
            while waiting and crew.in_flight < _WINDOW_PER_WORKER * lane.width:
                crew.start(waiting.popleft())
            ended = crew.step()
            if ended is not None:
                yield ended
    finally:
        lane.cancel()


def results_in_order(
    works: Sequence[Work],
    ended: Generator[tuple[Work, Any | TaskFailure], None, None],
    stopped_by: Callable[[Work, TaskFailure], SceneFuseError],
) -> list[Any]:
    """Results in the order of works, whichever ended first: sums of floats depend on the order.

    ended: what work_off yields for works. The first failure raises the error that stopped_by makes of it; calls in
    flight are given up before that, because the caller may keep the error while the lane works on.
    """
    results: dict[str, Any] = {}
    with closing(ended):
        for work, result in ended:
            if isinstance(result, TaskFailure):
                raise stopped_by(work, result)
            results[work.name] = result
    return [results[work.name] for work in works]


@dataclass(kw_only=True)
class _Crew:
    """Calls in flight, and pauses before further attempts."""

    lane: Lane
    retry_policy: RetryPolicy
    observer: Observer
    _in_flight: dict[str, Work] = field(default_factory=dict)
    _paused: list[tuple[float, str, Work]] = field(default_factory=list)
    _attempts: Counter[str] = field(default_factory=Counter)
    _failures: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    _bystander: Counter[str] = field(default_factory=Counter)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight) + len(self._paused)

    @property
    def busy(self) -> bool:
        return bool(self._in_flight or self._paused)

    def start(self, work: Work) -> None:
        key = f"{work.name}-{self._attempts[work.name]}"
        self._attempts[work.name] += 1
        self._in_flight[key] = work
        limit = self.retry_policy.time_limit_s
        self.lane.submit(Call(key=key, function=work.function, argument=work.argument, time_limit_s=limit))

    def step(self) -> tuple[Work, Any | TaskFailure] | None:
        """Wait for one outcome or the end of a pause; return a task that has ended for good, else None."""
        now = time.monotonic()
        while self._paused and self._paused[0][0] <= now:
            self.start(heapq.heappop(self._paused)[2])
        pause_s = self._paused[0][0] - now if self._paused else _LONGEST_WAIT_S
        outcome = self.lane.settle(min(pause_s, _LONGEST_WAIT_S))
        if outcome is None:
            return None
        work = self._in_flight.pop(outcome.key)
        if outcome.error is None:
            return work, outcome.result
        return self._judge(work, outcome, outcome.error)

    def _judge(self, work: Work, outcome: Outcome, error: BaseException) -> tuple[Work, TaskFailure] | None:
        kind = kind_of(error)
        if kind == "worker" and not outcome.began and self._bystander[work.name] < _BYSTANDER_LIMIT:
            self._bystander[work.name] += 1
            self.start(work)
            return None
        earlier = self._failures[work.name, kind]
        self._failures[work.name, kind] += 1
        too_large = kind == "resource" and not isinstance(error, (StorageError, OSError))
        smaller = work.shrink(work.argument) if too_large and work.shrink else None
        if smaller is None and not self.retry_policy.allows(kind, earlier):
            return work, TaskFailure(
                kind=kind,
                cause=Failure.of(error).cause,
                trace="".join(traceback.format_exception(error)) if kind == "bug" else "",
                retryable=kind in ("transient", "worker", "time"),
                attempts=self._attempts[work.name],
                facts=work.facts,
            )
        facts = {**work.facts, "type": kind, "cause": Failure.of(error).cause, "attempt": earlier + 1}
        self.observer.notify(Event(kind="retry", facts=facts))
        if smaller is not None:
            self.start(replace(work, argument=smaller))
        elif kind == "transient":
            due = time.monotonic() + self.retry_policy.backoff_s * 4**earlier
            heapq.heappush(self._paused, (due, work.name, work))
        else:
            self.start(work)
        return None
