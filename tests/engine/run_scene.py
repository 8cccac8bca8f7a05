"""A small slow run in a process of its own, to be killed: `python -m tests.engine.run_scene FOLDER WORKERS`."""

from __future__ import annotations

import sys
from pathlib import Path

from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.lease import Lease
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.run import FusionJob, fuse_scene
from tests.engine.fakes import AnalyticSource, NpySink, Setting
from tests.engine.scenes import job_of

SETTING = Setting(source=AnalyticSource(coarse_shape=(64, 96), ratio=3), options={"stages": True, "delay_s": 0.06})
GROUP_WORKERS = 6
"""Workers that the plan is made for: groups of four tiles."""


def slow_job(folder: Path) -> FusionJob:
    return job_of(SETTING, NpySink(folder=folder), core_px=48, workers=GROUP_WORKERS)


def main(folder: Path, workers: int) -> None:
    with Lease(folder / "run.lease") as lease, open_lane(ClusterSpec(workers=workers)) as lane:
        job = slow_job(folder)
        with Ledger(folder / "ledger.jsonl", job.sha256, lease=lease) as ledger:
            fuse_scene(job, lane=lane, ledger=ledger, observer=NullObserver())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
