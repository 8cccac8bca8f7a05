"""Collection-level summaries over all items: property values to filter by, and the assets that items have."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from scenefuse.product.stac_item import PROJECTION_EXTENSION, RASTER_EXTENSION

SETS = (
    "constellation",
    "instruments",
    "platform",
    "proj:code",
    "scenefuse:hs_platform",
    "scenefuse:method",
    "scenefuse:ms_platform",
    "scenefuse:ratio",
)
"""Item properties whose distinct values the collection lists."""
RANGES = ("gsd", "scenefuse:band_count", "scenefuse:hs_gsd_m", "scenefuse:ms_gsd_m")
"""Item properties whose minimum and maximum the collection gives."""
ASSET_FIELDS = (
    "data_type",
    "nodata",
    "raster:offset",
    "raster:sampling",
    "raster:scale",
    "roles",
    "title",
    "type",
    "unit",
)
"""Asset fields that the collection repeats when all items agree; bands stay in the items, as there can be hundreds."""


def summarise(collection: dict[str, Any], item: Mapping[str, Any]) -> None:
    """Widen the collection's `summaries`, which may be empty, and `item_assets` to cover the item.

    The result depends neither on the order of items nor on repeats. Summaries in any other form are left untouched.
    """
    properties = item["properties"]
    for name in SETS:
        _widen_set(collection["summaries"], name, properties.get(name))
    for name in RANGES:
        _widen_range(collection["summaries"], name, properties.get(name))
    assets = collection.setdefault("item_assets", {})
    for key, asset in item.get("assets", {}).items():
        described = {name: asset[name] for name in ASSET_FIELDS if name in asset}
        known = assets.setdefault(key, dict(described))
        for name in ASSET_FIELDS:
            if name in known and known[name] != described.get(name):
                del known[name]
    extensions = {*collection.get("stac_extensions", []), PROJECTION_EXTENSION, RASTER_EXTENSION}
    collection["stac_extensions"] = sorted(extensions)


def _widen_set(summaries: dict[str, Any], name: str, value: Any) -> None:
    values = value if isinstance(value, list) else [] if value is None else [value]
    known = summaries.get(name, [])
    if values and isinstance(known, list):
        summaries[name] = sorted([*known, *(value for value in values if value not in known)], key=_order)


def _order(value: Any) -> tuple[float, str]:
    """Sort key: numbers by value, then everything else by its text."""
    return (value, "") if isinstance(value, int | float) else (inf, str(value))


def _widen_range(summaries: dict[str, Any], name: str, value: float | None) -> None:
    known = summaries.get(name, {"minimum": value, "maximum": value})
    if value is not None and isinstance(known, dict) and {"minimum", "maximum"} <= known.keys():
        summaries[name] = {
            **known,
            "minimum": min(known["minimum"], value),
            "maximum": max(known["maximum"], value),
        }
