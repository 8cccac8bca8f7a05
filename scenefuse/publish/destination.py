"""The seam of publishing: whatever takes products into a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from scenefuse.place.place import Place

Outcome = Literal["added", "replaced", "unchanged"]
Failed = Callable[[Place, Exception], None]
"""Told of a product's folder that could not be taken in, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing one product did."""

    item_id: str
    """STAC item id."""
    outcome: Outcome
    """`added`: it was not there; `replaced`: it was there and differed; `unchanged`: nothing was written."""
    href: str
    """Where the item stands now: a path or a URL."""


class Catalogue(Protocol):
    """A catalogue that products are published to: static STAC on a disk or a store, or a STAC API."""

    def publish(
        self, folders: Sequence[Place], *, trusted: Container[str] = (), failed: Failed | None = None
    ) -> list[Published]:
        """Take in the products in folders, in order; doing it again changes nothing.

        All are verified before the first is taken in, but for those whose item ids are trusted and whose items stand
        in the catalogue as they would be written: a pass over an archive trusts what it found, else each would read
        every byte of all products twice. WorkError when something failed after the first was taken in: the same call
        goes on there. failed: told of each product that cannot be taken in, and does not keep the others from it.
        """
        ...

    def held(self, names: Iterable[str]) -> set[str]:
        """Those of the item ids that stand in the catalogue; reads only."""
        ...
