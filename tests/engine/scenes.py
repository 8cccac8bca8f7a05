"""Running a fake scene from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.protocols import Observer
from scenefuse.engine.resident import ModelHandle
from scenefuse.engine.retry import RetryPolicy
from scenefuse.engine.run import FusionJob, RunReport, fuse_scene
from tests.engine.fakes import NpySink, Setting, load_fake


def request(**changes: Any) -> PlanRequest:
    return PlanRequest(**{"workers": 2, "worker_memory_bytes": 4 * 2**30, "halo": "full", **changes})


def job_of(setting: Setting, sink: NpySink, *, lane: Lane | None = None, **changes: Any) -> FusionJob:
    handle = ModelHandle(ref=setting.ref, load=load_fake)
    plan: RunPlan = plan_run(setting.source, load_fake(setting.ref).card, request(**changes))
    state = prepare(setting.source, Preparation(model=handle), lane=lane)
    return FusionJob(source=setting.source, model=handle, state=state, sink=sink, plan=plan, identity="test")


def run_job(
    job: FusionJob, folder: Path, *, lane: Lane | None = None, observer: Observer | None = None, **retry_policy: Any
) -> RunReport:
    with Ledger(folder / "ledger.jsonl", job.sha256) as ledger:
        return fuse_scene(
            job,
            lane=lane or InProcessLane(),
            ledger=ledger,
            observer=observer or NullObserver(),
            retry_policy=RetryPolicy(**{"backoff_s": 0.05, **retry_policy}),
        )


def fused_scene(
    setting: Setting, folder: Path, *, lane: Lane | None = None, **changes: Any
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Fused pixels, (band, y, x), and quality, (y, x), of a whole run."""
    folder.mkdir(parents=True, exist_ok=True)
    sink = NpySink(folder=folder)
    job = job_of(setting, sink, lane=lane, **changes)
    run_job(job, folder, lane=lane)
    core = job.plan.tiling.core_px
    shape = setting.source.grid.fine_shape
    return sink.assembled("fused", shape, core), sink.assembled("quality", shape, core)
