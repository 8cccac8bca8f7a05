"""Preparation: determine, stage by stage, what must be known of a whole scene before its first tile.

Each stage measures fixed parts of the scene and concludes from the sum of its measurements. The parts and the order of
summation depend on the scene alone, so the state is the same whatever the workers.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.cube.source import PairSource
from scenefuse.engine.budget import MULTIPLY_ADDS_PER_S
from scenefuse.engine.fill import FillStage
from scenefuse.engine.known_states import KnownStates
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.precision import repeatable
from scenefuse.engine.protocols import Event, Observer
from scenefuse.engine.resident import ModelHandle, resident_model, resident_state
from scenefuse.engine.retry import GivenUpError, RetryPolicy, TaskFailure, Work, results_in_order, work_off
from scenefuse.engine.sampling import Places, Sampling, block_runs, block_sample, cut_blocks, patch_candidates
from scenefuse.engine.windows import cut_scene_window, read_scene_window, valid_fraction
from scenefuse.errors import DataError, SceneFuseError
from scenefuse.models.base import FusionModel, SceneWindow, Stage
from scenefuse.models.state import SceneState
from scenefuse.tiles.tiling import lattice_px

Measurement = dict[str, NDArray[Any]]

_MEASURED_BYTES_PER_S = 4e7
"""Rough rate at which a CPU core reads and measures float32 pixels: 64 blocks of 31 + 4 bands at ratio 4 take 2.3 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What to determine about a scene."""

    stages: tuple[Stage, ...] = ()
    """Observation stages, small and picklable; they run before the model's."""
    model: ModelHandle | None = None
    """The method; its own stages are taken from it in each worker and never sent."""
    sampling: Sampling = field(default_factory=Sampling)
    """Which parts of the scene the stages measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureTask:
    """Measure one part of the scene for a stage. Picklable."""

    source: PairSource
    """Where pixels come from."""
    stage: Stage | None
    """The stage itself; None for a stage of the model."""
    model: ModelHandle | None
    """Handle of the model whose stage it is; the worker builds the model, so that it is not sent."""
    index: int
    """Index of the stage among the model's stages."""
    state_sha256: str
    """Digest of the state left by earlier stages, shared by the lane."""
    places: Places = ()
    """Candidate places: the first with enough data is measured, block by block if the stage measures blocks."""
    least_valid: float = 0.0
    """Share of data that a place must have, 0 to 1."""


def prepare(
    source: PairSource,
    preparation: Preparation,
    *,
    lane: Lane | None = None,
    observer: Observer | None = None,
    retry_policy: RetryPolicy | None = None,
    known: KnownStates | None = None,
) -> SceneState:
    """Determine the frozen state of a scene: the fill spectra, then the given stages, then the model's own.

    Without a lane everything runs in this process. DataError if no pixel has data in both images.
    known: supplies stages that an earlier run finished, and keeps those that take long.
    """
    lane = lane or InProcessLane()
    observer = observer or NullObserver()
    retry_policy = retry_policy or RetryPolicy()
    state = SceneState(facts={"ratio": source.grid.ratio, "phase_px": list(source.grid.phase_px)})
    plan = _stages(preparation)
    names, shared = [stage.name for stage, _ in plan], 1 + len(preparation.stages)
    done = 0
    if known is not None and (found := known.latest(names, shared)) is not None:
        done, state = found
        observer.notify(Event(kind="known", facts={"stages": names[:done]}))
    for number, (stage, index) in enumerate(plan[done:], start=done + 1):
        began = time.monotonic()
        total: Measurement = {}
        parts = 0
        if stage.where != "nowhere":
            with lane.sharing(state) as digest:
                task = MeasureTask(
                    source=source,
                    stage=stage if index is None else None,
                    model=preparation.model if index is not None else None,
                    index=index or 0,
                    state_sha256=digest,
                )
                for sample in _samples(source, preparation, stage):
                    tasks = [replace(task, places=places, least_valid=sample.least_valid) for places in sample.parts]
                    works = _works(tasks, stage)
                    ended = work_off(works, lane, retry_policy=retry_policy, observer=observer)
                    measured: list[Measurement] = list(chain(*results_in_order(works, ended, _stopped_by)))
                    if len(measured) >= sample.least_found * len(works):
                        break
                total, parts = _sum(measured, stage), len(measured)
        state = stage.conclude(total, state)
        seconds = time.monotonic() - began
        if known is not None:
            known.keep(names[:number], shared, state, seconds)
        observer.notify(Event(kind="stage", facts={"stage": stage.name, "parts": parts, "seconds": seconds}))
    return state


def preparation_seconds(source: PairSource, preparation: Preparation, *, workers: int) -> float:
    """Rough seconds that `prepare` takes, from typical rates, for the first sample of each stage.

    A stage that finds too little data measures more; stages known from an earlier run take no time.
    """
    coarse_px_bytes = 4 * (len(source.hs_bands) + len(source.ms_bands) * source.grid.ratio**2)
    seconds = 0.0
    for stage, _ in _stages(preparation):
        if stage.where == "nowhere":
            continue
        parts = next(_samples(source, preparation, stage)).parts
        coarse_px = sum(math.prod(places[0].shape) for places in parts)
        alone = coarse_px * coarse_px_bytes / _MEASURED_BYTES_PER_S
        if stage.where == "sample" and preparation.model is not None:
            multiply_adds = _planned(preparation.model).card.multiply_adds_per_pixel * coarse_px * source.grid.ratio**2
            alone += multiply_adds / MULTIPLY_ADDS_PER_S[preparation.model.device]
        seconds += alone / min(workers, len(parts))
    return seconds


def _stages(preparation: Preparation) -> list[tuple[Stage, int | None]]:
    """All stages in order; those of the model with their index among its own, the others with None."""
    plan: list[tuple[Stage, int | None]] = [(stage, None) for stage in (FillStage(), *preparation.stages)]
    if preparation.model is not None:
        plan += [(stage, index) for index, stage in enumerate(_planned(preparation.model).stages())]
    return plan


def measure(task: MeasureTask) -> list[Measurement]:
    """Measure one task; returns its measurements reduced to one, or an empty list if no place had enough data."""
    state = resident_state(task.state_sha256)
    stage = task.stage
    if stage is None:
        if task.model is None:
            raise ValueError("A MeasureTask has a stage or a model")
        stage = resident_model(task.model).stages()[task.index]
    with repeatable(task.model.device if task.model else "cpu", "fp32"):
        found = [stage.measure(window, state) for window in _windows(task, stage, state)]
    return [_reduce(found, stage)] if found else []


def _planned(model: ModelHandle) -> FusionModel:
    """The model as the coordinator needs it: on the CPU, because the GPU's memory belongs to the workers."""
    return resident_model(replace(model, device="cpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Parts of a scene that are measured together."""

    parts: tuple[Places, ...]
    """Candidate places of each part."""
    least_valid: float = 0.0
    """Share of data that a part must have, 0 to 1."""
    least_found: float = 0.0
    """Share of parts that must have enough data, 0 to 1; otherwise the next sample is taken."""


def _samples(source: PairSource, preparation: Preparation, stage: Stage) -> Iterator[_Sample]:
    """Samples for a stage: each is used if the one before has too little data."""
    shape, sampling = source.grid.coarse_shape, preparation.sampling
    if stage.where == "sample":
        ratio, model = source.grid.ratio, preparation.model
        lattice = lattice_px(model_lattice_px=_planned(model).card.lattice_px if model is not None else 1, ratio=ratio)
        patches = patch_candidates(shape, sampling, ratio=ratio, lattice_px=lattice)
        yield _Sample(parts=patches, least_valid=sampling.least_valid)
        return
    blocks = block_sample(shape, sampling)
    if blocks is not None:
        yield _Sample(parts=blocks, least_valid=sampling.least_valid, least_found=sampling.least_found)
    yield _Sample(parts=tuple((run,) for run in block_runs(shape)))


def _works(tasks: Sequence[MeasureTask], stage: Stage) -> list[Work]:
    salt = hashlib.sha256(repr((stage.name, [task.places for task in tasks])).encode()).hexdigest()[:16]
    return [
        Work(
            name=f"measure-{salt}-{task.state_sha256[:16]}-{number}",
            function=measure,
            argument=task,
            facts={"stage": stage.name, "part": number},
        )
        for number, task in enumerate(tasks)
    ]


def _stopped_by(work: Work, failure: TaskFailure) -> SceneFuseError:
    """The error of a stage for which a task was given up."""
    name = work.facts["stage"]
    if failure.kind == "data":
        return DataError(
            f"Stage {name} failed on the input: {failure.cause}",
            "the scene cannot be measured, and therefore not fused",
            "Correct the input",
        )
    return GivenUpError(
        f"Stage {name} failed: {failure.cause}",
        "no tile can be fused until it is done",
        "Run again" if failure.retryable else "See the cause; if it does not explain itself, it is a bug",
        failure,
    )


def _sum(found: Sequence[Measurement], stage: Stage) -> Measurement:
    if not found:
        raise DataError(
            f"Stage {stage.name} found no patch with enough data",
            "the model's scene statistics cannot be measured",
            "Use a pair that shares more valid pixels, or a method without patch statistics",
        )
    return _reduce(found, stage)


def _windows(task: MeasureTask, stage: Stage, state: SceneState) -> Iterator[SceneWindow]:
    for place in task.places:
        window = read_scene_window(task.source, place, margin=stage.margin, state=state)
        if task.least_valid and valid_fraction(window) < task.least_valid:
            continue
        if stage.where == "sample":
            yield window
            return
        for block in cut_blocks(place):
            yield cut_scene_window(window, *block.within(place))
        return


def _reduce(found: Sequence[Measurement], stage: Stage) -> Measurement:
    total = dict(found[0])
    for part in found[1:]:
        if part.keys() != total.keys():
            raise ValueError(f"Stage {stage.name} measured {sorted(part)} after {sorted(total)}")
        for name, value in part.items():
            total[name] = total[name] + value if stage.reduce == "sum" else np.concatenate([total[name], value])
    return total
