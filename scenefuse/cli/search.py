"""`scenefuse search`: list the scenes of catalogues and STAC APIs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from scenefuse.archive.access import AccessPolicy
from scenefuse.cli.completion import HREF
from scenefuse.cli.options import allow_host_option, bounds_of, search_options
from scenefuse.cli.output import emit_json, json_option, note_skipped, print_table
from scenefuse.errors import UsageError
from scenefuse.place.href import redact
from scenefuse.words import counted

if TYPE_CHECKING:
    from scenefuse.archive.scene import Scene


@click.command(name="search")
@click.argument("sources", nargs=-1, type=HREF, metavar="SOURCE...")
@click.option("--known", is_flag=True, help="List the known archives and what access they require, instead of scenes.")
@click.option("--collection", "collections", multiple=True, help="Only this collection; repeatable.")
@click.option("--limit", type=click.IntRange(1), help="Maximum number of scenes per source.")
@allow_host_option
@search_options
@json_option
def command(
    sources: tuple[str, ...],
    collections: tuple[str, ...],
    limit: int | None,
    allow_host: tuple[str, ...],
    *,
    known: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """List the scenes of each SOURCE.

    A SOURCE is a static catalogue, a STAC API, an item collection, a stac-geoparquet file or a known archive;
    `scenefuse search --known` lists the names of known archives (`earth-search`, ...).
    """
    if known == bool(sources):
        raise UsageError(
            "search with neither SOURCE nor --known" if not sources else "search with SOURCE and --known",
            "it lists either the scenes of sources or the known archives",
            "Give one of the two",
        )
    if known:
        _show_known(as_json=as_json)
        return
    from scenefuse.archive.search import collect, search
    from scenefuse.archive.source import open_source

    bounds = bounds_of(options)
    found = collect(
        entry
        for source in sources
        for entry in search(
            open_source(source, policy=AccessPolicy(allow_hosts=allow_host)),
            collections=collections or None,
            bbox=bounds.bbox,
            since=bounds.since,
            until=bounds.until,
            limit=limit,
        )
    )
    if as_json:
        skipped = [{"href": entry.href, "reason": entry.reason} for entry in found.skipped]
        emit_json({"scenes": [scene_record(scene) for scene in found.scenes], "skipped_items": skipped})
        return
    rows = [
        (
            scene.id,
            scene.collection,
            _day(scene.acquired),
            scene.role or f"? {scene.role_reason}",
            _bands(scene),
            _cloud(scene),
        )
        for scene in found.scenes
    ]
    print_table(counted(len(rows), "scene"), ("scene", "collection", "acquired (UTC)", "role", "bands", "cloud"), rows)
    note_skipped(found.skipped)


def _show_known(*, as_json: bool) -> None:
    from scenefuse.archive.known import known_archives

    archives = known_archives()
    if as_json:
        emit_json({"archives": [asdict(archive) for archive in archives]})
        return
    for archive in archives:
        click.echo(f"{archive.name}: {archive.title}\n  {archive.url}")
        for collection in archive.collections:
            click.echo(f"  {collection.id} ({collection.role}): {collection.title}; {collection.licence}")
        click.echo(f"  signing: {archive.signing}\n  account: {archive.credentials}")
        if archive.login is not None:
            token = f"{archive.login.token}, or " if archive.login.token else ""
            click.echo(f"  login: {token}netrc's lines for {' and '.join(archive.login.machines)}")
        if archive.notes:
            click.echo(f"  {archive.notes}")


def scene_record(scene: Scene) -> dict[str, Any]:
    """The scene as JSON-compatible values; hrefs without credentials."""
    return {
        "id": scene.id,
        "collection": scene.collection,
        "acquired": scene.acquired,
        "role": scene.role,
        "role_reason": scene.role_reason,
        "cloud_fraction": scene.cloud_fraction,
        "crs": scene.crs,
        "platform": scene.platform,
        "href": redact(scene.href),
        "footprint": scene.footprint,
        "assets": [
            {"key": asset.key, "href": redact(asset.href), "bands": len(asset.bands), "gsd_m": asset.gsd_m}
            for asset in scene.assets
        ],
        "notes": list(scene.notes),
    }


def _day(time: datetime | None) -> str | None:
    return None if time is None else f"{time:%Y-%m-%d %H:%M}"


def _bands(scene: Scene) -> int:
    return sum(len(asset.bands) for asset in scene.assets)


def _cloud(scene: Scene) -> str | None:
    return None if scene.cloud_fraction is None else f"{100 * scene.cloud_fraction:.0f} %"
