"""When a workflow's passes took place and will: from its record and schedule, without searching the archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from scenefuse.place.location import place_at
from scenefuse.workflow.pass_record import PassHistory, PassRecord, is_under_way, read_history
from scenefuse.workflow.specification import Workflow

_NEXT_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """A workflow's past, current and coming passes."""

    history: PassHistory
    """Record of the passes."""
    under_way: bool
    """Whether a pass is under way now, in any process."""
    backfill: PassRecord | None
    """Last step of a backfill; None if there was none."""
    backfill_under_way: bool
    """Whether a backfill is under way now."""
    schedule: str | None
    """When passes are due; None for a workflow without schedule."""
    coming: tuple[datetime, ...]
    """When the next passes begin under `serve` on this machine."""

    def age(self, now: datetime) -> timedelta | None:
        """Time since the end of the last good pass or, if later, the last sign of life of one under way.

        None if there was neither.
        """
        last, good = self.history.last, self.history.last_good
        heard = [good.ended] if good is not None else []
        heard += [last.alive] if last is not None and self.under_way else []
        moments = [datetime.fromisoformat(text) for text in heard if text is not None]
        return now - max(moments) if moments else None

    def facts(self) -> dict[str, Any]:
        """The passes in JSON types."""
        return {
            **self.history.facts(),
            "under_way": self.under_way,
            "backfill": None if self.backfill is None else asdict(self.backfill),
            "backfill_under_way": self.backfill_under_way,
            "schedule": self.schedule,
            "coming": [moment.isoformat() for moment in self.coming],
        }


def look_at_passes(workflow: Workflow, *, now: datetime | None = None) -> Passes:
    """The workflow's past, current and coming passes; quick, because it does not search the archive."""
    now, out = now or datetime.now(UTC), place_at(workflow.output.products)
    coming = () if workflow.schedule is None else workflow.schedule.coming(now, workflow.name)
    return Passes(
        history=read_history(out, workflow.name),
        under_way=is_under_way(out, workflow.name),
        backfill=read_history(out, workflow.name, "backfill").last,
        backfill_under_way=is_under_way(out, workflow.name, "backfill"),
        schedule=None if workflow.schedule is None else str(workflow.schedule),
        coming=tuple(islice(coming, _NEXT_RUNS)),
    )
