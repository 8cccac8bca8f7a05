from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.protocols import EncodedShard, ShardReceipt
from tests.engine.fakes import AnalyticSource, NpySink, Setting
from tests.engine.scenes import job_of, run_job


class NullSink(NpySink):
    """Stores nothing."""

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:
        assert all(shard.data for shard in shards)
        return ()


def peak_bytes(folder: Path, coarse_px: int) -> tuple[int, int]:
    """Peak resident size of the one worker, measured and planned."""
    folder.mkdir()
    source = AnalyticSource(coarse_shape=(coarse_px, coarse_px), ratio=4)
    setting = Setting(source=source, options={"layers": 1, "bytes": 120.0})
    with open_lane(ClusterSpec(workers=1, memory_limit_bytes=3 * 2**30)) as lane:
        job = job_of(setting, NullSink(folder=folder), lane=lane, workers=1)
        report = run_job(job, folder, lane=lane)
    return report.peak_rss_bytes, job.plan.worker_bytes


@pytest.mark.slow
def test_peak_memory_is_flat_from_4_to_16_mpx_and_below_the_plan(tmp_path: Path) -> None:
    small, planned = peak_bytes(tmp_path / "4", 512)
    large, _ = peak_bytes(tmp_path / "16", 1024)
    assert large < 1.1 * small
    assert large < planned
