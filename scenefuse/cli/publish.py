"""`scenefuse publish`: publish products to a catalogue."""

from __future__ import annotations

from dataclasses import asdict

import click

from scenefuse.archive.access import AccessPolicy
from scenefuse.cli.options import allow_host_option, products_argument
from scenefuse.cli.output import emit_json, json_option, note
from scenefuse.place.place import Place


@click.command(name="publish")
@products_argument
@click.option(
    "--to",
    "destination",
    required=True,
    metavar="DST",
    help="Static catalogue: folder, or s3://bucket/prefix. STAC API: https:// URL of its landing page.",
)
@click.option(
    "--asset-root",
    metavar="URL",
    help="URL under which readers find the products' folders. [beside the items; required for an API]",
)
@click.option("--check-assets", is_flag=True, help="For an API: first check that each file is there, with its size.")
@allow_host_option
@json_option
def command(
    products: tuple[Place, ...],
    destination: str,
    asset_root: str | None,
    allow_host: tuple[str, ...],
    *,
    check_assets: bool,
    as_json: bool,
) -> None:
    """Publish each PRODUCT to the STAC catalogue or API at --to. One that is already there is left as it is.

    A static catalogue gets the products' files and items, and links to them. A STAC API with the Transaction extension
    gets items and their collection; the files stay where --asset-root serves them, as <asset root>/<item id>/<file>.
    The API's credentials are read from the environment: SCENEFUSE_STAC_TOKEN (sent as a bearer token), or
    SCENEFUSE_STAC_HEADER ('Name: value').

    PRODUCT is a product's folder, s3://bucket/prefix/<item id>, or its item. products/* works: the catalogue beside the
    products is skipped, and so, among several, are unfinished ones. Checksums are verified first: on a mismatch nothing
    is published (exit code 5). Exits with 3 if a product failed after others were published.
    """
    from scenefuse.product.folder import is_unfinished
    from scenefuse.publish.catalogue import catalogue_at

    catalogue = catalogue_at(
        destination, asset_root=asset_root, policy=AccessPolicy(allow_hosts=allow_host), checks_assets=check_assets
    )
    unfinished = [product for product in products if is_unfinished(product)]
    if len(unfinished) == len(products):
        unfinished = []  # if there is nothing else to publish, let them fail with the reason
    for product in unfinished:
        note(f"Left out {product}: it is not finished")
    entries = catalogue.publish([product for product in products if product not in unfinished])
    if as_json:
        left_out = list(map(str, unfinished))
        emit_json({"published": [asdict(entry) for entry in entries], "left_out": left_out})
        return
    for entry in entries:
        click.echo(f"{entry.outcome:<9} {entry.href}")
