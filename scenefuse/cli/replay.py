"""`scenefuse replay`: recompute tiles of a product and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scenefuse.cli.completion import HREF
from scenefuse.cli.each_product import run_on_products
from scenefuse.cli.options import allow_host_option, moved_to, products_argument
from scenefuse.cli.output import json_option
from scenefuse.cli.progress import ProgressBar
from scenefuse.cli.stopping import InterruptedRunError
from scenefuse.config import RunConfig
from scenefuse.errors import MismatchError
from scenefuse.pipeline.each_product import Location
from scenefuse.place.place import Place
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.pipeline.replay import ReplayReport


@click.command(name="replay")
@products_argument
@click.option("--all", "every_tile", is_flag=True, help="Replay every tile. [a sample of four]")
@click.option("--hs", type=HREF, help="Where the HSI is now, if it has moved.")
@click.option("--ms", type=HREF, help="Where the MSI is now, if it has moved.")
@click.option("--weights", type=HREF, help="Weights of the network: file, or name[@version]. [from the provenance]")
@click.option("--workers", type=click.IntRange(1), help="Number of worker processes. [one per core, none for a sample]")
@click.option("--scheduler", metavar="ADDRESS", help="Use a running Dask scheduler, tcp://host:8786.")
@allow_host_option
@json_option
def command(
    products: tuple[Place, ...],
    hs: str | None,
    ms: str | None,
    weights: str | None,
    workers: int | None,
    scheduler: str | None,
    allow_host: tuple[str, ...],
    *,
    every_tile: bool,
    as_json: bool,
) -> int:
    """Recompute tiles of each PRODUCT from its provenance and state, and compare with what is stored.

    PRODUCT is a product's folder, s3://bucket/prefix/<item id>, or its item. products/* works: the catalogue beside the
    products is skipped. Among several products, those that cannot be replayed are named, and the others are replayed.

    With the versions and processor that made the product, every stored integer must be the same; otherwise values may
    differ by one step (1e-4 reflectance) or, in bf16, by the drift against fp32 that the run recorded. Exits with 5 on
    a mismatch, else with 3 if one of several could not be replayed.
    """
    from scenefuse.pipeline.replay import ReplayReport, replay

    config = RunConfig(weights=weights, workers=workers, scheduler=scheduler, allow_host=allow_host)
    hrefs = moved_to(hs, ms, products=len(products))

    def replayed(product: Location) -> ReplayReport:
        with ProgressBar() as progress:
            return replay(product, every_tile=every_tile, hrefs=hrefs, config=config, observer=progress)

    reports, code = run_on_products(products, replayed, show=_show, record=ReplayReport.facts if as_json else None)
    if code == InterruptedRunError.exit_code or all(report.ok for report in reports):
        return code
    return MismatchError.exit_code


def _show(report: ReplayReport) -> None:
    values = sum(core.values for core in report.cores)
    head = f"{report.product}: {len(report.cores)} of {counted(report.tiles, 'tile')} recomputed, {values:,} values"
    if report.ok and report.most_steps == 0:
        click.echo(f"{head}, all identical")
    else:
        share = (
            f"{100 * report.differing_fraction:.3g} % differ by at most {counted(report.most_steps, 'step')} of 1e-4"
        )
        click.echo(f"{head}: {share}{'' if report.ok else ' - MISMATCH'}")
    for line in report.changed:
        click.echo(f"  {line}")
