"""`scenefuse report`: a product's report on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.each_product import run_on_products
from scenefuse.cli.options import FILE, allow_host_option, moved_to, products_argument
from scenefuse.cli.output import json_option
from scenefuse.config import RunConfig
from scenefuse.errors import UsageError
from scenefuse.pipeline.each_product import Location
from scenefuse.place.place import Place

if TYPE_CHECKING:
    from scenefuse.pipeline.report import Report

NOWHERE = "-"
"""The value of --out for stdout; for the pipeline, it means no file."""


@click.command(name="report")
@products_argument
@click.option(
    "--out",
    type=FILE,
    metavar="FILE",
    help="Write to this file, s3://bucket/key or `-` (stdout), and leave the product as it is. [into the product]",
)
@click.option(
    "--reference",
    metavar="RASTER",
    help="Truth on the product's grid, with all its bands: score the whole product against it.",
)
@click.option("--scores", is_flag=True, help="Score the whole product against its inputs, as `evaluate` does.")
@click.option("--hs", help="Where the HSI is now, if it has moved.")
@click.option("--ms", help="Where the MSI is now, if it has moved.")
@allow_host_option
@json_option
def command(
    products: tuple[Place, ...],
    out: Place | None,
    hs: str | None,
    ms: str | None,
    allow_host: tuple[str, ...],
    *,
    as_json: bool,
    **options: Any,
) -> int:
    """Write the report of each PRODUCT: one page of HTML that loads nothing and runs no script.

    It shows the product beside its inputs, spectra, quality flags, registration, seams, consistency by wavelength,
    provenance and the run. `fuse` and `batch` write it when they finish; made again, it can include scores of the whole
    product. Only a part of bounded size is read, unless --reference or --scores ask for all of it. Inputs that have
    moved are left out, and the page says so.

    PRODUCT is a product's folder, s3://bucket/prefix/<item id>, or its item. products/* works: the catalogue beside the
    products is skipped. Among several products, those that get no report are named, and the others get theirs (exit
    code 3).
    """
    from scenefuse.pipeline.report import Report, report

    hrefs = moved_to(hs, ms, products=len(products))
    if out is not None and len(products) != 1:
        raise UsageError(
            f"--out {out} with {len(products)} products",
            "it is one file, and each product has a page of its own",
            "Leave it out",
        )
    if options["reference"] is not None and options["scores"]:
        raise UsageError(
            "--scores with --reference", "a report shows the scores against one of the two", "Leave out one"
        )
    to_stdout = out is not None and str(out) == NOWHERE
    if to_stdout and as_json:
        raise UsageError("--out - with --json", "each would be the document on stdout", "Leave out one")

    def reported(product: Location) -> Report:
        config = RunConfig(allow_host=allow_host)
        return report(product, out=NOWHERE if to_stdout else out, hrefs=hrefs, config=config, **options)

    show = _print if to_stdout else _show
    return run_on_products(products, reported, show=show, record=Report.facts if as_json else None)[1]


def _print(made: Report) -> None:
    """Print the page itself to stdout."""
    click.echo(made.html, nl=False)


def _show(made: Report) -> None:
    """Print where the report is and what it found."""
    from scenefuse.quality.page.wording import share_text

    figures = made.figures
    flags = figures["flags"]
    click.echo(f"Report: {made.location}")
    click.echo(f"  {share_text(flags['good'], flags['pixels'])} of {flags['pixels']:,} pixels have no quality flag")
    if figures["inputs"] != "read":
        click.echo(f"  the inputs were not read: {figures['inputs']}")
    for finding in (*figures["findings"], *figures["reference_notes"]):
        click.echo(f"  {finding}")
