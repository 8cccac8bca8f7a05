"""Finished cores become shards: encoded in memory by zarr's own codecs, hashed, put whole."""

from __future__ import annotations

import hashlib
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
from scenefuse.product.durable import sha256_of, write_durably
from scenefuse.product.layout import level_path
from scenefuse.product.spec import ProductSpec
from scenefuse.tiles.tiling import Tile

_STEPS = 32767


def encode_reflectance(
    fused: NDArray[np.float32], quality: NDArray[np.uint8], spec: ProductSpec
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Integers (band, y, x) of a core and its quality with what encoding found.

    integer = round(reflectance / scale), half to even, clipped to +-32767. Pixels flagged NODATA are no data in
    every band. Elsewhere a value that is not finite is no data and sets NOT_FINITE, a clipped one sets CLIPPED.
    """
    absent = (quality & np.uint8(QualityFlag.NODATA)).astype(bool)
    integers = np.empty(fused.shape, np.int16)
    not_finite = np.zeros(absent.shape, bool)
    clipped = np.zeros(absent.shape, bool)
    for band, values in enumerate(fused):  # one band at a time: the float64 stays small
        steps = np.rint(values.astype(np.float64) / spec.scale)
        finite = np.isfinite(steps)
        not_finite |= ~finite
        clipped |= finite & (np.abs(steps) > _STEPS)
        steps[~finite | absent] = 0.0
        integers[band] = np.clip(steps, -_STEPS, _STEPS)
        integers[band][~finite | absent] = spec.nodata
    flags = quality.copy()
    flags[not_finite & ~absent] |= np.uint8(QualityFlag.NOT_FINITE)
    flags[clipped & ~absent] |= np.uint8(QualityFlag.CLIPPED)
    return integers, flags


def encode_shard(pixels: NDArray[Any], shard: tuple[int, ...], like: zarr.Array[Any]) -> bytes:
    """The bytes of one shard that begins with pixels and is fill beyond them; the same for the same pixels.

    zarr encodes a store in memory of exactly this shard. Its region write into the product would first read the
    old shard, would delete one that is all fill, and would not sync.
    """
    memory = MemoryStore()
    metadata = cast("Any", like.metadata)
    array: zarr.Array[Any] = zarr.create_array(
        memory,
        shape=shard,
        shards=shard,
        chunks=like.chunks,
        dtype=like.dtype,
        fill_value=metadata.fill_value,
        compressors=list(like.compressors),
        config={"write_empty_chunks": True},
    )
    whole = np.full(shard, metadata.fill_value, like.dtype)
    whole[tuple(slice(0, size) for size in pixels.shape)] = pixels
    array[...] = whole
    key = "/".join(["c", *("0" for _ in shard)])
    buffer = sync(memory.get(key, default_buffer_prototype()))
    if buffer is None:
        raise RuntimeError(f"zarr stored no shard of shape {shard}")
    return buffer.to_bytes()


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


def put_shard(store: Path, key: str, data: bytes) -> ShardReceipt:
    """The receipt of a shard that is now on the disk whole.

    The only place that stores a shard: on an object store it is one PUT.
    """
    write_durably(store / key, data)
    return ShardReceipt(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrSink:
    """Cores into a store that lay_out has made; implements the engine's Sink, picklable."""

    store: Path
    """Folder of the store, `fused.zarr`."""
    spec: ProductSpec
    """The arrays."""

    def write(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[ShardReceipt, ...]:
        """Receipts of the core's two shards, reflectance and quality, both on the disk whole.

        fused: (band, y, x) reflectance of tile.core, NaN = no data; quality: (y, x) flags of QualityFlag.
        """
        self._check(tile, fused, quality)
        integers, flags = encode_reflectance(fused, quality, self.spec)
        group = zarr.open_group(self.store, mode="r", zarr_format=3, use_consolidated=False)
        receipts = []
        for name, pixels, shard in (
            ("reflectance", integers, self.spec.shard_shape),
            ("quality", flags, self.spec.shard_shape[1:]),
        ):
            data = encode_shard(pixels, shard, cast("zarr.Array[Any]", group[name]))
            receipts.append(put_shard(self.store, shard_key(name, tile.iy, tile.ix), data))
        return tuple(receipts)

    def holds(self, receipt: ShardReceipt) -> bool:
        """True when the stored shard has the receipt's size and digest."""
        path = self.store / receipt.key
        return path.is_file() and path.stat().st_size == receipt.size_bytes and sha256_of(path) == receipt.sha256

    def _check(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> None:
        core = tile.core
        origin = tile.iy * self.spec.core_px, tile.ix * self.spec.core_px
        rows, columns = self.spec.grid.fine_shape
        expected = min(origin[0] + self.spec.core_px, rows), min(origin[1] + self.spec.core_px, columns)
        if (core.y0, core.x0, core.y1, core.x1) != (*origin, *expected):
            raise ValueError(f"{core} is not core ({tile.iy}, {tile.ix}) of side {self.spec.core_px} px")
        if fused.shape != (self.spec.shape[0], *core.shape) or quality.shape != core.shape:
            raise ValueError(f"core {core.shape} of {self.spec.shape[0]} bands got {fused.shape} and {quality.shape}")
