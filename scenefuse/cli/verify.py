"""`scenefuse verify`: a product's checksums and schemas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from scenefuse.cli.options import PRODUCT
from scenefuse.cli.output import emit_json, error_record, json_option, note, show_failures
from scenefuse.cli.stopping import until_interrupted
from scenefuse.errors import MismatchError, WorkError
from scenefuse.pipeline.several import ProductFailure, look_at_each
from scenefuse.place.place import Place
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.product.verify import VerifyReport


@click.command(name="verify")
@click.argument("products", nargs=-1, required=True, type=PRODUCT, metavar="PRODUCT...")
@json_option
def command(products: tuple[Place, ...], *, as_json: bool) -> int:
    """Check every checksum of each PRODUCT, its item against the STAC schemas, and its provenance.

    PRODUCT is the product's folder, s3://bucket/prefix/<item id>, or its item. Of several, those that cannot be checked
    at all are named, and the others checked.

    Exits with 5 when something does not match, else with 3 when one of several could not be checked.
    """
    from scenefuse.pipeline.verify import verify

    looks = look_at_each(products, verify)
    shown = looks if as_json else _as_shown(looks)
    found, stopped = until_interrupted(shown, whole=counted(len(products), "product"))
    failures = [entry for entry in found if isinstance(entry, ProductFailure)]
    reports = [entry for entry in found if not isinstance(entry, ProductFailure)]
    if as_json:
        records = [{**asdict(report), "ok": report.ok} for report in reports]
        ended = {} if stopped is None else error_record(stopped)
        emit_json({"products": records, "failures": list(map(asdict, failures)), **ended})
    if stopped is not None:
        note(f"Error: {stopped}")
        return stopped.exit_code
    if not all(report.ok for report in reports):
        return MismatchError.exit_code
    return WorkError.exit_code if failures else 0


def _as_shown(looks: Iterable[VerifyReport | ProductFailure]) -> Iterator[VerifyReport | ProductFailure]:
    """What was found, each said as soon as it is: of large products that takes minutes."""
    for look in looks:
        if isinstance(look, ProductFailure):
            show_failures([look])
        else:
            _show(look)
        yield look


def _show(report: VerifyReport) -> None:
    verdict = "ok" if report.ok else counted(len(report.mismatches), "mismatch", "mismatches")
    click.echo(f"{report.product}: {verdict}; {counted(report.files, 'file')} checked")
    for mismatch in report.mismatches:
        click.echo(f"  {mismatch.kind:<11} {mismatch.name}: {mismatch.message}")
    for line in report.unchecked:
        click.echo(f"  unchecked   {line}")
