"""What is due, done and failed of a workflow, and when its passes were and will be; reads only, and starts nothing."""

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
"""In the order in which people are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far a workflow is."""

    name: str
    """The workflow's name."""
    out: Place
    """Where its products are."""
    bounds: Bounds
    """The window that a pass would look at now."""
    pairs: tuple[PairStatus, ...]
    """The pairs that the rule finds in the archive now, and how far each is."""
    unpaired: tuple[Unpaired, ...]
    """Scenes of the window that are in no pair, each with the reason."""
    skipped: tuple[SkippedItem, ...]
    """Items of the archive that could not be read."""
    published: int | None
    """How many of the products that are done stand in the catalogue; None when nothing is to be published, and where
    the catalogue could not be looked at."""
    catalogue_error: dict[str, Any] | None
    """Why it could not: kind, cause, retryable; None where it could, or nothing is to be published."""
    other_failures: tuple[PairFailure, ...]
    """What failed under the output besides those pairs: `scenefuse refill` works it off."""
    passes: Passes
    """When passes were, and will be."""
    free_bytes: int | None
    """Room on the disk of the products; None for a store."""

    def count(self, standing: PairState) -> int:
        """How many pairs stand so."""
        return sum(entry.standing == standing for entry in self.pairs)

    @property
    def exit_code(self) -> int:
        """What a command that tells this status ends with: not 0 where a part of it is not known."""
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
    """How far the workflow is now; the archive is searched as a pass would, and nothing is changed.

    A catalogue of published products that is away is told; the rest does not depend on it.
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
    """How many of the products have their item in the catalogue; or why that could not be looked at."""
    if catalogue is None:
        return None, None
    done = [entry.item_id for entry in pairs if entry.standing == "done" and entry.item_id]
    try:
        return len(catalogue.held(done)), None
    except (SceneFuseError, OSError) as error:
        return None, asdict(Failure.of(error))
