"""`scenefuse publish`: products into a catalogue."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from scenefuse.cli.options import OwnPath
from scenefuse.cli.output import emit_json, json_option


@click.command(name="publish")
@click.argument("products", nargs=-1, required=True, type=OwnPath(path_type=Path), metavar="PRODUCT...")
@click.option("--to", "destination", required=True, metavar="FOLDER", help="Local folder of the catalogue.")
@click.option("--asset-root", metavar="URL", help="Where readers find the assets, if not beside the items.")
@json_option
def command(products: tuple[Path, ...], destination: str, asset_root: str | None, *, as_json: bool) -> None:
    """Put each PRODUCT into the static STAC catalogue at --to; one that is there already is left as it is.

    Checksums are verified first: a product that does not match is not published (exit code 5).
    """
    from scenefuse.publish.destination import catalogue_folder
    from scenefuse.publish.static import publish_static

    entries = publish_static(products, catalogue_folder(destination), asset_root=asset_root)
    if as_json:
        emit_json({"published": [asdict(entry) for entry in entries]})
        return
    for entry in entries:
        click.echo(f"{entry.outcome:<9} {entry.href}")
