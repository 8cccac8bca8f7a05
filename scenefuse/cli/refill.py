"""`scenefuse refill`: retry what failed under an output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scenefuse.cli.fuse import show_product
from scenefuse.cli.options import PLACE, allow_host_option, memory_limit_option, scheduler_option, workers_option
from scenefuse.cli.output import emit_json, json_option
from scenefuse.cli.progress import ProgressBar
from scenefuse.config import RunConfig
from scenefuse.errors import WorkError
from scenefuse.place.place import Place

if TYPE_CHECKING:
    from scenefuse.pipeline.refill import RefillReport


@click.command(name="refill")
@click.argument("out", type=PLACE)
@workers_option
@scheduler_option
@memory_limit_option
@allow_host_option
@json_option
def command(
    out: Place,
    workers: int | None,
    scheduler: str | None,
    memory_limit: str | None,
    allow_host: tuple[str, ...],
    *,
    as_json: bool,
) -> int:
    """Retry every pair that `fuse` or `batch` recorded as failed under OUT (in OUT/failures.jsonl).

    OUT is a folder or s3://bucket/prefix. Pairs, method and options are those of the failed run; finished tiles are
    kept. Pairs that succeed leave the list; pairs that fail again stay on it (exit code 3).
    """
    from scenefuse.pipeline.refill import refill

    machine = RunConfig(workers=workers, scheduler=scheduler, memory_limit=memory_limit, allow_host=allow_host)
    with ProgressBar() as progress:
        report = refill(out, machine=machine, observer=progress)
    if as_json:
        emit_json(report.facts())
    else:
        _show(report, out)
    return WorkError.exit_code if report.failures else 0


def _show(report: RefillReport, out: Place) -> None:
    for product in report.products:
        show_product(product)
    for failure in report.failures:
        click.echo(f"Failed again: {failure.hs_id} with {failure.ms_id} ({failure.kind}): {failure.cause}")
    if report.products or report.failures:
        click.echo(f"{len(report.products)} done, {len(report.failures)} still failed")
    else:
        click.echo(f"Nothing is recorded as failed under {out}")
