"""The product as a STAC 1.1 item."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from pyproj import CRS
from pystac import Asset, Item, Link
from rasterio.warp import transform as warp_points

from scenefuse import __version__
from scenefuse.archive.json_values import texts
from scenefuse.archive.scene import ScenePair
from scenefuse.errors import DataError
from scenefuse.grid.transform import to_ground
from scenefuse.place.durable import multihash
from scenefuse.place.href import is_url, redact
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import (
    COG,
    MANIFEST,
    MODEL,
    PROVENANCE,
    QUALITY,
    QUICKLOOK,
    REPORT,
    RUN,
    STATE,
    STORE,
    WEIGHTS,
    WEIGHTS_CARD,
)
from scenefuse.product.provenance import Provenance
from scenefuse.product.quicklook import quicklook_factor
from scenefuse.product.spec import QUALITY_OUTSIDE, ProductSpec
from scenefuse.sensors.band import Band

FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
"""Size and digest of a file."""
PROJECTION_EXTENSION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
"""CRS and grid."""
RASTER_EXTENSION = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
"""Scale and offset."""
EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    FILE_EXTENSION,
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    PROJECTION_EXTENSION,
    RASTER_EXTENSION,
)
"""Extensions that every item uses."""

COLLECTION_ID = "scenefuse"
"""Id of the collection that holds all products of an output."""

_PARTS = {"properties": dict, "assets": dict, "links": list}
"""What an item has, and of which type: readers of items rely on it."""
_EDGE_POINTS = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    key: str
    name: str
    media_type: str
    title: str
    roles: tuple[str, ...]


_FILES = (
    _File(
        key="cog",
        name=COG,
        media_type=pystac.MediaType.COG,
        title="Reflectance (COG)",
        roles=("data", "reflectance"),
    ),
    _File(
        key="quality",
        name=QUALITY,
        media_type=pystac.MediaType.COG,
        title="Quality flags",
        roles=("metadata", "data-mask"),
    ),
    _File(
        key="quicklook",
        name=QUICKLOOK,
        media_type=pystac.MediaType.PNG,
        title="Quicklook",
        roles=("overview", "visual"),
    ),
    _File(
        key="manifest",
        name=MANIFEST,
        media_type=pystac.MediaType.TEXT,
        title="Digests of the Zarr store's files",
        roles=("metadata",),
    ),
    _File(
        key="provenance",
        name=PROVENANCE,
        media_type=pystac.MediaType.JSON,
        title="Provenance (W3C PROV-JSON)",
        roles=("metadata",),
    ),
    _File(
        key="run",
        name=RUN,
        media_type=pystac.MediaType.JSON,
        title="Times, host and measurements of the run",
        roles=("metadata",),
    ),
    _File(
        key="state",
        name=STATE,
        media_type="application/octet-stream",
        title="Frozen scene state",
        roles=("metadata",),
    ),
    _File(
        key="weights",
        name=WEIGHTS,
        media_type="application/octet-stream",
        title="Weights, adapted to this pair",
        roles=("metadata",),
    ),
    _File(
        key="weights-card",
        name=WEIGHTS_CARD,
        media_type=pystac.MediaType.JSON,
        title="What the weights come from",
        roles=("metadata",),
    ),
    _File(
        key="model",
        name=MODEL,
        media_type=pystac.MediaType.GEOJSON,
        title="The method as a STAC item, of a network its MLM item",
        roles=("metadata",),
    ),
    _File(
        key="report",
        name=REPORT,
        media_type=pystac.MediaType.HTML,
        title="Report",
        roles=("metadata", "overview"),
    ),
)


def build_item(
    folder: Path | Place, spec: ProductSpec, *, pair: ScenePair, provenance: Provenance, finished: datetime
) -> dict[str, Any]:
    """Build the item of a finished product folder as a JSON document; hrefs are relative to the folder.

    The item's datetime is the HSI's acquisition; if both times are known, start and end span the two. `instruments`
    lists those of both scenes; `platform` and `constellation`, of which an item can have only one, are given if both
    scenes share them. Properties `scenefuse:...`: `method` (registry name), `identity` (sha256), `ratio` (coarse /
    fine pixel), `band_count`, `hs_gsd_m` and `ms_gsd_m` (native, metres), `hs_platform` and `ms_platform`, `grid`
    (`ms-grid`: the MSI's own; `hs-grid`: the HSI's, refined), `gap_hours` (between the acquisitions, if both are
    known), `precision`, `seam_rms` and `seam_p999` (steps between tiles, reflectance), `drift_rms` and `drift_p999`
    (against float32, for any other precision), and `datetime_from` when the datetime is not the HSI's: `msi`, or
    `processing` when neither is known.
    """
    folder = place_at(folder)
    geometry, bbox = footprint(spec)
    item = Item(
        id=spec.item_id,
        geometry=geometry,
        bbox=bbox,
        datetime=pair.hs.acquired or pair.ms.acquired or finished,
        properties=_properties(spec, pair, provenance, finished),
        stac_extensions=list(EXTENSIONS),
        collection=COLLECTION_ID,
    )
    item.add_asset("reflectance", _zarr_asset(spec))
    for file in _FILES:
        if (folder / file.name).is_file():
            item.add_asset(file.key, _file_asset(folder, file, spec))
    for scene in (pair.hs, pair.ms):
        if scene.is_stac:
            item.add_link(_source_link(folder, scene.href, scene.id))
    if (folder / MODEL).is_file():
        item.add_link(_model_link(json.loads((folder / MODEL).read())))
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    document["links"] += [
        {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        {"rel": "parent", "href": "../collection.json", "type": "application/json"},
        {"rel": "root", "href": "../catalog.json", "type": "application/json"},
    ]
    return document


def report_asset() -> dict[str, Any]:
    """The asset of `report.html` without size and digest: title, type and roles as in build_item."""
    file = next(file for file in _FILES if file.name == REPORT)
    return {"href": f"./{file.name}", "title": file.title, "type": file.media_type, "roles": list(file.roles)}


def footprint(spec: ProductSpec) -> tuple[dict[str, Any], list[float]]:
    """Outline of the grid in WGS 84 as GeoJSON and bounding box; 20 steps a side, as warping bends straight lines."""
    rows, columns = spec.grid.fine_shape
    steps = np.linspace(0.0, 1.0, _EDGE_POINTS)[:-1]
    zero, one = np.zeros_like(steps), np.ones_like(steps)
    # west edge downwards, south eastwards, east upwards, north westwards: counter-clockwise on a north-up grid
    down = np.concatenate([steps, one, 1 - steps, zero]) * rows
    right = np.concatenate([zero, steps, one, 1 - steps]) * columns
    longitude, latitude = warp_points(spec.grid.crs_wkt, "EPSG:4326", *to_ground(spec.grid.fine_transform, down, right))
    with np.errstate(invalid="ignore"):  # infinite beyond the domain of the CRS
        east = np.asarray(longitude) - 360.0 * np.round(np.mean(longitude) / 360.0)  # some CRSs count from 0 to 360
    ring = [[round(x, 7), round(y, 7)] for x, y in zip(east.tolist(), latitude, strict=True)]
    xs, ys = [point[0] for point in ring], [point[1] for point in ring]
    if not np.isfinite([*xs, *ys]).all() or max(xs) - min(xs) > 180.0 or max(map(abs, xs)) > 180.0:
        raise DataError(
            f"the outline of {spec.item_id} crosses the antimeridian or leaves the CRS",
            "one polygon of longitudes cannot describe it",
            "crop the pair on one side of 180 degrees",
        )
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, [min(xs), min(ys), max(xs), max(ys)]


def _properties(spec: ProductSpec, pair: ScenePair, provenance: Provenance, finished: datetime) -> dict[str, Any]:
    grid = spec.grid
    rows, columns = grid.fine_shape
    a, b, c, d, e, f = grid.fine_transform
    times = sorted(time for time in (pair.hs.acquired, pair.ms.acquired) if time is not None)
    properties: dict[str, Any] = {
        "gsd": grid.fine_gsd_m,
        **_instruments(pair),
        "created": pystac.utils.datetime_to_str(finished),
        "processing:lineage": f"{pair.hs.id} fused with {pair.ms.id} by {provenance.method.name}",
        "processing:software": dict(provenance.software),
        "processing:version": __version__,
        "processing:datetime": pystac.utils.datetime_to_str(finished),
        **_projection(grid.crs_wkt),
        "proj:shape": [rows, columns],
        "proj:transform": [a, b, c, d, e, f],
        "proj:bbox": [min(c, c + a * columns), min(f, f + e * rows), max(c, c + a * columns), max(f, f + e * rows)],
        "scenefuse:method": provenance.method.name,
        "scenefuse:identity": provenance.identity,
        "scenefuse:ratio": grid.ratio,
        "scenefuse:band_count": len(spec.bands),
        "scenefuse:hs_gsd_m": grid.hs_gsd_m,
        "scenefuse:ms_gsd_m": grid.ms_gsd_m,
        "scenefuse:grid": grid.case,
        "scenefuse:precision": provenance.plan.precision,
        **_checked(provenance.checks),
    }
    if len(times) == 2:
        properties["start_datetime"], properties["end_datetime"] = map(pystac.utils.datetime_to_str, times)
        properties["scenefuse:gap_hours"] = round((times[1] - times[0]).total_seconds() / 3600, 6)
    if not times:
        properties["scenefuse:datetime_from"] = "processing"
    elif pair.hs.acquired is None:
        properties["scenefuse:datetime_from"] = "msi"
    return properties


def _instruments(pair: ScenePair) -> dict[str, Any]:
    """Platforms, constellation and instruments of the two scenes, where their items give them."""
    scenes = (pair.hs.properties, pair.ms.properties)
    found: dict[str, Any] = {}
    for name in ("platform", "constellation"):
        hs, ms = (scene.get(name) for scene in scenes)
        if hs == ms and isinstance(hs, str):
            found[name] = hs
    instruments = dict.fromkeys(text for scene in scenes for text in texts(scene.get("instruments")))
    if instruments:
        found["instruments"] = list(instruments)
    for role, scene in zip(("hs", "ms"), scenes, strict=True):
        if isinstance(scene.get("platform"), str):
            found[f"scenefuse:{role}_platform"] = scene["platform"]
    return found


def _checked(checks: Mapping[str, Any]) -> dict[str, float]:
    """Steps at seams and drift against float32, if the run measured them: `scenefuse:seam_rms` and so on."""
    return {
        f"scenefuse:{name}_{score}": found[score]
        for name, found in (("seam", checks.get("seams")), ("drift", checks.get("drift")))
        if found
        for score in ("rms", "p999")
    }


def _projection(crs_wkt: str) -> dict[str, Any]:
    crs = CRS.from_wkt(crs_wkt)
    authority = crs.to_authority(min_confidence=100)
    if authority:
        return {"proj:code": ":".join(authority)}
    return {"proj:code": None, "proj:projjson": crs.to_json_dict()}


def stac_band(band: Band) -> dict[str, Any]:
    """The band as STAC 1.1 describes it: name, and centre and width in micrometres if known."""
    fields = {"eo:center_wavelength": band.wavelength_nm, "eo:full_width_half_max": band.fwhm_nm}
    return {"name": band.name, **{key: round(nm / 1000, 7) for key, nm in fields.items() if nm is not None}}


def _encoding(spec: ProductSpec) -> dict[str, Any]:
    return {
        "data_type": "int16",
        "nodata": spec.nodata,
        "unit": "1",
        "raster:scale": spec.scale,
        "raster:offset": 0.0,
        "raster:sampling": "area",
        "bands": [stac_band(band) for band in spec.bands],
    }


def _zarr_asset(spec: ProductSpec) -> Asset:
    return Asset(
        href=f"./{STORE}",
        title="Reflectance (Zarr v3)",
        media_type="application/vnd.zarr; version=3",
        roles=["data", "reflectance"],
        extra_fields=_encoding(spec),
    )


def _file_asset(folder: Place, file: _File, spec: ProductSpec) -> Asset:
    size_bytes, sha256 = (folder / file.name).measure()
    fields: dict[str, Any] = {"file:checksum": multihash(sha256), "file:size": size_bytes}
    if file.key == "cog":
        fields |= _encoding(spec)
    if file.key == "quicklook":  # the item's shape and transform describe the full-resolution product
        factor = quicklook_factor(spec)
        fields |= {"proj:shape": list(spec.level_shape(factor)), "proj:transform": list(spec.level_transform(factor))}
    if file.key == "quality":
        fields |= {"data_type": "uint8", "nodata": QUALITY_OUTSIDE, "raster:sampling": "area"}
    return Asset(
        href=f"./{file.name}", title=file.title, media_type=file.media_type, roles=list(file.roles), extra_fields=fields
    )


def _source_link(folder: Place, href: str, title: str) -> Link:
    """`derived_from` link to a source: its URL, redacted, or the path from the product's folder to the file."""
    target = redact(href) if is_url(href) else folder.link_to(Path(href))
    return Link(rel="derived_from", target=target, media_type="application/geo+json", title=title)


def _model_link(model: Mapping[str, Any]) -> Link:
    """`derived_from` link to the method's item in the product's folder, named as the MLM extension requires."""
    name = {"mlm:name": model["properties"]["mlm:name"]} if "mlm:name" in model["properties"] else {}
    title = model["properties"]["title"]
    return Link(
        rel="derived_from", target=f"./{MODEL}", media_type=pystac.MediaType.GEOJSON, title=title, extra_fields=name
    )


def read_item(folder: Path | Place) -> dict[str, Any]:
    """The item document of the product in folder; ValueError if it is none, with properties, assets and links."""
    place = place_at(folder)
    document: dict[str, Any] = json.loads((place / f"{place.name}.json").read())
    parts = document if isinstance(document, dict) else {}
    lacking = [name for name, kind in _PARTS.items() if not isinstance(parts.get(name), kind)]
    if lacking:
        raise ValueError(f"{place.name}.json is no STAC item: it lacks {', '.join(lacking)}")
    return document
