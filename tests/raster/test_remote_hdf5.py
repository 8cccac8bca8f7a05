"""EMIT's and PRISMA's files over HTTP: the pixels of the file itself, from a part of its bytes, never from a hole."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenefuse.archive import fetch
from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.remote import open_remote
from scenefuse.errors import DataError, TransientError
from scenefuse.grid.window import Window
from scenefuse.place.store import StorePlace
from scenefuse.raster import mirror_cache, remote_hdf5
from scenefuse.raster.hdf5_file import Hdf5File
from scenefuse.raster.raster_file import RasterFile
from scenefuse.raster.readers import open_raster
from tests.range_server import WebFolder, web_folder
from tests.raster.making import texture
from tests.raster.native_products import write_emit, write_prisma
from tests.raster.test_native_products import emit_lookup

EMIT, PRISMA = "EMIT_L2A_RFL_1.nc", "PRS_L2D_1.he5"
MAP, SWATH = (420, 440), (400, 300)
BANDS = 64


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebFolder]:
    """EMIT's file of 30 MB in chunks, and PRISMA's in one piece."""
    folder = tmp_path_factory.mktemp("web")
    image = np.random.default_rng(0).random((*SWATH, BANDS), np.float32)
    write_emit(folder / EMIT, image, *emit_lookup(MAP, SWATH))
    dn = {"Vnir": 9 * texture(6, (220, 210)).astype(np.uint16), "Swir": 9 * texture(5, (220, 210), 1).astype(np.uint16)}
    write_prisma(folder / PRISMA, dn)
    with web_folder(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is mirrored of earlier tests; pauses are short."""
    mirror_cache._forget()
    monkeypatch.setattr(fetch, "_BACKOFF_S", 0.001)


def opened(web: WebFolder, name: str) -> RasterFile:
    return open_raster(web.url(name), AccessPolicy(allow_hosts=(web.host,)))


def here(web: WebFolder, name: str) -> RasterFile:
    return open_raster(str(web.folder / name))


@pytest.mark.parametrize("name", [EMIT, PRISMA])
@pytest.mark.parametrize("head_bytes", [remote_hdf5.HEAD_BYTES, 1], ids=["head", "bit by bit"])
@settings(max_examples=10)
@given(data=st.data())
def test_windows_are_those_of_the_file(web: WebFolder, name: str, head_bytes: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_hdf5, "HEAD_BYTES", head_bytes)
        patch.setattr(remote_hdf5, "NODE_BYTES", head_bytes)
        raster, local = opened(web, name), here(web, name)
        assert (raster.bands, raster.format, raster.dtype) == (local.bands, local.format, local.dtype)
        assert raster.grid.transform == local.grid.transform
        rows, columns = local.grid.shape
        y, x = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
        height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
        window = Window(y0=y, y1=min(rows, y + height), x0=x, x1=min(columns, x + width))
        bands = data.draw(st.lists(st.integers(0, len(local.bands) - 1), min_size=1, max_size=5))
        assert raster.pixels.read(bands, window).tobytes() == local.pixels.read(bands, window).tobytes()
        if local.mask is not None and raster.mask is not None:
            np.testing.assert_array_equal(raster.mask.read(window), local.mask.read(window))


@pytest.mark.parametrize(("name", "share"), [(EMIT, 0.1), (PRISMA, 0.9)])
def test_a_window_fetches_its_part_and_the_next_reading_nothing(web: WebFolder, name: str, share: float) -> None:
    web.ranges.clear()
    raster = pickle.loads(pickle.dumps(opened(web, name)))  # noqa: S301 - our own
    window = Window(y0=200, y1=210, x0=200, x1=210)
    first = raster.pixels.read([0, 3], window)
    size = (web.folder / name).stat().st_size
    assert web.served_bytes < size * share
    fetched = sorted(
        (start // 2**14, end) for _, start, end in web.ranges if end - start > 8
    )  # the format is told by 8
    assert len({start for start, _ in fetched}) == len(fetched), "a block is fetched twice"
    before = web.served_bytes
    np.testing.assert_array_equal(raster.pixels.read([0, 3], window), first)
    assert web.served_bytes == before


def test_chunks_of_a_window_are_asked_for_before_hdf5_asks(web: WebFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = opened(web, EMIT)
    raster.pixels.read([0], Window(y0=100, y1=101, x0=100, x1=101))
    refused: list[tuple[int, int]] = []
    ask = remote_hdf5.FetchedBytes.missing

    def noted(file: remote_hdf5.FetchedBytes) -> list[tuple[int, int]]:
        spans = ask(file)
        refused.extend(spans)
        return spans

    monkeypatch.setattr(remote_hdf5.FetchedBytes, "missing", noted)
    raster.pixels.read(range(BANDS), Window(y0=180, y1=240, x0=180, x1=240))
    assert refused == []


def test_an_answer_that_was_found_without_all_bytes_is_not_believed(web: WebFolder) -> None:
    """h5py takes some errors for a no: that there is no such group."""
    file = open_remote(web.url(EMIT), AccessPolicy(allow_hosts=(web.host,)))
    remote = mirror_cache.mirrored(remote_hdf5.RemoteHdf5, file)

    def answer() -> bytes:
        try:
            remote.bytes.seek(2**23)
            return remote.bytes.read(10)
        except OSError:
            return b"none"

    assert remote.ask(answer) == (web.folder / EMIT).read_bytes()[2**23 : 2**23 + 10]


def test_what_one_thread_misses_is_no_matter_of_another(web: WebFolder) -> None:
    file = open_remote(web.url(EMIT), AccessPolicy(allow_hosts=(web.host,)))
    remote = mirror_cache.mirrored(remote_hdf5.RemoteHdf5, file)
    remote.bytes.seek(2**23)
    with ThreadPoolExecutor(1) as thread, pytest.raises(OSError, match="not fetched"):
        thread.submit(remote.bytes.read, 10).result()
    assert remote.bytes.missing() == []


def test_threads_read_one_file_at_once_beside_other_hdf5(web: WebFolder) -> None:
    raster, local = opened(web, EMIT), here(web, EMIT)
    windows = [Window(y0=y, y1=y + 25, x0=x, x1=x + 25) for y in range(150, 300, 25) for x in range(150, 275, 25)]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda window: raster.pixels.read([5, 40], window), windows))
        beside = list(threads.map(lambda window: local.pixels.read([5, 40], window), windows))
    for one, other in zip(found, beside, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_forked_child_fetches_for_itself(web: WebFolder) -> None:
    raster, local = opened(web, EMIT), here(web, EMIT)
    window = Window(y0=200, y1=220, x0=200, x1=220)
    raster.pixels.read([1], window)
    with mirror_cache._lock:  # as if another thread were opening a file
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            same = raster.pixels.read([7], window).tobytes() == local.pixels.read([7], window).tobytes()
            os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_fails_on_the_network_is_told_as_that(web: WebFolder, tmp_path: Path) -> None:
    name = f"{tmp_path.name}.nc"
    (web.folder / name).write_bytes((web.folder / EMIT).read_bytes())
    raster = opened(web, name)
    window = Window(y0=200, y1=220, x0=200, x1=220)
    web.faults += ["500"] * 40
    with pytest.raises(TransientError, match="failed 4 times"):
        raster.pixels.read([2], window)
    web.faults.clear()
    np.testing.assert_array_equal(raster.pixels.read([2], window), here(web, name).pixels.read([2], window))
    os.utime(web.folder / name, (1, 1))
    with pytest.raises(DataError, match="changed while it was read"):
        raster.pixels.read([2], Window(y0=100, y1=150, x0=100, x1=150))


def test_a_damaged_or_foreign_file_is_refused(web: WebFolder) -> None:
    content = (web.folder / PRISMA).read_bytes()
    (web.folder / "cut.he5").write_bytes(content[:-2000])
    with pytest.raises(DataError, match="cannot be opened as HDF5"):
        opened(web, "cut.he5")
    content = (web.folder / EMIT).read_bytes()
    (web.folder / "holes.nc").write_bytes(content[: 2**21] + bytes(2**24) + content[2**21 + 2**24 :])
    raster = opened(web, "holes.nc")
    with pytest.raises(DataError, match=r"holes\.nc: .*cannot be read"):
        raster.pixels.read([2], Window(y0=0, y1=MAP[0], x0=0, x1=MAP[1]))
    with h5py.File(web.folder / "other.h5", "w") as file:
        file["reflectance"] = np.zeros((3, 4, 5))
    with pytest.raises(DataError, match="neither EMIT's L2A reflectance nor PRISMA's L2D"):
        opened(web, "other.h5")


def test_links_out_of_a_file_on_the_network_are_not_followed(web: WebFolder) -> None:
    with h5py.File(web.folder / "link.he5", "w") as file:
        file["HDFEOS"] = h5py.ExternalLink("/etc/passwd", "/HDFEOS")
    with pytest.raises(DataError, match="not an array of its own but a link"):
        opened(web, "link.he5")


def test_no_name_in_hdf5_has_the_signature(web: WebFolder) -> None:
    file = Hdf5File(open_remote(web.url(EMIT), AccessPolicy(allow_hosts=(web.host,))))
    assert "secret" not in f"{file._file().filename!r} {file.array('reflectance').file!r}"


def test_files_that_nobody_reads_from_give_their_room_back(web: WebFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_cache, "_MOST_HELD_BYTES", 1)
    for name in (EMIT, PRISMA, EMIT):
        opened(web, name).pixels.read([0], Window(y0=100, y1=110, x0=100, x1=110))
    assert len(mirror_cache._known) == 1


def test_an_object_on_a_store_is_read_the_same_way(web: WebFolder, prefix: StorePlace) -> None:
    (prefix / EMIT).put((web.folder / EMIT).read_bytes())
    window = Window(y0=200, y1=230, x0=150, x1=200)
    found = open_raster(str(prefix / EMIT)).pixels.read([9, 3], window)
    np.testing.assert_array_equal(found, here(web, EMIT).pixels.read([9, 3], window))
