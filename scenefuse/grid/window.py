"""A rectangle of pixels on one grid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """Pixels [y0, y1) x [x0, x1) of a grid; it may reach outside the scene."""

    y0: int
    """First row."""
    y1: int
    """Row after the last."""
    x0: int
    """First column."""
    x1: int
    """Column after the last."""

    def __post_init__(self) -> None:
        if self.y1 <= self.y0 or self.x1 <= self.x0:
            raise ValueError(f"Window is empty: rows [{self.y0}, {self.y1}), columns [{self.x0}, {self.x1})")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, (y, x)."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices into an array that starts at the grid's origin."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grow(self, px: int) -> Window:
        """The window with px more pixels on each side (fewer if px is negative)."""
        return Window(y0=self.y0 - px, y1=self.y1 + px, x0=self.x0 - px, x1=self.x1 + px)

    def coarsen(self, ratio: int) -> Window:
        """The same ground on a grid ratio times coarser; its edges must be multiples of ratio."""
        edges = (self.y0, self.y1, self.x0, self.x1)
        if any(edge % ratio for edge in edges):
            raise ValueError(f"{self} does not lie on multiples of {ratio}")
        y0, y1, x0, x1 = (edge // ratio for edge in edges)
        return Window(y0=y0, y1=y1, x0=x0, x1=x1)

    def refine(self, ratio: int) -> Window:
        """The same ground on a grid ratio times finer."""
        return Window(y0=self.y0 * ratio, y1=self.y1 * ratio, x0=self.x0 * ratio, x1=self.x1 * ratio)

    def clip(self, shape: tuple[int, int]) -> Window:
        """The part inside a scene of shape (y, x)."""
        return Window(y0=max(self.y0, 0), y1=min(self.y1, shape[0]), x0=max(self.x0, 0), x1=min(self.x1, shape[1]))

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Slices that cut this window from an array that holds outer."""
        if self.y0 < outer.y0 or self.x0 < outer.x0 or self.y1 > outer.y1 or self.x1 > outer.x1:
            raise ValueError(f"{self} is not inside {outer}")
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )
