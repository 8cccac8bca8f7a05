"""The engine's three seams: where windows come from, where cores go, who watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band
from scenefuse.tiles.tiling import Tile


class Source(Protocol):
    """A pair as two aligned lazy cubes. Picklable; opens its files on the first read of each process."""

    @property
    def grid(self) -> PairGrid:
        """The two aligned grids."""
        ...

    @property
    def hs_bands(self) -> tuple[Band, ...]:
        """Bands of read_hs, sorted by wavelength, bad bands gone."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReceipt:
    """Proof that a shard is in the store, whole."""

    key: str
    """Path below the product's store: `reflectance/c/0/3/4`."""
    size_bytes: int
    """Size of the stored object."""
    sha256: str
    """Digest of the stored bytes, hexadecimal."""
    tag: str | None = None
    """The store's own tag of them (ETag), where it gives one: spares reading them back."""


class Sink(Protocol):
    """Where finished cores go. Picklable; laid out by the coordinator before any work."""

    def write(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[ShardReceipt, ...]:
        """Store a core whole and durably; the receipts of its shards.

        fused: (band, y, x) reflectance of tile.core, NaN = no data; quality: (y, x) flags of QualityFlag.
        """
        ...

    def holds(self, receipt: ShardReceipt) -> bool:
        """True when the stored object has the receipt's size and digest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run, for progress, run.json and metrics."""

    kind: Literal["begin", "known", "stage", "plan", "group", "retry", "warning", "done"]
    """What happened."""
    facts: dict[str, Any]
    """Its numbers; times in seconds, sizes in bytes, areas in fine pixels."""


class Observer(Protocol):
    """Someone who is told of progress; runs in the coordinator's process."""

    def notify(self, event: Event) -> None:
        """Called once per event; must return quickly and not raise."""
        ...
