"""`scenefuse verify`: check a product's checksums and schemas."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.each_product import run_on_products
from scenefuse.cli.options import products_argument
from scenefuse.cli.output import json_option
from scenefuse.cli.stopping import InterruptedRunError
from scenefuse.errors import MismatchError
from scenefuse.place.place import Place
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.product.verify import VerifyReport


@click.command(name="verify")
@products_argument
@json_option
def command(products: tuple[Place, ...], *, as_json: bool) -> int:
    """Check every checksum of each PRODUCT, its item against the STAC schemas, and its provenance.

    PRODUCT is a product's folder, s3://bucket/prefix/<item id>, or its item. products/* works: the catalogue beside the
    products is skipped. Among several products, those that cannot be checked are named, and the others are checked.

    Exits with 5 if something does not match, else with 3 if one of several could not be checked.
    """
    from scenefuse.product.verify import verify

    reports, code = run_on_products(products, verify, show=_Lines().show, record=_record if as_json else None)
    if code == InterruptedRunError.exit_code or all(report.ok for report in reports):
        return code
    return MismatchError.exit_code


def _record(report: VerifyReport) -> dict[str, Any]:
    return {**asdict(report), "ok": report.ok}


@dataclass(slots=True)
class _Lines:
    """Prints the verdict on each product."""

    unchecked: tuple[str, ...] = ()
    """What could not be checked in the previous product: for products of one version it is the same."""

    def show(self, report: VerifyReport) -> None:
        """Print the verdict and the reasons for it."""
        verdict = "ok" if report.ok else counted(len(report.mismatches), "mismatch", "mismatches")
        click.echo(f"{report.product}: {verdict}; {counted(report.files, 'file')} checked")
        for mismatch in report.mismatches:
            click.echo(f"  {mismatch.kind:<11} {mismatch.name}: {mismatch.message}")
        same = report.unchecked and report.unchecked == self.unchecked
        for line in ("as before",) if same else report.unchecked:
            click.echo(f"  unchecked   {line}")
        self.unchecked = report.unchecked
