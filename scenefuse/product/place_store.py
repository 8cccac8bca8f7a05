"""A Zarr store that reads from a Place, so that the same code reads from a disk and from an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Any, cast

import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.errors import GroupNotFoundError

from scenefuse.errors import TransientError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place

_KEPT_FILES = 4


def open_store(store: Path | Place) -> zarr.Group:
    """Open the root group of a product's store for reading; TransientError if it is missing."""
    place = place_at(store)
    try:
        return zarr.open_group(PlaceStore(place), mode="r", zarr_format=3, use_consolidated=False)
    except GroupNotFoundError as error:
        raise _missing(place, "zarr.json") from error


def open_array(store: Path | Place, path: str) -> zarr.Array[Any]:
    """Open an array of a product's store for reading, by its path below the root; TransientError if it is missing."""
    return cast("zarr.Array[Any]", open_store(store)[path])


def read_shard(store: Place, key: str) -> bytes:
    """All bytes of a shard; TransientError if it is missing."""
    try:
        return (store / key).read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise _missing(store, key) from error


def _missing(store: Place, key: str) -> TransientError:
    return TransientError(
        f"{store / key} is not there",
        "the product cannot be read, or its pixels would be no data",
        "Put the product's folder back and run again; scenefuse verify says what a product lacks",
    )


class PlaceStore(Store):
    """Read-only store of the files below a place, by key; only put_shard writes shards."""

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, place: Place) -> None:
        super().__init__(read_only=True)
        self._place = place
        self._kept: dict[str, Future[bytes]] = {}
        self._keeping = Lock()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlaceStore) and self._place == other._place

    def __hash__(self) -> int:
        return hash(self._place)

    def __str__(self) -> str:
        return str(self._place)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The file's bytes, or a range of them; None if there is no such document.

        A missing shard is an error, as shards are stored even without any data: zarr would take it for no data, and
        while the folder is unavailable for a moment, overviews and the COG would be made from that.
        """
        try:
            data = await asyncio.to_thread(self._read, key, byte_range)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if "c" in key.split("/"):
                raise _missing(self._place, key) from error
            return None
        return prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Ranges of several files."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """True if the file exists."""
        return await asyncio.to_thread((self._place / key).is_file)

    async def list(self) -> AsyncIterator[str]:
        """Keys of all files."""
        for key in await asyncio.to_thread(self._place.files):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys of all files that start with prefix."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names directly below a prefix."""
        for name in await asyncio.to_thread((self._place / prefix.rstrip("/")).names):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        """Not supported: zarr's region write reads the old shard, drops one that is all fill, and does not sync."""
        raise NotImplementedError(f"{self} is read only")

    async def delete(self, key: str) -> None:
        """Not supported."""
        raise NotImplementedError(f"{self} is read only")

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes:
        if byte_range is None or not self._place.asks_per_request:
            return _part(self._place / key, byte_range)
        return _cut(self._whole(key), byte_range)

    def _whole(self, key: str) -> bytes:
        """A whole file, cached for the last few: zarr requests a shard's index and each of its chunks separately."""
        with self._keeping:
            kept = self._kept.get(key)
            if kept is None:
                reading = self._kept[key] = Future()
                while len(self._kept) > _KEPT_FILES:
                    del self._kept[next(iter(self._kept))]
        if kept is not None:
            return kept.result()
        try:
            reading.set_result((self._place / key).read())
        except BaseException as error:  # noqa: BLE001 - passed on to all who wait for the file
            reading.set_exception(error)
            with self._keeping:
                self._kept.pop(key, None)
        return reading.result()


def _part(place: Place, byte_range: ByteRequest | None) -> bytes:
    match byte_range:
        case None:
            return place.read()
        case RangeByteRequest(start=start, end=end):
            return place.read_range(start, end - start)
        case OffsetByteRequest(offset=offset):
            return place.read_range(offset)
        case SuffixByteRequest(suffix=suffix):
            return place.read_range(-suffix)
    raise TypeError(f"unexpected byte range {byte_range!r}")


def _cut(data: bytes, byte_range: ByteRequest) -> bytes:
    match byte_range:
        case RangeByteRequest(start=start, end=end):
            return data[start:end]
        case OffsetByteRequest(offset=offset):
            return data[offset:]
        case SuffixByteRequest(suffix=suffix):
            return data[-suffix:]
    raise TypeError(f"unexpected byte range {byte_range!r}")
