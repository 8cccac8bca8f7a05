"""`scenefuse plan`: show what a fusion would cost."""

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
    """Show what `fuse` with the same arguments would do and cost. Nothing is written.

    What `fuse` would refuse is refused here, too, with the same exit code.
    """
    from scenefuse.pipeline.planning import is_finished, plan_fusion

    order = plan_fusion(hs, ms, out=out, config=run_config(options))
    exists = is_finished(order.folder, order.config)
    if as_json:
        emit_json(_record(order, exists=exists))
        return
    from scenefuse.engine.budget import size_text

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
        f"  reads {size_text(plan.read_bytes)}, writes up to {size_text(plan.write_bytes)}, "
        f"{size_text(plan.worker_bytes)} of memory per worker, {plan.device} {plan.precision}"
    )
    if exists:
        click.echo("  exists already: fuse would find it")
    else:
        click.echo(f"  {_time_text(order)}")


def _time_text(order: Order) -> str:
    """Rough duration of a run, phase by phase, and what it leaves out."""
    seconds = order.seconds()
    names = {"prepare": "preparation", "tiles": "tiles", "finish": "overviews"}
    names["finish"] += " and COG" if "cog" in order.config.format else ""
    phases = ", ".join(f"{names[phase]} {_seconds_text(value)}" for phase, value in seconds.items())
    adapting = "adapting, " if order.config.adapt is not None else ""
    rest = f"plus opening, {adapting}starting workers and the report"
    whole = _seconds_text(sum(seconds.values()))
    return f"{whole if whole.startswith('under') else f'roughly {whole}'} ({phases}); {rest}"


def _seconds_text(seconds: float) -> str:
    """A rough duration in whole seconds; from ten minutes on in minutes, from ten hours on in hours."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 10 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"


def _record(order: Order, *, exists: bool) -> dict[str, Any]:
    return {
        "item_id": order.folder.name,
        "identity": order.identity,
        "exists": exists,
        "notes": [*order.opened.notes(), *order.plan.notes],
        "plan": order.plan.facts(),
        "seconds": order.seconds(),
        "decisions": order.opened.facts(),
    }
