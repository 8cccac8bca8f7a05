"""TIFFs of every build over HTTP: the pixels that rasterio reads from the file itself, from a part of its bytes."""

from __future__ import annotations

import gc
import pickle
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.windows
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.shutil import copy as rio_copy

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.remote import RemoteFile
from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.raster import mirror as mirror_module
from scenefuse.raster import mirror_cache
from scenefuse.raster.mirror import BLOCK_BYTES, Mirror
from scenefuse.raster.raster_file import RasterFile
from scenefuse.raster.readers import open_raster
from scenefuse.raster.tiff_directory import read_directories, read_form
from scenefuse.raster.tiff_layout import _layout, read_layout
from tests.range_server import WebFolder, web_folder

BANDS, ROWS, COLUMNS = 7, 300, 410
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
BUILDS: dict[str, dict[str, Any]] = {
    "strips": {"blockysize": 3},
    "one strip": {"blockysize": ROWS},
    "strips by band": {"blockysize": 16, "interleave": "band", "compress": "deflate"},
    "tiles": TILED,
    "tiles by band": {**TILED, "interleave": "band", "compress": "zstd", "predictor": 2},
    "big": {**TILED, "interleave": "band", "bigtiff": "yes", "compress": "lzw"},
    "big endian": {**TILED, "endianness": "big", "compress": "deflate"},
    "big of big endian": {**TILED, "endianness": "big", "bigtiff": "yes", "interleave": "band"},
    "sparse": {**TILED, "sparse_ok": True, "interleave": "band"},
    "masked": {**TILED, "interleave": "band", "compress": "deflate"},
    "cog": {},
}


def write(path: Path, build: str) -> None:
    chance = np.random.default_rng(5)
    pixels = chance.integers(0, 3000, (BANDS, ROWS, COLUMNS), np.int16)
    if build == "sparse":
        pixels[:, 64:128, 64:256] = 0
    profile = {"driver": "GTiff", "count": BANDS, "height": ROWS, "width": COLUMNS, "dtype": "int16", "nodata": 0}
    profile |= {"crs": "EPSG:32633", "transform": Affine(30, 0, 0, 0, -30, 0)}
    plain = path.with_suffix(".plain.tif") if build == "cog" else path
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),  # type: ignore[no-untyped-call]
        rasterio.open(plain, "w", **profile, **BUILDS[build]) as dataset,
    ):
        dataset.write(pixels)
        if build == "masked":
            dataset.write_mask(chance.integers(0, 2, (ROWS, COLUMNS), np.uint8) * 255)
    if build == "cog":
        rio_copy(plain, path, driver="COG", compress="zstd", blocksize=128)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebFolder]:
    folder = tmp_path_factory.mktemp("web")
    for build in BUILDS:
        write(folder / f"{build}.tif", build)
    with web_folder(folder) as running:
        yield running


def opened(web: WebFolder, name: str) -> RasterFile:
    return open_raster(web.url(name.replace(" ", "%20")), AccessPolicy(allow_hosts=(web.host,)))


@pytest.mark.parametrize("build", BUILDS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.tuples(st.integers(0, ROWS - 1), st.integers(1, 90), st.integers(0, COLUMNS - 1), st.integers(1, 90)),
    bands=st.lists(st.integers(0, BANDS - 1), min_size=1, max_size=BANDS),
)
def test_windows_are_those_of_the_file(
    web: WebFolder, build: str, data: tuple[int, int, int, int], bands: list[int]
) -> None:
    y, height, x, width = data
    window = Window(y0=y, y1=min(ROWS, y + height), x0=x, x1=min(COLUMNS, x + width))
    raster = opened(web, f"{build}.tif")
    with rasterio.open(web.folder / f"{build}.tif") as dataset:
        part = rasterio.windows.Window(window.x0, window.y0, window.shape[1], window.shape[0])
        expected = np.stack([dataset.read(band + 1, window=part) for band in bands])
        np.testing.assert_array_equal(raster.pixels.read(bands, window), expected)
        if build == "masked":
            assert raster.mask is not None
            np.testing.assert_array_equal(raster.mask.read(window), dataset.read_masks(1, window=part) != 0)


@pytest.mark.parametrize("build", ["tiles by band", "cog"])
def test_a_window_fetches_its_part_and_the_next_reading_nothing(web: WebFolder, build: str, tmp_path: Path) -> None:
    name = f"{tmp_path.name}.tif"
    (web.folder / name).write_bytes((web.folder / f"{build}.tif").read_bytes())
    web.ranges.clear()
    raster = pickle.loads(pickle.dumps(opened(web, name)))  # noqa: S301 - our own
    window = Window(y0=10, y1=60, x0=10, x1=60)
    first = raster.pixels.read([0, 3], window)
    size = (web.folder / name).stat().st_size
    assert web.served_bytes < size / 2
    before = web.served_bytes
    np.testing.assert_array_equal(raster.pixels.read([0, 3], window), first)
    assert web.served_bytes == before
    assert all(name == served for served, _, _ in web.ranges)


@pytest.mark.parametrize("build", ["tiles", "strips", "big of big endian", "cog"])
def test_one_handle_sees_what_was_fetched_since_its_last_read(web: WebFolder, build: str, tmp_path: Path) -> None:
    """A C library's buffer reaches past what was read: no hole may be in it, or it is read again as zeros."""
    name = f"{tmp_path.name}.tif"
    (web.folder / name).write_bytes((web.folder / f"{build}.tif").read_bytes())
    raster = opened(web, name)
    with rasterio.open(web.folder / f"{build}.tif") as dataset:
        expected = dataset.read()
    for y in range(0, ROWS, 3):
        window = Window(y0=y, y1=min(ROWS, y + 3), x0=0, x1=COLUMNS)
        for band in range(BANDS):
            np.testing.assert_array_equal(raster.pixels.read([band], window)[0], expected[band, window.y0 : window.y1])


def test_a_reader_whose_file_was_forgotten_fetches_anew(web: WebFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_cache, "_MOST_KNOWN", 1)
    window, further = Window(y0=0, y1=40, x0=0, x1=40), Window(y0=200, y1=260, x0=300, x1=400)
    first = opened(web, "tiles.tif")
    first.pixels.read([0], window)
    opened(web, "strips.tif").pixels.read([0], window)
    with rasterio.open(web.folder / "tiles.tif") as dataset:
        part = rasterio.windows.Window(300, 200, 100, 60)
        np.testing.assert_array_equal(first.pixels.read([1], further)[0], dataset.read(2, window=part))
    assert len(mirror_cache._known) == 1


def test_files_that_are_read_from_are_not_forgotten_however_many(
    web: WebFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_cache, "_MOST_KNOWN", 1)
    window = Window(y0=0, y1=40, x0=0, x1=40)
    rasters = [opened(web, f"{build}.tif") for build in ("tiles", "strips", "big")]
    for raster in rasters:
        raster.pixels.read([0], window)
    web.ranges.clear()
    for raster in rasters:
        raster.pixels.read([0], window)
    assert web.ranges == []


def test_files_that_nobody_reads_from_give_their_room_back(web: WebFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_cache, "_MOST_HELD_BYTES", 1)
    for build in ("tiles", "strips", "big"):
        opened(web, f"{build}.tif").pixels.read([0], Window(y0=0, y1=ROWS, x0=0, x1=COLUMNS))
    gc.collect()
    assert len(mirror_cache._known) == 1
    assert len(mirror_cache._in_use) == 1


def test_a_file_cut_short_is_refused(web: WebFolder) -> None:
    (web.folder / "cut.tif").write_bytes((web.folder / "cog.tif").read_bytes()[:-5000])
    with pytest.raises(DataError, match="read as zeros"):
        opened(web, "cut.tif")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89HDF1234", "HDF5"),
        (b"II*\x00\xff\xff\xff\xff", "positions of its pixels are unknown"),
        (b"ENVI", "begins with"),
    ],
)
def test_what_is_no_tiff_is_refused_with_the_cure(web: WebFolder, content: bytes, said: str) -> None:
    (web.folder / "odd.tif").write_bytes(content)
    with pytest.raises(DataError, match=said):
        opened(web, "odd.tif")


@pytest.mark.parametrize("said", [0, 1000])
def test_an_only_strip_is_read_whole_whatever_the_file_says_of_its_size(
    web: WebFolder, tmp_path: Path, said: int
) -> None:
    name = f"{tmp_path.name}.tif"
    write(web.folder / name, "one strip")
    content = bytearray((web.folder / name).read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    entries = [first + 2 + 12 * i for i in range(struct.unpack_from("<H", content, first)[0])]
    (place,) = (entry for entry in entries if struct.unpack_from("<H", content, entry) == (279,))
    struct.pack_into("<I", content, place + 8, said)
    (web.folder / name).write_bytes(content)
    with rasterio.open(web.folder / name) as dataset:
        expected = dataset.read()
    whole = Window(y0=0, y1=ROWS, x0=0, x1=COLUMNS)
    np.testing.assert_array_equal(opened(web, name).pixels.read(range(BANDS), whole), expected)


@pytest.mark.parametrize("build", ["cog", "big of big endian", "strips by band"])
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_directory_is_a_refusal_or_a_layout(web: WebFolder, build: str, flips: list[tuple[int, int]]) -> None:
    content = bytearray((web.folder / f"{build}.tif").read_bytes())
    head = 0 if build == "cog" else max(0, len(content) - 3001)  # plain files have their directories at the end
    for place, value in flips:
        content[place if place < 16 else head + place] = value
    with suppress(DataError):
        layout = read_layout(lambda first, end: bytes(content[first:end]), len(content), "a.tif")
        list(layout.image.spans(Window(y0=0, y1=9, x0=0, x1=9), [0]))


def test_a_mirror_fetches_whole_blocks_once_and_bridges_small_gaps(web: WebFolder) -> None:
    size = 40 * BLOCK_BYTES + 100
    content = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    (web.folder / "blocks.bin").write_bytes(content)
    stat = (web.folder / "blocks.bin").stat()
    file = RemoteFile(
        url=web.url("blocks.bin"),
        size_bytes=size,
        tag=f'"{stat.st_mtime_ns:x}-{size:x}"',
        policy=AccessPolicy(allow_hosts=(web.host,)),
    )
    web.ranges.clear()
    mirror = Mirror(file)
    mirror.fetch([(10, 20), (2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1), (20 * BLOCK_BYTES, 20 * BLOCK_BYTES + 1)])
    blocks = sorted((first // BLOCK_BYTES, end / BLOCK_BYTES) for _, first, end in web.ranges)
    assert blocks == [(0, 3), (20, 21)]
    assert mirror.read(size - 50, size) == content[-50:]
    assert mirror.read(0, 2 * BLOCK_BYTES) == content[: 2 * BLOCK_BYTES]
    assert len(web.ranges) == 3


def test_a_mirror_asks_for_a_few_megabytes_at_a_time(web: WebFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "_RUN_BLOCKS", 8)
    size = 20 * BLOCK_BYTES
    (web.folder / "long.bin").write_bytes(bytes(size))
    stat = (web.folder / "long.bin").stat()
    policy = AccessPolicy(allow_hosts=(web.host,))
    file = RemoteFile(url=web.url("long.bin"), size_bytes=size, tag=f'"{stat.st_mtime_ns:x}-{size:x}"', policy=policy)
    web.ranges.clear()
    Mirror(file).fetch([(0, size)])
    assert sorted(end - first for _, first, end in web.ranges) == [4 * BLOCK_BYTES, 8 * BLOCK_BYTES, 8 * BLOCK_BYTES]


def test_directories_that_follow_each_other_in_a_circle_end(web: WebFolder) -> None:
    content = bytearray((web.folder / "strips.tif").read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    layout = read_layout(lambda start, end: bytes(content[start:end]), len(content), "a.tif")
    assert layout.image.shape == (ROWS, COLUMNS)


def classic(entries: list[bytes], values: bytes) -> bytes:
    """A TIFF of one directory, and values from byte 8 on."""
    table = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II*\x00" + struct.pack("<I", 8 + len(values)) + values + table


@pytest.mark.parametrize(
    ("entries", "value_bytes", "said"),
    [
        ([struct.pack("<HHII", 1000 + n, 1, 2**20, 8) for n in range(300)], 2**20, "more than 256 MiB"),
        ([struct.pack("<HHII", 330, 4, 2**18, 8)], 2**20, "more than 64 directories"),
    ],
    ids=["fields that share their bytes", "a million directories"],
)
def test_a_small_file_cannot_ask_for_memory_or_time_without_end(
    entries: list[bytes], value_bytes: int, said: str
) -> None:
    content = classic(entries, bytes(value_bytes))
    with pytest.raises(DataError, match=said):
        read_layout(lambda first, end: content[first:end], len(content), "a.tif")


def test_many_blocks_take_no_more_memory_than_in_the_file() -> None:
    side = 2**9
    content = classic(
        [
            struct.pack("<HHII", 256, 3, 1, side),
            struct.pack("<HHII", 257, 3, 1, side),
            struct.pack("<HHII", 322, 3, 1, 1),
            struct.pack("<HHII", 323, 3, 1, 1),
            *(struct.pack("<HHII", tag, 4, side**2, 8) for tag in (324, 325)),
        ],
        np.arange(2**20, 2**20 + side**2, dtype="<u4").tobytes(),
    )
    tracemalloc.start()
    try:
        layout = read_layout(lambda first, end: content[first:end], len(content), "a.tif")
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert layout.image.offsets[-1] == 2**20 + side**2 - 1
    assert held < 2.5 * 4 * side**2
    assert most < 6 * 4 * side**2


def test_directories_below_directories_are_read() -> None:
    main = struct.pack("<HHHIII", 1, 330, 4, 1, 26, 0)  # one field: a directory at byte 26
    content = b"II*\x00" + struct.pack("<I", 8) + main + struct.pack("<HHHIII", 1, 256, 4, 1, 7, 0)

    def read(first: int, end: int) -> bytes:
        return content[first:end]

    found = read_directories(read, read_form(read))
    assert [[entry.tag for entry in directory] for directory in found] == [[330], [256]]


def test_the_mask_is_that_of_the_image_and_not_of_an_overview() -> None:
    def directory(kind: int, side: int) -> dict[int, tuple[int, ...]]:
        return {254: (kind,), 256: (side,), 257: (side,), 273: (8,), 279: (9,)}

    layout = _layout([directory(0, 8), directory(1, 4), directory(5, 4), directory(4, 8)], 999)
    assert layout.mask is not None
    assert layout.mask.shape == (8, 8)
