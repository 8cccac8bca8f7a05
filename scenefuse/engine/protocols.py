"""The engine's own seams: where cores go and who watches. Windows come from cube.source.PairSource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scenefuse.tiles.tiling import Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReceipt:
    """Proof that a whole shard is in the store."""

    key: str
    """Path below the product's store: `reflectance/c/0/3/4`."""
    size_bytes: int
    """Size of the stored object."""
    sha256: str
    """Digest of the stored bytes, hexadecimal."""
    tag: str | None = None
    """The store's own tag of those bytes (ETag), if it has one: saves reading them back."""


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
    """Software that computed it: versions by name, and the instruction set; may differ among workers and runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedShard:
    """A shard ready to be stored."""

    key: str
    """Path below the product's store: `reflectance/c/0/3/4`."""
    data: bytes
    """Bytes of the whole shard."""
    sha256: str
    """Digest of data, hexadecimal."""


class Sink(Protocol):
    """Destination of finished cores. Picklable; laid out by the coordinator before any work."""

    def encode(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
        """Encode a core as shards; pure computation, stores nothing.

        fused: (band, y, x) reflectance of tile.core, NaN = no data; quality: (y, x) flags of QualityFlag.
        """
        ...

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:
        """Store whole shards durably, waiting for a disk or network; return their receipts in order."""
        ...

    def holds(self, receipt: ShardReceipt) -> bool:
        """True if the stored object has the receipt's size and digest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run, for progress, run.json and metrics."""

    kind: Literal["begin", "known", "stage", "plan", "group", "phase", "retry", "warning", "done", "pair", "pass"]
    """What happened; `pair` comes from a batch after each pair, `pass` from a workflow's service."""
    facts: dict[str, Any]
    """Figures of the event; times in seconds, sizes in bytes, areas in fine pixels."""


class Observer(Protocol):
    """Receives progress events, in the coordinator's process."""

    def notify(self, event: Event) -> None:
        """Receive one event; must return quickly and not raise."""
        ...
