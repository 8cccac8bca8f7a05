"""Whether a product is what its checksums, its item, its provenance and its state say."""

from __future__ import annotations

from pathlib import Path

from scenefuse.place.place import Place
from scenefuse.product.verify import VerifyReport
from scenefuse.product.verify import verify as verify_files


def verify(folder: str | Path | Place) -> VerifyReport:
    """Every mismatch of the product in folder, its scene state among it; reads every byte, needs no network.

    folder: the product's folder, s3://bucket/prefix/<item id>, or its item. `.ok` is True for a good product,
    `.mismatches` says what is wrong, `.unchecked` what could not be looked at. Raises DataError where no product is.
    """
    return verify_files(folder, state_sha256=_state_sha256)


def _state_sha256(path: Place) -> str:
    from scenefuse.engine.state_file import load_state

    return load_state(path).sha256
