"""Identity of a product: it depends on the inputs, the method, and every option that changes numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scenefuse.errors import DataError
from scenefuse.sensors.sensor import Role

NUMERICS = 10
"""Incremented by every release that changes results."""

_LONGEST_NAME = 200
"""Longest item id in characters: file systems allow 255 bytes for the file names built from it."""
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+=@,-]{{0,{_LONGEST_NAME - 1}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductInput:
    """One input file of a product, as its identity and its provenance record it."""

    role: Role
    """Which of the two images the file belongs to."""
    scene_id: str
    """STAC item id, or the file's stem."""
    key: str
    """File name; distinguishes the files of one scene, wherever they lie."""
    href: str
    """Location of the file, redacted; for a local file its name alone, as folders are private."""
    checksum: str
    """Evidence of the content, prefixed by its kind: `file:checksum:1220...`, `size+etag:...` or `size+mtime:...`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductMethod:
    """The method with everything about it that changes numbers."""

    name: str
    """Name in the registry, for example `gsa`."""
    source: str = ""
    """Paper and DOI."""
    weights_sha256: str | None = None
    """Digest of the weights file; None for a method without weights."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The method's own options: numbers, strings, booleans."""


def product_identity(
    inputs: Sequence[ProductInput],
    method: ProductMethod,
    options: Mapping[str, Any],
    *,
    readings: Mapping[str, Any] | None = None,
    numerics: int | None = None,
) -> str:
    """Hexadecimal sha256 over the inputs' checksums, the method, the options that change numbers, and NUMERICS.

    readings: how the bands are read from the inputs (PairCube.readings): an item may be corrected, its files unchanged.
    numerics: an older product's, to see whether its inputs are the same; None for this release's.
    File locations do not matter, nor do workers, batch or logging: leave those out of options.
    """
    document = {
        "inputs": sorted([file.role, file.key, file.checksum] for file in inputs),
        "method": [method.name, method.weights_sha256, dict(method.options)],
        "options": dict(options),
        "readings": dict(readings or {}),
        "numerics": NUMERICS if numerics is None else numerics,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def item_id(hs_id: str, ms_id: str, method: str, identity: str) -> str:
    """`<hs id>_<ms id>_<method>_<first 8 digits of the identity>`; DataError if an id cannot be part of a name."""
    require_name(hs_id)
    require_name(ms_id)
    name = f"{hs_id}_{ms_id}_{method}_{identity[:8]}"
    if len(name) > _LONGEST_NAME:
        raise DataError(
            f"the ids {_shown(hs_id)!r} and {_shown(ms_id)!r} together give a product id of {len(name)} characters",
            f"a folder name can have at most {_LONGEST_NAME}",
            "give the two items shorter ids",
        )
    return name


def require_name(text: str) -> None:
    """Refuse an item id that cannot name a folder: ids come from catalogues and could be paths."""
    if not _NAME.fullmatch(text) or ".." in text:
        raise DataError(
            f"the item id {_shown(text)!r} cannot name a folder",
            "the product could land outside the output",
            f"give the item an id of letters, digits and ._+=@,- only, of at most {_LONGEST_NAME} characters",
        )


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
