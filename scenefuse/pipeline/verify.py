"""Whether a product is what its checksums, its item, its provenance and its state say."""

from __future__ import annotations

from pathlib import Path

from scenefuse.place.place import Place
from scenefuse.product.verify import VerifyReport
from scenefuse.product.verify import verify as verify_files


def verify(folder: str | Path | Place) -> VerifyReport:
    """Every mismatch of a product, its scene state included. Reads every byte and needs no network.

    In the report `.ok` is True for a good product, `.mismatches` says what is wrong, and `.unchecked` what could not be
    checked.

    Args:
        folder: The product: its folder, s3://bucket/prefix/<item id>, or its item.

    Raises:
        DataError: If there is no product.
    """
    return verify_files(folder, state_sha256=_state_sha256)


def _state_sha256(path: Place) -> str:
    from scenefuse.engine.state_file import load_state

    return load_state(path).sha256
