"""PairSource: what measuring, training and fusing need of a pair. PairCube is one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band


class PairSource(Protocol):
    """A pair as two aligned lazy cubes. Picklable; opens its files on the first read of each process."""

    @property
    def grid(self) -> PairGrid:
        """The two aligned grids."""
        ...

    @property
    def hs_bands(self) -> tuple[Band, ...]:
        """Bands of read_hs, sorted by wavelength, bad bands dropped."""
        ...

    @property
    def ms_bands(self) -> tuple[Band, ...]:
        """Bands of read_ms, sorted by wavelength, each with its native gsd_m."""
        ...

    def read_hs(self, window: Window) -> NDArray[np.float32]:
        """(hs band, y, x) reflectance of a coarse window inside the scene; NaN = no data."""
        ...

    def read_ms(self, window: Window) -> NDArray[np.float32]:
        """(ms band, y, x) reflectance of a fine window inside the scene; NaN = no data."""
        ...
