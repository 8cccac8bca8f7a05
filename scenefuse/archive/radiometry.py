"""From DN to reflectance by metadata: scale, offset, no-data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scenefuse.archive.json_values import number
from scenefuse.archive.scene import Asset
from scenefuse.errors import DataError
from scenefuse.sensors.sensor import Sensor
from scenefuse.words import counted

SENTINEL2_OFFSET = -0.1
"""Reflectance at DN 0 of Sentinel-2 products from processing baseline 04.00 on (BOA_ADD_OFFSET -1000 / 10000)."""

_USERS_BASELINE = 99.0
"""From here on, the number marks a product made by a user (`_N9999_`) and implies no version of the processor."""
_BASELINES = ("s2:processing_baseline", "sentinel2:processing_baseline", "sentinel:processing_baseline")
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


def stated_values(rows: Sequence[Mapping[str, Any]], key: str, where: str) -> tuple[float, ...] | None:
    """The number under key in every row: one if all agree, else one per row; None if no row has it.

    DataError if only some rows have it: the value for the others is unknown.
    """
    found = [number(row[key], f"{where}: {key}") for row in rows if row.get(key) is not None]
    if not found:
        return None
    if len(found) < len(rows):
        raise DataError(
            f"{where}: {key} is given for {len(found)} of {counted(len(rows), 'band')}",
            "the other bands cannot be decoded",
            f"give {key} for every band",
        )
    first = found[0]
    return (first,) if all(value == first or (value != value and first != first) for value in found) else tuple(found)  # noqa: PLR0124 - NaN is equal to NaN here


def fill_from_card(asset: Asset, sensor: Sensor) -> Asset:
    """The asset with missing scale, offset and no-data taken from the sensor card and named in card_fields."""
    if asset.scale is not None and asset.offset is None:
        asset = replace(asset, offset=(0.0,))
    filled: dict[str, Any] = {}
    if asset.scale is None and sensor.scale is not None:
        filled["scale"] = (sensor.scale,)
        if asset.offset is None and sensor.offset is not None:
            filled["offset"] = (sensor.offset,)
    if asset.nodata is None and sensor.nodata is not None:
        filled["nodata"] = sensor.nodata
    return replace(asset, **filled, card_fields=(*asset.card_fields, *filled))


def sentinel2_offset(properties: Mapping[str, Any], texts: Sequence[str]) -> tuple[float, str] | None:
    """Reflectance at DN 0 of a Sentinel-2 item, and why; None if the item does not say.

    Archives that have already subtracted the offset say so (boa_offset_applied) but still give raster:offset -0.1, so
    the flag decides. Without it the processing baseline does: 04.00 and later have the offset. (According to its users'
    measurements, the flag of Earth Search's sentinel-2-l2a is wrong for some items: its issues 66 and 71.)
    """
    baseline = _baseline(properties, texts)
    flag = next((properties[key] for key in _APPLIED if isinstance(properties.get(key), bool)), None)
    if flag is True:
        return 0.0, "the archive has applied the offset of baseline 04.00 (boa_offset_applied)"
    if baseline is None or baseline >= _USERS_BASELINE:
        return None
    if math.floor(baseline) < 4:
        return 0.0, f"processing baseline {baseline:05.2f} has no offset"
    return SENTINEL2_OFFSET, f"processing baseline {baseline:05.2f} has an offset of -1000 DN"


def _baseline(properties: Mapping[str, Any], texts: Sequence[str]) -> float | None:
    """The processing baseline from a property or a product name (`_N0400_`)."""
    for key in _BASELINES:
        try:
            return float(str(properties[key]))
        except (KeyError, ValueError):
            continue
    for text in texts:
        found = re.search(r"_N(\d{2})(\d{2})_", text)
        if found:
            return float(f"{found[1]}.{found[2]}")
    return None
