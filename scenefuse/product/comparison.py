"""Compare a recomputed core with the stored one, integer by integer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.protocols import EncodedShard, ShardReceipt
from scenefuse.place.place import Place
from scenefuse.product.place_store import open_array
from scenefuse.product.shards import encode_reflectance
from scenefuse.product.spec import ProductSpec
from scenefuse.tiles.tiling import Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreComparison:
    """How far a recomputed core is from the stored one."""

    iy: int
    """Row of the tile."""
    ix: int
    """Column of the tile."""
    values: int
    """Values compared: bands x pixels."""
    differing: int
    """Values whose integers differ."""
    most_steps: int
    """Largest difference in integer steps (one step is 1e-4 reflectance); a no-data mismatch counts as 65535."""
    quality_differing: int
    """Pixels whose quality flags differ."""

    @property
    def identical(self) -> bool:
        """True when nothing differs."""
        return self.differing == 0 and self.quality_differing == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparingSink:
    """A Sink that stores nothing but encodes each core and compares it with the store."""

    store: Path | Place
    """The store `fused.zarr`."""
    spec: ProductSpec
    """The arrays."""
    found: list[CoreComparison] = field(default_factory=list)
    """Comparisons so far, in order of encoding; stays in this process."""

    def encode(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
        """Compare the core and append to found; there are no shards."""
        integers, flags = encode_reflectance(fused, quality, self.spec)
        rows, columns = tile.core.slices
        stored = np.asarray(open_array(self.store, "reflectance")[:, rows, columns])
        stored_flags = np.asarray(open_array(self.store, "quality")[rows, columns])
        steps = np.abs(integers.astype(np.int32) - stored)
        steps[(integers == self.spec.nodata) != (stored == self.spec.nodata)] = np.iinfo(np.uint16).max
        self.found.append(
            CoreComparison(
                iy=tile.iy,
                ix=tile.ix,
                values=steps.size,
                differing=int(np.count_nonzero(steps)),
                most_steps=int(steps.max()),
                quality_differing=int(np.count_nonzero(flags != stored_flags)),
            )
        )
        return ()

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:  # noqa: ARG002 - the engine's protocol
        """No receipts: there are no shards."""
        return ()

    def holds(self, receipt: ShardReceipt) -> bool:  # noqa: ARG002 - the engine's protocol
        """False: nothing is held."""
        return False
