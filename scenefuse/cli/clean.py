"""`scenefuse clean`: remove what abandoned runs left under an output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from scenefuse.cli.options import PLACE
from scenefuse.cli.output import emit_json, json_option, print_table
from scenefuse.place.place import Place

if TYPE_CHECKING:
    from scenefuse.pipeline.clean import Unfinished


@click.command(name="clean")
@click.argument("out", type=PLACE)
@click.option("--yes", is_flag=True, help="Remove them; without this option they are only listed.")
@click.option("--failed", is_flag=True, help="Include failed products that `scenefuse refill` would resume.")
@json_option
def command(out: Place, *, yes: bool, failed: bool, as_json: bool) -> None:
    """List what abandoned runs left under OUT: products with no item and no live lease. With --yes, remove it.

    OUT is a folder or s3://bucket/prefix. Finished products, products in progress and other files are never touched.
    A removed product can be made again, from its first tile.
    """
    from scenefuse.pipeline.clean import find_unfinished, remove_unfinished

    found = find_unfinished(out)
    chosen = [entry for entry in found if entry.standing == "abandoned" or (failed and entry.standing == "failed")]
    removed = remove_unfinished(chosen) if yes else ()
    if as_json:
        emit_json(
            {"unfinished": [entry.facts() for entry in found], "removed": [entry.folder.name for entry in removed]}
        )
    else:
        _show(found, chosen, removed, yes=yes)


def _show(
    found: Sequence[Unfinished], chosen: Sequence[Unfinished], removed: Sequence[Unfinished], *, yes: bool
) -> None:
    if not found:
        click.echo("Nothing is unfinished")
        return
    rows = [(entry.folder.name, entry.standing, entry.files, f"{entry.stored_bytes / 1e6:.1f} MB") for entry in found]
    print_table("Unfinished", ("product", "standing", "files", "size"), rows)
    size = sum(entry.stored_bytes for entry in (removed if yes else chosen)) / 1e6
    if yes:
        click.echo(f"{len(removed)} removed, {size:.1f} MB")
    elif chosen:
        click.echo(f"{len(chosen)} would be removed, {size:.1f} MB: repeat with --yes")
