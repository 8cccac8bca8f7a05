"""`scenefuse verify`: a product's checksums and schemas."""

from __future__ import annotations

from dataclasses import asdict

import click

from scenefuse.cli.options import PRODUCT
from scenefuse.cli.output import emit_json, json_option
from scenefuse.errors import MismatchError
from scenefuse.place.place import Place
from scenefuse.words import counted


@click.command(name="verify")
@click.argument("products", nargs=-1, required=True, type=PRODUCT, metavar="PRODUCT...")
@json_option
def command(products: tuple[Place, ...], *, as_json: bool) -> int:
    """Check every checksum of each PRODUCT, its item against the STAC schemas, and its provenance.

    PRODUCT is the product's folder, s3://bucket/prefix/<item id>, or its item.

    Exits with 5 when something does not match.
    """
    from scenefuse.pipeline.verify import verify

    reports = [verify(product) for product in products]
    if as_json:
        emit_json({"products": [{**asdict(report), "ok": report.ok} for report in reports]})
    else:
        for report in reports:
            verdict = "ok" if report.ok else counted(len(report.mismatches), "mismatch", "mismatches")
            click.echo(f"{report.product}: {verdict}; {counted(report.files, 'file')} checked")
            for mismatch in report.mismatches:
                click.echo(f"  {mismatch.kind:<11} {mismatch.name}: {mismatch.message}")
            for line in report.unchecked:
                click.echo(f"  unchecked   {line}")
    return 0 if all(report.ok for report in reports) else MismatchError.exit_code
