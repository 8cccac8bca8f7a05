"""The collection and the catalogue that link the products of one output."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pystac
from pystac.utils import datetime_to_str, str_to_datetime

from scenefuse.errors import DataError
from scenefuse.product.durable import json_bytes, write_durably
from scenefuse.product.output import CATALOG_ID, read_stac
from scenefuse.product.stac_item import COLLECTION_ID

_DESCRIPTION = "Hyperspectral images fused with multispectral ones: all bands of the one on the grid of the other."


def link_item(root: Path, item: dict[str, Any]) -> bool:
    """True when `collection.json` and `catalog.json` under root changed so that they link the item; else they did.

    The item stands at `<id>/<id>.json`. The collection's extent grows to hold it; other content of the two files is
    kept. Safe against other processes on this machine that link other items at the same time.
    """
    with _locked(root):
        catalog = read_stac(root / "catalog.json") or _new_catalog()
        collection = read_stac(root / "collection.json") or _new_collection(item)
        if collection.get("id") != COLLECTION_ID:
            raise DataError(
                f"{root / 'collection.json'} is the collection {collection.get('id')!r}",
                f"its items would say that they belong to {COLLECTION_ID!r}",
                "choose another output folder",
            )
        _add_link(catalog, "child", "./collection.json", collection.get("title"))
        _add_link(collection, "item", f"./{item['id']}/{item['id']}.json", None)
        _grow(collection["extent"], item)
        return any([_write(root / "collection.json", collection), _write(root / "catalog.json", catalog)])


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process at a time; the lock ends with the process that holds it."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".catalog.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, document: dict[str, Any]) -> bool:
    data = json_bytes(document)
    if path.exists() and path.read_bytes() == data:
        return False
    write_durably(path, data)
    return True


def _new_catalog() -> dict[str, Any]:
    document: dict[str, Any] = pystac.Catalog(CATALOG_ID, _DESCRIPTION, title="scenefuse output").to_dict(
        include_self_link=False, transform_hrefs=False
    )
    document["links"] = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
    return document


def _new_collection(item: dict[str, Any]) -> dict[str, Any]:
    start, end = _interval(item)
    extent = pystac.Extent(
        pystac.SpatialExtent([item["bbox"]]),
        pystac.TemporalExtent([[str_to_datetime(start), str_to_datetime(end)]]),
    )
    collection = pystac.Collection(COLLECTION_ID, _DESCRIPTION, extent, title="Fused images", license="other")
    document: dict[str, Any] = collection.to_dict(include_self_link=False, transform_hrefs=False)
    document["links"] = [
        {"rel": "root", "href": "./catalog.json", "type": "application/json"},
        {"rel": "parent", "href": "./catalog.json", "type": "application/json"},
    ]
    return document


def _add_link(document: dict[str, Any], rel: str, href: str, title: str | None) -> None:
    links = document.setdefault("links", [])
    if any(link.get("rel") == rel and link.get("href") == href for link in links):
        return
    media_type = "application/geo+json" if rel == "item" else "application/json"
    links.append({"rel": rel, "href": href, "type": media_type, **({"title": title} if title else {})})
    links.sort(key=lambda link: (link.get("rel") == "item", link["href"] if link.get("rel") == "item" else ""))


def _grow(extent: dict[str, Any], item: dict[str, Any]) -> None:
    """Nothing; the extent's first bounding box and first interval hold the item."""
    boxes = extent["spatial"]["bbox"]
    west, south, east, north = boxes[0]
    box = item["bbox"]
    boxes[0] = [min(west, box[0]), min(south, box[1]), max(east, box[2]), max(north, box[3])]
    intervals = extent["temporal"]["interval"]
    times = [str_to_datetime(time) for time in _interval(item)]
    start, end = (None if time is None else str_to_datetime(time) for time in intervals[0])
    intervals[0] = [
        None if start is None else datetime_to_str(min(start, times[0])),
        None if end is None else datetime_to_str(max(end, times[1])),
    ]


def _interval(item: dict[str, Any]) -> tuple[str, str]:
    properties = item["properties"]
    return properties.get("start_datetime") or properties["datetime"], properties.get("end_datetime") or properties[
        "datetime"
    ]
