"""Making products as an operator does, or in this process, and reading them without scenefuse."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import zarr
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.pipeline.fuse import fuse

Image = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Product:
    """A product as other people's software reads it."""

    folder: Path
    """The product's folder."""
    integers: NDArray[np.int16]
    """(band, y, x) stored values."""
    notes: tuple[str, ...]
    """What the command said."""

    @property
    def item(self) -> dict[str, Any]:
        """The STAC item."""
        document: dict[str, Any] = json.loads((self.folder / f"{self.folder.name}.json").read_text())
        return document

    @property
    def transform(self) -> Affine:
        """The product's grid, as its item gives it."""
        return Affine(*self.item["properties"]["proj:transform"][:6])

    @property
    def reflectance(self) -> Image:
        """(band, y, x) reflectance, float32, NaN = no data."""
        values = self.integers * np.float32(1e-4)
        values[self.integers == -32768] = np.nan
        return values

    @property
    def wavelengths_nm(self) -> Image:
        """(band,) wavelengths of the item's bands."""
        bands = self.item["assets"]["reflectance"]["bands"]
        return np.array([band["eo:center_wavelength"] * 1e3 for band in bands])

    @property
    def facts(self) -> dict[str, Any]:
        """What the provenance says of grids, bands and radiometry."""
        document = json.loads((self.folder / "provenance.json").read_text())
        facts: dict[str, Any] = json.loads(document["entity"]["scenefuse:product"]["scenefuse:grid"]["$"])
        return facts


def needed(path: Path) -> Path:
    """The path; the test is skipped when it is not there."""
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def fuse_by_command(hs: Path, ms: Path, out: Path, *options: str) -> Product:
    """The product of `scenefuse fuse` in a process of its own."""
    command = [sys.executable, "-m", "scenefuse", "fuse", str(hs), str(ms), "--out", str(out), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return read_product(Path(answer["item"]).parent, tuple(answer["notes"]))


def fuse_here(hs: str | Path, ms: str | Path, out: Path, **options: Any) -> Product:
    """The product of the same pipeline in this process: quicker, and its store alone unless a format is given."""
    made = fuse(hs, ms, out=out, config=RunConfig(**{"format": ("zarr",), **options}), lane=InProcessLane())
    return read_product(made.folder, made.notes)


def read_product(folder: Path, notes: tuple[str, ...]) -> Product:
    """The product by zarr's own reader."""
    store = zarr.open_group(folder / "fused.zarr", mode="r", zarr_format=3)
    return Product(folder=folder, integers=np.asarray(store["reflectance"]), notes=notes)


def stored_bytes(product: Product) -> dict[str, bytes]:
    """Every file of the product's arrays, and its provenance, by name."""
    files = [path for path in (product.folder / "fused.zarr").rglob("*") if path.is_file()]
    return {path.name if path.parent == product.folder else str(path.relative_to(product.folder)): path.read_bytes()
            for path in [*files, product.folder / "provenance.json"]}  # fmt: skip


def write_item(path: Path, assets: dict[str, Any], *, epsg: int, **properties: Any) -> Path:
    """A STAC 1.1 item with these assets, made with pystac; footprint and bbox from the first asset's raster."""
    with rasterio.open(path.parent / next(iter(assets.values()))["href"]) as raster:
        bounds = raster.bounds
    west, south, east, north = Transformer.from_crs(epsg, 4326, always_xy=True).transform_bounds(*bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = pystac.Item(
        id=path.stem,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[west, south, east, north],
        datetime=datetime(2009, 8, 20, 10, tzinfo=UTC),
        properties={"proj:code": f"EPSG:{epsg}", **properties},
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    for key, asset in assets.items():
        item.add_asset(key, pystac.Asset.from_dict(asset))
    path.write_text(json.dumps(item.to_dict(include_self_link=False)))
    return path


def band_entry(name: str, wavelength_nm: float, fwhm_nm: float) -> dict[str, Any]:
    """A band as STAC 1.1 describes it."""
    return {
        "name": name,
        "eo:center_wavelength": round(wavelength_nm / 1e3, 6),
        "eo:full_width_half_max": round(fwhm_nm / 1e3, 6),
    }
