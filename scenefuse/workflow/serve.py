"""Run passes on schedule until the process is stopped: one at a time, missed ones combined into one.

What is due follows from the archive, the products and the stored records alone. The loop is our own: passes run in the
main thread, where signals arrive, and APScheduler only interprets cron expressions.
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
"""Longest sleep, after which a machine's suspension or a change of its clock is noticed."""
_FIRST_RETRY = timedelta(minutes=1)
_LAST_RETRY = timedelta(hours=1)
"""Longest pause before retrying a pass with a retryable failure; the first is a minute, each next one twice as long."""


class Clock(Protocol):
    """The current time, and waiting."""

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
    """One workflow of the service."""

    workflow: Workflow
    since: datetime
    """Start of its last pass, or of the service: passes due after it but before now are missed, and done as one."""
    retry: datetime | None = None
    """When a failed pass is retried, if before the next planned one."""
    failed: int = 0
    """Passes that failed in a row."""
    waits: bool = False
    """Whether another process is doing the pass that is due; the observer has been notified."""

    @property
    def planned(self) -> datetime:
        """When the next pass is due by the schedule, without jitter: a pass that began since then is this one."""
        return _schedule(self.workflow).next_after(self.since)

    @property
    def due(self) -> datetime:
        """When the next pass begins on this machine, planned or retried."""
        begins = _schedule(self.workflow).jittered(self.planned, self.workflow.name)
        if self.retry is None:
            return begins
        return self.retry if self.waits else min(begins, self.retry)

    def not_beyond(self, now: datetime) -> None:
        """Bring back what lies too far in the future: a fast clock was set back, which must not put off any pass."""
        self.since = min(self.since, now)
        self.retry = None if self.retry is None else min(self.retry, now + _LAST_RETRY)

    def ended(self, began: datetime, *, failed: int = 0, retry: datetime | None = None) -> None:
        """Note a pass that began then; the next one counts from it."""
        self.since, self.failed, self.retry, self.waits = began, failed, retry, False


def serve(workflows: Sequence[Workflow], *, clock: Clock | None = None, observer: Observer | None = None) -> None:
    """Do each workflow's passes when they are due; never returns, ends by KeyboardInterrupt.

    A failed pass is reported to the observer and retried: soon if the failure is retryable, else when the next pass is
    due. Passes of two workflows never run at the same time. Errors that would stop every pass are raised at the start.
    """
    clock, observer = clock or SystemClock(), observer or NullObserver()
    require_servable(workflows)
    lines = [_begin(workflow, clock) for workflow in workflows]
    for line in lines:
        _tell(observer, line, "serving", schedule=str(line.workflow.schedule), next=max(line.due, clock.now()))
    while True:
        now = clock.now()
        for line in lines:
            line.not_beyond(now)
        line = min(lines, key=lambda line: line.due)
        wait_s = (line.due - now).total_seconds()
        if wait_s > 0:
            clock.sleep(min(wait_s, _LOOK_S))
        elif not _is_done_elsewhere(line, now):
            _serve_pass(line, clock, observer)


def require_servable(workflows: Sequence[Workflow]) -> None:
    """Raise if a workflow has no schedule, shares another's record, or could not complete any pass."""
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
    """The workflow, counting missed passes from its last one; a pass that was interrupted or killed is due at once."""
    now, line = clock.now(), _Line(workflow=workflow, since=clock.now())
    out = place_at(workflow.output.products)
    last = read_history(out, workflow.name).last
    if last is not None:
        line.since = min(datetime.fromisoformat(last.began), now)
        if last.outcome == "interrupted" or (last.ended is None and not is_under_way(out, workflow.name)):
            line.retry = now
    return line


def _is_done_elsewhere(line: _Line, now: datetime) -> bool:
    """Whether another process has done the pass that is due; if so, the next pass counts from that one."""
    try:
        last = read_history(place_at(line.workflow.output.products), line.workflow.name).last_good
    except (SceneFuseError, OSError):
        return False  # the pass will report it
    began = line.since if last is None else datetime.fromisoformat(last.began)
    if began > now or began <= line.since or began < line.planned <= now:  # in the future: the clock was set back
        return False
    line.ended(began)
    return True


def _serve_pass(line: _Line, clock: Clock, observer: Observer) -> None:
    """Do the pass that is due; reports whatever stops it, except for a stop of the service itself."""
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
        # A full disk or an unmounted folder may be mended by an operator before the next pass is due.
        may_pass = facts["retryable"] or isinstance(error, OSError)
        pause = min(_FIRST_RETRY * 2 ** min(line.failed, 10), _LAST_RETRY)
        line.ended(began, failed=line.failed + 1, retry=clock.now() + pause if may_pass else None)
        if facts["kind"] == SceneFuseError.kind:
            facts["traceback"] = "".join(traceback.format_exception(error))
        _tell(observer, line, "failed", **facts, next=max(line.due, clock.now()))
    else:
        line.ended(began)
        seconds = round((clock.now() - began).total_seconds(), 1)
        _tell(observer, line, "ended", seconds=seconds, **report.counts(), next=max(line.due, clock.now()))


def _tell(observer: Observer, line: _Line, what: str, **facts: Any) -> None:
    observer.notify(Event(kind="pass", facts={"workflow": line.workflow.name, "what": what, **facts}))
