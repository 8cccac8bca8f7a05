"""How a scene is cut: cores that cover it exactly once, windows that add the halo.

Pure geometry in the fine frame of PairGrid, independent of files and networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm

from scenefuse.grid.window import Window

LEAST_WINDOW_PX = 64
"""Smaller windows take other paths through the convolution library: 16 px windows differ by 6e-7."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Tile:
    """One core and the window to read for it."""

    iy: int
    """Row of the core in the tiling, from 0: the shard's row in the store."""
    ix: int
    """Column of the core in the tiling, from 0."""
    core: Window
    """Fine pixels that this tile writes; clipped at the scene's right and bottom edges."""
    read: Window
    """Fine pixels that the model sees: a full core grown by the halo, the same size for every tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Cores of side core_px, which cover a scene exactly once, each read with halo_px around it."""

    fine_shape: tuple[int, int]
    """Fine rows and columns of the scene, (y, x)."""
    core_px: int
    """Side of a core in fine pixels, a multiple of lattice_px; one core is one Zarr shard."""
    halo_px: int
    """Context on each side in fine pixels, a multiple of lattice_px; may exceed the scene."""
    lattice_px: int
    """Tile origins are multiples of this from the grid's origin."""

    def __post_init__(self) -> None:
        if min(self.fine_shape) < 1 or self.core_px < 1 or self.halo_px < 0 or self.lattice_px < 1:
            raise ValueError(f"Tiling is impossible: {self}")
        for name in ("core_px", "halo_px"):
            value = getattr(self, name)
            if value % self.lattice_px:
                raise ValueError(f"{name} {value} is not a multiple of lattice_px {self.lattice_px}")

    @property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of cores, (y, x)."""
        return -(-self.fine_shape[0] // self.core_px), -(-self.fine_shape[1] // self.core_px)

    @property
    def window_px(self) -> int:
        """Side of every read window in fine pixels."""
        return self.core_px + 2 * self.halo_px

    def __len__(self) -> int:
        return self.counts[0] * self.counts[1]

    def tile(self, iy: int, ix: int) -> Tile:
        """The tile in row iy and column ix."""
        rows, columns = self.counts
        if not (0 <= iy < rows and 0 <= ix < columns):
            raise IndexError(f"tile ({iy}, {ix}) is outside a tiling of {rows} x {columns}")
        y0, x0 = iy * self.core_px, ix * self.core_px
        whole = Window(y0=y0, y1=y0 + self.core_px, x0=x0, x1=x0 + self.core_px)
        return Tile(iy=iy, ix=ix, core=whole.clip(self.fine_shape), read=whole.grow(self.halo_px))

    def __iter__(self) -> Iterator[Tile]:
        rows, columns = self.counts
        return (self.tile(iy, ix) for iy in range(rows) for ix in range(columns))

    def groups(self, size: int) -> tuple[tuple[Tile, ...], ...]:
        """Tiles in runs of at most size, row by row: one task per run."""
        tiles = tuple(self)
        return tuple(tiles[start : start + size] for start in range(0, len(tiles), size))


def lattice_px(*, model_lattice_px: int, ratio: int, ms_band_ratio: int = 1) -> int:
    """Common multiple of the model's strides, the coarse pixel and the coarsest MSI band's pixel.

    ms_band_ratio is the coarsest MSI band's GSD / fine GSD (Sentinel-2's 20 m bands on a 10 m grid: 2).
    """
    return lcm(model_lattice_px, ratio, ms_band_ratio)


def round_core_px(target_px: int, lattice: int) -> int:
    """The multiple of lcm(lattice, 16) nearest to target_px, at least one: a shard of whole inner chunks."""
    step = lcm(lattice, 16)
    return max(1, round(target_px / step)) * step


def round_halo_px(halo_px: int, lattice: int) -> int:
    """halo_px rounded up to a multiple of the lattice."""
    return -(-halo_px // lattice) * lattice
