"""Journal of finished tiles: one line per tile, appended a group at a time, by the coordinator alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scenefuse.engine.lease import Lease
from scenefuse.engine.protocols import ShardReceipt, TileReceipts
from scenefuse.errors import DataError, UsageError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place

_FORMAT = 1


class Ledger:
    """Finished tiles of one plan, in a file on disk or small objects on a store. Drops a killed writer's remnants."""

    def __init__(self, path: Path | Place, plan_sha256: str, *, lease: Lease | None = None) -> None:
        """Open the ledger at path, or begin one; UsageError if it belongs to another plan.

        The lease, if given, is checked before each record, so that a run that lost its folder writes nothing more.
        """
        self.place = place_at(path)
        self._lease = lease
        self._entries: dict[tuple[int, int], TileReceipts] = {}
        self._journal = self.place.journal()
        try:
            if self._journal.lines:
                self._load(plan_sha256, self._journal.lines)
            else:
                self._append([{"ledger": _FORMAT, "plan": plan_sha256}])
        except BaseException:
            self._journal.close()
            raise

    @property
    def entries(self) -> dict[tuple[int, int], TileReceipts]:
        """Finished tiles by (iy, ix)."""
        return dict(self._entries)

    def record(self, tiles: Sequence[TileReceipts]) -> None:
        """Add finished tiles; on return they are stored durably."""
        if self._lease is not None:
            self._lease.check()
        self._append([asdict(tile) for tile in tiles])
        self._entries.update({(tile.iy, tile.ix): tile for tile in tiles})

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, records: Sequence[dict[str, Any]]) -> None:
        self._journal.append([json.dumps(record).encode() for record in records])

    def _load(self, plan_sha256: str, lines: Sequence[bytes]) -> None:
        """Read the lines of an existing ledger."""
        try:
            head, *records = (json.loads(line) for line in lines)
            recorded, form = head["plan"], head["ledger"]
            for record in records:
                receipts = tuple(ShardReceipt(**receipt) for receipt in record["receipts"])
                tile = TileReceipts(iy=record["iy"], ix=record["ix"], receipts=receipts, made_by=record["made_by"])
                self._entries[tile.iy, tile.ix] = tile
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.place} has a line that is not a record ({error!r})",
                "it is not clear what is finished",
                "Remove the run's folder and start over",
            ) from error
        if (form, recorded) != (_FORMAT, plan_sha256):
            raise UsageError(
                f"{self.place} belongs to plan {str(recorded)[:12]}, this one is {plan_sha256[:12]}",
                "their tiles cannot be mixed in one product",
                "Repeat the options of the first run (tiling, precision, device), or remove the run's folder",
            )
