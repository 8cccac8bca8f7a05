"""Which parts of a scene a stage measures: all its blocks, or a stratified sample of patches.

Pure geometry of the coarse grid. It depends on the scene alone, never on tiles or workers, and so does
every sum over it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
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
    """Side of a patch in fine pixels, rounded to the lattice: the training geometry."""
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

    Strata are an even grid of about sampling.patches; places within one come from a hash of its index.
    Origins and sides are multiples of lattice_px fine pixels, itself a multiple of ratio. A patch larger
    than the scene reaches outside, where the border rule holds.
    """
    step = lattice_px // ratio
    side = max(1, round(sampling.patch_px / lattice_px)) * step
    room = tuple(max(1, (size - side) // step + 1) for size in coarse_shape)
    counts = _strata(room, sampling.patches)
    return tuple(
        tuple(dict.fromkeys(_places((iy, ix), room, counts, side, step, sampling.candidates)))
        for iy in range(counts[0])
        for ix in range(counts[1])
    )


def _strata(room: tuple[int, ...], patches: int) -> tuple[int, int]:
    rows = math.sqrt(patches * room[0] / room[1])
    count_y = min(room[0], max(1, round(rows)))
    return count_y, min(room[1], max(1, patches // count_y))


def _places(
    stratum: tuple[int, int], room: tuple[int, ...], counts: tuple[int, int], side: int, step: int, candidates: int
) -> Iterator[Window]:
    for attempt in range(candidates):
        digest = hashlib.sha256(f"patch {stratum[0]} {stratum[1]} {attempt}".encode()).digest()
        origin = []
        for axis in (0, 1):
            first = stratum[axis] * room[axis] // counts[axis]
            width = (stratum[axis] + 1) * room[axis] // counts[axis] - first
            offset = int.from_bytes(digest[8 * axis : 8 * axis + 8]) % width
            origin.append((first + offset) * step)
        yield Window(y0=origin[0], y1=origin[0] + side, x0=origin[1], x1=origin[1] + side)
