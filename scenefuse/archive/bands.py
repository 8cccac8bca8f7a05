"""An asset's bands, in every form that STAC has used from 0.8 to 1.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scenefuse.archive.json_values import number, number_or_none
from scenefuse.errors import DataError
from scenefuse.sensors.band import Band
from scenefuse.words import counted

_NM_PER_UM = 1000.0
_LONGEST_UM = 50.0
"""Optical bands lie at 50 nm to 50 um: a list of wavelengths without unit is in micrometres if all are below this."""
_SPECTRAL = ("eo:center_wavelength", "eo:full_width_half_max", "eo:common_name")
"""Fields by which an asset without a list of bands describes its only band (STAC 1.1, best practices)."""
_SHARED = (*_SPECTRAL, "raster:scale", "raster:offset", "nodata", "unit")
"""Fields that bands of STAC 1.1 inherit from their asset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandRows:
    """An item's description of an asset's bands: one mapping per band, keys as in STAC 1.1."""

    rows: tuple[Mapping[str, Any], ...]
    """`name`, `eo:center_wavelength`, `eo:full_width_half_max`, `eo:common_name`, `gsd`, `nodata`, `raster:...`."""
    note: str | None = None
    """A decision taken while reading them, if any."""


def band_rows(key: str, asset: Mapping[str, Any], properties: Mapping[str, Any]) -> BandRows:
    """The asset's bands in the form of STAC 1.1; no rows if the item does not describe any.

    The first of these that exists is used: the asset's `bands` (1.1), which inherit what the asset says of all of them;
    its `eo:bands` (objects, or before 1.0 indexes into the item's `eo:bands`) with its `raster:bands`; its
    `raster:bands` alone; wavelengths in `hsi:wavelengths`; the asset's own wavelength or common name, if it lists no
    bands because it has only one (1.1).
    """
    where = f"asset {key}"
    shared = {field: asset[field] for field in _SHARED if asset.get(field) is not None}
    if bands := _objects(asset.get("bands")):
        return BandRows(rows=tuple({**shared, **band} for band in bands))
    raster = _objects(asset.get("raster:bands"))
    eo = _eo_rows(asset.get("eo:bands"), properties.get("eo:bands"), where)
    if not any(eo):
        eo = []  # indexes into a table that the item does not have
    if eo and raster and len(eo) != len(raster):
        raise DataError(
            f"{where} has {counted(len(eo), 'eo:band')} and {counted(len(raster), 'raster:band')}",
            "they cannot be matched band by band",
            "correct the item",
        )
    if eo or raster:
        count = len(eo) or len(raster)
        return BandRows(rows=tuple({**_modern_raster(raster, i), **_modern_eo(eo, i)} for i in range(count)))
    rows = _hsi_rows(asset.get("hsi:wavelengths"), where)
    if not rows and not shared.keys().isdisjoint(_SPECTRAL):
        rows = ({"name": key, **shared},)
    return BandRows(rows=rows)


def item_band_rows(properties: Mapping[str, Any]) -> BandRows:
    """The bands in the item's properties, for an item whose only data asset does not describe any.

    Bands named 1 to n but listed in another order (`1, 10, 100, 101, ...`) are sorted by number.
    """
    rows: tuple[Mapping[str, Any], ...] = _objects(properties.get("bands"))
    if not rows:
        eo = _objects(properties.get("eo:bands"))
        rows = tuple(_modern_eo(eo, i) for i in range(len(eo)))
    if not rows:
        return BandRows(rows=_hsi_rows(properties.get("hsi:wavelengths"), "properties"))
    names = [str(row.get("name", "")) for row in rows]
    numbers = [int(name) if name.isascii() and name.isdigit() else 0 for name in names]
    ordered = list(range(1, len(rows) + 1))
    if numbers != ordered and sorted(numbers) == ordered:
        rows = tuple(row for _, row in sorted(zip(numbers, rows, strict=True), key=lambda pair: pair[0]))
        return BandRows(
            rows=rows, note=f"the item's {counted(len(rows), 'band')} were put in the order of their numbers"
        )
    return BandRows(rows=rows)


def bands_of(rows: Sequence[Mapping[str, Any]], *, key: str, gsd_m: float | None, where: str) -> tuple[Band, ...]:
    """A Band for each row, in nm and m; DataError for impossible values.

    A band without a name gets its common name, else the asset's key if it is the only band, else `band <number>`. Names
    are made unique. gsd_m applies to rows without their own.
    """
    bands: list[Band] = []
    taken: set[str] = set()
    for i, row in enumerate(rows):
        nameless = key if len(rows) == 1 else f"band {i + 1}"
        name = str(row.get("name") or row.get("eo:common_name") or nameless)
        if name in taken:
            name = f"{name} ({i + 1})"
        taken.add(name)
        place = f"{where}, band {name}"
        try:
            bands.append(
                Band(
                    name=name,
                    wavelength_nm=_nm(row, "eo:center_wavelength", place),
                    fwhm_nm=_nm(row, "eo:full_width_half_max", place),
                    gsd_m=number_or_none(row.get("gsd", row.get("raster:spatial_resolution")), place) or gsd_m,
                )
            )
        except ValueError as error:
            raise DataError(place, str(error), "correct the item") from error
    return tuple(bands)


def _eo_rows(own: Any, items: Any, where: str) -> list[Mapping[str, Any]]:
    """The asset's eo:bands, with indexes into the item's eo:bands resolved; an invalid index gives an empty row."""
    if not isinstance(own, list):
        return []
    table = items if isinstance(items, list) else []
    rows: list[Mapping[str, Any]] = []
    for entry in own:
        if isinstance(entry, int) and not isinstance(entry, bool):
            known = 0 <= entry < len(table) and isinstance(table[entry], dict)
            rows.append(table[entry] if known else {})
        elif isinstance(entry, dict):
            rows.append(entry)
        else:
            raise DataError(f"{where}: eo:bands has {entry!r}", "it is not a band", "correct the item")
    return rows


def _modern_eo(rows: Sequence[Mapping[str, Any]], i: int) -> dict[str, Any]:
    """Row i of eo:bands with the keys of STAC 1.1."""
    if not rows:
        return {}
    renamed = {"common_name", "center_wavelength", "full_width_half_max", "solar_illumination"}
    return {f"eo:{key}" if key in renamed else key: value for key, value in rows[i].items()}


def _modern_raster(rows: Sequence[Mapping[str, Any]], i: int) -> dict[str, Any]:
    """Row i of raster:bands with the keys of STAC 1.1, without the name, which eo:bands provides."""
    if not rows:
        return {}
    common = {"nodata", "data_type", "statistics", "unit"}
    return {key if key in common else f"raster:{key}": value for key, value in rows[i].items() if key != "name"}


def _hsi_rows(wavelengths: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """Rows for a list of wavelengths in nm or um; none for anything else."""
    if not isinstance(wavelengths, list) or not wavelengths:
        return ()
    values = [number(value, f"{where}: hsi:wavelengths") for value in wavelengths]
    scale = 1.0 if max(values) < _LONGEST_UM else 1 / _NM_PER_UM
    return tuple({"name": f"band {i + 1}", "eo:center_wavelength": value * scale} for i, value in enumerate(values))


def _objects(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The value if it is a list of objects, else empty."""
    return tuple(value) if isinstance(value, list) and all(isinstance(entry, dict) for entry in value) else ()


def _nm(row: Mapping[str, Any], key: str, where: str) -> float | None:
    """Micrometres under key as nanometres, to 1e-6 nm (0.4927 um is 492.7 nm); DataError for nanometres."""
    um = number_or_none(row.get(key), where)
    if um is not None and um >= _LONGEST_UM:
        raise DataError(
            f"{where}: {key} is {um:g}",
            f"STAC counts it in micrometres, and no optical band lies beyond {_LONGEST_UM:g}",
            "correct the item: 450 nm is 0.45",
        )
    return None if um is None else round(um * _NM_PER_UM, 6)
