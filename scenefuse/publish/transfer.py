"""Copy a product's files from one place to another."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scenefuse.place.durable import PART, json_bytes, sync_folder
from scenefuse.place.local import LocalPlace
from scenefuse.place.place import Place
from scenefuse.product.files import LEASE, STORE
from scenefuse.product.manifest import read_manifest

_LOCK = ".publishing.lock"
_BLOCK_BYTES = 32 << 20
"""Bytes of a file held in memory at once."""
_THREADS = 8
"""Files in transfer at once if one of the places is an object store."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Context that allows one publisher at a time into a folder on a disk.

    It holds the kernel's lock on a file there, which works on NFS; a lock on the folder would only bind this machine.
    """
    with (folder / _LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def put_by_rename(folder: Place, target: LocalPlace, item: dict[str, Any]) -> None:
    """Put the product in folder, with the item, into target: built beside it, then renamed, so it appears whole.

    The caller must be alone in the folder around target: leftovers of this product by killed publishers are removed.
    """
    path = target.path
    part, old = (path.with_name(f".{path.name}{end}{PART}") for end in ("", ".old"))
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _bring(folder, LocalPlace(path=part), item)
        (part / f"{path.name}.json").write_bytes(json_bytes(item))
        _sync(part)
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            part.rename(path)
        except OSError:
            with suppress(FileNotFoundError):
                old.rename(path)  # what was published stays visible
            raise
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def put_in_place(folder: Place, target: Place, item: dict[str, Any]) -> None:
    """Put the product in folder, with the item, into target, for the holder of its lease.

    The item is removed first and written last: readers see only products with an item.
    """
    (target / f"{target.name}.json").discard()
    _bring(folder, target, item)
    kept = {*_files(folder, item), LEASE}
    for name in target.files():
        if name not in kept:
            (target / name).discard()
    (target / f"{target.name}.json").put(json_bytes(item))


def _bring(folder: Place, target: Place, item: dict[str, Any]) -> None:
    files = _files(folder, item)
    if isinstance(folder, LocalPlace) and isinstance(target, LocalPlace):
        for name in files:
            (target.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.path / name, target.path / name)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda name: _copy(folder / name, target / name, files[name]), files))


def _copy(source: Place, target: Place, size_bytes: int) -> None:
    """Copy a file of known size."""
    if size_bytes <= _BLOCK_BYTES:
        target.put(source.read())
        return
    target.parent.make()
    with target.writing() as path, path.open("wb") as file:
        for first in range(0, size_bytes, _BLOCK_BYTES):
            file.write(source.read_range(first, min(_BLOCK_BYTES, size_bytes - first)))


def _files(folder: Place, item: dict[str, Any]) -> dict[str, int]:
    """Size, by path below folder, of every file that the item's assets consist of; working files are left out."""
    single = {
        str(asset["href"]).rpartition("/")[2]: int(asset["file:size"])
        for asset in item["assets"].values()
        if "file:size" in asset
    }
    stored = {f"{STORE}/{line.key}": line.size_bytes for line in read_manifest(folder)}
    return dict(sorted({**single, **stored}.items()))


def _sync(folder: Path) -> None:
    """Sync every file and folder below folder to the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
