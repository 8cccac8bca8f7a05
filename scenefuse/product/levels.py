"""Overviews and the COG, made from finished shards core by core, on workers if there are any."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Observer
from scenefuse.engine.retry import GivenUpError, RetryPolicy, TaskFailure, Work, results_in_order, work_off
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.cog import CogPart, assemble, check_part, write_part, wrong_pixels
from scenefuse.product.files import COG
from scenefuse.product.overviews import build_overview
from scenefuse.product.spec import LevelCore, ProductSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreTask:
    """A task on one core. Picklable."""

    folder: Place
    """The product's folder."""
    spec: ProductSpec
    """The arrays."""
    core: LevelCore
    """The core."""
    parts_in: Path | None = None
    """Scratch folder for the core's part of the COG."""
    part: CogPart | None = None
    """The core's part of the COG, to be compared."""
    cog: Path | None = None
    """The file to compare it with."""

    @property
    def needs_scratch(self) -> bool:
        """True if the task works on files that only this machine may see."""
        return self.parts_in is not None or self.cog is not None


def make_overviews(
    folder: Path | Place,
    spec: ProductSpec,
    *,
    parts_in: Path | None = None,
    lane: Lane | None = None,
    observer: Observer | None = None,
) -> tuple[CogPart, ...]:
    """Store every overview shard, from the finest level up; with parts_in, return the parts of the COG made there.

    A level is coded for the COG while the level above is made from it.
    """
    crew = _Crew(place_at(folder), spec, lane or InProcessLane(), observer or NullObserver())
    parts: list[CogPart] = []
    for factor in (1, *spec.overview_factors):
        above = spec.level_cores(2 * factor) if 2 * factor in spec.overview_factors else ()
        coded = spec.level_cores(factor) if parts_in is not None else ()
        tasks: list[tuple[Callable[[CoreTask], Any], CoreTask]] = [(_overview, crew.task(core)) for core in above]
        tasks += [(_part, crew.task(core, parts_in=parts_in)) for core in coded]
        parts += [part for part in crew.run(tasks) if part is not None]
    return tuple(parts)


def write_cog(
    folder: Path | Place,
    spec: ProductSpec,
    parts: Iterable[CogPart],
    *,
    lane: Lane | None = None,
    observer: Observer | None = None,
) -> Place:
    """Assemble `fused.tif` in the product's folder from its parts; GDAL reads it back before it is put in place."""
    crew = _Crew(place_at(folder), spec, lane or InProcessLane(), observer or NullObserver())
    parts = tuple(parts)
    target = crew.folder / COG
    with target.writing() as file:
        assemble(file, spec, parts)
        tasks = [(_check, crew.task(part.core, part=part, cog=file)) for part in parts]
        for part, same in zip(parts, crew.run(tasks), strict=True):
            if not same:
                raise wrong_pixels(COG, part.core)
    return target


def _overview(task: CoreTask) -> None:
    build_overview(task.folder, task.spec, task.core)


def _part(task: CoreTask) -> CogPart:
    if task.parts_in is None:
        raise ValueError("A part is written to a folder")
    return write_part(task.folder, task.spec, task.core, task.parts_in)


def _check(task: CoreTask) -> bool:
    if task.part is None or task.cog is None:
        raise ValueError("A part is compared with a file")
    return check_part(task.cog, task.spec, task.part)


@dataclass(frozen=True, slots=True)
class _Crew:
    """Runs tasks on the cores of one product on a lane, or in this process if the lane cannot see scratch files."""

    folder: Place
    spec: ProductSpec
    lane: Lane
    observer: Observer

    def task(
        self, core: LevelCore, *, parts_in: Path | None = None, part: CogPart | None = None, cog: Path | None = None
    ) -> CoreTask:
        return CoreTask(folder=self.folder, spec=self.spec, core=core, parts_in=parts_in, part=part, cog=cog)

    def run(self, tasks: Sequence[tuple[Callable[[CoreTask], Any], CoreTask]]) -> list[Any]:
        """Results in the order of tasks; GivenUpError if one failed for good."""
        salt = hashlib.sha256(str(self.folder.resolved()).encode()).hexdigest()[:16]
        works = [
            Work(
                name=f"{function.__name__[1:]}-{salt}-{task.core.factor}-{task.core.iy}-{task.core.ix}",
                function=function,
                argument=task,
                facts={"step": function.__name__[1:], "core": [task.core.factor, task.core.iy, task.core.ix]},
            )
            for function, task in tasks
        ]
        return results_in_order(works, self._ended(works), _stopped_by)

    def _ended(self, works: Sequence[Work]) -> Generator[tuple[Work, Any | TaskFailure], None, None]:
        """Each work with its result, as it ends."""
        everywhere = self.lane.on_this_machine or self.folder.shares_scratch
        there = [work for work in works if everywhere or not work.argument.needs_scratch]
        here = [work for work in works if work.argument.needs_scratch and not everywhere]
        yield from work_off(there, self.lane, retry_policy=RetryPolicy(), observer=self.observer)
        yield from work_off(here, InProcessLane(), retry_policy=RetryPolicy(), observer=self.observer)


def _stopped_by(work: Work, failure: TaskFailure) -> GivenUpError:
    return GivenUpError(
        f"Core {work.facts['core']} failed in step {work.facts['step']}: {failure.cause}",
        "the product is not complete and is not published",
        "Run again: finished tiles are kept and skipped",
        failure,
    )
