"""The check that every run makes of its own result: do tiles agree at their seams, does bf16 drift, what was clipped?

A few small windows across seams are recomputed with all the context that the model can use and compared with what is
stored. Tiles that had the full halo show no difference; a halo that is too short shows as a step. Differences are
quantised to the stored integers, 1e-4: smaller errors move only a few values by one step, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.group import GroupTask, fuse_group
from scenefuse.engine.lanes import Lane
from scenefuse.engine.loop import batched
from scenefuse.engine.precision import Precision
from scenefuse.engine.protocols import EncodedShard, Observer, ShardReceipt
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.engine.retry import GivenUpError, RetryPolicy, TaskFailure, Work, results_in_order, work_off
from scenefuse.engine.run import FusionJob
from scenefuse.metrics.seams import SEAM_P999_BUDGET, SEAM_RMS_BUDGET, SeamSums
from scenefuse.models.base import ModelCard
from scenefuse.place.place import Place
from scenefuse.product.place_store import open_array
from scenefuse.product.shards import decode_reflectance, encode_reflectance, open_level
from scenefuse.product.spec import ProductSpec
from scenefuse.tiles.seams import at_seam, seam_tiles
from scenefuse.tiles.tiling import Tile

SAMPLE_WINDOWS = 4
"""Windows to recompute, spread over the scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """What a run found in its own result; it depends only on the product, not on what computed it."""

    windows: int
    """Windows that were recomputed."""
    seams: Mapping[str, float] | None
    """`rms`, `p999` and `max` of the steps at seams, reflectance; None if no seam was checked."""
    drift: Mapping[str, float] | None
    """The same figures for the stored result against one in float32; None for a result in float32."""
    not_finite_px: int
    """Pixels of the windows with data in both images but no finite result."""
    clipped_px: int = 0
    """Pixels of the whole product that left the range of the stored integers in some band and were clipped."""

    def facts(self) -> dict[str, Any]:
        """The check as JSON-compatible values."""
        return {
            "windows": self.windows,
            "seams": None if self.seams is None else dict(self.seams),
            "drift": None if self.drift is None else dict(self.drift),
            "not_finite_px": self.not_finite_px,
            "clipped_px": self.clipped_px,
        }

    def warnings(self) -> tuple[str, ...]:
        """Warnings for people: seams over budget, results that are not finite."""
        found = []
        if self.seams and (self.seams["rms"] > SEAM_RMS_BUDGET or self.seams["p999"] > SEAM_P999_BUDGET):
            found.append(
                f"Tiles disagree at their seams by {self.seams['rms']:.1e} rms, {self.seams['p999']:.1e} at the 99.9th "
                f"percentile (budget {SEAM_RMS_BUDGET:.1e} and {SEAM_P999_BUDGET:.1e}): the halo is too short for this "
                "scene, use --halo full"
            )
        if self.not_finite_px:
            found.append(
                f"{self.not_finite_px} px of the sample have data but no finite result: they are flagged not_finite; "
                "use --precision fp32"
            )
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCheck:
    """Comparison of one window with the store."""

    seams: SeamSums
    """Differences at the seams."""
    everywhere: SeamSums
    """Differences over all pixels of the window."""
    not_finite_px: int
    """Pixels with data but no finite result, stored or recomputed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckingSink:
    """A Sink that stores nothing but compares each window with the store."""

    store: Path | Place
    """The store `fused.zarr`."""
    spec: ProductSpec
    """The arrays."""
    found: list[WindowCheck] = field(default_factory=list)
    """Comparisons so far, in order of encoding; stays in this process."""

    def encode(self, tile: Tile, fused: NDArray[np.float32], quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
        """Compare the window and append to found; there are no shards."""
        integers, flags = encode_reflectance(fused, quality, self.spec)
        stored = np.asarray(open_level(self.store, 1)[(slice(None), *tile.core.slices)])
        now, then = (
            decode_reflectance(each, scale=self.spec.scale, nodata=self.spec.nodata) for each in (integers, stored)
        )
        near = at_seam(tile.core, self.spec.core_px, self.spec.grid.fine_shape)
        lost = np.isnan(then).any(axis=0) & ((flags & np.uint8(QualityFlag.NODATA)) == 0)
        lost |= (flags & np.uint8(QualityFlag.NOT_FINITE)) != 0
        self.found.append(
            WindowCheck(
                seams=SeamSums().add(now[:, near], then[:, near]),
                everywhere=SeamSums().add(now, then),
                not_finite_px=int(np.count_nonzero(lost)),
            )
        )
        return ()

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:  # noqa: ARG002 - the engine's protocol
        """No receipts: there are no shards."""
        return ()

    def holds(self, receipt: ShardReceipt) -> bool:  # noqa: ARG002 - the engine's protocol
        """False: nothing is held."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTask:
    """Windows to compute and compare; the sink's findings stay in the process that runs it. Picklable."""

    group: GroupTask
    """What to fuse."""
    sink: CheckingSink
    """What to compare it with."""


def check_windows(task: CheckTask) -> list[WindowCheck]:
    """Comparisons of the task's windows, in order."""
    sink = replace(task.sink, found=[])
    fuse_group(replace(task.group, sink=sink))
    return sink.found


def check_product(job: FusionJob, card: ModelCard, sink: CheckingSink, *, lane: Lane, observer: Observer) -> SelfCheck:
    """Check a sample of the seams between a job's finished tiles, and count what was clipped; needs every shard."""
    tiling, precision = job.plan.tiling, job.plan.precision
    clipped_px = _clipped_px(sink.store, sink.spec)
    seamless = len(tiling) == 1
    if seamless and precision == "fp32":
        return SelfCheck(windows=0, seams=None, drift=None, not_finite_px=0, clipped_px=clipped_px)
    tiles = seam_tiles(tiling, reach_px=max(card.support_px, card.effective_px), count=SAMPLE_WINDOWS)
    precisions: tuple[Precision, ...] = (precision,) if precision == "fp32" else (precision, "fp32")
    with lane.sharing(job.state) as digest:
        task = GroupTask(
            tiles=tiles,
            source=job.source,
            sink=sink,
            model=job.model,
            state_sha256=digest,
            precision=precision,
            batch=job.plan.batch,
        )
        works = [
            Work(
                name=f"check-{job.sha256[:24]}-{each}-{number}",
                function=check_windows,
                argument=CheckTask(group=replace(task, tiles=tuple(some), precision=each), sink=sink),
                facts={"check": each, "group": number},
            )
            for each in precisions
            for number, some in enumerate(batched(tiles, job.plan.batch))
        ]
        ended = work_off(works, lane, retry_policy=RetryPolicy(), observer=observer)
        found = list(zip(works, results_in_order(works, ended, _stopped_by), strict=True))
    same = [check for work, checks in found for check in checks if work.facts["check"] == precision]
    single = [check for work, checks in found for check in checks if work.facts["check"] == "fp32"]
    return SelfCheck(
        windows=len(tiles),
        seams=_scores([check.seams for check in same]),
        drift=None if precision == "fp32" else _scores([check.everywhere for check in single]),
        not_finite_px=sum(check.not_finite_px for check in same),
        clipped_px=clipped_px,
    )


def _clipped_px(store: Path | Place, spec: ProductSpec) -> int:
    """Pixels flagged CLIPPED, read core by core: flags compress to next to nothing."""
    flags = open_array(store, "quality")
    cores = (np.asarray(flags[spec.core_window(core).slices]) for core in spec.level_cores(1))
    return sum(int(np.count_nonzero(core & np.uint8(QualityFlag.CLIPPED))) for core in cores)


def _stopped_by(_: Work, failure: TaskFailure) -> GivenUpError:
    return GivenUpError(
        f"A window across seams failed: {failure.cause}",
        "the product cannot be checked and is not published",
        "Run again: finished tiles are kept and skipped",
        failure,
    )


def _scores(sums: Sequence[SeamSums]) -> dict[str, float] | None:
    """rms, p999 and max over all windows; None if nothing was compared."""
    total = SeamSums()
    for each in sums:
        total = total.merge(each)
    if not total.count:
        return None
    return {name.removeprefix("seam_"): value for name, value in total.scores().items()}
