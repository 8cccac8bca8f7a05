"""Scenes from STAC items."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

import pyproj
import pystac
from pyproj.exceptions import CRSError

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.bands import band_rows, bands_of, item_band_rows
from scenefuse.archive.clouds import cloud_assets
from scenefuse.archive.delivered import platform_of
from scenefuse.archive.json_values import number, number_or_none, texts
from scenefuse.archive.radiometry import fill_from_card, sentinel2_offset, stated_values
from scenefuse.archive.scene import Asset, Scene
from scenefuse.archive.selection import Candidate, file_name, has_data_role, is_raster, select
from scenefuse.errors import DataError
from scenefuse.place.href import redact
from scenefuse.sensors.band import Band
from scenefuse.sensors.sensor import Role, Sensor, find_sensor
from scenefuse.words import counted

MANY_BANDS = 30
"""Number of bands from which on an image is hyperspectral."""
NARROW_FWHM_NM = 20.0
"""Largest median FWHM at which many bands without wavelengths are hyperspectral."""

_REFLECTANCE_UNITS = {"none", "1", "reflectance", "unitless", ""}
_NOT_STAC = (
    pystac.STACError, pystac.STACTypeError, KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError,
)  # fmt: skip


def scene_from_item(item: Mapping[str, Any], *, href: str, policy: AccessPolicy) -> Scene:
    """The scene of a STAC item (version 0.7 to 1.1) read from href; DataError if the item cannot be one.

    Asset hrefs are checked against the policy. Gaps in the metadata are filled from the card of the sensor, which is
    found by platform, instruments, constellation or a product name used as id; each is noted.
    """
    where = redact(href)
    try:
        return _scene_of(item, href=href, policy=policy, where=where)
    except _NOT_STAC as error:
        raise DataError(
            f"{where} is not a valid STAC item ({type(error).__name__}: {error})",
            "it cannot be read",
            "validate it, for example with stac-validator",
        ) from error


def _scene_of(item: Mapping[str, Any], *, href: str, policy: AccessPolicy, where: str) -> Scene:
    """The scene of an item; raises one of _NOT_STAC if a value does not have its STAC type."""
    document, notes = _migrate(item)
    properties: dict[str, Any] = document["properties"]
    sensor = sensor_of(str(document["id"]), properties)
    assets, more = _assets(document, sensor, href=href, policy=policy, where=where)
    notes += more
    if _is_sentinel2(properties, sensor):
        assets, more = _with_sentinel2_offset(assets, document)
        notes += more
    if sensor is not None:
        assets, more = _complete(assets, sensor, document)
        notes += more
    clouds, more = cloud_assets(document["assets"], href=href, policy=policy)
    notes += more
    role, reason = tell_role([band for asset in assets for band in asset.bands], sensor)
    if not assets:
        role, reason = None, "no asset can hold bands: all are composites, thumbnails, metadata or packed files"
    return Scene(
        id=str(document["id"]),
        assets=tuple(assets),
        clouds=clouds,
        href=href,
        root=str(policy.roots[0]) if policy.roots else None,
        collection=_collection(document, where),
        acquired=_acquired(properties, where),
        footprint=_footprint(item, where),
        crs=_crs(document, [asset.key for asset in assets], where),
        cloud_fraction=_cloud_fraction(properties, where),
        platform=properties.get("platform") or properties.get("constellation") or platform_of(str(document["id"])),
        role=role,
        role_reason=reason,
        notes=tuple(dict.fromkeys(notes)),
        properties={key: value for key, value in properties.items() if key not in ("bands", "eo:bands")},
    )


def sensor_of(item_id: str, properties: Mapping[str, Any]) -> Sensor | None:
    """The sensor card for a product name used as id, else for platform, instruments or constellation; or None.

    The id comes first: HLS items may name the platform that their bands came from before they were harmonised.
    """
    return find_sensor(
        platform_of(item_id),
        properties.get("platform"),
        *texts(properties.get("instruments")),
        properties.get("constellation"),
    )


def tell_role(bands: Sequence[Band], sensor: Sensor | None) -> tuple[Role | None, str]:
    """`hsi` or `msi`, and why; None if neither the bands nor the sensor decide.

    hsi: at least 30 bands with wavelengths, or at least 30 with a median FWHM of at most 20 nm. msi: 2 to 29 bands.
    Without bands, the sensor's card decides.
    """
    known = sum(band.wavelength_nm is not None for band in bands)
    widths_nm = [band.fwhm_nm for band in bands if band.fwhm_nm is not None]
    if known >= MANY_BANDS:
        return "hsi", f"{counted(known, 'band')} with wavelengths"
    if len(bands) >= MANY_BANDS and widths_nm and median(widths_nm) <= NARROW_FWHM_NM:
        return "hsi", f"{counted(len(bands), 'band')} with a median FWHM of {median(widths_nm):.1f} nm"
    if 2 <= len(bands) < MANY_BANDS:
        return "msi", counted(len(bands), "band")
    if not bands and sensor is not None:
        return sensor.role, f"the platform is {sensor.name}; the item describes no bands"
    if not bands:
        return None, "the item describes no bands and names no sensor with a card"
    return (
        None,
        f"{counted(len(bands), 'band')}, {known} with a wavelength, make neither a hyper- nor a multispectral image",
    )


def _migrate(item: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The item as STAC 1.1 (except bands, which keep their form), and pystac's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        document = pystac.Item.from_dict(dict(item), migrate=True, preserve_dict=True).to_dict(
            include_self_link=False, transform_hrefs=False
        )
    return document, [str(warning.message) for warning in caught]


def _assets(
    document: dict[str, Any], sensor: Sensor | None, *, href: str, policy: AccessPolicy, where: str
) -> tuple[list[Asset], list[str]]:
    """The assets that hold bands, and notes on those left out."""
    properties = document["properties"]
    raw: dict[str, dict[str, Any]] = {key: asset for key, asset in document["assets"].items() if is_raster(key, asset)}
    rows = {key: band_rows(key, asset, properties).rows for key, asset in raw.items()}
    notes = []
    if not any(rows.values()):
        of_item = item_band_rows(properties)
        holders = [key for key in raw if has_data_role(raw[key])] or list(raw)
        if of_item.rows and len(holders) == 1:
            rows[holders[0]] = of_item.rows
            notes += [of_item.note] if of_item.note else []
    if not any(rows.values()) and (named := _named_bands(raw, sensor)):
        if left_keys := [key for key in raw if key not in named]:
            notes.append(f"no bands by their keys, and left out: {', '.join(left_keys)}")
        raw, rows = {key: raw[key] for key in named}, dict(named)
    bands = {
        key: bands_of(rows[key], key=key, gsd_m=_gsd_m(asset, properties, where), where=f"{where}, asset {key}")
        for key, asset in raw.items()
    }
    kept, left = select(
        [
            Candidate(
                key=key,
                bands=bands[key],
                common_names=tuple(row.get("eo:common_name") for row in rows[key]),
                is_data=has_data_role(raw[key]),
                file_name=file_name(raw[key]),
            )
            for key in raw
        ]
    )
    units = {str(row["unit"]) for key in kept for row in rows[key] if row.get("unit")} - _REFLECTANCE_UNITS
    if units:
        left.append(f"the item says that values are in {', '.join(sorted(units))}, not reflectance")
    return [
        _asset(
            key, raw[key], rows[key], bands[key], href=policy.check(str(raw[key].get("href", "")), href), where=where
        )
        for key in kept
    ], [*notes, *left]


def _named_bands(keys: Iterable[str], sensor: Sensor | None) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """Rows for assets that lack them but are keyed by an MSI's band names, as in HLS items with one file per band."""
    if sensor is None or sensor.role != "msi":
        return {}
    return {key: ({"name": key},) for key in keys if key and sensor.match(Band(name=key)) is not None}


def _asset(
    key: str, raw: dict[str, Any], rows: Sequence[Mapping[str, Any]], bands: tuple[Band, ...], *, href: str, where: str
) -> Asset:
    """The asset with the radiometry that the metadata states, per band or for the whole asset."""
    place = f"{where}, asset {key}"
    encoding = {
        name: stated_values(rows, field, place) or stated_values([raw], field, place)
        for name, field in (("scale", "raster:scale"), ("offset", "raster:offset"), ("nodata", "nodata"))
    }
    nodata = encoding["nodata"]
    if nodata is not None and len(nodata) > 1:
        raise DataError(
            f"{place}: the bands have different no-data values {sorted(set(nodata))}",
            "an asset is read with a single one",
            "offer the bands as separate assets",
        )
    size = raw.get("file:size")
    return Asset(
        key=key,
        href=href,
        bands=bands,
        scale=encoding["scale"],
        offset=encoding["offset"],
        nodata=nodata[0] if nodata else None,
        media_type=raw.get("type"),
        gsd_m=_finest_gsd_m(bands) or number_or_none(raw.get("gsd"), place),
        checksum=raw.get("file:checksum"),
        size_bytes=int(size) if isinstance(size, int) else None,
    )


def _complete(assets: list[Asset], sensor: Sensor, document: dict[str, Any]) -> tuple[list[Asset], list[str]]:
    """The assets with gaps in the metadata filled from the sensor's card, and a note on each kind filled."""
    told = _product_texts(document)
    notes: list[str] = []
    if any(_with_card_band(band, sensor) != band for asset in assets for band in asset.bands):
        notes.append(f"wavelength, FWHM or GSD of bands are from the card of {sensor.name}")
        assets = [replace(a, bands=tuple(_with_card_band(band, sensor) for band in a.bands)) for a in assets]
    if not sensor.describes(*told):
        if sensor.product_marks and any(asset.scale is None for asset in assets):
            notes.append(f"scale and offset are not taken from the card of {sensor.name}: no id says {sensor.product}")
        return assets, notes
    completed = [fill_from_card(asset, sensor) for asset in assets]
    filled = sorted({name for asset in completed for name in asset.card_fields})
    if filled:
        notes.append(f"from the card of {sensor.name}, {sensor.product}: {', '.join(filled)}")
    return completed, notes


def _is_sentinel2(properties: Mapping[str, Any], sensor: Sensor | None) -> bool:
    """True for Sentinel-2 by the card or, without one (a new unit), by platform or constellation."""
    names = (sensor.name,) if sensor else (properties.get("platform"), properties.get("constellation"))
    return any(str(name).lower().replace("-", "").startswith("sentinel2") for name in names)


def _with_sentinel2_offset(assets: list[Asset], document: dict[str, Any]) -> tuple[list[Asset], list[str]]:
    """The assets with the offset that the flag or the processing baseline implies, and a note on it."""
    found = sentinel2_offset(document["properties"], _product_texts(document))
    stated = any(asset.offset is not None for asset in assets)
    if found is not None and (not stated or found[0] == 0.0):
        told = [replace(asset, offset=(found[0],), offset_of_integers=True) for asset in assets]
        return told, [f"reflectance offset {found[0]}: {found[1]}"]
    if found is None and not stated:
        return assets, ["the processing baseline is unknown, so the reflectance offset is too"]
    return assets, []


def _product_texts(document: dict[str, Any]) -> list[str]:
    """Ids, level and names that identify the item's product."""
    properties = document["properties"]
    ids = [str(document["id"]), str(document.get("collection") or ""), str(properties.get("processing:level") or "")]
    names = [str(value) for key, value in properties.items() if key.endswith((":product_uri", ":product_id", "title"))]
    return [*ids, *names]


def _with_card_band(band: Band, sensor: Sensor) -> Band:
    """The band completed from the card; for an MSI the card takes precedence over the item, for an HSI the reverse.

    Sentinel-2 items give rounded centres, and a band's whole width as its FWHM (B02: 490 and 98 nm). Seen through such
    Gaussians, spectra of minerals and plants are 0.6 % off in B02 and 3 % in B12 of S2B; through the card's, 0.2 % and
    1.6 %. A spectrometer's item gives the calibration of its own scene, which no card can.
    """
    card = sensor.match(band)
    if card is None:
        return band
    known, other = (card, band) if sensor.role == "msi" else (band, card)
    gsd_m = band.gsd_m or card.gsd_m
    if sensor.role == "msi" and gsd_m is not None and card.gsd_m is not None:
        gsd_m = max(gsd_m, card.gsd_m)
    return replace(
        band,
        wavelength_nm=known.wavelength_nm or other.wavelength_nm,
        fwhm_nm=known.fwhm_nm or other.fwhm_nm,
        gsd_m=gsd_m,
    )


def _collection(document: Mapping[str, Any], where: str) -> str | None:
    collection = document.get("collection")
    if collection is not None and not isinstance(collection, str):
        raise DataError(f"{where}: collection is {collection!r}", "it is not an id", "correct the item")
    return collection


def _acquired(properties: Mapping[str, Any], where: str) -> datetime | None:
    """The item's datetime in UTC, else the middle of its interval."""
    times = []
    for key in ("datetime", "start_datetime", "end_datetime"):
        text = properties.get(key)
        if text is None:
            continue
        try:
            time = datetime.fromisoformat(str(text))
        except ValueError as error:
            raise DataError(f"{where}: {key} is {text!r}", "it is not a time", "correct the item") from error
        times.append((time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC))
        if key == "datetime":
            return times[0]
    return times[0] + (times[-1] - times[0]) / 2 if times else None


def _footprint(item: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """The item's geometry, else its bbox as a polygon."""
    geometry, bbox = item.get("geometry"), item.get("bbox")
    if isinstance(geometry, dict):
        return geometry
    corners = corners_of(bbox, where)
    if corners is None:
        return None
    west, south, east, north = corners
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def corners_of(bbox: Any, where: str) -> tuple[float, float, float, float] | None:
    """West, south, east and north of an item's bbox of 4 or 6 numbers; None for anything else."""
    if not isinstance(bbox, list) or len(bbox) not in (4, 6):
        return None
    west, south, east, north = (number(bbox[i], f"{where}: bbox") for i in (0, 1, len(bbox) // 2, len(bbox) // 2 + 1))
    return west, south, east, north


def _crs(document: Mapping[str, Any], keys: Sequence[str], where: str) -> str | None:
    """The item's CRS, else the one shared by all its band assets."""
    own = _crs_of(document["properties"], where)
    if own is not None:
        return own
    shared = {_crs_of(document["assets"][key], where) for key in keys}
    return shared.pop() if len(shared) == 1 else None


def _crs_of(fields: Mapping[str, Any], where: str) -> str | None:
    """`proj:code`, else WKT2 from `proj:wkt2` or `proj:projjson`."""
    code, wkt2, projjson = fields.get("proj:code"), fields.get("proj:wkt2"), fields.get("proj:projjson")
    if code or wkt2:
        return str(code or wkt2)
    if not isinstance(projjson, dict):
        return None
    try:
        return str(pyproj.CRS.from_json_dict(projjson).to_wkt())
    except CRSError as error:
        raise DataError(f"{where}: proj:projjson", f"it is not a CRS ({error})", "correct the item") from error


def _cloud_fraction(properties: Mapping[str, Any], where: str) -> float | None:
    """`eo:cloud_cover` as a fraction; also None if negative, which is Landsat's value for not calculated."""
    percent = number_or_none(properties.get("eo:cloud_cover"), where)
    if percent is None or percent < 0:
        return None
    if not percent <= 100:
        raise DataError(f"{where}: eo:cloud_cover is {percent}", "it is not a percentage", "correct the item")
    return percent / 100


def _gsd_m(asset: Mapping[str, Any], properties: Mapping[str, Any], where: str) -> float | None:
    """The asset's GSD, else the item's."""
    own = asset.get("gsd", asset.get("raster:spatial_resolution"))
    return number_or_none(own if own is not None else properties.get("gsd"), where)


def _finest_gsd_m(bands: Sequence[Band]) -> float | None:
    return min((band.gsd_m for band in bands if band.gsd_m is not None), default=None)
