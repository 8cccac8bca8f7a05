"""JPEG 2000 over HTTP: the pixels of the file itself, from the tiles of a window alone, and never from a hole."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.remote import RemoteFile, open_remote
from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.raster import mirror, mirror_cache
from scenefuse.raster.jp2_layout import Jp2Layout, read_jp2_layout
from scenefuse.raster.raster_file import RasterFile
from scenefuse.raster.readers import open_raster
from scenefuse.raster.remote_jp2 import RemoteJp2
from tests.range_server import WebFolder, web_folder
from tests.raster.making import texture

TILES = {"blockxsize": 256, "blockysize": 256}
BUILDS: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "tiles": ((1, 1000, 1100), TILES),
    "listed": ((1, 1000, 1100), {**TILES, "TLM": "YES", "PLT": "YES"}),
    "bands": ((3, 600, 700), TILES),
    "several parts": ((1, 1000, 1100), TILES),
    "small tiles": ((1, 400, 500), {"blockxsize": 64, "blockysize": 64}),
    "one small tile": ((1, 300, 200), {}),
    "one large tile": ((1, 1030, 1040), {"blockxsize": 2048, "blockysize": 2048}),
    "codestream": ((1, 600, 700), {**TILES, "CODEC": "J2K"}),
}


def write(path: Path, shape: tuple[int, int, int], options: dict[str, Any]) -> None:
    profile = {"driver": "JP2OpenJPEG", "count": shape[0], "height": shape[1], "width": shape[2], "dtype": "uint16"}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 6e5, 0, -10, 5e6)}
    exact = {"QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(path, "w", **profile, **place, **exact, **options) as file:
        file.write(texture(shape[0], shape[1:]).astype(np.uint16))


def tile_parts(content: bytes) -> tuple[int, list[tuple[int, int]]]:
    """Where the tile-parts begin, and first byte and end of each, of a file whose last box is the codestream."""
    first = content.index(b"\xff\x90\x00\x0a")
    found, place = [], first
    while content[place : place + 2] == b"\xff\x90":
        (size,) = struct.unpack_from(">I", content, place + 6)
        found.append((place, place + size))
        place += size
    return first, found


def split_parts(content: bytes) -> bytes:
    """The file with each tile in two parts, the second ones after all first ones: OpenJPEG puts them together again."""
    first, parts = tile_parts(content)
    heads, tails = b"", b""
    for index, (begin, end) in enumerate(parts):
        data = content.index(b"\xff\x93", begin) + 2
        middle = (data + end) // 2
        heads += struct.pack(">HHHIBB", 0xFF90, 10, index, middle - begin, 0, 2) + content[begin + 12 : middle]
        tails += struct.pack(">HHHIBBH", 0xFF90, 10, index, end - middle + 14, 1, 2, 0xFF93) + content[middle:end]
    box = content.rindex(b"jp2c", 0, first) - 4
    stream = content[box + 8 : first] + heads + tails + b"\xff\xd9"
    return content[:box] + struct.pack(">I", len(stream) + 8) + b"jp2c" + stream


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebFolder]:
    folder = tmp_path_factory.mktemp("web")
    for build, (shape, options) in BUILDS.items():
        path = folder / f"{build}.jp2"
        write(path, shape, options)
        if build == "several parts":
            path.write_bytes(split_parts(path.read_bytes()))
    with web_folder(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is mirrored of earlier tests, and what is not fetched is no zeros but noise."""
    mirror_cache._forget()
    begin = mirror.Mirror.__init__

    def fill(self: mirror.Mirror, file: RemoteFile) -> None:
        begin(self, file)
        os.pwrite(self._local, np.random.default_rng(0).bytes(file.size_bytes), 0)

    monkeypatch.setattr(mirror.Mirror, "__init__", fill)


def opened(web: WebFolder, build: str) -> RasterFile:
    return open_raster(web.url(f"{build}.jp2".replace(" ", "%20")), AccessPolicy(allow_hosts=(web.host,)))


def here(web: WebFolder, build: str) -> RasterFile:
    return open_raster(str(web.folder / f"{build}.jp2"))


@pytest.mark.parametrize("build", BUILDS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_are_those_of_the_file(web: WebFolder, build: str, data: st.DataObject) -> None:
    raster, local = opened(web, build), here(web, build)
    assert (raster.bands, raster.dtype, raster.grid.transform) == (local.bands, local.dtype, local.grid.transform)
    rows, columns = local.grid.shape
    y, x = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    window = Window(y0=y, y1=min(rows, y + 300), x0=x, x1=min(columns, x + 20))
    bands = range(len(local.bands))
    np.testing.assert_array_equal(raster.pixels.read(bands, window), local.pixels.read(bands, window))


@pytest.mark.parametrize("build", ["tiles", "listed", "bands", "several parts", "codestream"])
def test_windows_at_all_corners_are_right_one_after_the_other(web: WebFolder, build: str) -> None:
    raster, local = opened(web, build), here(web, build)
    rows, columns = local.grid.shape
    for y in (0, rows - 30):
        for x in (columns - 40, 0):
            window = Window(y0=y, y1=y + 30, x0=x, x1=x + 40)
            np.testing.assert_array_equal(raster.pixels.read([0], window), local.pixels.read([0], window))
    whole = Window(y0=0, y1=rows, x0=0, x1=columns)
    np.testing.assert_array_equal(raster.pixels.read([0], whole), local.pixels.read([0], whole))


@pytest.mark.parametrize("build", ["small tiles", "several parts"])
def test_one_handle_sees_what_was_fetched_since_its_last_read(web: WebFolder, build: str) -> None:
    """A buffer reaches past what was read: no hole may be in it, or it is read again as noise."""
    raster, local = opened(web, build), here(web, build)
    rows, columns = local.grid.shape
    for y in range(0, rows, 40):
        for x in range(0, columns, 150):
            window = Window(y0=y, y1=min(rows, y + 40), x0=x, x1=min(columns, x + 150))
            np.testing.assert_array_equal(raster.pixels.read([0], window), local.pixels.read([0], window))


@pytest.mark.parametrize("build", ["tiles", "listed"])
def test_a_window_fetches_its_tiles_and_the_next_reading_nothing(
    web: WebFolder, build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_BRIDGE_BLOCKS", 1)
    web.ranges.clear()
    raster = opened(web, build)
    window = Window(y0=300, y1=340, x0=300, x1=340)
    first = raster.pixels.read([0], window)
    assert web.served_bytes < (web.folder / f"{build}.jp2").stat().st_size / 2  # 20 tiles: one, the last one, headers
    before = web.served_bytes
    np.testing.assert_array_equal(raster.pixels.read([0], window), first)
    assert web.served_bytes == before


def test_where_gdal_reads_by_other_blocks_than_the_tiles_all_is_fetched(web: WebFolder) -> None:
    remote = mirror_cache.mirrored(RemoteJp2, open_remote(web.url("tiles.jp2"), AccessPolicy(allow_hosts=(web.host,))))
    remote.settle((256, 256))
    assert remote.mirror.held(0, remote.mirror.file.size_bytes) is None
    remote.settle((1000, 1100))
    assert remote.mirror.held(0, remote.mirror.file.size_bytes) == (web.folder / "tiles.jp2").read_bytes()


def layout(content: bytes, fetched: list[Any] | None = None) -> Jp2Layout:
    fetched = [] if fetched is None else fetched
    return read_jp2_layout(lambda first, end: content[first:end], fetched.extend, len(content), "a.jp2")


def test_a_list_of_lengths_is_believed_where_it_leads_to_headers(web: WebFolder) -> None:
    content = (web.folder / "listed.jp2").read_bytes()
    fetched: list[Any] = []
    expected = layout(content, fetched)
    assert len(fetched) == 20
    place = content.index(b"\xff\x55", content.index(b"jp2c")) + 8
    wrong = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    assert layout(wrong) == expected
    assert layout((web.folder / "tiles.jp2").read_bytes()).parts != expected.parts


@pytest.mark.parametrize("build", ["tiles", "listed", "several parts", "one large tile", "codestream"])
@pytest.mark.parametrize("cut_bytes", [1, 2, 5000, 400_000])
def test_a_file_cut_short_is_refused(web: WebFolder, build: str, cut_bytes: int) -> None:
    content = (web.folder / f"{build}.jp2").read_bytes()
    (web.folder / "cut.jp2").write_bytes(content[:-cut_bytes])
    with pytest.raises(DataError, match=r"cut\.jp2 is damaged, cut short"):
        opened(web, "cut")


def test_a_last_part_of_unknown_length_has_to_reach_the_end(web: WebFolder) -> None:
    content = (web.folder / "codestream.jp2").read_bytes()
    begin, end = tile_parts(content)[1][-1]
    content = content[: begin + 6] + bytes(4) + content[begin + 10 :]
    assert layout(content).parts[-1] == ((begin, end),)
    with pytest.raises(DataError, match="a codestream without its end"):
        layout(content[:-500])


def test_boxes_behind_the_codestream_are_at_hand_for_gdal_too(web: WebFolder) -> None:
    content = (web.folder / "tiles.jp2").read_bytes()
    behind = struct.pack(">I4s", 200_008, b"xml ") + bytes(200_000)
    (web.folder / "behind.jp2").write_bytes(content + behind)
    file = open_remote(web.url("behind.jp2"), AccessPolicy(allow_hosts=(web.host,)))
    assert mirror_cache.mirrored(RemoteJp2, file).mirror.held(len(content), file.size_bytes) == behind


def test_a_small_file_cannot_ask_for_memory_without_end(web: WebFolder) -> None:
    content = bytearray((web.folder / "tiles.jp2").read_bytes())
    place = content.index(b"\xff\x51") + 22
    content[place : place + 8] = struct.pack(">II", 1, 1)
    with pytest.raises(DataError, match="an image of 1000 x 1100 pixels and 1000 x 1100 tiles"):
        layout(bytes(content))


def test_a_tile_or_a_part_that_lacks_is_told(web: WebFolder) -> None:
    content = (web.folder / "several parts.jp2").read_bytes()
    _, parts = tile_parts(content)
    for lost, said in ((parts[5], "1 of 2 parts of tile 5"), (parts[-1], "1 of 2 parts of tile 19")):
        stream = content[: lost[0]] + content[lost[1] :]
        box = stream.index(b"jp2c") - 4
        stream = stream[:box] + struct.pack(">I", len(stream) - box) + stream[box + 4 :]
        with pytest.raises(DataError, match=said):
            layout(stream)


def test_a_damaged_tile_is_refused_or_read_as_the_file_is(web: WebFolder) -> None:
    content = bytearray((web.folder / "tiles.jp2").read_bytes())
    _, parts = tile_parts(bytes(content))
    first, end = parts[6]
    content[first + 14 : end] = bytes(end - first - 14)
    (web.folder / "damaged.jp2").write_bytes(content)
    window = Window(y0=300, y1=340, x0=300, x1=340)
    with suppress(DataError):
        found = opened(web, "damaged").pixels.read([0], window)
        np.testing.assert_array_equal(found, here(web, "damaged").pixels.read([0], window))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_headers_are_a_refusal_or_a_layout_within_the_file(
    web: WebFolder, flips: list[tuple[int, int]]
) -> None:
    content = bytearray((web.folder / "listed.jp2").read_bytes())
    for place, value in flips:
        content[place] = value
    with suppress(DataError):
        found = layout(bytes(content))
        spans = list(found.spans(Window(y0=0, y1=9, x0=0, x1=9)))
        assert all(0 <= first < end <= len(content) for first, end in spans)
