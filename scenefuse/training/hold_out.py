"""HoldOut: which blocks of a scene score the network, and where windows may lie so that it sees none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.grid.placement import PointMap, RasterGrid, same_crs
from scenefuse.grid.window import Window

BORDER_POINTS = 65
"""Points checked on each side of a scene's border, which another CRS may bend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOut:
    """Holds out blocks in every second row and column of blocks, a quarter of the scene, and keeps windows off them.

    Windows start at multiples of `step_px` and read `guard_px` pixels on each side; what they read never touches a
    held-out block.
    """

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    patch_px: int
    """Side of a window."""
    block_px: int
    """Side of a block; blocks are cut off at the lower and right edges."""
    guard_px: int
    """Pixels read on each side of a window."""
    step_px: int
    """Windows start at multiples of this: the ratio."""
    origin_px: tuple[int, int] = (0, 0)
    """Row and column of the scene's first pixel on the block lattice, which scenes of the same ground share."""

    def blocks(self) -> tuple[Window, ...]:
        """The held-out blocks, in row order."""
        rows, columns = self._held_out(0), self._held_out(1)
        return tuple(Window(y0=y0, y1=y1, x0=x0, x1=x1) for y0, y1 in rows for x0, x1 in columns)

    def count(self) -> int:
        """Number of windows that may be drawn."""
        (free_rows, other_rows), (free_columns, other_columns) = (self._starts(0), self._starts(1))
        columns = len(free_columns) + len(other_columns)
        return len(free_rows) * columns + len(other_rows) * len(free_columns)

    def window(self, index: int) -> Window:
        """The window with an index from 0 to count() - 1."""
        (free_rows, other_rows), (free_columns, other_columns) = (self._starts(0), self._starts(1))
        columns = np.concatenate([free_columns, other_columns])
        whole = len(free_rows) * len(columns)
        if index < whole:
            y, x = free_rows[index // len(columns)], columns[index % len(columns)]
        else:
            y = other_rows[(index - whole) // len(free_columns)]
            x = free_columns[(index - whole) % len(free_columns)]
        return Window(y0=int(y), y1=int(y) + self.patch_px, x0=int(x), x1=int(x) + self.patch_px)

    def draw(self, rng: np.random.Generator) -> Window:
        """A random window, all equally likely."""
        return self.window(int(rng.integers(self.count())))

    def _held_out(self, axis: int) -> list[tuple[int, int]]:
        """Start and stop of every second block along an axis, clipped to the scene."""
        length, origin, block = self.shape[axis], self.origin_px[axis], self.block_px
        first = block - origin % (2 * block)
        starts = range(first, length, 2 * block)
        return [(max(start, 0), min(start + block, length)) for start in starts if start + block > 0]

    def _starts(self, axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Window starts along an axis that keep off the held-out stretches, and those that do not."""
        length = self.shape[axis]
        starts = np.arange(0, length - self.patch_px + 1, self.step_px)
        touches = np.zeros(len(starts), dtype=bool)
        for begin, end in self._held_out(axis):
            touches |= (starts - self.guard_px < end) & (starts + self.patch_px + self.guard_px > begin)
        return starts[~touches], starts[touches]


def plan_hold_out(
    shape: tuple[int, int],
    *,
    patch_px: int,
    guard_px: int,
    step_px: int,
    block_px: int | None = None,
    origin_px: tuple[int, int] = (0, 0),
) -> HoldOut:
    """The hold-out of a scene: blocks of block_px, or just large enough for a window and its guard to fit between.

    Refuses if the scene then has no held-out block or no window left.
    """
    block = patch_px + 2 * guard_px + step_px - 1 if block_px is None else block_px
    plan = HoldOut(
        shape=shape, patch_px=patch_px, block_px=block, guard_px=guard_px, step_px=step_px, origin_px=origin_px
    )
    if not plan.blocks() or not plan.count():
        lacking = "a window" if plan.blocks() else "a held-out block"
        raise DataError(
            f"a scene of {shape[0]} x {shape[1]} px (training resolution) has no room for {lacking}, with windows of "
            f"{patch_px} px, {guard_px} px read beside them and blocks of {block} px",
            "the network could not be trained and scored on different ground",
            "Give a smaller --patch-px, other --block-px, or larger scenes",
        )
    return plan


def hold_nothing_out(shape: tuple[int, int], *, patch_px: int, step_px: int) -> HoldOut:
    """A hold-out with windows anywhere in the scene: for learning without a truth, judged by the inputs."""
    if min(shape) < patch_px:
        raise DataError(
            f"a scene of {shape[0]} x {shape[1]} px has no window of {patch_px} px",
            "there is nothing to learn from",
            "Leave out --adapt",
        )
    block_px = max(shape) + 1  # the first held-out block would begin outside
    return HoldOut(shape=shape, patch_px=patch_px, block_px=block_px, guard_px=0, step_px=step_px)


def shared_origins_px(grids: Sequence[RasterGrid]) -> tuple[tuple[int, int], ...]:
    """Row and column of each scene's first pixel on the block lattice of its ground.

    Scenes with the same CRS and pixel size that overlap, directly or through others, share the lattice of the first of
    them, to the nearest pixel; any other scene has its own, starting at its first pixel. Refuses scenes that overlap
    but differ in CRS or pixels: the network would learn from one what the other holds out.
    """
    origins: dict[int, tuple[int, int]] = {}
    for first in range(len(grids)):
        if first in origins:
            continue
        origins[first] = (0, 0)
        reached = [first]
        for here in reached:
            for other in range(first + 1, len(grids)):
                if other not in origins and _overlap(grids[here], grids[other]):
                    origins[other] = _offset_px(grids[first], grids[other])
                    reached.append(other)
    return tuple(origins[number] for number in range(len(grids)))


def _overlap(one: RasterGrid, other: RasterGrid) -> bool:
    """Whether both share ground; DataError if they do and their pixels cannot lie on one lattice."""
    if same_crs(one.crs_wkt, other.crs_wkt) and np.allclose(
        (np.linalg.inv(one.matrix) @ other.matrix)[:2, :2], np.eye(2), atol=1e-6
    ):
        row, column = _offset_px(one, other)
        return -other.shape[0] < row < one.shape[0] and -other.shape[1] < column < one.shape[1]
    if _meet(one, other):
        raise DataError(
            f"{one.name} and {other.name} show the same ground in other CRS or pixels",
            "what one holds out to score the network, the other would teach it",
            "Leave one of the two out",
        )
    return False


def _meet(one: RasterGrid, other: RasterGrid) -> bool:
    """Whether two rasters of any CRS and orientation share ground.

    In pixel coordinates of `one`, it is a rectangle and the other is nearly a convex quadrilateral. They are disjoint
    if a line along a side of either separates them. The other's border may be bent, so points all along it are checked.
    """
    along = np.linspace(0.0, 1.0, BORDER_POINTS)
    (height, width), still = other.shape, np.zeros_like(along)
    rows = np.concatenate([still, along * height, still + height, (1 - along) * height])
    columns = np.concatenate([along * width, still + width, (1 - along) * width, still])
    mapping = PointMap(frame_transform=other.transform, frame_crs_wkt=other.crs_wkt, raster=one)
    border = np.stack(mapping.native(rows, columns))  # (2, point)
    if not np.isfinite(border).all():
        return False  # so far away that the CRS of one cannot express it
    corners = border[:, ::BORDER_POINTS]
    sides = np.roll(corners, -1, axis=1) - corners
    normals = np.concatenate([np.eye(2), np.stack([-sides[1], sides[0]], axis=1)])  # (axis, 2)
    own = normals @ np.array([[0.0, 0.0, one.shape[0], one.shape[0]], [0.0, one.shape[1], 0.0, one.shape[1]]])
    theirs = normals @ border
    apart = (theirs.max(axis=1) <= own.min(axis=1)) | (theirs.min(axis=1) >= own.max(axis=1))
    return not apart.any()


def _offset_px(one: RasterGrid, other: RasterGrid) -> tuple[int, int]:
    """Row and column, in pixels of one, of the other's first pixel, to the nearest."""
    place = np.linalg.inv(one.matrix) @ other.matrix
    column, row = (round(float(offset)) for offset in place[:2, 2])
    return row, column
