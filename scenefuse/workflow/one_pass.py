"""One pass over what a workflow asks for: search, pair, fuse, publish; what is done is skipped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scenefuse.archive.bounds import Bounds, parse_time
from scenefuse.engine.protocols import Observer
from scenefuse.errors import DataError, SceneFuseError, WorkError
from scenefuse.pipeline.batch import BatchReport, batch
from scenefuse.publish.destination import Published
from scenefuse.workflow.specification import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReport:
    """What one pass did."""

    name: str
    """The workflow's name."""
    batch: BatchReport
    """Pairs, products and failures."""
    published: tuple[Published, ...]
    """Items in the catalogue, new or there already; empty when nothing is to be published."""

    def facts(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        published = [asdict(entry) for entry in self.published]
        return {"workflow": self.name, **self.batch.facts(), "published": published}


def run_pass(workflow: Workflow, *, observer: Observer | None = None) -> PassReport:
    """Do what is due. A failed pair does not keep the others from being published."""
    source = workflow.source
    report = batch(
        source.catalogs,
        out=workflow.output.products,
        rule=workflow.rule,
        config=workflow.fuse,
        bounds=Bounds(
            bbox=source.box,
            since=parse_time("since", source.since),
            until=parse_time("until", source.until, day_ends=True),
        ),
        observer=observer,
    )
    published: tuple[Published, ...] = ()
    catalogue = workflow.output.catalogue(workflow.fuse.allow_host)
    if catalogue is not None and report.products:
        try:
            published = tuple(catalogue.publish([product.location.parent for product in report.products]))
        except SceneFuseError as error:
            if error.exit_code != DataError.exit_code:
                raise
            raise WorkError(error.value, error.consequence, error.cure) from error  # the products are there
    return PassReport(name=workflow.name, batch=report, published=published)
