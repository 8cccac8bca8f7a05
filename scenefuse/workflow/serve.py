"""Passes on schedule, until the process is stopped: one at a time, the missed ones as one.

What is due follows from the archive, the products and the records on disk alone. The loop is ours, and its passes run
in the main thread, where signals arrive; APScheduler says what a cron expression means.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import SceneFuseError, UsageError
from scenefuse.failure import Failure
from scenefuse.pipeline.batch import require_ready
from scenefuse.place.location import place_at
from scenefuse.workflow.one_pass import run_pass
from scenefuse.workflow.pass_record import PassUnderWayError, is_under_way, read_history
from scenefuse.workflow.schedule import ScheduleSpec
from scenefuse.workflow.specification import Workflow

_LOOK_S = 20.0
"""Longest sleep: a machine that was asleep, or whose clock was set, is noticed after it."""
_FIRST_RETRY = timedelta(minutes=1)
_LAST_RETRY = timedelta(hours=1)
"""A pass that failed in a way that may pass is tried again after a minute, then two, four, up to this."""


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """This moment, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        ...


class SystemClock:
    """The machine's clock; implements Clock."""

    def now(self) -> datetime:
        """This moment, UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)


@dataclass(slots=True, kw_only=True)
class _Line:
    """One workflow under the service."""

    workflow: Workflow
    since: datetime
    """The begin of its last pass, or of the service: passes that were due after it are missed, and done as one."""
    retry: datetime | None = None
    """When a pass that failed is tried again, if before the next planned one."""
    failed: int = 0
    """Passes that failed in a row."""
    waits: bool = False
    """Whether another process does the pass that is due, which has been told."""

    @property
    def planned(self) -> datetime:
        """When the schedule has the next pass begin."""
        return next(_schedule(self.workflow).coming(self.since, self.workflow.name))

    @property
    def due(self) -> datetime:
        """When the next pass begins."""
        if self.retry is None:
            return self.planned
        return self.retry if self.waits else min(self.planned, self.retry)

    def ended(self, began: datetime, *, failed: int = 0, retry: datetime | None = None) -> None:
        """Count from the pass that began then."""
        self.since, self.failed, self.retry, self.waits = began, failed, retry, False


def serve(workflows: Sequence[Workflow], *, clock: Clock | None = None, observer: Observer | None = None) -> None:
    """Do each workflow's passes when they are due; returns never, ends by KeyboardInterrupt.

    A pass that fails is told to the observer, and tried again: soon if it may pass, else when the next one is due.
    Passes of two workflows never run at the same time. What no pass could get past is refused before the first.
    """
    clock, observer = clock or SystemClock(), observer or NullObserver()
    require_servable(workflows)
    lines = [_begin(workflow, clock) for workflow in workflows]
    for line in lines:
        _tell(observer, line, "serving", schedule=str(line.workflow.schedule), next=max(line.due, clock.now()))
    while True:
        now = clock.now()
        for line in lines:
            line.since = min(line.since, now)  # else a clock that was ahead, and was set back, would stop all passes
        line = min(lines, key=lambda line: line.due)
        wait_s = (line.due - now).total_seconds()
        if wait_s > 0:
            clock.sleep(min(wait_s, _LOOK_S))
        elif not _is_done_elsewhere(line, now):
            _serve_pass(line, clock, observer)


def require_servable(workflows: Sequence[Workflow]) -> None:
    """Refuse workflows that have no schedule, share a record, or that no pass could get past."""
    seen: dict[tuple[str, str], Workflow] = {}
    for workflow in workflows:
        _schedule(workflow)
        key = workflow.name, workflow.output.products
        if key in seen:
            raise UsageError(
                f"two workflows {workflow.name!r} with products in {workflow.output.products}",
                "they would share one record of passes",
                "Give each a name of its own, or each file once",
            )
        seen[key] = workflow
    for workflow in workflows:
        require_ready(place_at(workflow.output.products), workflow.fuse)


def _schedule(workflow: Workflow) -> ScheduleSpec:
    if workflow.schedule is None:
        raise UsageError(
            f"the workflow {workflow.name} has no [schedule]",
            "it is not clear when its passes are due",
            'Add a table [schedule] with cron = "30 2 * * *" or every = "6h", or use `scenefuse workflow run`',
        )
    return workflow.schedule


def _begin(workflow: Workflow, clock: Clock) -> _Line:
    """The workflow, with the passes that were missed since the last one; one that was killed is due at once."""
    now, line = clock.now(), _Line(workflow=workflow, since=clock.now())
    out = place_at(workflow.output.products)
    last = read_history(out, workflow.name).last
    if last is not None:
        line.since = min(datetime.fromisoformat(last.began), now)
        if last.outcome == "interrupted" or (last.ended is None and not is_under_way(out, workflow.name)):
            line.retry = now
    return line


def _is_done_elsewhere(line: _Line, now: datetime) -> bool:
    """Whether another process has done the pass that is due; what follows is counted from that one then."""
    try:
        last = read_history(place_at(line.workflow.output.products), line.workflow.name).last_good
    except (SceneFuseError, OSError):
        return False  # the pass will tell
    began = line.since if last is None else datetime.fromisoformat(last.began)
    if began > now or began <= line.since or began < line.planned <= now:  # one of the future: the clock was set back
        return False
    line.ended(began)
    return True


def _serve_pass(line: _Line, clock: Clock, observer: Observer) -> None:
    """Do the pass that is due; whatever stops it, but for who stops the service, is told."""
    began = clock.now()
    if not line.waits:
        _tell(observer, line, "began", due=line.due)
    try:
        report = run_pass(line.workflow, now=began, observer=observer)
    except PassUnderWayError as error:
        if not line.waits:
            _tell(observer, line, "elsewhere", message=str(error))
        line.retry, line.waits = clock.now() + _FIRST_RETRY, True
    except Exception as error:  # noqa: BLE001 - the service outlives a pass, whatever was wrong with it
        facts = asdict(Failure.of(error))
        pause = min(_FIRST_RETRY * 2 ** min(line.failed, 10), _LAST_RETRY)
        line.ended(began, failed=line.failed + 1, retry=clock.now() + pause if facts["retryable"] else None)
        if facts["kind"] == SceneFuseError.kind:
            facts["traceback"] = "".join(traceback.format_exception(error))
        _tell(observer, line, "failed", **facts, next=max(line.due, clock.now()))
    else:
        line.ended(began)
        seconds = round((clock.now() - began).total_seconds(), 1)
        _tell(observer, line, "ended", seconds=seconds, **report.counts(), next=max(line.due, clock.now()))


def _tell(observer: Observer, line: _Line, what: str, **facts: Any) -> None:
    observer.notify(Event(kind="pass", facts={"workflow": line.workflow.name, "what": what, **facts}))
