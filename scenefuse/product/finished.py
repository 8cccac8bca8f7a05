"""Check whether a finished product exists, with the files requested."""

from __future__ import annotations

from scenefuse.errors import MismatchError
from scenefuse.place.place import Place
from scenefuse.product.provenance import Provenance, read_provenance
from scenefuse.product.stac_item import read_item


def read_finished(folder: Place, *, cog: bool) -> Provenance | None:
    """Provenance of the finished product in folder; None if there is none, or if a requested COG is missing.

    A product whose item or provenance cannot be read counts as unfinished: fusing the pair again rewrites both from
    the tiles already stored.
    """
    try:
        assets = read_item(folder)["assets"]
        provenance = read_provenance(folder)
    except (FileNotFoundError, NotADirectoryError, ValueError, MismatchError):
        return None
    return None if cog and "cog" not in assets else provenance
