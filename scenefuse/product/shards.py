"""Encode finished cores as shards: in memory, to the bytes zarr would write, hashed, stored and read as a whole."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numcodecs.checksum32 import CRC32C
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from scenefuse.engine.protocols import EncodedShard, ShardReceipt
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.layout import level_path, quality_array, reflectance_array
from scenefuse.product.place_store import open_array, read_shard
from scenefuse.product.spec import LevelCore, ProductSpec
from scenefuse.tiles.tiling import Tile

_threads_own = threading.local()
_STEPS = 32767
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
"""Blosc's codes for zarr's shuffle names."""
_KNOWN_FLAGS = 16
"""Encoded quality shards that each thread caches."""
_ROWS = 128
"""Rows of a band converted to integers at a time, so that they stay in the cache."""


def encode_reflectance(
    fused: NDArray[np.float32], quality: NDArray[np.uint8], spec: ProductSpec
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Encode a core: integers (band, y, x), and its quality flags with those that encoding adds.

    integer = round(reflectance * (1 / scale)), half to even, clipped to +-32767; the product is computed in float32,
    so the integer is within 0.504 of the real quotient. Pixels flagged NODATA are no data in every band. Elsewhere, a
    non-finite value becomes no data and sets NOT_FINITE, and a clipped one sets CLIPPED.
    """
    per_unit = np.float32(1 / spec.scale)
    absent = (quality & np.uint8(QualityFlag.NODATA)).astype(bool)
    integers = np.empty(fused.shape, np.int16)
    not_finite, clipped = np.zeros_like(absent), np.zeros_like(absent)
    buffer = np.empty((_ROWS, absent.shape[1]), np.float32)
    parts = [slice(first, min(first + _ROWS, len(absent))) for first in range(0, len(absent), _ROWS)]
    holes = [bool(absent[rows].any()) for rows in parts]
    with np.errstate(over="ignore"):  # overflow in float32 is clipped anyway
        for values, encoded in zip(fused, integers, strict=True):
            for rows, any_absent in zip(parts, holes, strict=True):
                steps = buffer[: rows.stop - rows.start]
                np.multiply(values[rows], per_unit, out=steps)
                np.rint(steps, out=steps)
                if not (steps.min() >= -_STEPS and steps.max() <= _STEPS):  # also taken for NaN
                    void = ~np.isfinite(values[rows])
                    not_finite[rows] |= void
                    clipped[rows] |= (np.abs(steps) > _STEPS) & ~void
                    np.clip(steps, -_STEPS, _STEPS, out=steps)
                    steps[void] = spec.nodata
                if any_absent:
                    steps[absent[rows]] = spec.nodata
                encoded[rows] = steps
    flags = quality.copy()
    flags[not_finite & ~absent] |= np.uint8(QualityFlag.NOT_FINITE)
    flags[clipped & ~absent] |= np.uint8(QualityFlag.CLIPPED)
    return integers, flags


def decode_reflectance(integers: NDArray[np.int16], *, scale: float, nodata: int) -> NDArray[np.float32]:
    """Reflectance of stored integers of any shape, in float32; NaN = no data."""
    values = integers.astype(np.float32) * np.float32(scale)
    values[integers == nodata] = np.nan
    return values


def encode_shard(pixels: NDArray[Any], shard: tuple[int, ...], like: zarr.Array[Any]) -> bytes:
    """Bytes of one shard that starts with pixels and is fill elsewhere; the same pixels give the same bytes.

    Every chunk is stored, even one of fill only. zarr's own region write would first read the old shard, would delete
    one that is all fill, and would not sync.
    """
    return _codec(shard, like).encode(_whole(pixels, shard, cast("Any", like.metadata).fill_value))


def decode_shard(data: bytes, bands: range, shard: tuple[int, ...], like: zarr.Array[Any]) -> NDArray[Any]:
    """Decode a range of bands, the first of three axes, from the bytes of a shard."""
    return _codec(shard, like).decode(data, bands)


def _codec(shard: tuple[int, ...], like: zarr.Array[Any]) -> _ShardCodec:
    """The codec for such shards, cached per thread."""
    kind = (shard, like.chunks, str(like.dtype), repr(like.compressors))
    codecs: dict[Any, _ShardCodec] = _threads_own.__dict__.setdefault("codecs", {})
    if kind not in codecs:
        codecs[kind] = _ShardCodec(shard, like)
    return codecs[kind]


def encode_core(integers: NDArray[np.int16], spec: ProductSpec) -> bytes:
    """The reflectance shard of a core of any level."""
    return encode_shard(integers, spec.shard_shape, _empty_arrays(spec)["reflectance"])


def encode_quality(flags: NDArray[np.uint8], shard: tuple[int, ...], like: zarr.Array[Any]) -> bytes:
    """Bytes of a shard of flags. Most shards of a scene are alike, so recent ones are cached."""
    known: OrderedDict[tuple[Any, bytes], bytes] = _threads_own.__dict__.setdefault("known_flags", OrderedDict())
    key = ((flags.shape, shard, like.chunks, like.metadata.fill_value), flags.tobytes())
    if key not in known:
        known[key] = encode_shard(flags, shard, like)
    known.move_to_end(key)
    if len(known) > _KNOWN_FLAGS:
        known.popitem(last=False)
    return known[key]


class StoredCore:
    """Stored reflectance of one core of a level: bytes are read once, bands decoded on request."""

    def __init__(self, store: Path | Place, spec: ProductSpec, core: LevelCore) -> None:
        """TransientError if the shard is missing."""
        self._shape = spec.core_window(core).shape
        self._spec = spec
        self._data = read_shard(place_at(store), shard_key("reflectance", core.iy, core.ix, factor=core.factor))

    def read(self, bands: range) -> NDArray[np.int16]:
        """Integers (band, y, x) of neighbouring bands."""
        rows, columns = self._shape
        spec = self._spec
        whole = decode_shard(self._data, bands, spec.shard_shape, _empty_arrays(spec)["reflectance"])
        return whole[:, :rows, :columns]


class _ShardCodec:
    """Encodes and decodes shards of one shape: the sharding codec of Zarr v3 (version 1.0), index at the end.

    zarr's own codec passes every chunk through an event loop to a thread and copies it three times, which took a third
    of a shard's time. Chunks are coded with the library zarr uses and stored in zarr's order: the bytes are identical.
    """

    def __init__(self, shard: tuple[int, ...], like: zarr.Array[Any]) -> None:
        (compressor,) = like.compressors
        options = cast("Any", compressor).to_dict()["configuration"]
        self._compressor = Blosc(**{**options, "shuffle": _SHUFFLES[options["shuffle"]]})
        self._checksum = CRC32C(location="end")
        self._dtype = np.dtype(like.dtype).newbyteorder("<")
        self._chunk = like.chunks
        self._counts = tuple(side // chunk for side, chunk in zip(shard, like.chunks, strict=True))
        self._places = sorted(np.ndindex(*self._counts), key=self._morton)

    def encode(self, pixels: NDArray[Any]) -> bytes:
        """Encode pixels of the whole shard."""
        index = np.empty((*self._counts, 2), "<u8")
        parts, offset = [], 0
        for place in self._places:
            window = tuple(slice(i * side, (i + 1) * side) for i, side in zip(place, self._chunk, strict=True))
            data = self._compressor.encode(np.ascontiguousarray(pixels[window], self._dtype))
            index[place] = offset, len(data)
            parts.append(data)
            offset += len(data)
        return b"".join([*parts, self._checksum.encode(index)])

    def decode(self, data: bytes, bands: range) -> NDArray[Any]:
        """Decode a range of bands, the first of three axes."""
        size = 16 * len(self._places) + 4
        index = np.frombuffer(self._checksum.decode(data[-size:]), "<u8").reshape(*self._counts, 2)
        stored = memoryview(data)
        depth, *sides = self._chunk
        pixels = np.empty(
            (len(bands), *(side * count for side, count in zip(sides, self._counts[1:], strict=True))), self._dtype
        )
        for layer in range(bands.start // depth, -(-bands.stop // depth)):
            inside = slice(max(bands.start, layer * depth), min(bands.stop, (layer + 1) * depth))
            for place in np.ndindex(*self._counts[1:]):
                offset, length = map(int, index[layer, *place])
                chunk = np.frombuffer(self._compressor.decode(stored[offset : offset + length]), self._dtype)
                window = tuple(slice(i * side, (i + 1) * side) for i, side in zip(place, sides, strict=True))
                target = slice(inside.start - bands.start, inside.stop - bands.start)
                source = slice(inside.start - layer * depth, inside.stop - layer * depth)
                pixels[target, *window] = chunk.reshape(self._chunk)[source]
        return pixels

    def _morton(self, place: tuple[int, ...]) -> int:
        """Position of a chunk in zarr's Morton order: the coordinates' bits interleaved, the first one's lowest."""
        code = position = 0
        for bit in range(max(self._counts).bit_length()):
            for coordinate, count in zip(place, self._counts, strict=True):
                if bit < (count - 1).bit_length():
                    code |= (coordinate >> bit & 1) << position
                    position += 1
        return code


def _whole(pixels: NDArray[Any], shard: tuple[int, ...], fill: Any) -> NDArray[Any]:
    """Pixels padded with fill to the whole shard."""
    if pixels.shape == shard:
        return pixels
    whole = np.full(shard, fill, pixels.dtype)
    whole[tuple(slice(0, size) for size in pixels.shape)] = pixels
    return whole


def shard_key(name: str, iy: int, ix: int, *, factor: int = 1) -> str:
    """Key, below the store, of the shard of `reflectance` or `quality` in row iy and column ix."""
    bands = "0/" if name == "reflectance" else ""
    return f"{level_path(factor)}{name}/c/{bands}{iy}/{ix}"


def shard_keys(spec: ProductSpec) -> list[str]:
    """Keys of all shards of a finished product, overviews included, sorted."""
    keys = []
    for factor in (1, *spec.overview_factors):
        rows, columns = spec.shard_counts(factor)
        for name in ("reflectance", "quality") if factor == 1 else ("reflectance",):
            keys += [shard_key(name, iy, ix, factor=factor) for iy in range(rows) for ix in range(columns)]
    return sorted(keys)


def open_level(store: Path | Place, factor: int) -> zarr.Array[Any]:
    """Open the reflectance of a level, (band, y, x) integers, for reading."""
    return open_array(store, f"{level_path(factor)}reflectance")


def with_digest(key: str, data: bytes) -> EncodedShard:
    """A shard's bytes with key and digest, ready to be stored."""
    return EncodedShard(key=key, data=data, sha256=hashlib.sha256(data).hexdigest())


def put_shard(store: Path | Place, shard: EncodedShard) -> ShardReceipt:
    """Store a shard as a whole and return its receipt. No other function stores shards."""
    tag = (place_at(store) / shard.key).put(shard.data)
    return ShardReceipt(key=shard.key, size_bytes=len(shard.data), sha256=shard.sha256, tag=tag)


@functools.lru_cache(maxsize=4)
def _empty_arrays(spec: ProductSpec) -> dict[str, zarr.Array[Any]]:
    """The arrays as lay_out creates them, without reading them back for every core."""
    group = zarr.create_group(MemoryStore(), zarr_format=3)
    return {"reflectance": reflectance_array(group, spec), "quality": quality_array(group, spec)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrSink:
    """Writes cores to a store made by lay_out; implements the engine's Sink. Picklable."""

    store: Path | Place
    """The store `fused.zarr`."""
    spec: ProductSpec
    """The arrays."""

    def encode(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
        """Encode the core's two shards, reflectance and quality.

        fused: (band, y, x) reflectance of tile.core, NaN = no data; quality: (y, x) flags of QualityFlag.
        """
        self._check(tile, fused, quality)
        integers, flags = encode_reflectance(fused, quality, self.spec)
        shards = {
            "reflectance": encode_core(integers, self.spec),
            "quality": encode_quality(flags, self.spec.shard_shape[1:], _empty_arrays(self.spec)["quality"]),
        }
        return tuple(with_digest(shard_key(name, tile.iy, tile.ix), data) for name, data in shards.items())

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:
        """Store the shards as a whole and return their receipts."""
        return tuple(put_shard(self.store, shard) for shard in shards)

    def holds(self, receipt: ShardReceipt) -> bool:
        """True if the stored shard has the receipt's size and digest."""
        return (place_at(self.store) / receipt.key).holds(receipt.size_bytes, receipt.sha256, receipt.tag)

    def _check(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> None:
        core = tile.core
        origin = tile.iy * self.spec.core_px, tile.ix * self.spec.core_px
        rows, columns = self.spec.grid.fine_shape
        expected = min(origin[0] + self.spec.core_px, rows), min(origin[1] + self.spec.core_px, columns)
        if (core.y0, core.x0, core.y1, core.x1) != (*origin, *expected):
            raise ValueError(f"{core} is not core ({tile.iy}, {tile.ix}) of side {self.spec.core_px} px")
        if fused.shape != (self.spec.shape[0], *core.shape) or quality.shape != core.shape:
            raise ValueError(f"core {core.shape} of {self.spec.shape[0]} bands got {fused.shape} and {quality.shape}")
