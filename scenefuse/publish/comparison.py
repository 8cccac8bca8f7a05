"""Decide whether a STAC API already has a document, regardless of how it formats it."""

from __future__ import annotations

import math
import re
from typing import Any

from pystac.utils import str_to_datetime

from scenefuse.product.succession import PREDECESSOR, SUCCESSOR

SERVERS_LINKS = frozenset({"self", "root", "parent", "collection", "items", "item", "child", "data"})
"""Link relations that a STAC API generates for each reply."""
_SERVERS_KEYS = {"stac_version", "created", "updated"}
"""Fields that a STAC API may set itself: its STAC version, and when it stored the document."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")


def is_held(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """True if theirs, from a STAC API, is our document.

    It may have extra top-level fields, links of its own and another notation of times and numbers, and may lack nulls.
    Everything below the top level must be the same.
    """
    return (
        all(_same(value, theirs.get(key)) for key, value in ours.items() if key not in {*_SERVERS_KEYS, *_SETS})
        and set(ours.get("stac_extensions") or ()) <= set(theirs.get("stac_extensions") or ())
        and _same(_links(ours, ours), _links(theirs, ours))
    )


_SETS = {"links", "stac_extensions"}
"""Lists in which order has no meaning."""


def without_servers_links(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the links that a STAC API generates."""
    links = [link for link in document.get("links", ()) if link.get("rel") not in SERVERS_LINKS]
    return {**document, "links": links}


def _links(document: dict[str, Any], ours: dict[str, Any]) -> list[dict[str, Any]]:
    """The document's links with relations that we set, sorted."""
    rels = {PREDECESSOR, SUCCESSOR, "derived_from", *(link["rel"] for link in ours["links"])} - SERVERS_LINKS
    links = [link for link in document.get("links", ()) if link.get("rel") in rels]
    return sorted(links, key=lambda link: (link["rel"], str(link.get("href"))))


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = {*ours, *theirs} - _SERVERS_KEYS
        return all(_same(ours.get(key), theirs.get(key)) for key in keys)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-12)
    if isinstance(ours, str) and isinstance(theirs, str) and _TIME.fullmatch(ours) and _TIME.fullmatch(theirs):
        return bool(str_to_datetime(ours) == str_to_datetime(theirs))
    return bool(ours == theirs)
