"""Pairs of real GeoTIFFs for the tests of this room, and the engine's float32 cores as they were before storing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from scenefuse.engine.protocols import EncodedShard, ShardReceipt
from scenefuse.tiles.tiling import Tile
from tests.models.classical_pairs import drawn_pair

Image = NDArray[np.float32]
Holes = Literal["none", "swath"]

HS_NM = tuple(float(nm) for nm in np.linspace(450, 880, 12))
MS_NM = ((490.0, 65.0), (560.0, 60.0), (665.0, 60.0), (842.0, 100.0))
NODATA = -32768
ORIGIN_M = (4e5, 58e5)
MS_GSD_M = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFiles:
    """Two GeoTIFFs that show the same ground."""

    hs: Path
    ms: Path

    @property
    def both(self) -> tuple[str, str]:
        return str(self.hs), str(self.ms)


def write_pair(
    folder: Path, *, ratio: int, coarse_shape: tuple[int, int], holes: Holes = "none", bands: tuple[int, int] = (12, 4)
) -> PairFiles:
    """An HSI and an MSI of one drawn landscape, nested grids; `swath` leaves corners and a hole without data."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = coarse_shape
    hs, ms = drawn_pair(ratio, coarse_side=max(coarse_shape), hs_bands=bands[0], ms_bands=bands[1])
    hs, ms = hs[:, :rows, :columns], ms[:, : rows * ratio, : columns * ratio]
    pixels = [np.rint(image * 1e4).astype(np.int16) for image in (hs, ms)]
    if holes == "swath":
        for image, slope, scale in ((pixels[0], 0.2, 1), (pixels[1], -0.15, ratio)):
            image[:, _beside_swath(image.shape[1:], slope)] = NODATA
            y, x = (2 * side // 3 * scale for side in coarse_shape)
            image[:, y : y + 2, x : x + 3] = NODATA
        pixels[1][1, : 2 * ratio, columns * ratio // 2] = NODATA  # in one band only
    files = PairFiles(hs=folder / "hs.tif", ms=folder / "ms.tif")
    wide = (HS_NM[1] - HS_NM[0]) * 1.2
    write_tiff(files.hs, pixels[0], gsd_m=MS_GSD_M * ratio, bands_nm=[(nm, wide) for nm in HS_NM[: bands[0]]])
    write_tiff(files.ms, pixels[1], gsd_m=MS_GSD_M, bands_nm=MS_NM[: bands[1]])
    return files


def write_tiff(path: Path, pixels: NDArray[np.int16], *, gsd_m: float, bands_nm: Any) -> None:
    """Reflectance as int16 of 1e-4 with wavelengths."""
    count, rows, columns = pixels.shape
    west, north = ORIGIN_M
    profile = {"driver": "GTiff", "count": count, "height": rows, "width": columns, "dtype": "int16"}
    transform = Affine(gsd_m, 0, west, 0, -gsd_m, north)
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128} if min(rows, columns) >= 128 else {}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, nodata=NODATA, **profile, **tiles) as dataset:
        dataset.write(pixels)
        dataset.scales = [1e-4] * count
        for band, (centre, width) in enumerate(bands_nm, start=1):
            dataset.set_band_description(band, f"B{band:02d}")
            dataset.update_tags(band, wavelength=str(centre), fwhm=str(width), wavelength_units="Nanometers")


def _beside_swath(shape: tuple[int, ...], slope: float) -> NDArray[np.bool_]:
    """True outside a band that runs from north to south aslant: triangles at all four corners."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    across = (x + 0.5 - columns / 2) + slope * (y + 0.5 - rows / 2)
    outside: NDArray[np.bool_] = np.abs(across) > 0.45 * columns
    return outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """A Sink that keeps the cores in memory as float32, before any rounding."""

    found: dict[tuple[int, int], tuple[Tile, Image, NDArray[np.uint8]]] = field(default_factory=dict)

    def encode(self, tile: Tile, fused: Image, quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
        assert (tile.iy, tile.ix) not in self.found
        self.found[tile.iy, tile.ix] = tile, fused.copy(), quality.copy()
        return ()

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:
        assert not shards
        return ()

    def holds(self, receipt: ShardReceipt) -> bool:
        raise AssertionError(receipt)

    def assembled(self, shape: tuple[int, int]) -> tuple[Image, NDArray[np.uint8]]:
        """The image (band, y, x) and its quality (y, x); every pixel must have been written exactly once."""
        bands = next(iter(self.found.values()))[1].shape[0]
        image, quality = np.zeros((bands, *shape), np.float32), np.zeros(shape, np.uint8)
        written = np.zeros(shape, np.int64)
        for tile, fused, flags in self.found.values():
            image[(slice(None), *tile.core.slices)] = fused
            quality[tile.core.slices] = flags
            written[tile.core.slices] += 1
        assert (written == 1).all()
        return image, quality


def product_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below folder that has to be the same whoever made it, by its path: arrays, COGs, pictures, provenance.

    Left out: what tells of the run (run.json, the report, the item's times, the catalogue, the ledger's order) and
    what is hidden.
    """
    of_runs = {"run.json", "report.html", "ledger.jsonl", "catalog.json", "collection.json"}
    shown = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in shown
        if not any(part.startswith(".") for part in path.parts)
        and path.name not in {*of_runs, f"{(folder / path).parent.name}.json"}
    }
