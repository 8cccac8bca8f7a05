"""HoldOut: which blocks of a scene score the network, and where windows may lie so that none of them is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.grid.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOut:
    """Blocks in every second row and column of blocks are held out, a quarter of the scene; windows keep off them.

    Windows lie on multiples of `step_px` and read `guard_px` pixels on each side; what they read never touches a
    held-out block.
    """

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    patch_px: int
    """Side of a window."""
    block_px: int
    """Side of a block; at the lower and right edge blocks are cut."""
    guard_px: int
    """Pixels that are read on each side of a window."""
    step_px: int
    """Windows and blocks begin at multiples of this: the ratio."""

    def __post_init__(self) -> None:
        if self.block_px % self.step_px:
            raise ValueError(f"block_px {self.block_px} is no multiple of step_px {self.step_px}")

    def blocks(self) -> tuple[Window, ...]:
        """The held-out blocks, in the order of rows."""
        rows, columns = (self._held_out(length) for length in self.shape)
        return tuple(Window(y0=y0, y1=y1, x0=x0, x1=x1) for y0, y1 in rows for x0, x1 in columns)

    def count(self) -> int:
        """Number of windows that may be drawn."""
        (free_rows, other_rows), (free_columns, other_columns) = (self._starts(length) for length in self.shape)
        columns = len(free_columns) + len(other_columns)
        return len(free_rows) * columns + len(other_rows) * len(free_columns)

    def window(self, index: int) -> Window:
        """The window of an index from 0 to count() - 1."""
        (free_rows, other_rows), (free_columns, other_columns) = (self._starts(length) for length in self.shape)
        columns = np.concatenate([free_columns, other_columns])
        whole = len(free_rows) * len(columns)
        if index < whole:
            y, x = free_rows[index // len(columns)], columns[index % len(columns)]
        else:
            y = other_rows[(index - whole) // len(free_columns)]
            x = free_columns[(index - whole) % len(free_columns)]
        return Window(y0=int(y), y1=int(y) + self.patch_px, x0=int(x), x1=int(x) + self.patch_px)

    def draw(self, rng: np.random.Generator) -> Window:
        """One of the windows, all alike likely."""
        return self.window(int(rng.integers(self.count())))

    def _held_out(self, length: int) -> list[tuple[int, int]]:
        """Start and stop of every second block along an axis."""
        starts = range(self.block_px, length, 2 * self.block_px)
        return [(start, min(start + self.block_px, length)) for start in starts]

    def _starts(self, length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Starts along an axis whose window keeps off the held-out stretches, and those that do not."""
        starts = np.arange(0, length - self.patch_px + 1, self.step_px)
        touches = np.zeros(len(starts), dtype=bool)
        for begin, end in self._held_out(length):
            touches |= (starts - self.guard_px < end) & (starts + self.patch_px + self.guard_px > begin)
        return starts[~touches], starts[touches]


def plan_hold_out(
    shape: tuple[int, int], *, patch_px: int, guard_px: int, step_px: int, block_px: int | None = None
) -> HoldOut:
    """The hold-out of a scene: blocks as given, else so large that a window with its guard fits between two.

    Refused when the scene then has no held-out block or no window left.
    """
    block = patch_px + 2 * guard_px if block_px is None else block_px
    block = -(-block // step_px) * step_px
    plan = HoldOut(shape=shape, patch_px=patch_px, block_px=block, guard_px=guard_px, step_px=step_px)
    if not plan.blocks() or not plan.count():
        lacking = "a window" if plan.blocks() else "a held-out block"
        raise DataError(
            f"a scene of {shape[0]} x {shape[1]} px (training resolution) has no room for {lacking}, with windows of "
            f"{patch_px} px, {guard_px} px read beside them and blocks of {block} px",
            "the network could not be trained and scored on different ground",
            "Give a smaller --patch-px, other --block-px, or larger scenes",
        )
    return plan
