"""Archives of tiny pairs for the benchmarks of batches: real rasters that fuse in a second or two, with STAC items."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.pipeline.making import HS_NM, MS_GSD_M, MS_NM, write_pair

HS_COLLECTION, MS_COLLECTION = "tiny-hs", "tiny-ms"
FIRST_DAY = datetime(2024, 6, 1, 10, 15, tzinfo=UTC)
RATIO = 4
_STEP_DEG = 0.5
"""Footprints lie so far apart that each scene has one partner."""


def write_tiny_archive(folder: Path, pairs: int, *, coarse_px: int = 56) -> Path:
    """The catalogue of an archive of so many pairs; each has other rows and columns, and so other pixels."""
    items = []
    for number in range(pairs):
        shape = coarse_px + number % 7, coarse_px + number // 7 % 5
        files = write_pair(folder / f"{number:05d}", ratio=RATIO, coarse_shape=shape, holes="swath")
        items += [
            write_item(files.hs, number, bands_nm=[(nm, 10.0) for nm in HS_NM], collection=HS_COLLECTION),
            write_item(files.ms, number, bands_nm=list(MS_NM), collection=MS_COLLECTION),
        ]
    links = [{"rel": "item", "href": f"./{path.relative_to(folder)}", "type": "application/geo+json"} for path in items]
    catalogue = {"type": "Catalog", "stac_version": "1.1.0", "id": "tiny", "description": "Tiny pairs", "links": links}
    path = folder / "catalog.json"
    path.write_text(json.dumps(catalogue))
    return path


def write_item(raster: Path, number: int, *, bands_nm: list[tuple[float, float]], collection: str) -> Path:
    """A STAC item beside its raster."""
    path = raster.with_suffix(".json")
    path.write_text(json.dumps(item_of(raster.name, number, bands_nm=bands_nm, collection=collection)))
    return path


def item_of(href: str, number: int, *, bands_nm: list[tuple[float, float]], collection: str) -> dict[str, Any]:
    """The item of one scene; those of the same number, and no others, show the same ground on the same day."""
    west, south = -170 + _STEP_DEG * (number % 600), -60 + _STEP_DEG * (number // 600)
    east, north = west + 0.3, south + 0.3
    bands = [
        {"name": f"B{k:02d}", "eo:center_wavelength": nm / 1000, "eo:full_width_half_max": wide / 1000}
        for k, (nm, wide) in enumerate(bands_nm, start=1)
    ]
    gsd_m = MS_GSD_M * RATIO if collection == HS_COLLECTION else MS_GSD_M
    asset = {"href": f"./{href}", "type": "image/tiff; application=geotiff", "roles": ["data"], "gsd": gsd_m}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v2.0.0/schema.json"],
        "id": f"{collection}-{number:05d}",
        "collection": collection,
        "bbox": [west, south, east, north],
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
        },
        "properties": {"datetime": (FIRST_DAY + timedelta(days=number % 365)).isoformat().replace("+00:00", "Z")},
        "links": [],
        "assets": {"data": asset | {"bands": bands}},
    }
