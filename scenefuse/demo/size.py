"""DemoSize: how large the demo archive is."""

from __future__ import annotations

from enum import Enum


class DemoSize(Enum):
    """How large the archive is, by the side of its fine scenes in pixels (multiples of 6)."""

    SMALL = 252
    MEDIUM = 1026
    LARGE = 4098

    @property
    def fine_px(self) -> int:
        """Rows, and also columns, of a fine scene in the three fusable pairs."""
        return self.value
