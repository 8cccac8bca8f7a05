"""Small rasters and STAC items, good ones and the parts of bad ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

COARSE_PX = 20
"""Rows and columns of the HSI."""
RATIO = 3
HS_NM = np.linspace(430.0, 2400.0, 32)
MS_NM = np.array([490.0, 560.0, 665.0, 842.0])
WEST, NORTH = 390_000.0, 5_820_000.0
"""Upper left corner in EPSG:32633, near Berlin."""


def ground() -> NDArray[np.float32]:
    """(y, x) reflectance of a field of stripes and a gradient on the fine grid, 0.05 to 0.45."""
    y, x = np.mgrid[: COARSE_PX * RATIO, : COARSE_PX * RATIO] / (COARSE_PX * RATIO)
    field: NDArray[np.float32] = (0.25 + 0.15 * np.sin(9 * x + 4 * y) * np.cos(7 * y) + 0.05 * x).astype(np.float32)
    return field


def hs_cube() -> NDArray[np.float32]:
    """(32, 20, 20) reflectance."""
    coarse = ground().reshape(COARSE_PX, RATIO, COARSE_PX, RATIO).mean(axis=(1, 3))
    cube: NDArray[np.float32] = coarse * np.linspace(0.6, 1.4, len(HS_NM), dtype=np.float32)[:, np.newaxis, np.newaxis]
    return cube


def ms_cube() -> NDArray[np.float32]:
    """(4, 60, 60) reflectance."""
    gains = np.interp(MS_NM, HS_NM, np.linspace(0.6, 1.4, len(HS_NM))).astype(np.float32)
    cube: NDArray[np.float32] = ground() * gains[:, np.newaxis, np.newaxis]
    return cube


def write_tif(
    path: Path,
    cube: NDArray[Any],
    *,
    gsd_m: float,
    wavelengths_nm: NDArray[np.float64] | None,
    crs: str | None = "EPSG:32633",
    corner: tuple[float, float] = (WEST, NORTH),
    **profile: Any,
) -> Path:
    """The cube as a GeoTIFF with the wavelengths in its band tags."""
    count, height, width = cube.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    placed = {"transform": Affine(gsd_m, 0.0, corner[0], 0.0, -gsd_m, corner[1])} | profile
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=cube.dtype, crs=crs, **placed
    ) as file:
        file.write(cube)
        for i, wavelength_nm in enumerate(() if wavelengths_nm is None else wavelengths_nm):
            file.update_tags(i + 1, wavelength=f"{wavelength_nm:.1f}", wavelength_units="nm")
    return path


def write_hs(path: Path, cube: NDArray[Any] | None = None, **options: Any) -> Path:
    """An HSI of 30 m, good unless the options make it bad."""
    given: dict[str, Any] = {"gsd_m": 30.0, "wavelengths_nm": HS_NM} | options
    return write_tif(path, hs_cube() if cube is None else cube, **given)


def write_ms(path: Path, cube: NDArray[Any] | None = None, **options: Any) -> Path:
    """An MSI of 10 m, good unless the options make it bad."""
    given: dict[str, Any] = {"gsd_m": 10.0, "wavelengths_nm": MS_NM} | options
    return write_tif(path, ms_cube() if cube is None else cube, **given)


def write_item(path: Path, *, href: str, role: str = "hsi", item_id: str | None = None, **changes: Any) -> Path:
    """A STAC 1.1 item of one asset with its bands; changes replace top-level fields."""
    wavelengths_nm = HS_NM if role == "hsi" else MS_NM
    west, south, east, north = 13.381, 52.515, 13.390, 52.521
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    bands = [
        {"name": f"B{i + 1}", "eo:center_wavelength": round(float(nm) / 1000, 5)} for i, nm in enumerate(wavelengths_nm)
    ]
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v2.0.0/schema.json"],
        "id": path.stem if item_id is None else item_id,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {"datetime": "2024-06-04T10:15:00Z"},
        "links": [],
        "assets": {
            "data": {
                "href": href,
                "type": "image/tiff; application=geotiff",
                "roles": ["data"],
                "gsd": 30.0 if role == "hsi" else 10.0,
                "bands": bands,
            }
        },
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(item), encoding="utf-8")
    return path


def enlarged(times: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The two cubes repeated so many times along both axes."""
    return np.tile(hs_cube(), (1, times, times)), np.tile(ms_cube(), (1, times, times))


def write_pair_items(folder: Path, pair: tuple[Path, Path]) -> list[Path]:
    """Items of an HSI and an MSI, with copies of their files beside them."""
    folder.mkdir(exist_ok=True)
    items = []
    for path, role in zip(pair, ("hsi", "msi"), strict=True):
        shutil.copy(path, folder / path.name)
        items.append(write_item(folder / f"{path.stem}.json", href=f"./{path.name}", role=role))
    return items


def write_catalogue(folder: Path, items: list[Path]) -> Path:
    """A static catalogue that links the items."""
    links = [{"rel": "item", "href": f"./{item.relative_to(folder)}", "type": "application/geo+json"} for item in items]
    catalogue = {"type": "Catalog", "stac_version": "1.1.0", "id": "small", "description": "Small", "links": links}
    path = folder / "catalog.json"
    path.write_text(json.dumps(catalogue), encoding="utf-8")
    return path


def archive_of(pair: tuple[Path, Path], folder: Path) -> Path:
    """A catalogue of the good pair."""
    return write_catalogue(folder, write_pair_items(folder, pair))
