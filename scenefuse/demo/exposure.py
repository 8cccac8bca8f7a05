"""A scene being written: abundances go in block by block, one instrument's pixels come out in a raster.

The rasters here are plain tiled GeoTIFFs, written in place; cog.py turns them into the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from scenefuse.demo.plan import CRS, DemoScene, Swath
from scenefuse.grid.window import Window
from scenefuse.simulate.instrument import Instrument
from scenefuse.simulate.sampling import sample, sample_reach_px

TILE_PX = 128
"""Side of a tile of the rasters, pixels."""
_BANDS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exposure:
    """One raster being written: the scene through one instrument."""

    scene: DemoScene
    """The scene."""
    instrument: Instrument
    """The instrument that sees it."""
    raster: rasterio.io.DatasetWriter
    """The raster, open for writing."""
    seed: int
    """Seed of the noise."""

    @property
    def margin_px(self) -> int:
        """Fine pixels that may be needed around a block."""
        part = self.instrument
        return part.ratio - 1 + sample_reach_px(part.ratio, part.sigma_px, self.scene.shift_px)

    def take(self, block: Window, abundances: NDArray[np.float32], frame: Window) -> None:
        """Write the pixels whose first fine pixel lies in the block.

        abundances: (corner, y, x) over frame, which holds the block grown by margin_px.
        """
        part, extent = self.instrument, self.scene.extent
        rows = _pixels_of_block(block.y0, block.y1, extent.y0, extent.y1, part.ratio)
        columns = _pixels_of_block(block.x0, block.x1, extent.x0, extent.x1, part.ratio)
        if not rows or not columns:
            return
        reach = sample_reach_px(part.ratio, part.sigma_px, self.scene.shift_px)
        needed = Window(
            y0=extent.y0 + rows[0] * part.ratio - reach,
            y1=extent.y0 + rows[-1] * part.ratio + part.ratio + reach,
            x0=extent.x0 + columns[0] * part.ratio - reach,
            x1=extent.x0 + columns[-1] * part.ratio + part.ratio + reach,
        )
        planes = sample(
            abundances[(slice(None), *needed.within(frame))],
            ratio=part.ratio,
            sigma_px=part.sigma_px,
            shift_px=self.scene.shift_px,
        )
        outside = _outside_swath(self.scene, rows, columns, part.ratio)
        rng = np.random.default_rng([self.seed, crc32(self.scene.id.encode()), part.ratio, rows[0], columns[0]])
        target = RasterWindow(columns[0], rows[0], len(columns), len(rows))
        flat = planes.reshape(planes.shape[0], -1)
        for first in range(0, len(part.bands), _BANDS_AT_ONCE):
            bands = range(first, min(first + _BANDS_AT_ONCE, len(part.bands)))
            reflectance = (part.spectra[bands.start : bands.stop] @ flat).reshape(len(bands), len(rows), len(columns))
            reflectance = part.noisy(reflectance, bands, rng)
            if outside is not None:
                reflectance[:, outside] = np.nan
            self.raster.write(part.encode(reflectance), [band + 1 for band in bands], window=target)


def open_raster(path: Path, scene: DemoScene, instrument: Instrument, *, compress: bool) -> rasterio.io.DatasetWriter:
    """Open a tiled, band-interleaved raster for writing the scene as the instrument sees it.

    Bands carry description, scale and offset; wavelength (nm), FWHM and bad-band flag (bbl: 1 good, 0 bad) are
    in the band's tags, as in EnMAP products after import.
    """
    rows, columns = scene.shape(instrument.ratio)
    raster: rasterio.io.DatasetWriter = rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=columns,
        height=rows,
        count=len(instrument.bands),
        dtype=instrument.dtype,
        crs=CRS,
        transform=Affine(*scene.transform(instrument.ratio)),
        nodata=instrument.nodata,
        tiled=True,
        blockxsize=TILE_PX,
        blockysize=TILE_PX,
        interleave="band",
        BIGTIFF="IF_SAFER",
        **({"compress": "ZSTD", "zstd_level": 1, "predictor": 2} if compress else {}),
    )
    raster.scales = (instrument.scale,) * len(instrument.bands)
    raster.offsets = (instrument.offset,) * len(instrument.bands)
    for number, (band, bad) in enumerate(zip(instrument.bands, instrument.bad, strict=True), start=1):
        raster.set_band_description(number, f"{band.name} ({band.wavelength_nm} nm)")
        raster.update_tags(
            number, wavelength=band.wavelength_nm, fwhm=band.fwhm_nm, wavelength_units="Nanometers", bbl=int(not bad)
        )
    return raster


def _pixels_of_block(start: int, stop: int, first: int, last: int, ratio: int) -> range:
    """Numbers of the pixels in [first, last) whose first fine pixel lies in [start, stop)."""
    return range(-(-max(start - first, 0) // ratio), -(-max(min(stop, last) - first, 0) // ratio))


def swath_offset_px(swath: Swath, shape: tuple[int, int], row: NDArray[np.float64]) -> NDArray[np.float64]:
    """Column of the strip's middle in each row, in pixels from the raster's western edge."""
    return shape[1] / 2 - swath.west_per_south * (row - shape[0] / 2)


def _outside_swath(scene: DemoScene, rows: range, columns: range, ratio: int) -> NDArray[np.bool_] | None:
    """Pixels of the raster that the strip does not cover, (y, x); None when the scene has no strip."""
    if scene.swath is None:
        return None
    shape = scene.shape(ratio)
    middle = swath_offset_px(scene.swath, shape, np.asarray(rows) + 0.5)[:, np.newaxis]
    return np.asarray(np.abs(np.asarray(columns) + 0.5 - middle) > scene.swath.half_width * shape[1])
