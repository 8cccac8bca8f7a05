"""`scenefuse replay`: recompute tiles of a product and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scenefuse.cli.completion import HREF
from scenefuse.cli.options import PRODUCT, allow_host_option, moved_to
from scenefuse.cli.output import emit_json, json_option
from scenefuse.cli.progress import ProgressBar
from scenefuse.config import RunConfig
from scenefuse.errors import MismatchError
from scenefuse.place.place import Place
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.pipeline.replay import ReplayReport


@click.command(name="replay")
@click.argument("product", type=PRODUCT, metavar="PRODUCT")
@click.option("--all", "every_tile", is_flag=True, help="Every tile. [a sample of four]")
@click.option("--hs", type=HREF, help="Where the HSI is now, if it moved.")
@click.option("--ms", type=HREF, help="Where the MSI is now, if it moved.")
@click.option("--weights", type=HREF, help="Weights of the network: file, or name[@version]. [those of the provenance]")
@click.option("--workers", type=click.IntRange(1), help="Worker processes. [one per core, none for a sample]")
@click.option("--scheduler", metavar="ADDRESS", help="Running Dask scheduler, tcp://host:8786.")
@allow_host_option
@json_option
def command(
    product: Place,
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
    """Recompute tiles of PRODUCT (its folder or item) from its provenance and state, and compare with what is stored.

    With the versions and the processor that made it every integer must be the same; else at most one step
    (1e-4 reflectance) apart. Exits with 5 when it is not.
    """
    from scenefuse.pipeline.replay import replay

    config = RunConfig(weights=weights, workers=workers, scheduler=scheduler, allow_host=allow_host)
    hrefs = moved_to(hs, ms)
    with ProgressBar() as progress:
        report = replay(product, every_tile=every_tile, hrefs=hrefs, config=config, observer=progress)
    if as_json:
        emit_json(report.facts())
    else:
        _show(report)
    return 0 if report.ok else MismatchError.exit_code


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
