"""The folder of a product, from what a person writes: the folder, or the item in it that `fuse` names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scenefuse.errors import DataError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import CATALOG, COLLECTION, FAILURES, MANIFEST, PROVENANCE, STORE

_OF_AN_OUTPUT = frozenset({CATALOG, COLLECTION, FAILURES})
"""Files of an output that lie beside its products."""


def without_files_of_an_output(locations: Sequence[str | Path | Place]) -> tuple[Place, ...]:
    """The places of what a shell makes of `products/*`, without the output's own files beside a product.

    Such a file stays where nothing else of its folder was named: then somebody means it, and is told that it is none.
    """
    places = tuple(place_at(location) for location in locations)
    with_products = {str(place.parent) for place in places if place.name not in _OF_AN_OUTPUT}
    return tuple(place for place in places if place.name not in _OF_AN_OUTPUT or str(place.parent) not in with_products)


def is_unfinished(place: Place) -> bool:
    """True for the folder of a product that a run began and has not committed: to readers it does not exist yet."""
    names = {*place.names()} if place.is_folder() else set()
    return STORE in names and not {MANIFEST, PROVENANCE, f"{place.resolved().name}.json"} & names


def is_product(place: Place) -> bool:
    """True for the folder of a finished product, whole or not."""
    return (place / f"{place.name}.json").is_file() and (place / PROVENANCE).is_file()


def product_folder(location: str | Path | Place) -> Place:
    """The folder at location, or around the item there, links followed; DataError where no finished product is.

    A product that lost its item, or anything else, is one all the same: what is wrong with it is for verify to say.
    """
    place = place_at(location).resolved()
    if place.name == f"{place.parent.name}.json" and place.is_file():
        return place.parent
    if not place.is_folder():
        what = "is a file, and no product's item" if place.is_file() else "is not a folder"
        raise DataError(f"{place} {what}", "there is no product in it", "give the product's folder")
    if is_unfinished(place):
        raise DataError(
            f"{place} is not finished",
            "a run was interrupted, or is still working on it",
            "let that run end, or repeat its command to resume it; scenefuse clean lists what is abandoned",
        )
    names = place.names()
    if not {STORE, MANIFEST, PROVENANCE, f"{place.name}.json"} & {*names}:
        inside = next((name for name in names if STORE in (place / name).names()), None)
        raise DataError(
            f"{place} holds no product files" + (", but products" if inside else ""),
            "there is nothing to verify or recompute",
            "give the product's folder" + (f", {place / inside} for one, or {place}/* for all" if inside else ""),
        )
    return place
