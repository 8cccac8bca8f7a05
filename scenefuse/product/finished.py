"""Whether a product is there, with what is asked for."""

from __future__ import annotations

from scenefuse.errors import MismatchError
from scenefuse.place.place import Place
from scenefuse.product.provenance import Provenance, read_provenance
from scenefuse.product.stac_item import read_item


def read_finished(folder: Place, *, cog: bool) -> Provenance | None:
    """The provenance of the finished product in folder; None where there is none, or where it lacks the COG asked for.

    One whose item or provenance cannot be read is not finished: to fuse its pair again writes them anew, from the
    tiles that are kept.
    """
    try:
        assets = read_item(folder)["assets"]
        provenance = read_provenance(folder)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, MismatchError):
        return None
    return None if cog and "cog" not in assets else provenance
