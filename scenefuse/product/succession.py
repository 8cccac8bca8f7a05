"""Versions of a product: after an input was corrected, the new item links the one it replaces, and vice versa.

Fields and links follow the STAC extension `version`: `deprecated`, `predecessor-version`, `successor-version`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scenefuse.errors import MismatchError
from scenefuse.place.durable import json_bytes
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import COLLECTION
from scenefuse.product.identity import product_identity
from scenefuse.product.output import read_stac
from scenefuse.product.provenance import Provenance, read_provenance, read_run
from scenefuse.product.stac_item import read_item

VERSION_EXTENSION = "https://stac-extensions.github.io/version/v1.2.0/schema.json"
"""The STAC extension for successive versions of an item."""
PREDECESSOR, SUCCESSOR = "predecessor-version", "successor-version"

Document = dict[str, Any]


def succeed(folder: Path | Place, hrefs: dict[str, str]) -> tuple[str, ...]:
    """Mark the products that the one in folder replaces as deprecated, link both ways, and return their ids.

    A product is replaced if it was made from the same two items (by id, and by place in hrefs, which is by role), with
    the same method and options, but from other files, from files of which their items now tell something else, or by a
    release with other NUMERICS. The product requested last becomes the current one, even if it existed before. Only for
    products linked by their output; safe to repeat after any interruption.
    """
    folder = place_at(folder)
    replaced = tuple(place.name for place in _older(folder, hrefs))
    if replaced or read_item(folder)["properties"].get("deprecated"):
        _change(folder, lambda item: _as_current(item, replaced))
    for name in replaced:
        _change(folder.parent / name, lambda item: as_replaced(item, folder.name, _href(folder.name)))
    return replaced


def pass_on(folder: Path | Place) -> None:
    """Mark the products that the one in folder replaces, if they are beside it, for example in another catalogue."""
    folder = place_at(folder)
    for link in read_item(folder)["links"]:
        if link["rel"] == PREDECESSOR:
            _change(folder.parent / item_name(link), lambda item: as_replaced(item, folder.name, _href(folder.name)))


def item_name(link: Mapping[str, Any]) -> str:
    """Id of the item, in the same output or API, that a link made by this module leads to."""
    return str(link["href"]).rpartition("/")[2].removesuffix(".json")


def _older(folder: Place, hrefs: dict[str, str]) -> Iterator[Place]:
    """Products beside folder that it replaces and that are not marked so yet."""
    collection = read_stac(folder.parent / COLLECTION) or {}
    stem = folder.name.rpartition("_")[0]
    names = {item_name(link) for link in collection.get("links", ())}
    beside = sorted(name for name in names if name.rpartition("_")[0] == stem and name != folder.name)
    if not beside:
        return
    made = _made_of(read_provenance(folder))
    for name in beside:
        place = folder.parent / name
        try:
            same = not read_item(place)["properties"].get("deprecated") and read_run(place).hrefs == hrefs
            if same and _made_of(read_provenance(place)) == made:
                yield place
        except (OSError, ValueError, MismatchError):
            continue  # gone by now, or damaged: verify reports it


def _made_of(provenance: Provenance) -> tuple[Any, ...]:
    """What the versions of one product have in common: scenes, method and options."""
    scenes = sorted({(file.role, file.scene_id) for file in provenance.inputs})
    return scenes, product_identity((), provenance.method, provenance.options, numerics=0)


def _change(folder: Place, change: Callable[[Document], Document]) -> None:
    def changed(old: bytes | None) -> bytes | None:
        return None if old is None else json_bytes(change(json.loads(old)))

    (folder / f"{folder.name}.json").update(changed)


def _as_current(item: Document, replaced: tuple[str, ...]) -> Document:
    """The item, marked as replacing others and not deprecated itself."""
    properties = {key: value for key, value in item["properties"].items() if key != "deprecated"}
    links = [link for link in item["links"] if link["rel"] != SUCCESSOR]
    return _versioned(
        {**item, "properties": properties, "links": links}, PREDECESSOR, {name: _href(name) for name in replaced}
    )


def as_replaced(item: Document, successor: str, href: str) -> Document:
    """The item, marked as replaced by the item with the id successor at href."""
    properties = {**item["properties"], "deprecated": True}
    links = [
        link
        for link in item["links"]
        if link["rel"] != SUCCESSOR and not (link["rel"] == PREDECESSOR and item_name(link) == successor)
    ]
    return _versioned({**item, "properties": properties, "links": links}, SUCCESSOR, {successor: href})


def _versioned(item: Document, rel: str, hrefs: Mapping[str, str]) -> Document:
    """The item with added links of one relation to other items, given as href by id."""
    there = {(link["rel"], item_name(link)) for link in item["links"]}
    added = [
        {"rel": rel, "href": href, "type": "application/geo+json", "title": name}
        for name, href in hrefs.items()
        if (rel, name) not in there
    ]
    extensions = sorted({*item.get("stac_extensions", ()), VERSION_EXTENSION})
    return {**item, "stac_extensions": extensions, "links": [*item["links"], *added]}


def _href(name: str) -> str:
    """Relative href from one item of an output to another."""
    return f"../{name}/{name}.json"
