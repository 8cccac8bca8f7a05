"""The engine's own seams: where cores go, who watches. Where windows come from is cube.source.PairSource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scenefuse.tiles.tiling import Tile


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TileReceipts:
    """A finished tile and the proof of its shards."""

    iy: int
    """Row of the tile."""
    ix: int
    """Column of the tile."""
    receipts: tuple[ShardReceipt, ...]
    """One per shard of the tile."""
    made_by: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What computed it: versions by name, and the instruction set; workers, and a run that goes on, may be unlike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedShard:
    """A shard that is ready to be stored."""

    key: str
    """Path below the product's store: `reflectance/c/0/3/4`."""
    data: bytes
    """All of it."""
    sha256: str
    """Digest of data, hexadecimal."""


class Sink(Protocol):
    """Where finished cores go. Picklable; laid out by the coordinator before any work."""

    def encode(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
        """A core as shards: arithmetic alone, nothing is stored.

        fused: (band, y, x) reflectance of tile.core, NaN = no data; quality: (y, x) flags of QualityFlag.
        """
        ...

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:
        """Store shards whole and durably, which waits for a disk or a network; their receipts, in order."""
        ...

    def holds(self, receipt: ShardReceipt) -> bool:
        """True when the stored object has the receipt's size and digest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run, for progress, run.json and metrics."""

    kind: Literal["begin", "known", "stage", "plan", "group", "phase", "retry", "warning", "done", "pair", "pass"]
    """What happened; `pair` comes from a batch after each, `pass` from a workflow's service."""
    facts: dict[str, Any]
    """Its numbers; times in seconds, sizes in bytes, areas in fine pixels."""


class Observer(Protocol):
    """Someone who is told of progress; runs in the coordinator's process."""

    def notify(self, event: Event) -> None:
        """Called once per event; must return quickly and not raise."""
        ...
