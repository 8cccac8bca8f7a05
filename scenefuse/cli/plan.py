"""`scenefuse plan`: what a fusion would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from scenefuse.cli.completion import HREF
from scenefuse.cli.options import out_option, run_config, run_options
from scenefuse.cli.output import emit_json, json_option
from scenefuse.place.place import Place
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.pipeline.planning import Order


@click.command(name="plan")
@click.argument("hs", type=HREF)
@click.argument("ms", type=HREF)
@out_option
@run_options
@json_option
def command(hs: str, ms: str, out: Place, *, as_json: bool, **options: Any) -> None:
    """Say what `fuse` with the same arguments would do and cost; nothing is written.

    Refuses what `fuse` would refuse, with the same exit code.
    """
    from scenefuse.pipeline.planning import plan_fusion

    order = plan_fusion(hs, ms, out=out, config=run_config(options))
    if as_json:
        emit_json(_record(order))
        return
    plan, grid = order.plan, order.opened.cube.grid
    rows, columns = grid.fine_shape
    click.echo(f"{order.folder}")
    click.echo(
        f"  {counted(len(order.spec.bands), 'band')}, {rows} x {columns} px of {grid.fine_gsd_m:g} m, "
        f"ratio {grid.ratio}"
    )
    for note in (*order.opened.notes(), *plan.notes):
        click.echo(f"  {note}")
    click.echo(
        f"  {counted(plan.tiles, 'tile')} of {plan.tiling.core_px} px with a halo of {plan.tiling.halo_px} px "
        f"({plan.recomputed:.2f} pixels computed per pixel), {counted(plan.groups, 'task')} on "
        f"{counted(plan.workers, 'worker')}"
    )
    click.echo(
        f"  reads {plan.read_bytes / 1e9:.2f} GB, writes up to {plan.write_bytes / 1e9:.2f} GB, "
        f"{plan.worker_bytes / 2**30:.2f} GiB of memory per worker, {plan.device} {plan.precision}"
    )
    click.echo(f"  roughly {max(1.0, plan.seconds):.0f} s for the tiles; start, preparation, overviews and COG on top")


def _record(order: Order) -> dict[str, Any]:
    item = order.folder / f"{order.folder.name}.json"
    return {
        "item_id": order.folder.name,
        "identity": order.identity,
        "exists": item.is_file(),
        "notes": [*order.opened.notes(), *order.plan.notes],
        "plan": order.plan.facts(),
        "decisions": order.opened.facts(),
    }
