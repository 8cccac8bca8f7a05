"""The manifest: size and digest of every file of a store, one per line, sorted."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scenefuse.errors import MismatchError
from scenefuse.place.durable import PART
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import MANIFEST

_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ManifestLine:
    """One file of the store."""

    key: str
    """Path below the store."""
    size_bytes: int
    """Size of the file."""
    sha256: str
    """Hexadecimal digest of its bytes."""


def measure(store: Path | Place) -> tuple[ManifestLine, ...]:
    """A line for every finished file of the store, measured by reading it back, sorted by key."""
    store = place_at(store)
    keys = sorted(key for key in store.files() if not key.endswith(PART))

    def line(key: str) -> ManifestLine:
        size_bytes, sha256 = (store / key).measure()
        return ManifestLine(key=key, size_bytes=size_bytes, sha256=sha256)

    with ThreadPoolExecutor(_THREADS) as pool:
        return tuple(pool.map(line, keys))


def write_manifest(folder: Path | Place, lines: tuple[ManifestLine, ...]) -> str:
    """Write `fused.zarr.manifest`, lines of `sha256  size  key` sorted by key, and return its digest."""
    data = "".join(f"{line.sha256}  {line.size_bytes}  {line.key}\n" for line in sorted(lines)).encode()
    (place_at(folder) / MANIFEST).put(data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path | Place) -> tuple[ManifestLine, ...]:
    """Read the lines of the manifest; MismatchError if it cannot be read."""
    path = place_at(folder) / MANIFEST
    lines = []
    try:
        for line in path.read().decode().splitlines():
            digest, size, key = line.split("  ", 2)
            lines.append(ManifestLine(key=key, size_bytes=int(size), sha256=digest))
    except (OSError, ValueError) as error:
        raise MismatchError(
            f"{path} is not a manifest ({error})", "the arrays cannot be checked", "fetch the product again"
        ) from error
    return tuple(lines)
