"""ProductSpec: what a product's arrays look like, known before a pixel is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.transform import Transform, coarsened
from scenefuse.grid.window import Window
from scenefuse.product.identity import require_name
from scenefuse.sensors.band import Band

QUALITY_OUTSIDE = 255
"""No-data value declared for the quality flags: readers use it outside the product, where 0 would mean a good pixel.

No pixel of a product has this value, which would be every flag at once, the no-data bit included.
"""

_BAND_CHUNK = 16
_CHUNK_PX = 128
_OVERVIEW_BELOW_PX = 512
_COG_TILE_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LevelCore:
    """One core of one level: the pixels of one shard."""

    factor: int
    """Fine pixels per pixel of the level, along each axis; 1 is the product itself."""
    iy: int
    """Row in the grid of cores."""
    ix: int
    """Column in the grid of cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductSpec:
    """The arrays of one product: their grid, their chunking, and how reflectance is encoded as integers."""

    item_id: str
    """STAC item id, also the folder's name."""
    grid: PairGrid
    """Grids of the pair; the product is on the fine grid."""
    bands: tuple[Band, ...]
    """Bands of the result, sorted by wavelength."""
    core_px: int
    """Side of a core in fine pixels, a multiple of 16; one core is one shard."""
    scale: float = 1e-4
    """Reflectance per integer step; the stored range is +-32767 steps, -3.2767 to 3.2767."""
    nodata: int = -32768
    """Integer that means no data."""
    acquired: datetime | None = None
    """When the HSI was acquired, with a time zone; None if unknown."""

    def __post_init__(self) -> None:
        require_name(self.item_id)
        if not self.bands:
            raise ValueError("ProductSpec has no bands")
        if self.core_px < 1 or self.core_px % 16:
            raise ValueError(f"core_px must be a positive multiple of 16, got {self.core_px}")
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale}")
        if self.nodata != -32768:
            raise ValueError(f"nodata must be -32768, got {self.nodata}")
        if self.acquired is not None and self.acquired.utcoffset() is None:
            raise ValueError(f"acquired must have a time zone, got {self.acquired}")
        _, b, _, d, _, _ = self.grid.fine_transform
        if b or d:
            raise DataError(
                f"the grid of {self.item_id} is rotated",
                "its pixels have no separate x and y coordinates",
                "warp the MSI to a north-up grid first: the HSI is then warped onto it",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the reflectance, (band, y, x)."""
        return len(self.bands), *self.grid.fine_shape

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Shape of an inner chunk, (band, y, x): about 16 bands of at most 128 px a side.

        A map reads one band, a spectrum reads all: with all bands in one chunk, a map would decode the whole shard.
        Inside a shard a chunk costs 16 bytes of index and no file, so chunks may be small. The band count is split
        evenly (177 bands: 12 chunks of 15); the side is the largest divisor of core_px up to 128.
        """
        groups = -(-len(self.bands) // _BAND_CHUNK)
        side = max(px for px in range(1, _CHUNK_PX + 1) if self.core_px % px == 0)
        return -(-len(self.bands) // groups), side, side

    @property
    def shard_shape(self) -> tuple[int, int, int]:
        """Shape of a shard, (band, y, x): one core, with its bands rounded up to whole chunks; the excess is fill."""
        chunk = self.chunk_shape[0]
        return -(-len(self.bands) // chunk) * chunk, self.core_px, self.core_px

    @property
    def overview_factors(self) -> tuple[int, ...]:
        """Fine pixels per overview pixel, along each axis: 2, 4, ... until the longer side is below 512 px."""
        factors: list[int] = []
        while max(self.level_shape(factors[-1] if factors else 1)) >= _OVERVIEW_BELOW_PX:
            factors.append(2 ** (len(factors) + 1))
        return tuple(factors)

    def level_shape(self, factor: int) -> tuple[int, int]:
        """Rows and columns of the level whose pixels are factor fine pixels wide; factor 1 is the product."""
        rows, columns = self.grid.fine_shape
        return -(-rows // factor), -(-columns // factor)

    def level_transform(self, factor: int) -> Transform:
        """Affine transform of a level from (column, row) to CRS units."""
        return coarsened(self.grid.fine_transform, factor)

    def shard_counts(self, factor: int = 1) -> tuple[int, int]:
        """Rows and columns of shards in a level."""
        rows, columns = self.level_shape(factor)
        return -(-rows // self.core_px), -(-columns // self.core_px)

    def level_cores(self, factor: int) -> Iterator[LevelCore]:
        """All cores of a level, row by row."""
        rows, columns = self.shard_counts(factor)
        return (LevelCore(factor=factor, iy=iy, ix=ix) for iy in range(rows) for ix in range(columns))

    def core_window(self, core: LevelCore) -> Window:
        """Pixels of its level that a core covers; smaller at the right and bottom edges."""
        y0, x0, side = core.iy * self.core_px, core.ix * self.core_px, self.core_px
        return Window(y0=y0, y1=y0 + side, x0=x0, x1=x0 + side).clip(self.level_shape(core.factor))

    def band_groups(self) -> Iterator[range]:
        """Band indexes of each row of inner chunks, which are decoded together."""
        step = self.chunk_shape[0]
        return (range(first, min(first + step, len(self.bands))) for first in range(0, len(self.bands), step))

    @property
    def cog_tile_px(self) -> int:
        """Side of a COG tile: the divisor of core_px and multiple of 16 nearest to 512 px by ratio.

        No tile crosses a core's border, so each core can be coded separately.
        """
        sides = [px for px in range(16, self.core_px + 1, 16) if self.core_px % px == 0]
        return min(sides, key=lambda px: max(px / _COG_TILE_PX, _COG_TILE_PX / px))

    def band_label(self, index: int) -> str:
        """Label of the band at an index counted from 0, with its wavelength in micrometres: `band 12 (0.6542 um)`."""
        band = self.bands[index]
        return band.name if band.wavelength_nm is None else f"{band.name} ({band.wavelength_nm / 1000:.4f} um)"
