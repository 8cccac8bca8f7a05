"""Find and remove what abandoned runs left under an output: product folders with no item and no live lease."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scenefuse.engine.lease import Lease, LeaseHeldError, live_owner
from scenefuse.errors import DataError
from scenefuse.pipeline.failures import PairFailure, read_failures
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import LEASE, LEDGER, STORE
from scenefuse.product.layout import belongs
from scenefuse.product.output import require_output

Standing = Literal["abandoned", "failed", "running"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A product's folder without an item, invisible to readers."""

    folder: Place
    """The folder."""
    standing: Standing
    """`abandoned`; `failed`: recorded, so that refill resumes it; `running`: a process works on it now."""
    files: int
    """Files in it."""
    stored_bytes: int
    """Their total size."""

    def facts(self) -> dict[str, Any]:
        """The folder in JSON types."""
        return {
            "item_id": self.folder.name,
            "folder": str(self.folder),
            "standing": self.standing,
            "files": self.files,
            "bytes": self.stored_bytes,
        }


def find_unfinished(out: str | Path | Place) -> tuple[Unfinished, ...]:
    """Every unfinished product under out, sorted by name; changes nothing."""
    out = place_at(out)
    if not out.is_folder():
        raise DataError(
            f"{out} is not a folder", "there is nothing to clean", "Give the folder that holds the products"
        )
    require_output(out)
    failures = read_failures(out)
    return tuple(
        Unfinished(
            folder=folder,
            standing=_standing(folder, failures),
            files=len(folder.files()),
            stored_bytes=folder.stored_bytes(),
        )
        for folder in (out / name for name in out.names())
        if _is_unfinished(folder)
    )


def remove_unfinished(found: Sequence[Unfinished]) -> tuple[Unfinished, ...]:
    """Remove the folders that are still unfinished, each under its lease; return those removed.

    Skips a folder that another process has meanwhile removed or begun to work in.
    """
    removed = []
    for entry in found:
        if not _is_unfinished(entry.folder):  # taking a lease would recreate a folder that is gone
            continue
        with suppress(LeaseHeldError, FileNotFoundError), Lease(entry.folder / LEASE):
            if _is_unfinished(entry.folder):
                entry.folder.clear(last=LEASE)
                removed.append(entry)
    return tuple(removed)


def _is_unfinished(folder: Place) -> bool:
    """True for a folder made by a run that holds only a run's files and no item."""
    if folder.name.startswith(".") or not folder.is_folder():
        return False
    names = folder.names()
    made_by_us = any(name in {STORE, LEDGER, LEASE} for name in names) and all(
        belongs(name, folder.name) for name in names
    )
    return made_by_us and f"{folder.name}.json" not in names


def _standing(folder: Place, failures: Sequence[PairFailure]) -> Standing:
    if live_owner(folder / LEASE) is not None:
        return "running"
    prefixes = (f"{failure.hs_id}_{failure.ms_id}_{failure.model}_" for failure in failures)
    return "failed" if any(folder.name.startswith(prefix) for prefix in prefixes) else "abandoned"
