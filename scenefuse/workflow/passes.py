"""When a workflow's passes were, and will be: from its record and its schedule, the archive left alone."""

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
    """When a workflow's passes were, and will be."""

    history: PassHistory
    """What is remembered of them."""
    under_way: bool
    """Whether one is under way now, in whatever process."""
    backfill: PassRecord | None
    """The last step of a backfill."""
    backfill_under_way: bool
    """Whether one is under way now."""
    schedule: str | None
    """When they are due; None for a workflow without schedule."""
    coming: tuple[datetime, ...]
    """When the next ones begin under `serve` on this machine."""

    def age(self, now: datetime) -> timedelta | None:
        """How long nothing good was heard of it: since the end of the last good pass, or the pulse of one under way.

        None when there was neither.
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
    """When the workflow's passes were and will be; the archive is left alone, so this is quick."""
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
