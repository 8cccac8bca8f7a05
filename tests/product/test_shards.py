from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from scenefuse.engine.protocols import ShardReceipt, Sink
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.errors import StorageError
from scenefuse.product.layout import lay_out
from scenefuse.product.shards import (
    ZarrSink,
    decode_shard,
    encode_quality,
    encode_reflectance,
    encode_shard,
    shard_keys,
)
from scenefuse.tiles.tiling import Tiling
from tests.product.making import SPEC, random_scene, write_scene

TILING = Tiling(fine_shape=SPEC.grid.fine_shape, core_px=128, halo_px=16, lattice_px=16)


def _sink(folder: Path) -> ZarrSink:
    return ZarrSink(store=lay_out(folder, SPEC), spec=SPEC)


def test_zarr_reads_back_exactly_the_integers_that_were_encoded(tmp_path: Path) -> None:
    fused, quality = random_scene()
    write_scene(tmp_path, fused, quality)
    integers, flags = encode_reflectance(fused, quality, SPEC)
    group = zarr.open_group(tmp_path / "fused.zarr", mode="r")
    np.testing.assert_array_equal(np.asarray(group["reflectance"]), integers)
    np.testing.assert_array_equal(np.asarray(group["quality"]), flags)
    exact = np.where(np.isnan(fused), -32768, fused.astype(np.float64) / 1e-4)
    np.testing.assert_allclose(integers, exact, rtol=0, atol=0.504)


def test_a_shard_decodes_as_one_that_zarr_wrote_itself(tmp_path: Path) -> None:
    fused, quality = random_scene()
    write_scene(tmp_path / "ours", fused, quality)
    theirs = zarr.open_group(lay_out(tmp_path / "theirs", SPEC).local_path(), mode="r+")
    array = theirs["reflectance"]
    assert isinstance(array, zarr.Array)
    array[...] = encode_reflectance(fused, quality, SPEC)[0]
    for key in ("reflectance/c/0/0/0", "reflectance/c/0/1/0"):
        assert (tmp_path / "ours/fused.zarr" / key).read_bytes() == (tmp_path / "theirs/fused.zarr" / key).read_bytes()


@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 4, 4), (3, 5, 1), (13, 4, 3), (1, 6, 7)])
@pytest.mark.parametrize("shuffle", ["noshuffle", "shuffle", "bitshuffle"])
def test_a_shard_of_any_number_of_chunks_is_the_one_of_zarr(counts: tuple[int, int, int], shuffle: str) -> None:
    chunk = 3, 16, 8
    shard = tuple(count * side for count, side in zip(counts, chunk, strict=True))
    store = MemoryStore()
    array = zarr.create_array(
        store,
        shape=shard,
        shards=shard,
        chunks=chunk,
        dtype="int16",
        fill_value=-32768,
        compressors=[BloscCodec(typesize=2, cname="zstd", clevel=1, shuffle=shuffle)],  # type: ignore[arg-type] # a name
        config={"write_empty_chunks": True},
    )
    pixels = np.random.default_rng(len(shuffle)).integers(-99, 99, shard, np.int16)
    pixels[:3, :16, :8] = -32768
    array[...] = pixels
    stored = sync(store.get("c/0/0/0", default_buffer_prototype()))
    assert stored is not None
    assert encode_shard(pixels, shard, array) == stored.to_bytes()
    for bands in (range(shard[0]), range(1, shard[0] - 1), range(shard[0] - 1, shard[0])):
        decoded = decode_shard(stored.to_bytes(), bands, shard, array)
        np.testing.assert_array_equal(decoded, pixels[bands.start : bands.stop])


def test_writing_again_gives_the_same_bytes_also_from_another_thread(tmp_path: Path) -> None:
    scene = random_scene()
    first = write_scene(tmp_path / "a", *scene)
    again: list[ShardReceipt] = []
    thread = threading.Thread(target=lambda: again.extend(write_scene(tmp_path / "b", *scene)))
    thread.start()
    thread.join()
    assert first == again
    assert sorted(receipt.key for receipt in first) == shard_keys(SPEC)


def test_flags_that_were_encoded_before_are_the_same_shard_and_others_are_not(tmp_path: Path) -> None:
    lay_out(tmp_path, SPEC)
    like = zarr.open_group(tmp_path / "fused.zarr", mode="r")["quality"]
    assert isinstance(like, zarr.Array)
    shard = SPEC.shard_shape[1:]
    edges = [np.zeros(shape, np.uint8) for shape in ((shard[0], 7), (7, shard[1]))]  # the same bytes
    kinds = [np.full(shard, value, np.uint8) for value in range(40)] + edges
    for flags in (*kinds, *kinds[::-1]):
        assert encode_quality(flags, shard, like) == encode_shard(flags, shard, like)
    larger = shard[0] * 2, shard[1]
    assert encode_quality(kinds[0], larger, like) == encode_shard(kinds[0], larger, like)


def test_a_shard_of_no_data_alone_is_stored_and_reads_back(tmp_path: Path) -> None:
    sink, tile = _sink(tmp_path), TILING.tile(0, 0)
    nothing = np.full((12, 128, 128), np.nan, np.float32)
    receipts = sink.put(sink.encode(tile, nothing, np.full((128, 128), QualityFlag.NODATA, np.uint8)))
    assert all((tmp_path / "fused.zarr" / receipt.key).stat().st_size == receipt.size_bytes for receipt in receipts)
    assert (
        np.asarray(zarr.open_group(tmp_path / "fused.zarr", mode="r")["reflectance"])[:, :128, :128] == -32768
    ).all()


def test_values_beyond_the_stored_range_are_clipped_and_flagged() -> None:
    fused = np.zeros((12, 1, 6), np.float32)
    fused[3, 0] = [3.2767, 3.2768, -3.2767, -3.2768, 1e38, 0.5]
    integers, flags = encode_reflectance(fused, np.zeros((1, 6), np.uint8), SPEC)
    np.testing.assert_array_equal(integers[3, 0], [32767, 32767, -32767, -32767, 32767, 5000])
    clipped = QualityFlag.CLIPPED
    np.testing.assert_array_equal(flags[0], [0, clipped, 0, clipped, clipped, 0])
    nodata = np.full((1, 6), QualityFlag.NODATA, np.uint8)
    np.testing.assert_array_equal(encode_reflectance(fused, nodata, SPEC)[1], nodata)


def test_values_that_are_not_finite_become_no_data_and_are_flagged() -> None:
    fused = np.full((12, 1, 4), 0.1, np.float32)
    fused[5, 0] = [np.nan, np.inf, -np.inf, np.nan]
    quality = np.array([[0, QualityFlag.NEAR_EDGE, 0, QualityFlag.NODATA]], np.uint8)
    integers, flags = encode_reflectance(fused, quality, SPEC)
    assert (integers[5, 0] == -32768).all()
    np.testing.assert_array_equal(integers[0, 0], [1000, 1000, 1000, -32768])
    np.testing.assert_array_equal(flags[0], [16, 18, 16, 1])
    np.testing.assert_array_equal(quality[0], [0, 2, 0, 1])


def test_a_sink_holds_only_what_has_the_receipts_size_and_digest(tmp_path: Path) -> None:
    sink: Sink = _sink(tmp_path)
    fused, quality = random_scene()
    tile = TILING.tile(2, 1)
    receipt, _ = sink.put(sink.encode(tile, fused[:, *tile.core.slices], quality[tile.core.slices]))
    assert sink.holds(receipt)
    path = tmp_path / "fused.zarr" / receipt.key
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert not sink.holds(receipt)
    path.write_bytes(data[:-1])
    assert not sink.holds(receipt)
    path.unlink()
    assert not sink.holds(receipt)
    assert not sink.holds(replace(receipt, key="reflectance/c/0/9/9"))


def test_a_write_that_fails_leaves_the_old_shard_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = _sink(tmp_path)
    fused, quality = random_scene()
    tile = TILING.tile(0, 0)
    core = fused[:, *tile.core.slices], quality[tile.core.slices]
    receipt, _ = sink.put(sink.encode(tile, *core))
    before = {path.name for path in tmp_path.rglob("*")}

    def broken(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", broken)
        with pytest.raises(StorageError, match="No space"):
            sink.put(sink.encode(tile, core[0] * 2, core[1]))
    assert sink.holds(receipt)
    assert {path.name for path in tmp_path.rglob("*")} == before


def test_a_sink_travels_to_another_process(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    assert pickle.loads(pickle.dumps(sink)) == sink  # noqa: S301 -- our own bytes


def test_a_core_of_another_tiling_or_shape_is_refused(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    other = Tiling(fine_shape=SPEC.grid.fine_shape, core_px=64, halo_px=0, lattice_px=16).tile(0, 1)
    with pytest.raises(ValueError, match="is not core"):
        sink.put(sink.encode(other, np.zeros((12, 64, 64), np.float32), np.zeros((64, 64), np.uint8)))
    with pytest.raises(ValueError, match="12 bands"):
        sink.put(sink.encode(TILING.tile(0, 0), np.zeros((11, 128, 128), np.float32), np.zeros((128, 128), np.uint8)))
