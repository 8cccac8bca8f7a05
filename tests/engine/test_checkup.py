from __future__ import annotations

import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
import pytest
import torch
from distributed import LocalCluster

from scenefuse.engine import checkup
from scenefuse.engine.checkup import check_machine
from scenefuse.engine.finding import Finding
from scenefuse.engine.scheduler_check import check_scheduler
from scenefuse.engine.worker_environment import WORKER_DASK_CONFIG, WORKER_ENVIRONMENT
from scenefuse.place.store import StorePlace
from scenefuse.raster import formats
from tests.object_store import SECRET, FaultKind, Proxy


def finding(name: str, folder: Path) -> Finding:
    return next(entry for entry in check_machine(folder) if entry.name == name)


def test_gdal_has_the_drivers_and_the_codecs_that_products_need(tmp_path: Path) -> None:
    found = finding("gdal", tmp_path)
    assert found.verdict == "ok"
    assert "GTiff, ENVI, deflate, zstd" in found.text


def test_a_gdal_without_a_codec_is_a_failure_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "NEEDED_CODECS", ("deflate", "no-such-codec"))
    found = finding("gdal", tmp_path)
    assert found.verdict == "failed"
    assert found.facts["missing"] == ["no-such-codec"]


def test_formats_that_only_some_scenes_come_in_are_tried(tmp_path: Path) -> None:
    for name, text in (("jpeg 2000", "GDAL's JP2OpenJPEG reads it"), ("hdf5", "h5py 3")):
        found = finding(name, tmp_path)
        assert (found.verdict, text in found.text) == ("ok", True), found.text


@pytest.mark.parametrize(("name", "attribute"), [("jpeg 2000", "JPEG_2000"), ("hdf5", "DEFLATE")])
def test_a_format_that_cannot_be_read_is_a_warning_with_the_scenes_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, attribute: str
) -> None:
    monkeypatch.setattr(formats, attribute, "no-such-one")
    found = finding(name, tmp_path)
    assert found.verdict == "warning"
    assert any(scenes in found.text for scenes in ("Sentinel-2's bands", "PRISMA's HE5 and EMIT's netCDF"))
    assert "install" in found.text


def test_an_h5py_that_cannot_be_imported_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert finding("hdf5", tmp_path).verdict == "warning"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is used")
def test_a_driver_without_a_torch_that_uses_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_nvidia_driver", lambda: "570.86.15")
    found = finding("gpu", tmp_path)
    assert found.verdict == "warning"
    assert "driver 570.86.15" in found.text


class Device:
    name, total_memory, major, minor = "Made-up GPU", 80 * 2**30, 9, 0


@pytest.mark.parametrize(
    ("kernels", "verdict"), [(["sm_80", "sm_90"], "ok"), (["sm_70", "sm_80"], "failed"), (["sm_100"], "failed")]
)
def test_a_torch_without_kernels_for_the_device_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: list[str], verdict: str
) -> None:
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_properties": lambda _: Device,
        "get_arch_list": lambda: kernels,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    assert finding("gpu", tmp_path).verdict == verdict


def test_an_endpoint_that_does_not_answer_is_a_failure_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore", reason="the s3 extra")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}")
        found = finding("s3", tmp_path)
    assert found.verdict == "failed"
    assert "secret" not in f"{found.text} {found.facts}"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:port", "http://[::1", f"http://{'long' * 20}:9000"])
def test_an_endpoint_that_is_no_address_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    pytest.importorskip("obstore", reason="the s3 extra")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    found = finding("s3", tmp_path)
    assert found.verdict == "failed"
    assert "check AWS_ENDPOINT_URL" in found.text


def test_an_endpoint_that_answers_needs_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="the s3 extra")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert finding("s3", tmp_path).verdict == "warning"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        assert finding("s3", tmp_path).verdict == "ok"


def test_a_store_is_written_to_and_left_as_it_was(tmp_path: Path, prefix: StorePlace) -> None:
    found = {entry.name: entry for entry in check_machine(str(prefix))}
    assert (found["store"].verdict, found["store"].facts["conditional_requests"]) == ("ok", True), found["store"].text
    assert tempfile.gettempdir() in found["disk"].text
    assert prefix.files() == []
    assert "store" not in {entry.name for entry in check_machine(tmp_path)}


@pytest.mark.parametrize(
    ("method", "kind", "told"), [("PUT", "403", "is not allowed"), ("GET", "403", "is not allowed")]
)
def test_a_store_that_lets_nobody_write_or_read_is_a_failure(
    proxy: Proxy, prefix: StorePlace, method: str, kind: FaultKind, told: str
) -> None:
    proxy.fail(kind, method=method, path="probe", times=99)
    found = {entry.name: entry for entry in check_machine(prefix)}["store"]
    assert found.verdict == "failed"
    assert told in found.text
    assert SECRET not in found.text


def test_a_bucket_that_does_not_exist_is_a_failure_of_one_line(prefix: StorePlace) -> None:
    store = {entry.name: entry for entry in check_machine(StorePlace(bucket="not-made", key=prefix.key))}["store"]
    assert store.verdict == "failed"
    assert store.text.startswith("The bucket not-made does not exist: no product can be put there. Create it")


def test_a_store_without_conditional_requests_is_a_failure(prefix: StorePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    put = StorePlace._put
    monkeypatch.setattr(StorePlace, "_put", lambda self, data, _mode: put(self, data, "overwrite"))
    found = {entry.name: entry for entry in check_machine(prefix)}["store"]
    assert (found.verdict, found.facts["conditional_requests"]) == ("failed", False)
    assert prefix.files() == []


@pytest.mark.slow
def test_a_scheduler_is_asked_for_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WORKER_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with (
        dask.config.set(dict(WORKER_DASK_CONFIG)),
        LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
        ) as cluster,
    ):
        nobody = check_scheduler(cluster.scheduler_address)
        assert (nobody.verdict, nobody.facts["workers"]) == ("warning", 0)
        cluster.scale(1)
        cluster.wait_for_workers(1)
        found = check_scheduler(cluster.scheduler_address)
    assert (found.verdict, found.facts["workers"], found.facts["differing_versions"]) == ("ok", 1, [])


@pytest.mark.slow
def test_workers_with_several_threads_are_warned_of() -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as cluster:
        found = check_scheduler(cluster.scheduler_address)
    assert found.verdict == "warning"
    assert "--nthreads 1" in found.text


def test_a_scheduler_that_is_not_there_is_a_failure() -> None:
    found = check_scheduler("nonsense://127.0.0.1:1")
    assert found.verdict == "failed"
    assert "No Dask scheduler answers at nonsense://127.0.0.1:1" in found.text
