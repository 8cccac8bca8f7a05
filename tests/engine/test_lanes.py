from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

from scenefuse.engine.lanes import Call, DaskLane
from scenefuse.errors import ResourceError

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
