"""Backfill a past range step by step: each step is a pass, and after an interruption the same call resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from scenefuse.archive.bounds import Bounds
from scenefuse.engine.dask_lane import SchedulerLostError
from scenefuse.engine.protocols import Observer
from scenefuse.errors import SceneFuseError, WorkError
from scenefuse.failure import Failure
from scenefuse.workflow.one_pass import PassReport, run_pass
from scenefuse.workflow.pass_record import PassUnderWayError
from scenefuse.workflow.specification import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """The outcome of one step."""

    number: int
    """Number of the step, from 1, in the order of work."""
    steps: int
    """Number of steps."""
    since: datetime
    """First moment of the step."""
    until: datetime
    """Last moment of the step."""
    report: PassReport | None = None
    """Report of its pass; None if the pass failed."""
    error: dict[str, Any] = field(default_factory=dict, hash=False)
    """Why it failed: kind, cause, retryable; empty if it did not."""

    def facts(self) -> dict[str, Any]:
        """The step in JSON types."""
        times = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return {**times, "error": self.error or None, **({} if self.report is None else self.report.facts())}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillReport:
    """The outcome of a backfill."""

    name: str
    """The workflow's name."""
    steps: tuple[StepReport, ...]
    """Its steps, in the order of work."""

    def counts(self) -> dict[str, int]:
        """Number of pairs, and how many had each outcome, over all steps."""
        counts = [step.report.counts() for step in self.steps if step.report is not None]
        return {name: sum(entry[name] for entry in counts) for name in counts[0]} if counts else {}

    @property
    def failed_steps(self) -> int:
        """Steps whose pass failed altogether."""
        return sum(step.report is None for step in self.steps)

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        whole = all(step.report is not None and step.report.whole for step in self.steps)
        return 0 if whole else WorkError.exit_code

    def facts(self) -> dict[str, Any]:
        """The report in JSON types."""
        steps = [step.facts() for step in self.steps]
        return {"workflow": self.name, **self.counts(), "failed_steps": self.failed_steps, "steps": steps}


def backfill(
    workflow: Workflow,
    parts: list[tuple[datetime, datetime]],
    *,
    observer: Observer | None = None,
    told: Callable[[StepReport], None] = lambda _: None,
) -> BackfillReport:
    """Do a pass over each part of a range, in this order, ignoring the time window of the workflow's file.

    told: called after each step. If a step fails altogether, for example because the archive is unreachable, the next
    is still tried; an error of the first step is raised, as nothing has been done yet.
    Raises PassUnderWayError while another process backfills the same workflow, and SchedulerLostError.
    """
    steps: list[StepReport] = []
    for number, (since, until) in enumerate(parts, start=1):
        bounds = Bounds(bbox=workflow.source.box, since=since, until=until)
        report, error = None, {}
        try:
            report = run_pass(workflow, bounds=bounds, kind="backfill", observer=observer)
        except (PassUnderWayError, SchedulerLostError):
            raise  # every later step would end like this one
        except (SceneFuseError, OSError) as stopped:
            if number == 1:
                raise
            error = asdict(Failure.of(stopped))
        step = StepReport(number=number, steps=len(parts), since=since, until=until, report=report, error=error)
        steps.append(step)
        told(step)
    return BackfillReport(name=workflow.name, steps=tuple(steps))
