"""Sources of scenes: a catalogue, an item, a list or a table of items, a STAC API, or a raster file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scenefuse.archive.access import AccessPolicy, trusted_path
from scenefuse.archive.delivered import delivered_item
from scenefuse.archive.document import DocumentKind, document_kind, link_rel, read_document, read_start
from scenefuse.archive.fetch import Fetcher
from scenefuse.archive.items import scene_from_item
from scenefuse.archive.known import known_archives
from scenefuse.archive.parquet_items import MAGIC, items_of
from scenefuse.archive.scene import Asset, Scene
from scenefuse.archive.selection import is_raster, is_zarr_group
from scenefuse.errors import DataError
from scenefuse.place.href import is_url, redact

_INDEX_NAMES = ("catalog.json", "collection.json")
_UNFIT = re.compile(r"[^A-Za-z0-9._+=@,-]+|\.\.+")
_JSON_SUFFIXES = {".json", ".geojson"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSource:
    """An opened source, whose first document has been read and is STAC."""

    href: str
    """Absolute path or URL of the document."""
    kind: DocumentKind
    """What the document is."""
    document: dict[str, Any]
    """The document; empty for a table, which is read during the search."""
    policy: AccessPolicy
    """Which of its hrefs are followed."""


def open_source(href: str, *, policy: AccessPolicy | None = None) -> ArchiveSource:
    """The source at a path, a file:// or https:// URL, or a known archive's name; DataError if it is not STAC.

    A folder stands for the catalog.json or collection.json in it. Files below the document's folder may be read.
    """
    policy = policy or AccessPolicy()
    href = _by_name(href)
    if is_url(href):
        href = policy.check(href, href)
    else:
        path = _index_of(trusted_path(href))
        href, policy = str(path), policy.with_root(path.parent)
        if _is_table(path):
            return ArchiveSource(href=href, kind="table", document={}, policy=policy)
    with Fetcher(policy) as fetcher:
        document = read_document(href, fetcher)
    return ArchiveSource(href=href, kind=document_kind(document, href), document=document, policy=policy)


def load_scene(href: str, *, policy: AccessPolicy | None = None, item_id: str | None = None) -> Scene:
    """The scene of a STAC item (path or URL), a delivered product, or a raster file, which is not opened here.

    item_id: which item is wanted, if href turns out to be a list or a table of items; None for a single item only.
    A file is an item if it is named .json or .geojson or begins like a JSON object; a URL is one unless its path has a
    raster's suffix.
    """
    policy = policy or AccessPolicy()
    if is_url(href):
        if _is_raster_url(href):
            return _raster_scene(policy.check(href, href), Path(href.partition("?")[0]).stem)
    else:
        path = trusted_path(href)
        if not path.exists():
            raise DataError(f"{path} does not exist", "there is no scene to read", "check the path")
        item = delivered_item(path)
        if item is not None:
            return _delivered_scene(item, path, policy)
        if path.is_dir() and path.suffix.lower() != ".zarr" and not is_zarr_group(path):
            raise DataError(
                f"{path} is a folder, but not one of a product known by its name",
                "it is not a scene",
                "give an item (.json), a raster file, a Zarr group, or a product's folder under its delivered name",
            )
        if path.is_dir() or not (_looks_like_json(path) or _is_table(path)):
            return _raster_scene(str(path), path.stem)
    source = open_source(href, policy=policy)
    if item_id is not None and source.kind in ("items", "table"):
        return _listed_scene(source, item_id)
    if source.kind != "item":
        raise DataError(
            f"{redact(source.href)} is STAC of kind {source.kind}, not a single item",
            "a scene is one item",
            "list it with scenefuse search, or give one of its items",
        )
    return scene_from_item(source.document, href=source.href, policy=source.policy)


def _by_name(href: str) -> str:
    """The landing page if href is a known archive's name and not a file, else href."""
    known = {archive.name: archive.url for archive in known_archives()}
    if Path(href).exists() or Path(href).name != href:
        return href
    near = difflib.get_close_matches(href, known, n=1, cutoff=0.75)
    if near and href not in known:
        raise DataError(
            f"{href!r} is neither a file nor a known archive",
            "no scenes can be searched there",
            f"did you mean {near[0]!r}? scenefuse search --known lists them",
        )
    return known.get(href, href)


def _index_of(path: Path) -> Path:
    """The path, or for a folder the catalogue in it."""
    if not path.is_dir():
        return path
    for name in _INDEX_NAMES:
        if (path / name).is_file():
            return path / name
    raise DataError(
        f"{path} has no {' or '.join(_INDEX_NAMES)}", "it is not a catalogue", "give the JSON file of the catalogue"
    )


def listed_items(source: ArchiveSource) -> Iterator[Any]:
    """The items of a source of kind `items` or `table`, as they are written."""
    return iter(source.document["features"]) if source.kind == "items" else items_of(Path(source.href))


def place_in_list(item: Any, href: str, policy: AccessPolicy) -> str:
    """The own address of an item listed in the file at href; the file's, if that is missing or not allowed."""
    own = self_href(item)
    try:
        return href if own is None else policy.check(own, href)
    except DataError:
        return href


def self_href(item: Any) -> str | None:
    """The item's own address, against which its hrefs are resolved; None if it has none."""
    found = item.get("links") if isinstance(item, dict) else None
    links = found if isinstance(found, list) else []
    return next((link["href"] for link in links if link_rel(link) == "self"), None)


def _listed_scene(source: ArchiveSource, item_id: str) -> Scene:
    """The scene of one item of a list or a table."""
    for item in listed_items(source):
        if isinstance(item, dict) and item.get("id") == item_id:
            return scene_from_item(item, href=place_in_list(item, source.href, source.policy), policy=source.policy)
    raise DataError(
        f"{redact(source.href)} has no item {item_id}", "there is no scene to read", "check whether it was renamed"
    )


def _is_table(path: Path) -> bool:
    """True for a Parquet file."""
    return read_start(path, len(MAGIC)) == MAGIC


def _raster_scene(href: str, stem: str) -> Scene:
    """A scene with one asset, about which only the file can tell more; its id is the file name made valid as an id."""
    return Scene(
        id=_UNFIT.sub("-", stem).strip("-.") or "scene",
        assets=(Asset(key="data", href=href),),
        href=href,
        role_reason="a bare raster: only the file can tell",
        is_stac=False,
    )


def _delivered_scene(item: dict[str, Any], path: Path, policy: AccessPolicy) -> Scene:
    """The scene of a product named by the operator, whose files are trusted wherever links lead."""
    for asset in item["assets"].values():
        policy = policy.with_root(Path(asset["href"]).resolve().parent)
    return replace(scene_from_item(item, href=str(path), policy=policy), root=None, is_stac=False)


def _looks_like_json(path: Path) -> bool:
    """True for a JSON suffix, or if the first non-blank character opens an object."""
    if path.suffix.lower() in _JSON_SUFFIXES:
        return True
    return read_start(path, 256).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"


def _is_raster_url(href: str) -> bool:
    """True if the URL's path has a raster's suffix."""
    return is_raster("data", {"href": href})
