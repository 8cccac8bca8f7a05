"""`scenefuse report`: a product on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.options import FILE, PRODUCT, allow_host_option, moved_to
from scenefuse.cli.output import emit_json, json_option
from scenefuse.config import RunConfig
from scenefuse.errors import UsageError
from scenefuse.place.place import Place

if TYPE_CHECKING:
    from scenefuse.pipeline.report import Report

NOWHERE = "-"
"""As a file: stdout, and for the pipeline none."""


@click.command(name="report")
@click.argument("product", type=PRODUCT, metavar="PRODUCT")
@click.option(
    "--out",
    type=FILE,
    metavar="FILE",
    help="Write there (s3://bucket/key, too; `-` for stdout) and leave the product as it is. [into the product]",
)
@click.option("--reference", metavar="RASTER", help="Truth on the product's grid: all its bands; scores all of it.")
@click.option("--scores", is_flag=True, help="Score all of it against its inputs, as `evaluate` does.")
@click.option("--hs", help="Where the HSI is now, if it moved.")
@click.option("--ms", help="Where the MSI is now, if it moved.")
@allow_host_option
@json_option
def command(
    product: Place,
    out: Place | None,
    hs: str | None,
    ms: str | None,
    allow_host: tuple[str, ...],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Make the report of PRODUCT (its folder, s3://bucket/prefix/<item id>, or its item): one page of HTML.

    It shows the product beside its inputs, spectra, quality flags, registration, seams, consistency by wavelength,
    provenance and the run, loads nothing and runs no script. `fuse` and `batch` write it as they finish; made again, it
    can have the scores of the whole product, too. A part of bounded size is read unless --reference or --scores ask
    for all of it; inputs that are not at their places are left out, and the page says so.
    """
    from scenefuse.pipeline.report import report

    hrefs = moved_to(hs, ms)
    if options["reference"] is not None and options["scores"]:
        raise UsageError(
            "--scores with --reference", "a report shows the scores against one of the two", "Leave out one"
        )
    to_stdout = out is not None and str(out) == NOWHERE
    if to_stdout and as_json:
        raise UsageError("--out - with --json", "both are the one document on stdout", "Leave out one")
    made = report(
        product,
        out=NOWHERE if to_stdout else out,
        hrefs=hrefs,
        config=RunConfig(allow_host=allow_host),
        **options,
    )
    if to_stdout:
        click.echo(made.html, nl=False)
    elif as_json:
        emit_json(made.facts())
    else:
        _show(made)


def _show(made: Report) -> None:
    """Say where the report is and what it found, for people."""
    from scenefuse.quality.page.wording import share_text

    figures = made.figures
    flags = figures["flags"]
    click.echo(f"Report: {made.location}")
    click.echo(f"  {share_text(flags['good'], flags['pixels'])} of {flags['pixels']:,} pixels have no quality flag")
    if figures["inputs"] != "read":
        click.echo(f"  the inputs were not read: {figures['inputs']}")
    for finding in (*figures["findings"], *figures["reference_notes"]):
        click.echo(f"  {finding}")
