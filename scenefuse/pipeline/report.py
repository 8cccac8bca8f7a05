"""Make a product's report: from stored data, its inputs if they are still there, and a truth if one is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scenefuse.config import RunConfig
from scenefuse.cube.source import PairSource
from scenefuse.cube.truth import open_truth
from scenefuse.engine.lease import Lease
from scenefuse.errors import SceneFuseError, UsageError
from scenefuse.pipeline.evaluate import training_overlap_notes
from scenefuse.pipeline.opening import policy_of
from scenefuse.pipeline.replay import reopen_inputs
from scenefuse.place.href import is_url, redact
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import LEASE, REPORT
from scenefuse.product.folder import product_folder
from scenefuse.product.provenance import read_provenance, read_run
from scenefuse.product.reading import open_product, read_state
from scenefuse.product.report_file import put_report
from scenefuse.product.stac_item import read_item
from scenefuse.quality.detail import Lens
from scenefuse.quality.page.render import render
from scenefuse.quality.product_scores import score_without_reference
from scenefuse.quality.report import Dossier

Hrefs = tuple[str | Path, str | Path]

NOWHERE = "-"
"""Value of `out` that writes no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished report."""

    html: str = field(repr=False)
    """The page, a single self-contained file."""
    figures: Mapping[str, Any] = field(repr=False)
    """The figures it shows, in JSON types."""
    location: Place | None = None
    """Where it was written; None if it was not written."""

    def facts(self) -> dict[str, Any]:
        """Where the report is and what it shows, in JSON types."""
        return {"report": None if self.location is None else str(self.location), "figures": dict(self.figures)}


def report(
    folder: str | Path | Place,
    *,
    out: str | Path | Place | None = None,
    reference: str | Path | None = None,
    scores: bool = False,
    hrefs: Hrefs | None = None,
    config: RunConfig | None = None,
) -> Report:
    """Make the report of a product and write it into the product, or elsewhere.

    Without reference and scores, only a part of bounded size is compared with the inputs.

    Args:
        folder: The product: its folder, s3://bucket/prefix/<item id>, or its item.
        out: File to write instead of the product's own report: a path, or s3://bucket/key; `-` writes none.
        reference: Raster of the truth to score the whole product against.
        scores: Score the whole product against its inputs.
        hrefs: Where HSI and MSI are now, if they have moved; None takes them from run.json, and leaves them out if
            they cannot be read.
        config: Supplies allow_host; other options are not used.

    Raises:
        SceneFuseError: If there is no product, or if the requested inputs or reference cannot be read.
    """
    if scores and reference is not None:
        raise UsageError(
            "scores against the inputs and against a reference", "a report shows one of the two", "Leave out one"
        )
    folder, config = product_folder(folder), config or RunConfig()
    target = None if out is None or out == NOWHERE else _file_at(out)
    source, note = _inputs(folder, hrefs, config, needed=scores)
    made = make_report(folder, source=source, inputs_note=note, reference=reference, scores=scores, config=config)
    if out == NOWHERE:
        return made
    return _put(folder, made) if target is None else _written(made, target)


def make_report(
    folder: Place,
    *,
    source: PairSource | None,
    inputs_note: str | None = None,
    reference: str | Path | None = None,
    scores: bool = False,
    config: RunConfig | None = None,
) -> Report:
    """Make the report of a finished product without writing it.

    source: the opened inputs, or None with the reason in inputs_note.
    """
    product, state = open_product(folder), read_state(folder)
    truth = None
    if reference is not None:
        policy = policy_of(config or RunConfig())
        truth = open_truth(str(reference), product.grid, product.bands, policy=policy)
    dossier = Dossier(
        lens=Lens(product=product, state=state, source=source, truth=truth),
        item=read_item(folder),
        provenance=read_provenance(folder),
        run=read_run(folder),
        inputs_note=inputs_note,
        reference=None if reference is None else _shown(str(reference)),
        reference_notes=() if reference is None else training_overlap_notes(folder, str(reference)),
        against_inputs=score_without_reference(product, source, state) if scores and source is not None else None,
    )
    return Report(html=render(dossier), figures=dossier.facts())


def _put(folder: Place, made: Report) -> Report:
    """Write the report into its product's folder, under the folder's lease."""
    with Lease(folder / LEASE):
        return replace(made, location=put_report(folder, made.html))


def _inputs(
    folder: Place, hrefs: Hrefs | None, config: RunConfig, *, needed: bool
) -> tuple[PairSource | None, str | None]:
    """Open the product's inputs; None and the reason if they cannot be read, unless the caller requires them."""
    try:
        return reopen_inputs(folder, hrefs=hrefs, config=config), None
    except SceneFuseError as error:
        if needed or hrefs is not None:
            raise
        return None, error.value


def _shown(reference: str) -> str:
    """The truth's name in the report: its URL without secrets, or its file name without the folder."""
    return redact(reference) if is_url(reference) else Path(reference).name


def _file_at(out: str | Path | Place) -> Place:
    """The file to write the report to; UsageError if it is a folder."""
    place = place_at(out)
    if place.is_folder():
        raise UsageError(f"{place} is a folder", "a report is one file", f"Give --out {place / REPORT}")
    return place


def _written(made: Report, place: Place) -> Report:
    place.put(made.html.encode())
    return replace(made, location=place)
