from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from distributed import Client, LocalCluster
from rasterio.errors import RasterioIOError

from scenefuse.engine import dask_lane
from scenefuse.engine.cluster import ClusterSpec, open_client
from scenefuse.engine.dask_lane import DaskLane, SchedulerLostError
from scenefuse.engine.lanes import Call
from scenefuse.engine.retry import kind_of
from scenefuse.errors import ResourceError, TransientError
from scenefuse.models.state import SceneState
from scenefuse.product.place_store import open_store

pytestmark = pytest.mark.slow


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def double(value: int) -> int:
    return 2 * value


def test_a_call_for_a_gpu_is_refused_where_no_worker_has_one(client: Client) -> None:
    lane = DaskLane(client, resources={"GPU": 1}, no_workers_limit_s=0.05)
    lane.submit(Call(key="a", function=double, argument=2, time_limit_s=60))
    assert lane.settle(0.3) is None
    with pytest.raises(ResourceError, match="No worker with the resource GPU=1") as refusal:
        lane.settle(0.1)
    assert "--resources GPU=1" in refusal.value.cure
    lane.close()


def test_a_lane_sees_workers_that_came_and_those_that_left(client: Client) -> None:
    lane = DaskLane(client)
    assert lane.width == 1
    assert client.cluster is not None
    client.cluster.scale(3)
    client.wait_for_workers(3)
    lane._width = None
    assert lane.width == 3
    lane.submit(Call(key="a", function=double, argument=2, time_limit_s=60))
    outcome = lane.settle(10)
    assert outcome is not None
    assert outcome.result == 4
    lane.close()


def open_nothing(folder: str) -> object:
    return open_store(Path(folder))


def read_nothing(path: str) -> object:
    return rasterio.open(path)


def reckon_with_nothing(folder: str) -> object:
    try:
        return open_store(Path(folder))
    except TransientError:
        return dict[str, object]()[folder]


@pytest.mark.parametrize(
    ("function", "kind"),
    [(open_nothing, TransientError), (read_nothing, RasterioIOError), (reckon_with_nothing, KeyError)],
)
def test_an_error_keeps_its_type_whatever_led_to_it(
    client: Client, tmp_path: Path, function: Callable[[str], object], kind: type[Exception]
) -> None:
    lane = DaskLane(client)
    lane.submit(Call(key=kind.__name__, function=function, argument=str(tmp_path / "absent"), time_limit_s=60))
    outcome = lane.settle(20)
    lane.close()
    assert outcome is not None
    assert type(outcome.error) is kind
    if function is not read_nothing:  # whose library does not say
        assert outcome.error.__notes__[0].startswith(("caused by GroupNotFoundError(", "caused by TransientError("))


def test_calls_of_the_same_name_in_two_lanes_are_two(client: Client) -> None:
    with Client(client.cluster, set_as_default=False) as other:
        lanes = [DaskLane(client), DaskLane(other)]
        for lane, argument in zip(lanes, (2, 50), strict=True):
            lane.submit(Call(key="a", function=double, argument=argument, time_limit_s=60))
        outcomes = [lane.settle(10) for lane in lanes]
        for lane in lanes:
            lane.close()
    assert [outcome and (outcome.key, outcome.result) for outcome in outcomes] == [("a", 4), ("a", 100)]


def test_a_worker_that_hangs_while_all_are_told_of_a_state_is_killed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dask_lane, "_SILENT_S", 3.0)
    state = SceneState(arrays={"a": np.zeros(2)})
    with open_client(ClusterSpec(workers=2, memory_limit_bytes=2**30)) as client:
        lane = DaskLane(client)
        pids = sorted(client.run(os.getpid).values())
        os.kill(pids[0], signal.SIGSTOP)
        with lane.sharing(state) as digest:
            assert digest == state.sha256
            lane.submit(Call(key="a", function=double, argument=2, time_limit_s=60))
            while (outcome := lane.settle(5)) is None:
                pass
            assert outcome.result == 4
            client.wait_for_workers(2)
            first, *_ = client.run(os.getpid).values()
            os.kill(first, signal.SIGSTOP)
        assert not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE
        lane.close()


def test_a_result_that_is_lost_with_its_worker_is_a_failure_that_may_pass(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_lane, "_FETCH_S", 0.1)
    lane = DaskLane(client)
    lane.submit(Call(key="a", function=double, argument=2, time_limit_s=60))
    while not lane._calls["a"][1].done():
        time.sleep(0.01)
    assert client.cluster is not None
    client.cluster.scale(0)
    while client.nthreads():
        time.sleep(0.01)
    outcome = lane.settle(1)
    lane.close()
    assert outcome is not None
    assert outcome.error is not None
    assert kind_of(outcome.error) == "transient"


def test_a_limit_that_passes_while_the_worker_is_gone_waits_for_another(client: Client) -> None:
    lane = DaskLane(client)
    lane.submit(Call(key="a", function=double, argument=2, time_limit_s=0.05))
    lane._note_start((0.0, ("a", "tcp://127.0.0.1:1")))
    assert lane._next_overdue() is not None
    assert not lane._runs("a")
    outcome = lane.settle(10)
    assert outcome is not None
    assert outcome.result == 4
    lane.close()


def test_a_lane_whose_scheduler_is_gone_says_so_whatever_it_is_asked(client: Client) -> None:
    lane = DaskLane(client)
    client.close()
    with pytest.raises(SchedulerLostError, match="scheduler at tcp://127"), lane.sharing(SceneState()):
        pass
    with pytest.raises(SchedulerLostError):
        lane.submit(Call(key="a", function=double, argument=2, time_limit_s=60))
    with pytest.raises(SchedulerLostError):
        str(lane.dashboard)
    lane.close()


def test_the_call_that_is_overdue_first_is_looked_at_first(client: Client) -> None:
    lane = DaskLane(client)
    for key, limit_s in (("a", 900), ("b", 60), ("c", 300)):
        lane.submit(Call(key=key, function=double, argument=2, time_limit_s=limit_s))
        lane._note_start((0.0, (key, "tcp://127.0.0.1:1")))
    overdue = lane._next_overdue()
    assert overdue is not None
    assert overdue[1] == "b"
    lane.close()
