"""One HDF5 file (netCDF-4 included), read only from what the file itself holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.remote import RemoteFile
from scenefuse.errors import DataError
from scenefuse.raster.mirror_cache import mirrored
from scenefuse.raster.raster_file import damaged
from scenefuse.raster.remote_hdf5 import RemoteHdf5

T = TypeVar("T")

NM_DIGITS = 3
"""Decimals of a nanometre that float32, the type of these files' wavelengths, preserves."""
CHUNK_CACHE_BYTES = 32 * 2**20
"""Decoded chunks kept per open array, in bytes: adjacent windows share them."""


class Hdf5File:
    """Arrays and attributes of one local or remote file. Picklable; each process opens it on its first read.

    Links out of the file and arrays assembled from others are refused: with them, a file from somebody else could
    read anything on this machine.
    """

    def __init__(self, path: Path | RemoteFile) -> None:
        self.path = path
        self._opened: tuple[tuple[int, RemoteHdf5 | None], h5py.File] | None = None
        self._arrays: dict[str, h5py.Dataset] = {}  # kept open: a closed array loses its chunks

    def __getstate__(self) -> Path | RemoteFile:
        return self.path

    def __setstate__(self, path: Path | RemoteFile) -> None:
        self.path = path
        self._opened = None
        self._arrays = {}

    def has(self, name: str) -> bool:
        """True when the file itself holds a group or array of that name (a path from the root)."""
        return self._node(name) is not None

    def array(self, name: str) -> h5py.Dataset:
        """The array of that name, not read yet; DataError unless the file itself holds it."""
        self._file()  # drops arrays that another process opened
        if name in self._arrays:
            return self._arrays[name]
        node = self._node(name)
        if node is None:
            raise damaged(self.path, f"it has no array {name!r}")
        if not isinstance(node, h5py.Dataset) or self._ask(lambda: node.is_virtual or node.external):
            raise self._elsewhere(name)
        self._arrays[name] = node
        return node

    def attribute(self, name: str) -> Any:
        """The root's attribute of that name: a number, text or array; None when there is none."""
        file = self._file()
        value = self._ask(lambda: file.attrs.get(name))
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def numbers(self, name: str, count: int | None = None) -> NDArray[np.float64]:
        """The root's attribute as finite float64 numbers, count of them if given; DataError when it is not that."""
        value = self.attribute(name)
        try:
            numbers = np.atleast_1d(np.asarray(value, np.float64))
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.ndim != 1 or not numbers.size or count not in {None, numbers.size} or not np.isfinite(numbers).all():
            raise DataError(
                f"{self.path}: attribute {name!r} is {value!r}",
                f"{'numbers are' if count is None else f'{count} finite numbers are'} needed to read the image",
                "fetch the file again",
            )
        return numbers

    def number(self, name: str) -> float:
        """The root's attribute as one number."""
        return float(self.numbers(name, 1)[0])

    def read(self, array: h5py.Dataset, *where: slice | int) -> NDArray[Any]:
        """Read part of one of the file's arrays; DataError when its bytes are damaged or it has other axes.

        In a remote file the part is fetched first, with RemoteFile.read's errors.
        """
        remote = self._remote()
        try:
            if remote is not None:
                remote.fetch(array, where)
            part: NDArray[Any] = self._ask(lambda: array[where])
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise damaged(self.path, f"{array.name} cannot be read ({error})") from error
        return part

    def _node(self, name: str) -> Any:
        """The group or array of that name, or None. Looked up link by link, because h5py follows links of any kind."""
        file = self._file()

        def follow() -> Any:
            node: Any = file
            for part in name.split("/"):
                link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    raise self._elsewhere(name)
                node = node[part]
            return node

        try:
            return self._ask(follow)
        except (OSError, RuntimeError, KeyError) as error:
            raise damaged(self.path, f"{name} cannot be read ({error})") from error

    def _remote(self) -> RemoteHdf5 | None:
        """The reader of a remote file's bytes; None for a local file."""
        return mirrored(RemoteHdf5, self.path) if isinstance(self.path, RemoteFile) else None

    def _ask(self, question: Callable[[], T]) -> T:
        """HDF5's answer; for a remote file, once all that it reads has been fetched."""
        remote = None if self._opened is None else self._opened[0][1]
        return question() if remote is None else remote.ask(question)

    def _file(self) -> h5py.File:
        """The open file; a forked child opens its own, because it must not share its parent's."""
        remote = self._remote()
        opened = os.getpid(), remote
        if self._opened is None or self._opened[0] != opened:

            def begin() -> h5py.File:
                source = self.path if remote is None else remote.bytes
                return h5py.File(source, "r", locking=False, rdcc_nbytes=CHUNK_CACHE_BYTES)

            try:
                file = begin() if remote is None else remote.ask(begin)
            except OSError as error:
                raise damaged(self.path, f"cannot be opened as HDF5 ({error})") from error
            self._opened, self._arrays = (opened, file), {}
        return self._opened[1]

    def _elsewhere(self, name: str) -> DataError:
        return DataError(
            f"{self.path}: {name!r} is not an array of its own but a link",
            "it could point to any file of this machine, and is not followed",
            "store the array itself in the file: h5repack copies what links point to",
        )
