"""The manifest: size and digest of every file of a store, in sorted lines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scenefuse.errors import MismatchError
from scenefuse.product.durable import PART, sha256_of, write_durably
from scenefuse.product.spec import STORE

MANIFEST = f"{STORE}.manifest"
"""Name of the manifest in the product's folder."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ManifestLine:
    """One file of the store."""

    key: str
    """Path below the store."""
    size_bytes: int
    """Size of the file."""
    sha256: str
    """Hexadecimal digest of its bytes."""


def store_keys(store: Path) -> Iterator[str]:
    """Keys of all files of a store, unfinished ones too, in no order."""
    return (path.relative_to(store).as_posix() for path in store.rglob("*") if not path.is_dir())


def measure(store: Path) -> tuple[ManifestLine, ...]:
    """A line for every finished file of the store, read from the disk, in the order of keys."""
    keys = sorted(key for key in store_keys(store) if not key.endswith(PART))
    return tuple(
        ManifestLine(key=key, size_bytes=(store / key).stat().st_size, sha256=sha256_of(store / key)) for key in keys
    )


def write_manifest(folder: Path, lines: tuple[ManifestLine, ...]) -> str:
    """Digest of `fused.zarr.manifest`, now in the product's folder: lines `sha256  size  key`, sorted by key."""
    data = "".join(f"{line.sha256}  {line.size_bytes}  {line.key}\n" for line in sorted(lines)).encode()
    write_durably(folder / MANIFEST, data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> tuple[ManifestLine, ...]:
    """The manifest's lines."""
    path = folder / MANIFEST
    lines = []
    try:
        for line in path.read_text().splitlines():
            digest, size, key = line.split("  ", 2)
            lines.append(ManifestLine(key=key, size_bytes=int(size), sha256=digest))
    except (OSError, ValueError) as error:
        raise MismatchError(
            f"{path} is not a manifest ({error})", "the arrays cannot be checked", "fetch the product again"
        ) from error
    return tuple(lines)
