"""Interface of publishing: anything that takes products into a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from scenefuse.place.place import Place

Outcome = Literal["added", "replaced", "unchanged"]
Failed = Callable[[Place, Exception], None]
"""Called with the folder of a product that could not be published, and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Result of publishing one product."""

    item_id: str
    """STAC item id."""
    outcome: Outcome
    """`added`: it was not there; `replaced`: it was there and differed; `unchanged`: nothing was written."""
    href: str
    """Path or URL of the item in the catalogue."""


class Catalogue(Protocol):
    """A catalogue to publish to: static STAC on a disk or an object store, or a STAC API."""

    def publish(
        self, folders: Sequence[Place], *, trusted: Container[str] = (), failed: Failed | None = None
    ) -> list[Published]:
        """Publish the products in folders, in order; repeating the call changes nothing.

        All products are verified before the first is published, except those with trusted item ids that the catalogue
        already has with the same item: a pass over an archive trusts what it found, or each pass would read every byte
        of all products twice. WorkError if something fails after the first was published: the same call continues from
        there. failed: called for each product that cannot be published; the others are published all the same.
        """
        ...

    def held(self, names: Iterable[str]) -> set[str]:
        """Those of the item ids that the catalogue has; reads only."""
        ...
