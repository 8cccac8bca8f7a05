"""One run in a process of its own, pinned to one core, with one thread: its times and its peak memory.

Processes are forked from one that has imported every library and run nothing, so that a run starts at once and its
peak counts from the same base for all.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from scenefuse.engine.group import peak_rss_bytes
from scenefuse.engine.resident import resident_model
from scenefuse.engine.state_file import load_state
from scenefuse.engine.worker_environment import WORKER_ENVIRONMENT
from tests.bench.tiling.contest import Case, Clock
from tests.bench.tiling.contestants import LANES, Lane
from tests.bench.tiling.models import handle_of
from tests.bench.tiling.ours import freeze
from tests.bench.tiling.rivals import whole
from tests.models.whole import fuse_whole

MEMORY_SHARE = 0.7
"""Share of the free memory that the whole-image reference may take."""

FROZEN = "frozen"
"""The whole scene in one window, extended by its mirror image, with our frozen statistics."""
PLAIN = "plain"
"""The whole scene in one window as rivals see it: zeros outside, its own statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contestant on one case, once. Picklable."""

    case: Case
    """What is fused."""
    lane: Lane
    """From where to where."""
    contestant: str
    """Who."""
    keep: bool = False
    """Whether the result is kept for comparison."""


def alone(function: Callable[[Any], Any], argument: Any) -> Any:
    """What the function returns in a new process of its own."""
    os.environ.update(WORKER_ENVIRONMENT)  # as our workers have it, for all alike
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.tiling.measure"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, argument).result()


def measure(run: Run) -> dict[str, Any]:
    """Times in seconds, peak memory in bytes, and the contestant's own figures."""
    _one_core()
    contestant = LANES[run.lane][run.contestant]
    clock = Clock()
    base = peak_rss_bytes()
    work = Path(tempfile.mkdtemp(dir=run.case.scene.folder))
    try:
        outcome = contestant(run.case, clock, work)
        peak = peak_rss_bytes()
        if run.keep and outcome.image is not None:
            np.save(run.case.image_path(run.lane, run.contestant), outcome.image())
    finally:
        shutil.rmtree(work)
    return {
        "wall_s": clock.wall_s,
        "cpu_s": clock.cpu_s,
        "peak_rss_bytes": peak,
        "base_rss_bytes": base,
        "computed_px": outcome.computed_px,
        "coverage": outcome.coverage,
        "cuts": outcome.cuts,
        **outcome.facts,
    }


def ready(case: Case) -> dict[str, Any]:
    """The scene's files and the model's state made, where they are not there yet, and facts of the model."""
    _one_core()
    case.scene.open("cog")
    preparing = Clock()
    with preparing.running():
        freeze(case)
    card = resident_model(handle_of(case.ref)).card
    sizes = {name: getattr(card, name) for name in ("support_px", "halo_px", "effective_px", "lattice_px")}
    needed = card.activation_bytes_per_pixel * (case.scene.side_px + 2 * card.support_px) ** 2
    return {
        **sizes,
        "mmac_per_px": card.multiply_adds_per_pixel / 1e6,
        "statistics": card.statistics,
        "prepare_s": preparing.wall_s,
        "whole_fits": needed < MEMORY_SHARE * psutil.virtual_memory().available,
    }


def reference(job: tuple[Case, str]) -> dict[str, Any]:
    """Times and peak memory of a whole image, now kept for comparison."""
    case, kind = job
    _one_core()
    clock, base = Clock(), peak_rss_bytes()
    if kind == PLAIN:
        image = whole(case, clock)
    else:
        model, state = resident_model(handle_of(case.ref)), load_state(case.state_path)
        hs, ms = case.scene.arrays()
        with clock.running():
            image = fuse_whole(model, hs, ms, state)
    peak = peak_rss_bytes()
    np.save(case.image_path("whole", kind), image)
    return {**asdict(clock), "peak_rss_bytes": peak, "base_rss_bytes": base, "computed_px": None, "coverage": (1, 1)}


def _one_core() -> None:
    """Pin this thread, and those that it will start, to the last core of this machine."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
