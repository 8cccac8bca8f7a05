from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from scenefuse.engine import group
from scenefuse.engine.cluster import ClusterSpec, open_client, open_lane
from scenefuse.engine.device import is_out_of_memory
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.observers import RecordingObserver, TeeObserver
from scenefuse.engine.retry import kind_of
from scenefuse.engine.run import IncompleteRunError
from scenefuse.errors import ResourceError, UsageError
from tests.engine.fakes import AnalyticSource, NpySink, Setting
from tests.engine.scenes import job_of, run_job

SETTING = Setting(source=AnalyticSource(coarse_shape=(64, 96), ratio=3), options={"stages": True})
SIZE: dict[str, Any] = {"core_px": 48}


@pytest.mark.parametrize("name", ["fused", "quality"])
def test_a_second_run_does_nothing_and_a_damaged_shard_is_done_again(tmp_path: Path, name: str) -> None:
    sink = NpySink(folder=tmp_path)
    job = job_of(SETTING, sink, **SIZE)
    first = run_job(job, tmp_path)
    assert (first.skipped, first.tiles, len(first.finished)) == (0, 24, 24)
    assert len(sink.written()) == 24
    again = run_job(job, tmp_path)
    assert (again.skipped, len(sink.written())) == (24, 24)
    assert again.finished == first.finished
    shard = tmp_path / name / "1" / "2.npy"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    third = run_job(job, tmp_path)
    assert shard.read_bytes() == good
    assert 0 < 24 - third.skipped <= 8
    assert third.finished == first.finished


def test_a_bad_group_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    sink = NpySink(folder=tmp_path, fail_at=(1, 1))
    observer = RecordingObserver()
    job = job_of(SETTING, sink, **SIZE)
    with pytest.raises(IncompleteRunError, match="1 of 4 groups failed, the first with: tile: bad") as failure:
        run_job(job, tmp_path, observer=TeeObserver(observer))
    report = failure.value.report
    assert report is not None
    assert len(report.finished) == 18
    found = report.failures[0]
    assert (found.kind, found.retryable, found.attempts) == ("data", False, 1)
    assert [1, 1] in [list(tile) for tile in found.facts["tiles"]]
    assert len(observer.facts("warning")) == 1
    assert len(observer.facts("group")) == 3
    done = run_job(job_of(SETTING, NpySink(folder=tmp_path), **SIZE), tmp_path)
    assert done.skipped == 18


def test_a_store_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    observer = RecordingObserver()
    sink = NpySink(folder=tmp_path, fail_at=(0, 3), failure="transient", times=2)
    report = run_job(job_of(SETTING, sink, **SIZE), tmp_path, observer=observer)
    assert len(report.finished) == 24
    assert [facts["type"] for facts in observer.facts("retry")] == ["transient"] * 2


def test_a_full_disk_is_a_resource_failure_and_not_tried_again(tmp_path: Path) -> None:
    sink = NpySink(folder=tmp_path, fail_at=(0, 0), failure="disk")
    with pytest.raises(IncompleteRunError) as failure:
        run_job(job_of(SETTING, sink, **SIZE), tmp_path)
    assert failure.value.report is not None
    assert failure.value.report.failures[0].kind == "resource"


@pytest.mark.parametrize(
    "says",
    [
        None,
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_device_memory_that_runs_out_halves_the_batch_and_says_so(tmp_path: Path, says: str | None) -> None:
    tight = SETTING.with_options(largest_batch=1, says=says)
    report = run_job(job_of(tight, NpySink(folder=tmp_path), batch=4, **SIZE), tmp_path)
    assert report.batch == 1
    roomy = tmp_path / "roomy"
    roomy.mkdir()
    assert run_job(job_of(SETTING, NpySink(folder=roomy), batch=4, **SIZE), roomy).batch == 4


def test_a_batch_that_did_not_fit_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[BaseException] = []

    def counted(error: BaseException) -> bool:
        met.append(error)
        return is_out_of_memory(error)

    monkeypatch.setattr(group, "_batch_limits", {})
    monkeypatch.setattr(group, "is_out_of_memory", counted)
    tight = SETTING.with_options(largest_batch=1)
    run_job(job_of(tight, NpySink(folder=tmp_path), batch=4, **SIZE), tmp_path)
    assert len(met) == 2, "4 windows, 2, and from then on 1"


def test_a_window_too_large_for_the_device_is_a_resource_failure(tmp_path: Path) -> None:
    never = SETTING.with_options(largest_batch=0)
    with pytest.raises(IncompleteRunError, match="does not fit the memory of cpu") as failure:
        run_job(job_of(never, NpySink(folder=tmp_path), **SIZE), tmp_path)
    assert failure.value.report is not None
    assert {f.kind for f in failure.value.report.failures} == {"resource"}


def test_a_worker_that_dies_is_replaced_and_its_group_done_again(tmp_path: Path, killable_lane: Lane) -> None:
    observer = RecordingObserver()
    sink = NpySink(folder=tmp_path, fail_at=(1, 1), failure="kill", times=1)
    job = job_of(SETTING, sink, **SIZE)
    report = run_job(job, tmp_path, lane=killable_lane, observer=observer)
    assert len(report.finished) == 24
    assert [facts["type"] for facts in observer.facts("retry")] == ["worker"]


@pytest.mark.slow
def test_a_worker_whose_device_failed_is_replaced_and_spoils_no_other_group(
    tmp_path: Path, killable_lane: Lane
) -> None:
    observer = RecordingObserver()
    sink = NpySink(folder=tmp_path, fail_at=(0, 1), failure="device", times=1)
    report = run_job(job_of(SETTING, sink, **SIZE), tmp_path, lane=killable_lane, observer=observer)
    assert len(report.finished) == 24
    retries = [(facts["type"], facts["cause"]) for facts in observer.facts("retry")]
    assert retries == [("worker", "AcceleratorError: CUDA error: an illegal memory access was encountered")]


def test_memory_that_runs_out_while_a_model_is_loaded_is_no_bug() -> None:
    assert kind_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")) == "resource"


@pytest.mark.slow
def test_a_group_that_kills_every_worker_is_given_up_and_the_others_are_done(
    tmp_path: Path, killable_lane: Lane
) -> None:
    sink = NpySink(folder=tmp_path, fail_at=(1, 1), failure="kill")
    with pytest.raises(IncompleteRunError) as failure:
        run_job(job_of(SETTING, sink, **SIZE), tmp_path, lane=killable_lane, worker=1)
    report = failure.value.report
    assert report is not None
    assert [f.kind for f in report.failures] == ["worker"]
    assert report.failures[0].retryable
    assert len(report.finished) == 18


@pytest.mark.slow
def test_a_group_past_its_time_limit_has_its_worker_restarted(tmp_path: Path, killable_lane: Lane) -> None:
    observer = RecordingObserver()
    sink = NpySink(folder=tmp_path, fail_at=(2, 0), failure="hang", times=1)
    report = run_job(job_of(SETTING, sink, **SIZE), tmp_path, lane=killable_lane, observer=observer, time_limit_s=3)
    assert len(report.finished) == 24
    assert [facts["type"] for facts in observer.facts("retry")] == ["time"]


def test_the_report_and_the_events_tell_what_run_json_needs(tmp_path: Path) -> None:
    observer = RecordingObserver()
    report = run_job(job_of(SETTING, NpySink(folder=tmp_path), **SIZE), tmp_path, observer=observer)
    assert report.fine_px == 192 * 288
    assert set(report.loop_seconds) == {"read", "compute", "write", "starved", "blocked", "drain", "whole"}
    assert report.peak_rss_bytes > 2**26
    assert [facts["done"] for facts in observer.facts("group")] == [6, 12, 18, 24]
    assert json.loads(json.dumps([observer.facts(kind) for kind in ("plan", "group", "done")]))


def test_both_workers_take_part(tmp_path: Path, lane: Lane) -> None:
    observer = RecordingObserver()
    slow = NpySink(folder=tmp_path, delay_s=0.02)
    run_job(job_of(SETTING, slow, workers=8, **SIZE), tmp_path, lane=lane, observer=observer)
    assert len({facts["pid"] for facts in observer.facts("group")}) == 2


def test_a_cluster_leaves_no_process_and_no_thread_behind() -> None:
    spec = ClusterSpec(workers=1, memory_limit_bytes=2**30)
    with open_lane(spec):
        pass  # the server that workers are forked from stays
    children, threads = set(psutil.Process().children(recursive=True)), set(threading.enumerate())
    with pytest.raises(KeyError), open_lane(spec):
        raise KeyError
    assert set(psutil.Process().children(recursive=True)) <= children
    deadline = time.monotonic() + 5
    left = set(threading.enumerate()) - threads
    while any(thread.is_alive() and not thread.daemon for thread in left) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [thread for thread in left if thread.is_alive() and not thread.daemon]


def test_a_second_cluster_beside_the_first_takes_another_dashboard_port_in_silence(lane: Lane) -> None:
    assert lane.width
    with open_lane(ClusterSpec(workers=1, memory_limit_bytes=2**30)) as second:
        assert second.width == 1


def environment_of_a_worker(spec: ClusterSpec) -> dict[str, str]:
    client: Any
    with open_client(spec) as client:
        (seen,) = client.run(lambda: dict(os.environ)).values()
    return dict(seen)


def test_workers_have_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one process may be forked from the same server, whose environment is older."""
    spec = ClusterSpec(workers=1, memory_limit_bytes=2**30)
    with open_client(spec):
        pass
    monkeypatch.setenv("KEY_OF_A_STORE", "new")
    assert environment_of_a_worker(spec)["KEY_OF_A_STORE"] == "new"
    monkeypatch.delenv("HOME")
    assert "HOME" not in environment_of_a_worker(spec)


@pytest.mark.slow
def test_workers_have_one_thread_where_the_caller_forked_processes_before() -> None:
    """A fork server of the caller's, as Python 3.14 starts one for any pool, began in another environment."""
    code = """if True:
        import multiprocessing, os
        from pathlib import Path

        from scenefuse.engine.cluster import ClusterSpec, open_client

        if __name__ == "__main__":
            process = multiprocessing.get_context("forkserver").Process(target=os.getpid)
            process.start()
            process.join()
            with open_client(ClusterSpec(workers=1, memory_limit_bytes=2**30)) as client:
                (began,) = client.run(Path("/proc/self/environ").read_bytes).values()
            print(b"OPENBLAS_NUM_THREADS=1" in began)
    """
    bare = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_no_workers_means_this_process() -> None:
    with open_lane(ClusterSpec(workers=0)) as lane:
        assert isinstance(lane, InProcessLane)


def test_a_scheduler_that_does_not_answer_is_refused() -> None:
    spec = ClusterSpec(scheduler="nonsense://127.0.0.1:1")
    with pytest.raises(ResourceError, match="No Dask scheduler answers"), open_lane(spec):
        pass


def test_workers_with_a_scheduler_are_refused() -> None:
    with pytest.raises(UsageError, match="--workers 2 with --scheduler"):
        ClusterSpec(workers=2, scheduler="tcp://127.0.0.1:8786")


def test_bf16_is_near_fp32_and_recorded_in_the_plan(tmp_path: Path) -> None:
    exact = job_of(SETTING, NpySink(folder=tmp_path / "a"), precision="fp32", **SIZE)
    rough = job_of(SETTING, NpySink(folder=tmp_path / "b"), precision="bf16", **SIZE)
    assert (exact.plan.precision, rough.plan.precision) == ("fp32", "bf16")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run_job(exact, tmp_path / "a")
    run_job(rough, tmp_path / "b")
    shape = SETTING.source.grid.fine_shape
    a = NpySink(folder=tmp_path / "a").assembled("fused", shape, 48)
    b = NpySink(folder=tmp_path / "b").assembled("fused", shape, 48)
    assert 0 < np.abs(a - b).max() < 0.05
