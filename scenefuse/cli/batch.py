"""`scenefuse batch`: fuse all pairs of an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.completion import HREF
from scenefuse.cli.fuse import show_product
from scenefuse.cli.log import open_log
from scenefuse.cli.options import (
    bounds_of,
    out_option,
    pair_options,
    pair_rule,
    pair_search_options,
    run_config,
    run_options,
)
from scenefuse.cli.output import emit_json, json_option, note, note_skipped
from scenefuse.errors import WorkError
from scenefuse.place.place import Place
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.pipeline.batch import BatchReport


@click.command(name="batch")
@click.argument("sources", nargs=-1, required=True, type=HREF, metavar="SOURCE...")
@out_option
@pair_options
@pair_search_options
@run_options
@json_option
def command(sources: tuple[str, ...], out: Place, *, as_json: bool, **options: Any) -> int:
    """Find all pairs in the SOURCEs and fuse them into DST, skipping those already done.

    A SOURCE is a static catalogue, a STAC API, an item collection, a stac-geoparquet file or a known archive. HSI and
    MSI may come from different sources. Files on https:// and s3:// are read by ranges; ENVI and Zarr only from disk.
    A failed pair does not stop the others; it is recorded in DST/failures.jsonl (exit code 3). A pair that another
    process is working on is left to it (also exit code 3).
    """
    from scenefuse.pipeline.batch import batch

    bounds, rule = bounds_of(options), pair_rule(options)
    config = run_config(options)
    with open_log(names_failed=as_json) as progress:
        report = batch(sources, out=out, rule=rule, config=config, bounds=bounds, observer=progress)
    if as_json:
        emit_json(report.facts())
    else:
        show_batch(report)
    return WorkError.exit_code if report.failures or report.busy else 0


def show_batch(report: BatchReport) -> None:
    """Print what became of the pairs of an archive."""
    for product in report.products:
        show_product(product)
    for entry in report.pairing.unpaired:
        note(f"No pair for {entry.scene.id}: {entry.reason}")
    note_skipped(report.skipped)
    for failure in report.failures:
        click.echo(f"Failed: {failure.hs_id} with {failure.ms_id} ({failure.kind}): {failure.cause}")
    for failure in report.busy:
        click.echo(f"In progress elsewhere: {failure.hs_id} with {failure.ms_id}: {failure.cause}")
    counts = {
        status: sum(product.status == status for product in report.products) for status in ("done", "resumed", "found")
    }
    click.echo(
        f"{counted(len(report.pairing.pairs), 'pair')}: {counts['done'] + counts['resumed']} fused, "
        f"{counts['found']} found, {len(report.failures)} failed"
        f"{f', {len(report.busy)} in progress elsewhere' if report.busy else ''}; "
        f"{counted(len(report.pairing.unpaired), 'scene')} in no pair"
    )
