"""Decide, before any work and without writing, whether an output folder may receive a product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scenefuse.errors import DataError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import CATALOG, COLLECTION, FAILURES, LEASE, STORE
from scenefuse.product.layout import refuse_foreign
from scenefuse.product.stac_item import COLLECTION_ID

CATALOG_ID = "scenefuse-output"
"""STAC id of an output folder's catalogue."""

_EMPTY = "choose an empty folder, or one that scenefuse made"


def require_output(root: Path | Place, item_id: str | None = None) -> None:
    """Refuse a root that is neither absent, nor empty, nor an output folder made by scenefuse.

    A root with our collection.json may hold other files too. A root without it may hold nothing but unfinished
    products, so that a product is never mixed with other people's files. item_id: also check this product's folder.
    """
    root = place_at(root)
    if root.is_file():
        raise DataError(f"{root} is a file", "products need a folder", "choose another output folder")
    if not root.is_folder():
        return
    collection = read_stac(root / COLLECTION)
    if collection is not None and collection.get("id") != COLLECTION_ID:
        raise DataError(
            f"{root / 'collection.json'} is the collection {collection.get('id')!r}",
            f"products would have to be linked there as items of {COLLECTION_ID!r}",
            _EMPTY,
        )
    catalog = read_stac(root / CATALOG)
    if catalog is not None and collection is None and catalog.get("id") != CATALOG_ID:
        raise DataError(
            f"{root / 'catalog.json'} is the catalogue {catalog.get('id')!r}, which scenefuse did not make",
            "products would have to be linked there",
            f"{_EMPTY}, and publish into this catalogue with scenefuse publish",
        )
    foreign = [] if collection is not None else [name for name in root.names() if not _is_ours(root / name)]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise DataError(
            f"{root} holds something else: {', '.join(foreign[:3])}{more}",
            "products would be mixed with it",
            _EMPTY,
        )
    if item_id is not None:
        refuse_foreign(root / item_id, item_id)


def read_stac(path: Path | Place) -> dict[str, Any] | None:
    """The JSON object in a file; None if the file does not exist, DataError if it cannot be read as one."""
    place = place_at(path)
    try:
        return parse_stac(place.read(), place)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"{place} cannot be read ({error})", "no product can be linked there", "repair it, or choose another folder"
        ) from error


def parse_stac(data: bytes, path: Place) -> dict[str, Any]:
    """Parse data as a JSON object; path names the file in the DataError if it is not one."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({error})", "no product can be linked there", "repair it, or choose another folder"
        ) from error
    if not isinstance(document, dict):
        raise DataError(
            f"{path} holds a JSON {type(document).__name__}, not a STAC object",
            "no product can be linked there",
            "repair it, or choose another folder",
        )
    return document


def _is_ours(path: Place) -> bool:
    """True for hidden files, the catalogue, the record of failures, and product folders, finished or not."""
    if path.name.startswith(".") or path.name in {CATALOG, FAILURES}:
        return True
    if not path.is_folder():
        return False
    names = path.names()
    return not names or STORE in names or any(name.startswith(LEASE) for name in names)
