"""ResidentPair: a pair held in memory, because random windows read each of its pixels many times."""

from __future__ import annotations

import os
from functools import cached_property
from threading import Lock

import psutil

from scenefuse.cube.source import PairSource
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band
from scenefuse.training.scenes import Image, Read

BYTES = 4
"""Bytes per pixel and band, float32."""


class ResidentPair:
    """A PairSource that reads its two images once, at the first window, and keeps them as float32."""

    def __init__(self, source: PairSource) -> None:
        self.source = source
        """The source that is read once."""
        self._hs = ResidentImage(source.read_hs, source.grid.coarse_shape)
        self._ms = ResidentImage(source.read_ms, source.grid.fine_shape)

    @property
    def grid(self) -> PairGrid:
        """The two aligned grids."""
        return self.source.grid

    @property
    def hs_bands(self) -> tuple[Band, ...]:
        """Bands of read_hs."""
        return self.source.hs_bands

    @property
    def ms_bands(self) -> tuple[Band, ...]:
        """Bands of read_ms."""
        return self.source.ms_bands

    def read_hs(self, window: Window) -> Image:
        """(hs band, y, x) reflectance of a coarse window inside the scene; NaN = no data."""
        return self._hs.read(window)

    def read_ms(self, window: Window) -> Image:
        """(ms band, y, x) reflectance of a fine window inside the scene; NaN = no data."""
        return self._ms.read(window)


class ResidentImage:
    """An image read whole by a function and kept."""

    def __init__(self, read: Read, shape: tuple[int, int]) -> None:
        self._read, self._shape = read, shape
        self._reading = Lock()  # scoring and the read-ahead thread may both be first to read

    def read(self, window: Window) -> Image:
        """(band, y, x) of a window inside the grid, as a view."""
        with self._reading:
            whole = self._whole
        return whole[(slice(None), *window.slices)]

    @cached_property
    def _whole(self) -> Image:
        rows, columns = self._shape
        return self._read(Window(y0=0, y1=rows, x0=0, x1=columns))


def resident_bytes(source: PairSource, *, truth: bool) -> int:
    """Bytes that a pair takes as float32, with its truth on the fine grid if it has one."""
    coarse, fine = (rows * columns for rows, columns in (source.grid.coarse_shape, source.grid.fine_shape))
    hs, ms = len(source.hs_bands), len(source.ms_bands)
    return BYTES * (hs * coarse + (ms + (hs if truth else 0)) * fine)


def may_reside(needed_bytes: int, most_bytes: int) -> bool:
    """Whether scenes may be kept in memory: within most_bytes, and within this process's share of half the free memory.

    The free memory is divided among the processes that torchrun started on this machine.
    """
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free: int = psutil.virtual_memory().available
    return needed_bytes <= min(most_bytes, free // 2 // beside)
