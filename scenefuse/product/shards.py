"""Finished cores become shards: encoded in memory by zarr's own codecs, hashed, put whole."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from scenefuse.engine.protocols import ShardReceipt
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.layout import layout_in_memory, level_path
from scenefuse.product.place_store import open_store
from scenefuse.product.spec import ProductSpec
from scenefuse.tiles.tiling import Tile

_threads_own = threading.local()
_STEPS = 32767
_KNOWN_FLAGS = 16
"""Encoded shards of flags that a thread keeps."""
_ROWS = 128
"""Rows of a band that are turned into integers at a time: their float64 stays in the cache."""


def encode_reflectance(
    fused: NDArray[np.float32], quality: NDArray[np.uint8], spec: ProductSpec
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Integers (band, y, x) of a core and its quality with what encoding found.

    integer = round(reflectance / scale), half to even, clipped to +-32767. Pixels flagged NODATA are no data in
    every band. Elsewhere a value that is not finite is no data and sets NOT_FINITE, a clipped one sets CLIPPED.
    """
    absent = (quality & np.uint8(QualityFlag.NODATA)).astype(bool)
    integers = np.empty(fused.shape, np.int16)
    not_finite, clipped = np.zeros_like(absent), np.zeros_like(absent)
    buffer = np.empty((_ROWS, absent.shape[1]))
    for first in range(0, absent.shape[0], _ROWS):
        rows = slice(first, min(first + _ROWS, absent.shape[0]))
        steps = buffer[: rows.stop - first]
        any_absent = bool(absent[rows].any())
        for band, values in enumerate(fused[:, rows]):
            np.divide(values, spec.scale, out=steps, dtype=np.float64)
            np.rint(steps, out=steps)
            if not (steps.min() >= -_STEPS and steps.max() <= _STEPS):  # true of NaN, too
                void = ~np.isfinite(steps)
                not_finite[rows] |= void
                clipped[rows] |= (np.abs(steps) > _STEPS) & ~void
                np.clip(steps, -_STEPS, _STEPS, out=steps)
                steps[void] = spec.nodata
            if any_absent:
                steps[absent[rows]] = spec.nodata
            integers[band, rows] = steps
    flags = quality.copy()
    flags[not_finite & ~absent] |= np.uint8(QualityFlag.NOT_FINITE)
    flags[clipped & ~absent] |= np.uint8(QualityFlag.CLIPPED)
    return integers, flags


def encode_shard(pixels: NDArray[Any], shard: tuple[int, ...], like: zarr.Array[Any]) -> bytes:
    """The bytes of one shard that begins with pixels and is fill beyond them; the same for the same pixels.

    zarr encodes a store in memory of exactly this shard. Its region write into the product would first read the
    old shard, would delete one that is all fill, and would not sync.
    """
    fill = cast("Any", like.metadata).fill_value
    kind = (shard, like.chunks, str(like.dtype), fill, repr(like.compressors))
    encoders: dict[Any, _Encoder] = _threads_own.__dict__.setdefault("encoders", {})
    if kind not in encoders:
        encoders[kind] = _Encoder(shard, like, fill)
    return encoders[kind].encode(_whole(pixels, shard, fill))


def encode_quality(flags: NDArray[np.uint8], shard: tuple[int, ...], like: zarr.Array[Any]) -> bytes:
    """The bytes of a shard of flags, of which most of a scene's are alike: those of late are not encoded again."""
    known: OrderedDict[tuple[Any, bytes], bytes] = _threads_own.__dict__.setdefault("known_flags", OrderedDict())
    key = ((flags.shape, shard, like.chunks, like.metadata.fill_value), flags.tobytes())
    if key not in known:
        known[key] = encode_shard(flags, shard, like)
    known.move_to_end(key)
    if len(known) > _KNOWN_FLAGS:
        known.popitem(last=False)
    return known[key]


class _Encoder:
    """An array of one shard in memory, which is made once and written again and again by one thread."""

    def __init__(self, shard: tuple[int, ...], like: zarr.Array[Any], fill: Any) -> None:
        self._memory = MemoryStore()
        self._key = "/".join(["c", *("0" for _ in shard)])
        self._array: zarr.Array[Any] = zarr.create_array(
            self._memory,
            shape=shard,
            shards=shard,
            chunks=like.chunks,
            dtype=like.dtype,
            fill_value=fill,
            compressors=list(like.compressors),
            config={"write_empty_chunks": True},
        )

    def encode(self, pixels: NDArray[Any]) -> bytes:
        """The bytes of the shard with these pixels; none of them stays."""
        self._array[...] = pixels
        buffer = sync(self._memory.get(self._key, default_buffer_prototype()))
        if buffer is None:
            raise RuntimeError(f"zarr stored no shard of shape {pixels.shape}")
        sync(self._memory.delete(self._key))
        return buffer.to_bytes()


def _whole(pixels: NDArray[Any], shard: tuple[int, ...], fill: Any) -> NDArray[Any]:
    """Pixels of the whole shard."""
    if pixels.shape == shard:
        return pixels
    whole = np.full(shard, fill, pixels.dtype)
    whole[tuple(slice(0, size) for size in pixels.shape)] = pixels
    return whole


def shard_key(name: str, iy: int, ix: int, *, factor: int = 1) -> str:
    """Key below the store of the shard in row iy and column ix of `reflectance` or `quality`."""
    bands = "0/" if name == "reflectance" else ""
    return f"{level_path(factor)}{name}/c/{bands}{iy}/{ix}"


def shard_keys(spec: ProductSpec) -> list[str]:
    """Keys of all shards of a finished product, overviews included, in the order of keys."""
    keys = []
    for factor in (1, *spec.overview_factors):
        rows, columns = spec.shard_counts(factor)
        for name in ("reflectance", "quality") if factor == 1 else ("reflectance",):
            keys += [shard_key(name, iy, ix, factor=factor) for iy in range(rows) for ix in range(columns)]
    return sorted(keys)


def open_level(store: Path | Place, factor: int) -> zarr.Array[Any]:
    """The reflectance of a level, (band, y, x) integers, for reading."""
    return cast("zarr.Array[Any]", open_store(store)[f"{level_path(factor)}reflectance"])


def put_shard(store: Path | Place, key: str, data: bytes) -> ShardReceipt:
    """The receipt of a shard that is now stored whole. The only function that stores a shard."""
    tag = (place_at(store) / key).put(data)
    return ShardReceipt(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), tag=tag)


@functools.lru_cache(maxsize=4)
def _empty_arrays(spec: ProductSpec) -> dict[str, zarr.Array[Any]]:
    """The arrays as lay_out wrote them, without reading them back for every core."""
    group = zarr.open_group(layout_in_memory(spec), mode="r", zarr_format=3, use_consolidated=False)
    return {name: cast("zarr.Array[Any]", group[name]) for name in ("reflectance", "quality")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrSink:
    """Cores into a store that lay_out has made; implements the engine's Sink, picklable."""

    store: Path | Place
    """Where the store `fused.zarr` is."""
    spec: ProductSpec
    """The arrays."""

    def write(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[ShardReceipt, ...]:
        """Receipts of the core's two shards, reflectance and quality, both stored whole.

        fused: (band, y, x) reflectance of tile.core, NaN = no data; quality: (y, x) flags of QualityFlag.
        """
        self._check(tile, fused, quality)
        integers, flags = encode_reflectance(fused, quality, self.spec)
        like = _empty_arrays(self.spec)
        shards = {
            "reflectance": encode_shard(integers, self.spec.shard_shape, like["reflectance"]),
            "quality": encode_quality(flags, self.spec.shard_shape[1:], like["quality"]),
        }
        return tuple(put_shard(self.store, shard_key(name, tile.iy, tile.ix), data) for name, data in shards.items())

    def holds(self, receipt: ShardReceipt) -> bool:
        """True when the stored shard has the receipt's size and digest."""
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
