"""The seam of publishing: whatever takes a product into a catalogue, and where that may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from scenefuse.errors import UsageError
from scenefuse.place.href import redact
from scenefuse.place.location import own_path

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
    """A catalogue that products are published to: a folder of static STAC, or a STAC API."""

    def publish(self, folder: Path) -> Published:
        """Take in the verified product in folder; doing it again changes nothing."""
        ...


def catalogue_folder(text: str) -> Path:
    """The folder that a static catalogue is to be in; refused where the text is a URL."""
    if "://" in text:
        raise UsageError(
            f"publish to {redact(text)}",
            "a static catalogue is written into a local folder",
            "Publish into a folder and copy it there, or write the products to the store by --out",
        )
    return own_path(text)
