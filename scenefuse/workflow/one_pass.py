"""One pass of a workflow: search, pair, fuse, publish. Skips what is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pair_search import find_in_archive
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import SceneFuseError, WorkError
from scenefuse.failure import Failure
from scenefuse.pipeline.batch import BatchReport, fuse_pairs, require_ready
from scenefuse.pipeline.fuse import FusedProduct
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.publish.destination import Catalogue, Published
from scenefuse.workflow.pass_record import Kind, PassKeeper
from scenefuse.workflow.specification import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublished:
    """A finished product that could not be published."""

    item_id: str
    """STAC item id."""
    kind: str
    """Kind of failure."""
    cause: str
    """What went wrong: value, consequence and cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReport:
    """The outcome of one pass."""

    name: str
    """The workflow's name."""
    bounds: Bounds
    """The area and time that it searched."""
    batch: BatchReport
    """Pairs, products and failures."""
    published: tuple[Published, ...]
    """Items in the catalogue, new or existing; empty if the workflow publishes nothing."""
    unpublished: tuple[Unpublished, ...] = ()
    """Products that could not be published."""

    @property
    def whole(self) -> bool:
        """Whether this pass completed everything that was due."""
        return not (self.batch.failures or self.batch.busy or self.unpublished)

    @property
    def exit_code(self) -> int:
        """Exit code of a command that did this pass."""
        return 0 if self.whole else WorkError.exit_code

    def counts(self) -> dict[str, int]:
        """Number of pairs, and how many had each outcome."""
        products = self.batch.products
        return {
            "pairs": len(self.batch.pairing.pairs),
            "fused": sum(product.status != "found" for product in products),
            "found": sum(product.status == "found" for product in products),
            "failed": len(self.batch.failures),
            "busy": len(self.batch.busy),
            "published": sum(entry.outcome != "unchanged" for entry in self.published),
            "unpublished": len(self.unpublished),
        }

    def facts(self) -> dict[str, Any]:
        """The report in JSON types."""
        since, until = (None if end is None else end.isoformat() for end in (self.bounds.since, self.bounds.until))
        return {
            "workflow": self.name,
            "since": since,
            "until": until,
            **self.batch.facts(),
            "published": [asdict(entry) for entry in self.published],
            "unpublished": [asdict(entry) for entry in self.unpublished],
        }


def run_pass(
    workflow: Workflow,
    *,
    now: datetime | None = None,
    bounds: Bounds | None = None,
    kind: Kind = "pass",
    observer: Observer | None = None,
) -> PassReport:
    """Do what is due and record how it ended. A failed pair does not keep the others from being published.

    now: time from which look-backs count; None for the current time. bounds: area and time to search, instead of the
    workflow's own. Raises PassUnderWayError while another process does a pass of the same workflow.
    """
    now = now or datetime.now(UTC)
    bounds = bounds or workflow.source.bounds(now)
    out, catalogue = place_at(workflow.output.products), workflow.output.catalogue(workflow.fuse.allow_host)
    require_ready(out, workflow.fuse)
    with PassKeeper(workflow, bounds, began=now, kind=kind, observer=observer or NullObserver()) as keeper:
        pairing, skipped = find_in_archive(
            workflow.source.catalogs, workflow.rule, bounds=bounds, allow_hosts=workflow.fuse.allow_host
        )
        batch = replace(fuse_pairs(pairing, out=out, config=workflow.fuse, observer=keeper), skipped=skipped)
        published, unpublished = publish_products(batch.products, catalogue, keeper)
        report = PassReport(
            name=workflow.name, bounds=bounds, batch=batch, published=published, unpublished=unpublished
        )
        keeper.finished(report.counts(), whole=report.whole)
    return report


def publish_products(
    products: Sequence[FusedProduct], catalogue: Catalogue | None, observer: Observer
) -> tuple[tuple[Published, ...], tuple[Unpublished, ...]]:
    """Publish each product; a damaged one does not keep the others from being published."""
    if catalogue is None or not products:
        return (), ()
    unpublished: dict[str, Unpublished] = {}

    def failed(folder: Place, error: Exception) -> None:
        failure = Failure.of(error)
        unpublished[folder.name] = Unpublished(item_id=folder.name, kind=failure.kind, cause=failure.cause)
        message = f"{folder.name} is not published: {error}"
        observer.notify(Event(kind="warning", facts={"message": message}))

    folders = [product.location.parent for product in products]
    found = {product.item_id for product in products if product.status == "found"}
    published: list[Published] = []
    try:
        published = catalogue.publish(folders, trusted=found, failed=failed)
    except (SceneFuseError, OSError) as error:  # the catalogue's own: an unreachable API, a missing bucket
        for folder in folders:
            if folder.name not in unpublished:
                failed(folder, error)
    return tuple(published), tuple(unpublished.values())
