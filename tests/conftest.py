"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# One thread, as workers have it: with two, tiles differ from the whole in their last bits. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from scenefuse.place import requests
from scenefuse.place.store import StorePlace
from tests.object_store import BUCKET, Proxy, environment, fault_proxy, moto_server
from tests.raster.making import WriteTiff, tiff_writer

# Without deadlines: a shared machine's speed says nothing of the code. The same examples in every run, so that a test
# that fails tells of the change before it; `make explore` draws others.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("same")

KILL_ROUNDS = int(os.environ.get("SCENEFUSE_KILLS", "1"))
"""Random kills of the engine's test of resuming: 1 in CI; SCENEFUSE_KILLS=20 for a longer run by hand."""


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real scenes; tests that need a file that is not there are skipped with the reason."""
    root = Path(os.environ.get("SCENEFUSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}: set SCENEFUSE_TEST_DATA")
    os.environ["CPL_VSIL_GZIP_WRITE_PROPERTIES"] = "NO"  # or a test's own rasterio writes beside gzip-compressed files
    return root


@pytest.fixture
def write_tiff(tmp_path: Path) -> WriteTiff:
    """Writes GeoTIFFs into the test's folder."""
    return tiff_writer(tmp_path)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """Address of an S3 server with a bucket, in a process of its own."""
    with moto_server() as address:
        yield address


@pytest.fixture
def proxy(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the S3 server, to which the environment points; retries are made with short pauses."""
    with fault_proxy(object_store) as running:
        for name, value in environment(running.address).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(requests, "PAUSES_S", (0.01, 0.02, 0.04, 0.08))
        requests.open_bucket.cache_clear()
        yield running
        requests.open_bucket.cache_clear()


@pytest.fixture
def prefix(proxy: Proxy, request: pytest.FixtureRequest) -> StorePlace:  # noqa: ARG001 - the environment it makes
    """An empty prefix of this test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.nodeid)
    place = StorePlace(bucket=BUCKET, key=name)
    place.clear()
    return place


@pytest.fixture(scope="session", autouse=True)
def listening_to_ctrl_c() -> None:
    """Commands that tests start can be interrupted, also where the tests run behind `nohup` or `&` and could not."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's shelf of weights, empty: tests see what ships and what they put there, never the user's own."""
    folder = tmp_path_factory.mktemp("shelf")
    os.environ["SCENEFUSE_WEIGHTS"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_netrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's passwords, none: tests send what they write there, never the user's own."""
    path = tmp_path_factory.mktemp("netrc") / "netrc"
    os.environ["NETRC"] = str(path)
    os.environ.pop("EARTHDATA_TOKEN", None)
    return path
