"""Atomic, durable writes: after a crash a file is the old one or the new one, never a part of either."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PART = ".part"
"""Suffix of files being written; leftovers of a crash carry it."""

_NAME_LIMIT = 255
"""Maximum bytes in a file name; an item's id may take 200 of them, a machine's name 64."""


def part_path(path: Path) -> Path:
    """A sibling of path to write to, unique to this machine, process and thread."""
    name = f".{path.name}.{os.uname().nodename}-{os.getpid()}-{threading.get_native_id()}"
    if len(os.fsencode(name + PART)) > _NAME_LIMIT:
        name = f".{hashlib.sha256(os.fsencode(name)).hexdigest()}"
    return path.with_name(name + PART)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which replaces path when the block ends without an error."""
    part = part_path(path)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write data to path so that it survives a crash. The folder is made when needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(data)


def json_bytes(document: Any) -> bytes:
    """A JSON document as readable text: sorted keys, two spaces, a newline at the end, no NaN."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def multihash(sha256: str) -> str:
    """A hexadecimal SHA-256 as STAC's `file:checksum`: prefixed by its type and its length, 32 bytes.

    >>> multihash("ab")
    '1220ab'
    """
    return f"1220{sha256}"
