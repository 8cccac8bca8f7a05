"""A range of the past, step by step: each a pass, what is done is found; stopped anywhere, the same call goes on."""

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
    """What became of one step."""

    number: int
    """1 for the first that was done."""
    steps: int
    """How many there are."""
    since: datetime
    """First moment of the step."""
    until: datetime
    """Last moment of the step."""
    report: PassReport | None = None
    """What its pass did; None for one that failed."""
    error: dict[str, Any] = field(default_factory=dict, hash=False)
    """Why it failed: kind, cause, retryable; empty for one that did not."""

    def facts(self) -> dict[str, Any]:
        """The step in JSON types."""
        times = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return {**times, "error": self.error or None, **({} if self.report is None else self.report.facts())}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillReport:
    """What became of a range."""

    name: str
    """The workflow's name."""
    steps: tuple[StepReport, ...]
    """Its steps, in the order in which they were done."""

    def counts(self) -> dict[str, int]:
        """How many pairs there are, and what became of how many, over all steps."""
        counts = [step.report.counts() for step in self.steps if step.report is not None]
        return {name: sum(entry[name] for entry in counts) for name in counts[0]} if counts else {}

    @property
    def failed_steps(self) -> int:
        """Steps whose pass failed altogether."""
        return sum(step.report is None for step in self.steps)

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
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
    """Do a pass over each part of a range, in this order; the window of the workflow's file does not count.

    told: called after each step. A step that fails altogether, the archive being away for example, does not keep the
    next from being tried; the first step is another matter: what stops it stops all, and nothing was done yet.
    Raises PassUnderWayError while another process backfills for the same workflow, and what says that workers are gone.
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
