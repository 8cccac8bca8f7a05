"""The collection and the catalogue that link the products of an output."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pystac
from pystac.utils import datetime_to_str, str_to_datetime

from scenefuse.errors import DataError
from scenefuse.place.durable import json_bytes
from scenefuse.place.local import went_away
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import CATALOG, COLLECTION
from scenefuse.product.output import CATALOG_ID, parse_stac, read_stac
from scenefuse.product.stac_item import COLLECTION_ID
from scenefuse.product.summaries import summarise

_TITLE = "Fused images"
_DESCRIPTION = "Hyperspectral images fused with multispectral ones: all bands of the one on the grid of the other."


_LINKS = (
    {"rel": "root", "href": "./catalog.json", "type": "application/json"},
    {"rel": "parent", "href": "./catalog.json", "type": "application/json"},
)
"""Links of a file-based collection, apart from its items."""


def link_item(root: Path | Place, item: dict[str, Any]) -> bool:
    """Link the item in `collection.json` and `catalog.json` under root; True if that changed either of them.

    The item must be at `<id>/<id>.json`; TransientError if it is not, since root is then no longer the same folder.
    The collection's extent, summaries and item_assets grow to include it; other content of the two files is kept.
    Safe while other processes link other items.
    """
    root = place_at(root)
    if not (root / item["id"] / f"{item['id']}.json").is_file():
        raise went_away(root)
    read_stac(root / CATALOG)  # refuse a bad catalogue before the collection changes

    def with_item(collection: dict[str, Any]) -> None:
        if collection.get("id") != COLLECTION_ID:
            raise DataError(
                f"{root / 'collection.json'} is the collection {collection.get('id')!r}",
                f"its items would say that they belong to {COLLECTION_ID!r}",
                "choose another output folder",
            )
        _add_link(collection, "item", f"./{item['id']}/{item['id']}.json", None)
        widen(collection, item)

    def with_collection(catalog: dict[str, Any]) -> None:
        _add_link(catalog, "child", "./collection.json", _TITLE)

    grown = _update(root / COLLECTION, new_collection(item, _LINKS), with_item)
    linked = _update(root / CATALOG, _new_catalog(), with_collection)
    return grown or linked


def _update(place: Place, new: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> bool:
    """Apply change to the document at place, or to new if there is none; True if the document changed."""

    def changed(old: bytes | None) -> bytes | None:
        document = copy.deepcopy(new) if old is None else parse_stac(old, place)
        before = _outline(document)
        change(document)
        same = old is not None and _outline(document) == before
        return None if same else json_bytes(document)

    return place.update(changed)


def _outline(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the number of its links in place of them: they are only added to, and there may be 100,000."""
    return copy.deepcopy({**document, "links": len(document.get("links", ()))})


def _new_catalog() -> dict[str, Any]:
    document: dict[str, Any] = pystac.Catalog(CATALOG_ID, _DESCRIPTION, title="scenefuse output").to_dict(
        include_self_link=False, transform_hrefs=False
    )
    document["links"] = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
    return document


def new_collection(item: dict[str, Any], links: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A collection covering one item, not yet linking to it."""
    start, end = _interval(item)
    extent = pystac.Extent(
        pystac.SpatialExtent([item["bbox"]]),
        pystac.TemporalExtent([[str_to_datetime(start), str_to_datetime(end)]]),
    )
    collection = pystac.Collection(COLLECTION_ID, _DESCRIPTION, extent, title=_TITLE, license="other")
    document: dict[str, Any] = collection.to_dict(include_self_link=False, transform_hrefs=False)
    document |= {"summaries": {}, "item_assets": {}, "links": [*links]}
    widen(document, item)
    return document


def widen(collection: dict[str, Any], item: dict[str, Any]) -> None:
    """Grow the collection's extent, summaries and item_assets to include the item.

    The result depends neither on the order of items nor on repeats.
    """
    _grow(collection["extent"], item)
    if "summaries" in collection:  # a collection begun without them would summarise only its later items
        summarise(collection, item)


def _add_link(document: dict[str, Any], rel: str, href: str, title: str | None) -> None:
    links = document.setdefault("links", [])
    if any(link.get("rel") == rel and link.get("href") == href for link in links):
        return
    media_type = "application/geo+json" if rel == "item" else "application/json"
    links.append({"rel": rel, "href": href, "type": media_type, **({"title": title} if title else {})})
    links.sort(key=lambda link: (link.get("rel") == "item", link["href"] if link.get("rel") == "item" else ""))


def _grow(extent: dict[str, Any], item: dict[str, Any]) -> None:
    """Widen the extent's first bounding box and first interval to include the item."""
    boxes = extent["spatial"]["bbox"]
    west, south, east, north = _corners(boxes[0])
    box = _corners(item["bbox"])
    boxes[0] = [min(west, box[0]), min(south, box[1]), max(east, box[2]), max(north, box[3])]
    intervals = extent["temporal"]["interval"]
    times = [str_to_datetime(time) for time in _interval(item)]
    start, end = (None if time is None else str_to_datetime(time) for time in intervals[0])
    intervals[0] = [
        None if start is None else datetime_to_str(min(start, times[0])),
        None if end is None else datetime_to_str(max(end, times[1])),
    ]


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    """West, south, east and north of a bounding box, which may be three-dimensional."""
    west, south, east, north = (*box[:2], *box[len(box) // 2 :][:2])
    return west, south, east, north


def _interval(item: dict[str, Any]) -> tuple[str, str]:
    properties = item["properties"]
    return properties.get("start_datetime") or properties["datetime"], properties.get("end_datetime") or properties[
        "datetime"
    ]
