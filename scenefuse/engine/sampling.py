"""Which parts of a scene a stage measures: all its blocks, or a stratified sample of patches.

Pure geometry of the coarse grid. It depends on the scene alone, never on tiles or workers, and so does
every sum over it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from scenefuse.grid.window import Window

BLOCK_PX = 64
"""Side of a block in coarse pixels; blocks at the right and bottom ends are short."""

RUN_BLOCKS = 8
"""Blocks in a row that are read at once and summed in one task: part of the order of summation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a stage that measures a sample takes its patches."""

    patches: int = 64
    """Strata, and so patches at most."""
    patch_px: int = 128
    """Side of a patch in fine pixels, rounded to the lattice: near what networks are trained on."""
    candidates: int = 4
    """Places tried in each stratum until one has enough data."""
    least_valid: float = 0.5
    """Share of a patch's pixels that must be data, 0 to 1."""


def block_runs(coarse_shape: tuple[int, int]) -> tuple[tuple[Window, ...], ...]:
    """Blocks of the scene, row by row, in runs of at most RUN_BLOCKS neighbours; they cover it exactly once."""
    rows, columns = coarse_shape
    return tuple(
        tuple(
            Window(y0=y, y1=min(y + BLOCK_PX, rows), x0=x, x1=min(x + BLOCK_PX, columns))
            for x in range(start, min(start + RUN_BLOCKS * BLOCK_PX, columns), BLOCK_PX)
        )
        for y in range(0, rows, BLOCK_PX)
        for start in range(0, columns, RUN_BLOCKS * BLOCK_PX)
    )


def patch_candidates(
    coarse_shape: tuple[int, int], sampling: Sampling, *, ratio: int, lattice_px: int
) -> tuple[tuple[Window, ...], ...]:
    """For each stratum the coarse windows to try, in order; the same for the same scene.

    Strata are an even grid of about sampling.patches, of fewer in a scene so small that patches would lie closer
    than half their side and measure the same ground again; places within one come from a hash of its index.
    Origins and sides are multiples of lattice_px fine pixels, itself a multiple of ratio. A patch larger
    than the scene reaches outside, where the border rule holds.
    """
    step = lattice_px // ratio
    side = max(1, round(sampling.patch_px / lattice_px)) * step
    room_y, room_x = (max(1, (size - side) // step + 1) for size in coarse_shape)
    spacing = -(-side // step // 2)
    most_y, most_x = (1 + -(-(room - 1) // spacing) for room in (room_y, room_x))
    count_y = min(most_y, sampling.patches, max(1, round(math.sqrt(sampling.patches * room_y / room_x))))
    count_x = min(most_x, max(1, sampling.patches // count_y))
    strata = [(rows, columns) for rows in _even(room_y, count_y) for columns in _even(room_x, count_x)]
    return tuple(
        tuple(dict.fromkeys(_place(number, attempt, stratum, side, step) for attempt in range(sampling.candidates)))
        for number, stratum in enumerate(strata)
    )


def _even(size: int, count: int) -> list[range]:
    """[0, size) in count ranges as even as can be."""
    return [range(i * size // count, (i + 1) * size // count) for i in range(count)]


def _place(number: int, attempt: int, stratum: tuple[range, range], side: int, step: int) -> Window:
    digest = hashlib.sha256(f"patch {number} {attempt}".encode()).digest()
    y0, x0 = (
        places[int.from_bytes(digest[8 * axis : 8 * axis + 8]) % len(places)] * step
        for axis, places in enumerate(stratum)
    )
    return Window(y0=y0, y1=y0 + side, x0=x0, x1=x0 + side)
