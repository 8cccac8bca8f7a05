"""Status of a workflow: what is due, done and failed, and its past and coming passes. Read-only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pair_search import find_in_archive
from scenefuse.archive.pairing import Unpaired
from scenefuse.archive.search import SkippedItem
from scenefuse.errors import SceneFuseError, WorkError
from scenefuse.failure import Failure
from scenefuse.pipeline.failures import PairFailure, read_failures
from scenefuse.pipeline.pair_status import PairState, PairStatus, pair_statuses
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.output import require_output
from scenefuse.publish.destination import Catalogue
from scenefuse.workflow.passes import Passes, look_at_passes
from scenefuse.workflow.specification import Workflow

STANDINGS: tuple[PairState, ...] = ("done", "running", "failed", "begun", "due")
"""Standings in the order of display."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Status of a workflow."""

    name: str
    """The workflow's name."""
    out: Place
    """Location of its products."""
    bounds: Bounds
    """The area and time that a pass would search now."""
    pairs: tuple[PairStatus, ...]
    """The pairs that the rule finds in the archive now, each with its status."""
    unpaired: tuple[Unpaired, ...]
    """Scenes found that are in no pair, each with the reason."""
    skipped: tuple[SkippedItem, ...]
    """Items of the archive that could not be read."""
    published: int | None
    """Number of finished products that are in the catalogue; None if the workflow publishes nothing, or if the
    catalogue could not be read."""
    catalogue_error: dict[str, Any] | None
    """Why the catalogue could not be read: kind, cause, retryable; None if it could, or nothing is published."""
    other_failures: tuple[PairFailure, ...]
    """Failures under the output besides those pairs, for `scenefuse refill`."""
    passes: Passes
    """Past, current and coming passes."""
    free_bytes: int | None
    """Free space on the disk of the products; None for an object store."""

    def count(self, standing: PairState) -> int:
        """Number of pairs with this standing."""
        return sum(entry.standing == standing for entry in self.pairs)

    @property
    def exit_code(self) -> int:
        """Exit code of a command that shows this status: not 0 if a part of it is unknown."""
        return 0 if self.catalogue_error is None else WorkError.exit_code

    def facts(self) -> dict[str, Any]:
        """The status in JSON types."""
        since, until = (None if end is None else end.isoformat() for end in (self.bounds.since, self.bounds.until))
        return {
            "workflow": self.name,
            "products": str(self.out),
            "since": since,
            "until": until,
            "pairs": len(self.pairs),
            **{standing: self.count(standing) for standing in STANDINGS},
            "unpaired": len(self.unpaired),
            "published": self.published,
            "catalogue_error": self.catalogue_error,
            "free_bytes": self.free_bytes,
            "passes": self.passes.facts(),
            "unfinished": [entry.facts() for entry in self.pairs if entry.standing != "done"],
            "other_failures": [asdict(failure) for failure in self.other_failures],
            "skipped_items": [asdict(entry) for entry in self.skipped],
        }


def look_at_workflow(workflow: Workflow, *, now: datetime | None = None) -> Status:
    """Determine the workflow's status; searches the archive as a pass would, and changes nothing.

    An unreachable catalogue of published products is noted in catalogue_error; the rest does not depend on it.
    """
    now = now or datetime.now(UTC)
    bounds, out = workflow.source.bounds(now), place_at(workflow.output.products)
    require_output(out)
    pairing, skipped = find_in_archive(
        workflow.source.catalogs, workflow.rule, bounds=bounds, allow_hosts=workflow.fuse.allow_host
    )
    pairs = pair_statuses(pairing.pairs, out=out, config=workflow.fuse)
    ours = {entry.failure.key for entry in pairs if entry.failure is not None}
    published, catalogue_error = _published(pairs, workflow.output.catalogue(workflow.fuse.allow_host))
    return Status(
        name=workflow.name,
        out=out,
        bounds=bounds,
        pairs=pairs,
        unpaired=pairing.unpaired,
        skipped=skipped,
        published=published,
        catalogue_error=catalogue_error,
        other_failures=tuple(failure for failure in read_failures(out) if failure.key not in ours),
        passes=look_at_passes(workflow, now=now),
        free_bytes=out.scratch_bytes() if out.shares_scratch else None,
    )


def _published(pairs: tuple[PairStatus, ...], catalogue: Catalogue | None) -> tuple[int | None, dict[str, Any] | None]:
    """Number of finished products with an item in the catalogue, or why the catalogue could not be read."""
    if catalogue is None:
        return None, None
    done = [entry.item_id for entry in pairs if entry.standing == "done" and entry.item_id]
    try:
        return len(catalogue.held(done)), None
    except (SceneFuseError, OSError) as error:
        return None, asdict(Failure.of(error))
