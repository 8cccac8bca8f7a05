"""The archive's STAC catalogue: two collections, an item for each scene, relative links throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pystac

from scenefuse.demo.cog import file_checksum
from scenefuse.demo.footprint import bounding_box, footprint
from scenefuse.demo.plan import CRS, DemoScene, instruments
from scenefuse.sensors.band import Band
from scenefuse.simulate.instrument import Instrument
from scenefuse.simulate.mixture import FINE_M

CATALOG = "catalog.json"
"""Name of the catalogue's file."""
HS_COLLECTION = "demo-enmap"
"""Collection of the EnMAP-like scenes."""
MS_COLLECTION = "demo-sentinel-2"
"""Collection of the Sentinel-2-like scenes."""
HS_ASSET = "reflectance"
"""Key of the one asset of an EnMAP-like scene."""

_EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
_COMMON_NAMES = {
    "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge071", "B06": "rededge075", "B07": "rededge078",
    "B08": "nir", "B8A": "nir08", "B11": "swir16", "B12": "swir22",
}  # fmt: skip
_PLATFORMS = {"hsi": ("simulated-enmap", ["EnMAP HSI"]), "msi": ("simulated-sentinel-2a", ["Sentinel-2A MSI"])}
_TITLES = {
    HS_COLLECTION: "Simulated EnMAP-like surface reflectance, 30 m",
    MS_COLLECTION: "Simulated Sentinel-2-like surface reflectance, 10 and 20 m",
}


def asset_paths(root: Path, scene: DemoScene) -> tuple[tuple[Path, ...], ...]:
    """The files of a scene, per instrument: one for the EnMAP-like, one per band for the Sentinel-2-like."""
    folder = item_path(root, scene).parent
    if scene.role == "hsi":
        return ((folder / f"{scene.id}.tif",),)
    return tuple(tuple(folder / f"{band.name}.tif" for band in part.bands) for part in instruments(scene))


def item_path(root: Path, scene: DemoScene) -> Path:
    """Path of a scene's item, below the catalogue's folder."""
    return root / _collection_of(scene) / scene.id / f"{scene.id}.json"


def write_catalogue(root: Path, scenes: tuple[DemoScene, ...]) -> None:
    """Write catalogue, collections and items for scenes whose files exist."""
    catalog = pystac.Catalog(
        id="scenefuse-demo",
        title="scenefuse demo archive",
        description="Simulated scenes of one landscape. No satellite took them; the truth is in truth/index.json.",
    )
    for collection_id in (HS_COLLECTION, MS_COLLECTION):
        items = [_item(root, scene) for scene in scenes if _collection_of(scene) == collection_id]
        collection = pystac.Collection(
            id=collection_id,
            title=_TITLES[collection_id],
            description=f"{_TITLES[collection_id]}. Made by `scenefuse demo`; shows no real place.",
            extent=pystac.Extent.from_items(items),
            license="CC0-1.0",
        )
        collection.add_items(items)
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(root))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)


def _collection_of(scene: DemoScene) -> str:
    """Id of the scene's collection."""
    return HS_COLLECTION if scene.role == "hsi" else MS_COLLECTION


def _item(root: Path, scene: DemoScene) -> pystac.Item:
    """The STAC item of a scene, its assets with absolute hrefs."""
    geometry = footprint(scene)
    platform, names = _PLATFORMS[scene.role]
    parts = instruments(scene)
    item = pystac.Item(
        id=scene.id,
        geometry=geometry,
        bbox=bounding_box(geometry),
        datetime=scene.acquired,
        stac_extensions=list(_EXTENSIONS),
        properties={
            "platform": platform,
            "instruments": names,
            "gsd": min(part.ratio for part in parts) * FINE_M,
            "eo:cloud_cover": round(100 * scene.cloud_fraction, 1),
            "proj:code": CRS,
        },
    )
    for part, paths in zip(parts, asset_paths(root, scene), strict=True):
        if scene.role == "hsi":
            item.add_asset(HS_ASSET, _asset(scene, part, paths[0], part.bands))
            continue
        for band, path in zip(part.bands, paths, strict=True):
            item.add_asset(band.name, _asset(scene, part, path, (band,)))
    return item


def _asset(scene: DemoScene, part: Instrument, path: Path, bands: tuple[Band, ...]) -> pystac.Asset:
    """A raster as an asset."""
    bad = {band.name for band, flagged in zip(part.bands, part.bad, strict=True) if flagged}
    return pystac.Asset(
        href=str(path),
        media_type=pystac.MediaType.COG,
        roles=["data", "reflectance"],
        extra_fields={
            "gsd": part.ratio * FINE_M,
            "data_type": part.dtype,
            "nodata": part.nodata,
            "raster:scale": part.scale,
            "raster:offset": part.offset,
            "proj:shape": list(scene.shape(part.ratio)),
            "proj:transform": list(scene.transform(part.ratio)),
            "file:checksum": file_checksum(path),
            "file:size": path.stat().st_size,
            "bands": [_band(part, band, bad=band.name in bad) for band in bands],
        },
    )


def _band(part: Instrument, band: Band, *, bad: bool) -> dict[str, Any]:
    """A band as STAC 1.1 describes it; wavelengths in micrometres."""
    fields: dict[str, Any] = {
        "name": band.name,
        "eo:center_wavelength": round((band.wavelength_nm or 0.0) / 1000, 6),
        "eo:full_width_half_max": round((band.fwhm_nm or 0.0) / 1000, 6),
        "gsd": part.ratio * FINE_M,
        "data_type": part.dtype,
        "nodata": part.nodata,
        "raster:scale": part.scale,
        "raster:offset": part.offset,
    }
    if band.name in _COMMON_NAMES:
        fields["eo:common_name"] = _COMMON_NAMES[band.name]
    if bad:
        fields["description"] = "bad band: at the edge of water vapour's absorption, mostly noise"
    return fields
