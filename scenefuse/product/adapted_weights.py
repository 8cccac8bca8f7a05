"""Weights that belong to one product: its network was adapted to the pair, and replay needs the adapted weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from scenefuse.place.durable import write_durably
from scenefuse.place.place import Place
from scenefuse.product.files import WEIGHTS, WEIGHTS_CARD


def keep_weights(folder: Place, path: Path) -> None:
    """Copy the weights at path and their card into the product's folder."""
    (folder / WEIGHTS).put(path.read_bytes())
    (folder / WEIGHTS_CARD).put(path.with_suffix(".json").read_bytes())


def find_weights(folder: Place, sha256: str, *, cache: Path) -> Path | None:
    """The product's own weights with that digest, as a local file; None if it has none.

    They are copied into the folder cache first, as the product may lie on an object store.
    """
    if not (folder / WEIGHTS).is_file():
        return None
    place = cache / sha256
    path = place / WEIGHTS
    if not path.is_file():
        weights = (folder / WEIGHTS).read()
        if hashlib.sha256(weights).hexdigest() != sha256:
            return None
        write_durably(place / WEIGHTS_CARD, (folder / WEIGHTS_CARD).read())
        write_durably(path, weights)
    return path
