"""Count the pixels of a product by quality flag, and map them, core by core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.product.reading import StoredProduct
from scenefuse.quality.thinning import picture_shape, thinned
from scenefuse.tiles.tiling import Tiling

GRAVEST_FIRST = (
    QualityFlag.NODATA,
    QualityFlag.NOT_FINITE,
    QualityFlag.CLIPPED,
    QualityFlag.NEAR_NODATA,
    QualityFlag.NEAR_EDGE,
)
"""Flags in order of severity, the gravest first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlagCount:
    """The quality flags of a whole product."""

    pixels: int
    """Pixels of the product."""
    good: int
    """Pixels without any flag."""
    by_flag: dict[str, int]
    """Pixels with each flag, by its name in lower case; a pixel may have several."""
    picture: NDArray[np.uint8]
    """(y, x) union of the flags of the factor x factor fine pixels under each pixel of the picture."""

    def facts(self) -> dict[str, int | dict[str, int]]:
        """The counts as JSON-compatible values."""
        return {"pixels": self.pixels, "good": self.good, "by_flag": dict(self.by_flag)}


def count_flags(product: StoredProduct, factor: int) -> FlagCount:
    """Count the flags of all pixels, one core at a time. factor: fine pixels per pixel of the picture on each axis."""
    picture = np.zeros(picture_shape(product.grid.shape, factor), np.uint8)
    counts = np.zeros(256, np.int64)
    for tile in Tiling(fine_shape=product.grid.shape, core_px=product.core_px, halo_px=0, lattice_px=1):
        flags = product.read_flags(tile.core)
        counts += np.bincount(flags.ravel(), minlength=256)
        place, part = thinned(flags, tile.core, factor, np.bitwise_or)
        picture[place] |= part
    values = np.arange(256)
    return FlagCount(
        pixels=int(counts.sum()),
        good=int(counts[0]),
        by_flag={str(flag.name).lower(): int(counts[(values & flag) != 0].sum()) for flag in GRAVEST_FIRST},
        picture=picture,
    )
