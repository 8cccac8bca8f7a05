"""What is finished, as an append-only file: one line per tile, written by the coordinator alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scenefuse.engine.group import TileReceipts
from scenefuse.engine.lease import Lease
from scenefuse.engine.protocols import ShardReceipt
from scenefuse.errors import DataError, UsageError

_FORMAT = 1


class Ledger:
    """Finished tiles of one plan. A torn last line, as a killed writer leaves it, is dropped."""

    def __init__(self, path: Path, plan_sha256: str, *, lease: Lease | None = None) -> None:
        """Open the ledger at path, or begin it; one of another plan is refused.

        A lease is checked before each record: a run that lost its folder writes nothing more.
        """
        self.path = path
        self._lease = lease
        self._entries: dict[tuple[int, int], TileReceipts] = {}
        size = self._load(plan_sha256) if path.exists() else 0
        self._file = path.open("ab")
        try:
            self._file.truncate(size)
            if size == 0:
                self._append([{"ledger": _FORMAT, "plan": plan_sha256}])
                _sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    @property
    def entries(self) -> dict[tuple[int, int], TileReceipts]:
        """Finished tiles by (iy, ix)."""
        return dict(self._entries)

    def record(self, tiles: Sequence[TileReceipts]) -> None:
        """Add finished tiles; on return they are on the disk."""
        if self._lease is not None:
            self._lease.check()
        self._append([asdict(tile) for tile in tiles])
        self._entries.update({(tile.iy, tile.ix): tile for tile in tiles})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, records: Sequence[dict[str, Any]]) -> None:
        self._file.write(b"".join(json.dumps(record).encode() + b"\n" for record in records))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _load(self, plan_sha256: str) -> int:
        """Bytes of the ledger that are whole lines; 0 when even the first was torn."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if not lines:
            return 0
        try:
            head, *records = (json.loads(line) for line in lines)
            recorded, form = head["plan"], head["ledger"]
            for record in records:
                receipts = tuple(ShardReceipt(**receipt) for receipt in record["receipts"])
                tile = TileReceipts(iy=record["iy"], ix=record["ix"], receipts=receipts)
                self._entries[tile.iy, tile.ix] = tile
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.path} has a line that is no record ({error!r})",
                "what is finished cannot be told",
                "Remove the run's folder and begin again",
            ) from error
        if (form, recorded) != (_FORMAT, plan_sha256):
            raise UsageError(
                f"{self.path} belongs to plan {str(recorded)[:12]}, this one is {plan_sha256[:12]}",
                "their tiles cannot be mixed in one product",
                "Repeat the options of the first run (tiling, precision, device), or remove the run's folder",
            )
        return len(whole)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
