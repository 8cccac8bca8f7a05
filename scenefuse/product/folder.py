"""Find a product's folder from what a person types: the folder itself, or the item in it that `fuse` prints."""

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
    """Places of an expanded `products/*`, without the output's own files that the shell matched.

    Such a file is kept if nothing else from its folder was named: then it was meant, and gets an error message.
    """
    places = tuple(place_at(location) for location in locations)
    with_products = {str(place.parent) for place in places if place.name not in _OF_AN_OUTPUT}
    return tuple(place for place in places if place.name not in _OF_AN_OUTPUT or str(place.parent) not in with_products)


def is_unfinished(place: Place) -> bool:
    """True for a product folder that a run has begun but not committed, so that readers do not see it yet."""
    names = {*place.names()} if place.is_folder() else set()
    return STORE in names and not {MANIFEST, PROVENANCE, f"{place.resolved().name}.json"} & names


def is_product(place: Place) -> bool:
    """True for the folder of a finished product, intact or damaged."""
    return (place / f"{place.name}.json").is_file() and (place / PROVENANCE).is_file()


def product_folder(location: str | Path | Place) -> Place:
    """The product folder at location, or around the item there, links resolved; DataError if there is no product.

    A product that lost its item or other files still counts: verify reports what is wrong with it.
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
