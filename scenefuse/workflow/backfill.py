"""Backfill a past range step by step: each step is a pass, and after an interruption the same call resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from scenefuse.archive.bounds import Bounds
from scenefuse.engine.dask_lane import SchedulerLostError
from scenefuse.engine.protocols import Observer
from scenefuse.errors import SceneFuseError, WorkError
from scenefuse.failure import Failure
from scenefuse.pipeline.failures import PairFailure
from scenefuse.workflow.one_pass import PassReport, Unpublished, run_pass
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
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Number of pairs, and how many had each outcome; empty if its pass failed."""
    whole: bool = False
    """Whether its pass completed everything that was due."""
    failures: tuple[PairFailure, ...] = ()
    """Pairs that failed."""
    unpublished: tuple[Unpublished, ...] = ()
    """Products that could not be published."""
    document: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Its pass in JSON types; the report itself would hold every scene that was found, 50 KiB for each HSI."""
    error: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Why its pass failed: kind, cause, retryable; empty if it did not."""

    def facts(self) -> dict[str, Any]:
        """The step in JSON types."""
        times = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return {**times, "error": self.error or None, **self.document}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillReport:
    """The outcome of a backfill."""

    name: str
    """The workflow's name."""
    steps: tuple[StepReport, ...]
    """Its steps, in the order of work."""

    def counts(self) -> dict[str, int]:
        """Number of pairs, and how many had each outcome, over all steps."""
        counts = [step.counts for step in self.steps if step.counts]
        return {name: sum(entry[name] for entry in counts) for name in counts[0]} if counts else {}

    @property
    def failed_steps(self) -> int:
        """Steps whose pass failed altogether."""
        return sum(bool(step.error) for step in self.steps)

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return 0 if all(step.whole for step in self.steps) else WorkError.exit_code

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
        step = StepReport(number=number, steps=len(parts), since=since, until=until)
        try:
            step = _with_pass(step, run_pass(workflow, bounds=bounds, kind="backfill", observer=observer))
        except (PassUnderWayError, SchedulerLostError):
            raise  # every later step would end like this one
        except (SceneFuseError, OSError) as stopped:
            if number == 1:
                raise
            step = replace(step, error=asdict(Failure.of(stopped)))
        steps.append(step)
        told(step)
    return BackfillReport(name=workflow.name, steps=tuple(steps))


def _with_pass(step: StepReport, report: PassReport) -> StepReport:
    """The step with the outcome of its pass."""
    return replace(
        step,
        counts=report.counts(),
        whole=report.whole,
        failures=report.batch.failures,
        unpublished=report.unpublished,
        document=report.facts(),
    )
