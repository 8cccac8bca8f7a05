"""The seam of publishing: whatever takes products into a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from scenefuse.place.place import Place

Outcome = Literal["added", "replaced", "unchanged"]


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

    def publish(self, folders: Sequence[Place]) -> list[Published]:
        """Take in the verified products in folders, in order; doing it again changes nothing.

        WorkError when something failed after the first was taken in: the same call goes on there.
        """
        ...
