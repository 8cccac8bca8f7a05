"""Choose the parts of a scene that a stage measures: all blocks, or a stratified sample of blocks or patches.

Pure geometry of the coarse grid. It depends on the scene alone, never on tiles or workers; so does every sum over it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from scenefuse.grid.window import Window

BLOCK_PX = 64
"""Side of a block in coarse pixels; blocks at the right and bottom edges are smaller."""

RUN_BLOCKS = 8
"""Adjacent blocks that are read at once and summed in one task; determines the order of summation."""

Places = tuple[Window, ...]
"""Coarse windows to try, in order, until one has enough data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How stages sample a scene."""

    patches: int = 64
    """Strata, and so the most patches, of a stage that measures patches."""
    patch_px: int = 128
    """Side of a patch in fine pixels, rounded to the lattice: close to what networks are trained on."""
    blocks: int = 64
    """Approximate number of blocks that a stage over blocks measures in a larger scene: 262,144 coarse pixels. Blocks
    are spread singly: squares of four read a third faster, but cost hysure-l2 0.19 dB instead of 0.04
    (tests/bench/sampling.py)."""
    candidates: int = 4
    """Places tried in each stratum until one has enough data."""
    least_valid: float = 0.5
    """Share of a place's pixels that must have data, 0 to 1."""
    least_found: float = 0.5
    """Share of a sample's strata that must have such a place; otherwise all blocks of the scene are measured."""


def block_runs(coarse_shape: tuple[int, int]) -> tuple[Window, ...]:
    """Runs of at most RUN_BLOCKS adjacent blocks, row by row; they cover the scene exactly once."""
    rows, columns = coarse_shape
    return tuple(
        Window(y0=y, y1=min(y + BLOCK_PX, rows), x0=x, x1=min(x + RUN_BLOCKS * BLOCK_PX, columns))
        for y in range(0, rows, BLOCK_PX)
        for x in range(0, columns, RUN_BLOCKS * BLOCK_PX)
    )


def block_sample(coarse_shape: tuple[int, int], sampling: Sampling) -> tuple[Places, ...] | None:
    """Blocks to try in each stratum of a large scene; None if the scene is small enough to be measured whole.

    Strata form an even grid of about sampling.blocks cells. No block extends beyond the scene.
    """
    rows, columns = coarse_shape
    wanted_px = sampling.blocks * BLOCK_PX**2
    if rows * columns <= wanted_px:
        return None
    sides = min(BLOCK_PX, rows), min(BLOCK_PX, columns)
    room_y, room_x = rows - sides[0] + 1, columns - sides[1] + 1
    count = max(1, wanted_px // (sides[0] * sides[1]))
    count_y = min(room_y, count, max(1, round(math.sqrt(count * room_y / room_x))))
    return _strata((room_y, room_x), (count_y, min(room_x, max(1, count // count_y))), sides, 1, sampling.candidates)


def cut_blocks(window: Window) -> Iterator[Window]:
    """Cut a window that is read at once into blocks, row by row."""
    for y in range(window.y0, window.y1, BLOCK_PX):
        for x in range(window.x0, window.x1, BLOCK_PX):
            yield Window(y0=y, y1=min(y + BLOCK_PX, window.y1), x0=x, x1=min(x + BLOCK_PX, window.x1))


def patch_candidates(
    coarse_shape: tuple[int, int], sampling: Sampling, *, ratio: int, lattice_px: int
) -> tuple[Places, ...]:
    """Patches to try in each stratum, always the same for the same scene.

    Strata form an even grid of about sampling.patches cells; a small scene has fewer, so that patches are not closer
    than half their side, which would measure the same ground again. Places within a stratum come from a hash of its
    index. Origins and sides are multiples of lattice_px fine pixels, itself a multiple of ratio. A patch larger than
    the scene extends beyond it, where the border rule applies.
    """
    step = lattice_px // ratio
    side = max(1, round(sampling.patch_px / lattice_px)) * step
    room_y, room_x = (max(1, (size - side) // step + 1) for size in coarse_shape)
    spacing = -(-side // step // 2)
    most_y, most_x = (1 + -(-(room - 1) // spacing) for room in (room_y, room_x))
    count_y = min(most_y, sampling.patches, max(1, round(math.sqrt(sampling.patches * room_y / room_x))))
    count_x = min(most_x, max(1, sampling.patches // count_y))
    return _strata((room_y, room_x), (count_y, count_x), (side, side), step, sampling.candidates)


def _strata(
    room: tuple[int, int], counts: tuple[int, int], sides: tuple[int, int], step: int, candidates: int
) -> tuple[Places, ...]:
    """Places in each stratum; room: possible origins in steps, counts: strata, both as (rows, columns)."""
    strata = [(rows, columns) for rows in _even(room[0], counts[0]) for columns in _even(room[1], counts[1])]
    return tuple(
        tuple(dict.fromkeys(_place(number, attempt, stratum, sides, step) for attempt in range(candidates)))
        for number, stratum in enumerate(strata)
    )


def _even(size: int, count: int) -> list[range]:
    """Split [0, size) into count ranges as evenly as possible."""
    return [range(i * size // count, (i + 1) * size // count) for i in range(count)]


def _place(number: int, attempt: int, stratum: tuple[range, range], sides: tuple[int, int], step: int) -> Window:
    digest = hashlib.sha256(f"patch {number} {attempt}".encode()).digest()
    y0, x0 = (
        places[int.from_bytes(digest[8 * axis : 8 * axis + 8]) % len(places)] * step
        for axis, places in enumerate(stratum)
    )
    return Window(y0=y0, y1=y0 + sides[0], x0=x0, x1=x0 + sides[1])
