"""`scenefuse verify`: a product's checksums and schemas."""

from __future__ import annotations

from pathlib import Path

import click

from scenefuse.cli.output import emit_json, json_option
from scenefuse.errors import MismatchError
from scenefuse.product.verify import verify


@click.command(name="verify")
@click.argument("products", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PRODUCT...")
@json_option
def command(products: tuple[Path, ...], *, as_json: bool) -> int:
    """Check every checksum of each PRODUCT (its folder), its item against the STAC schemas, and its provenance.

    Exits with 5 when something does not match.
    """
    reports = [verify(product) for product in products]
    if as_json:
        emit_json({"products": [report.facts() for report in reports]})
    else:
        for report in reports:
            verdict = "ok" if not report.problems else f"{len(report.problems)} mismatches"
            click.echo(f"{report.folder}: {verdict}; {report.files} files, {report.size_bytes / 1e6:.1f} MB checked")
            for problem in report.problems:
                click.echo(f"  {problem}")
    return MismatchError.exit_code if any(report.problems for report in reports) else 0
