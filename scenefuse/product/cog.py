"""The product as cloud-optimised GeoTIFF: a copy of finished shards for readers that do not open Zarr.

GDAL's COG driver writes pixel-interleaved files only (GDAL 3.10), in which reading one band is 14 times as slow, and
any copy within GDAL codes every pixel twice in one process. Cores are therefore coded on the workers, each to a part
of the file: GDAL codes the tiles, band by band, and only their bytes are kept. The file then consists of a header,
with fields that GDAL wrote for an empty image, followed by the parts' bytes, overviews first. Finally GDAL reads every
pixel of it back. The result passes `rio cogeo validate --strict`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader, DatasetWriter, MemoryFile
from rasterio.windows import Window as RasterWindow

from scenefuse.errors import WorkError
from scenefuse.place.local import explained, went_away
from scenefuse.place.place import Place
from scenefuse.product.cog_overviews import core_of_cog
from scenefuse.product.files import STORE
from scenefuse.product.spec import LevelCore, ProductSpec
from scenefuse.product.tiff import cog_header, overview_directory, read_image
from scenefuse.product.true_colour import rgb_bands

_GDAL = {"GDAL_CACHEMAX": 64, "GDAL_PAM_ENABLED": "NO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CogPart:
    """The coded tiles of one core of one level, in their own file."""

    core: LevelCore
    """The core."""
    path: Path
    """File with the tiles' bytes, concatenated by band, then row, then column."""
    tile_bytes: tuple[int, ...]
    """Size of each tile, in the same order."""
    crc32: tuple[int, ...]
    """CRC-32 of each band's pixels before coding."""


def write_part(folder: Path | Place, spec: ProductSpec, core: LevelCore, parts_in: Path) -> CogPart:
    """Code one core from its stored pixels and write the part to a file in the folder parts_in."""
    window = spec.core_window(core)
    stored = core_of_cog(folder / STORE, spec, core)
    checksums: list[int] = []
    with rasterio.Env(**_GDAL), MemoryFile(ext=".tif") as file:  # type: ignore[no-untyped-call]
        a, b, c, d, e, f = spec.level_transform(core.factor)
        profile = {**_profile(spec), "transform": Affine(a, b, c + a * window.x0, d, e, f + e * window.y0)}
        rows, columns = window.shape
        with file.open(height=rows, width=columns, bigtiff="if_safer", **profile) as dataset:
            for bands in spec.band_groups():
                pixels = np.ascontiguousarray(stored.read(bands))
                dataset.write(pixels, indexes=[index + 1 for index in bands])
                checksums += map(zlib.crc32, pixels)
        with file.open() as dataset:
            tiles = list(_tiles(dataset))
        data = file.getbuffer()
        path = parts_in / f"{core.factor}-{core.iy}-{core.ix}"
        try:
            with explained(path), path.open("wb") as part:
                part.writelines(data[offset : offset + size] for offset, size in tiles)
        except FileNotFoundError as error:
            raise went_away(parts_in) from error
    return CogPart(core=core, path=path, tile_bytes=tuple(size for _, size in tiles), crc32=tuple(checksums))


def assemble(target: Path, spec: ProductSpec, parts: Sequence[CogPart]) -> None:
    """Write the COG to target from its parts, one for every core of every level."""
    by_core = {part.core: part for part in parts}
    image = read_image(_empty_image(spec))
    directories = [image, *(overview_directory(image, *spec.level_shape(factor)) for factor in spec.overview_factors)]
    levels = [list(_runs(spec, factor, by_core)) for factor in (1, *spec.overview_factors)]
    sizes = [[size for run in level for size in run.tile_bytes] for level in levels]
    with target.open("wb") as file:
        file.write(cog_header(directories, sizes))
        for level in reversed(levels):
            for run in level:
                file.write(run.read())


def check_part(path: Path, spec: ProductSpec, part: CogPart) -> bool:
    """True if GDAL reads back the pixels that part was coded from; a validator would accept a file of zeros.

    TransientError if the file has disappeared.
    """
    core, window = part.core, spec.core_window(part.core)
    level = {} if core.factor == 1 else {"overview_level": spec.overview_factors.index(core.factor)}
    place = RasterWindow(window.x0, window.y0, window.shape[1], window.shape[0])
    try:
        with rasterio.Env(**_GDAL), rasterio.open(path, **level) as dataset:  # type: ignore[no-untyped-call]
            return all(
                zlib.crc32(pixels) == part.crc32[index]
                for bands in spec.band_groups()
                for index, pixels in zip(
                    bands, dataset.read(indexes=[index + 1 for index in bands], window=place), strict=True
                )
            )
    except RasterioIOError as error:
        if not path.exists():
            raise went_away(path.parent) from error
        raise


def wrong_pixels(name: str, core: LevelCore) -> WorkError:
    """The error for a file that check_part found to differ."""
    return WorkError(
        f"{name} differs from {STORE} in core ({core.iy}, {core.ix}) at 1/{core.factor} of its resolution",
        "GDAL reads back other pixels than were written",
        "run again; if it happens again, compare the GDAL version with the one in the report of doctor",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Tiles contiguous in both a part and the COG: those of one band in one row of a core."""

    path: Path
    offset: int
    tile_bytes: tuple[int, ...]

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), sum(self.tile_bytes), self.offset)


def _runs(spec: ProductSpec, factor: int, parts: Mapping[LevelCore, CogPart]) -> Iterator[_Run]:
    """The tiles of a level in TIFF order: by band, then row, then column of the whole level."""
    starts = {core: tuple(accumulate(part.tile_bytes, initial=0)) for core, part in parts.items()}
    rows, columns = spec.shard_counts(factor)
    for band in range(len(spec.bands)):
        for iy in range(rows):
            for row in range(_tile_counts(spec, LevelCore(factor=factor, iy=iy, ix=0))[0]):
                for ix in range(columns):
                    core = LevelCore(factor=factor, iy=iy, ix=ix)
                    down, across = _tile_counts(spec, core)
                    first = (band * down + row) * across
                    sizes = parts[core].tile_bytes[first : first + across]
                    yield _Run(path=parts[core].path, offset=starts[core][first], tile_bytes=sizes)


def _tile_counts(spec: ProductSpec, core: LevelCore) -> tuple[int, int]:
    """Rows and columns of tiles in a core."""
    rows, columns = spec.core_window(core).shape
    return -(-rows // spec.cog_tile_px), -(-columns // spec.cog_tile_px)


def _tiles(dataset: DatasetReader) -> Iterator[tuple[int, int]]:
    """Offset and size of each tile in the file, by band, then row, then column."""
    (tile_rows, tile_columns), (rows, columns) = dataset.block_shapes[0], dataset.shape
    for band in dataset.indexes:
        for row in range(-(-rows // tile_rows)):
            for column in range(-(-columns // tile_columns)):
                offset, size = (
                    dataset.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=band)
                    for what in ("OFFSET", "SIZE")
                )
                yield int(offset), int(size)


def _profile(spec: ProductSpec) -> dict[str, Any]:
    """Creation options for GDAL; zstd level 3 is 3 % smaller than level 1, and four times as slow."""
    return {
        "driver": "GTiff",
        "count": len(spec.bands),
        "dtype": "int16",
        "nodata": spec.nodata,
        "crs": spec.grid.crs_wkt,
        "tiled": True,
        "blockxsize": spec.cog_tile_px,
        "blockysize": spec.cog_tile_px,
        "interleave": "band",
        "compress": "zstd",
        "zstd_level": 1,
        "predictor": 2,
        "endianness": "little",
    }


def _empty_image(spec: ProductSpec) -> bytes:
    """A BigTIFF with the product's size and metadata but no tiles."""
    rows, columns = spec.grid.fine_shape
    place = {"height": rows, "width": columns, "transform": Affine(*spec.grid.fine_transform)}
    with rasterio.Env(**_GDAL), MemoryFile(ext=".tif") as file:  # type: ignore[no-untyped-call]
        with file.open(bigtiff="yes", sparse_ok=True, **place, **_profile(spec)) as dataset:
            _describe(dataset, spec)
        return bytes(file.getbuffer())


def _describe(dataset: DatasetWriter, spec: ProductSpec) -> None:
    """Set each band's scale, name, colour, and wavelength and width, the last two in both of GDAL's ENVI notations."""
    dataset.scales = (spec.scale,) * dataset.count
    dataset.offsets = (0.0,) * dataset.count
    shown = rgb_bands(spec.bands)
    colours = dict(zip(shown, (ColorInterp.red, ColorInterp.green, ColorInterp.blue), strict=True))
    if len(colours) < len(shown):  # outside the visible range, one band is nearest to several colours: none is assigned
        colours = {}
    for index, band in enumerate(spec.bands):
        dataset.set_band_description(index + 1, spec.band_label(index))
        if band.wavelength_nm is not None:
            dataset.update_tags(index + 1, wavelength=f"{band.wavelength_nm / 1000:.6g}", wavelength_units="um")
            dataset.update_tags(index + 1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{band.wavelength_nm / 1000:.6g}")
        if band.fwhm_nm is not None:
            dataset.update_tags(index + 1, fwhm=f"{band.fwhm_nm / 1000:.6g}")
            dataset.update_tags(index + 1, ns="IMAGERY", FWHM_UM=f"{band.fwhm_nm / 1000:.6g}")
    dataset.colorinterp = [colours.get(index, ColorInterp.undefined) for index in range(dataset.count)]
