"""What abandoned runs left under an output: folders of products with no item and no live lease."""

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
    """A product's folder without an item: no reader sees it."""

    folder: Place
    """Where it is."""
    standing: Standing
    """`abandoned`; `failed`: recorded, so that refill resumes it; `running`: somebody works on it now."""
    files: int
    """Files in it."""
    stored_bytes: int
    """Their size together."""

    def facts(self) -> dict[str, Any]:
        """The folder as JSON can hold it."""
        return {
            "item_id": self.folder.name,
            "folder": str(self.folder),
            "standing": self.standing,
            "files": self.files,
            "bytes": self.stored_bytes,
        }


def find_unfinished(out: str | Path | Place) -> tuple[Unfinished, ...]:
    """Every unfinished product under out, in the order of names; changes nothing."""
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
    """Those that were removed: each under its lease, and only if it is still unfinished then.

    What another process has begun to work in meanwhile, or has removed, is left to it.
    """
    removed = []
    for entry in found:
        if not _is_unfinished(entry.folder):  # a lease would make anew what is gone
            continue
        with suppress(LeaseHeldError, FileNotFoundError), Lease(entry.folder / LEASE):
            if _is_unfinished(entry.folder):
                entry.folder.clear(last=LEASE)
                removed.append(entry)
    return tuple(removed)


def _is_unfinished(folder: Place) -> bool:
    """True for a folder that a run made, with nothing in it but a run's files, and no item."""
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
