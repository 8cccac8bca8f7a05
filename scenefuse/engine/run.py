"""Fuse a scene: a lane works off its groups, and each is recorded once its cores are stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import Any

from scenefuse.cube.source import PairSource
from scenefuse.engine.budget import RunPlan
from scenefuse.engine.group import GroupReport, GroupTask, fuse_group
from scenefuse.engine.lanes import Lane
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.loop import LoopSeconds
from scenefuse.engine.protocols import Event, Observer, Sink, TileReceipts
from scenefuse.engine.resident import ModelHandle
from scenefuse.engine.retry import RetryPolicy, TaskFailure, Work, work_off
from scenefuse.errors import WorkError
from scenefuse.models.state import SceneState
from scenefuse.tiles.tiling import Tile
from scenefuse.words import counted

_CHECK_THREADS = 8
"""Tiles of the ledger checked at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionJob:
    """What to fuse, with which method, into what."""

    source: PairSource
    """The pair."""
    model: ModelHandle
    """The method."""
    state: SceneState
    """The scene's state, from preparation."""
    sink: Sink
    """Where cores go; already laid out."""
    plan: RunPlan
    """How the scene is cut."""
    identity: str
    """The product's identity: inputs, weights, method and options that change pixel values."""

    @property
    def sha256(self) -> str:
        """Digest of everything that the stored bytes depend on; identifies the ledger."""
        return self.plan.sha256_with(f"{self.identity}|{self.model.key}|{self.state.sha256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The outcome of a run."""

    tiles: int
    """Tiles of the plan."""
    skipped: int
    """Tiles finished by earlier runs, checked again."""
    seconds: float
    """Wall time."""
    fine_px: int
    """Fine pixels written by this run."""
    loop_seconds: dict[str, float]
    """Total seconds of all workers, by the fields of LoopSeconds: read, compute, write, starved, ..., whole."""
    peak_rss_bytes: int
    """Largest resident size among the workers."""
    batch: int
    """Smallest batch used."""
    hosts: tuple[str, ...]
    """Machines that took part."""
    finished: dict[tuple[int, int], TileReceipts]
    """Receipts of every finished tile of the plan, by (iy, ix)."""
    failures: tuple[TaskFailure, ...] = ()
    """Groups that were given up."""

    def facts(self) -> dict[str, Any]:
        """The numbers in JSON types, for run.json."""
        return {
            "tiles": self.tiles,
            "skipped": self.skipped,
            "finished": len(self.finished),
            "failed_groups": len(self.failures),
            "seconds": self.seconds,
            "fine_px": self.fine_px,
            "loop_seconds": dict(self.loop_seconds),
            "peak_rss_bytes": self.peak_rss_bytes,
            "batch": self.batch,
            "hosts": list(self.hosts),
        }


class IncompleteRunError(WorkError):
    """Some groups failed; the others are finished and kept."""

    def __init__(self, value: str, consequence: str, cure: str, report: RunReport | None = None) -> None:
        super().__init__(value, consequence, cure)
        self.report = report
        """What was done, with each failure."""


def fuse_scene(
    job: FusionJob,
    *,
    lane: Lane,
    ledger: Ledger,
    observer: Observer,
    retry_policy: RetryPolicy | None = None,
) -> RunReport:
    """Fuse every tile that the ledger does not prove finished; raises IncompleteRunError if groups failed.

    ledger: this job's own, `Ledger(path, job.sha256, lease=...)`.
    """
    began = time.monotonic()
    retry_policy = retry_policy or RetryPolicy(time_limit_s=job.plan.time_limit_s)
    finished = proven_tiles(ledger, job.sink)
    groups = job.plan.tiling.groups(job.plan.group_tiles)
    waiting = [(n, group) for n, group in enumerate(groups) if any(_place(tile) not in finished for tile in group)]
    # A group is redone as a whole, because the windows of a batch stay together.
    skipped = job.plan.tiles - sum(len(group) for _, group in waiting)
    observer.notify(Event(kind="plan", facts={**job.plan.facts(), "skipped": skipped, "waiting_groups": len(waiting)}))
    tally = _Tally(observer=observer, tiles=job.plan.tiles, done=skipped)
    with lane.sharing(job.state) as digest:
        names = f"fuse-{job.sha256[:24]}"
        works = [_work(job, digest, f"{names}-{number}", group) for number, group in waiting]
        for work, result in work_off(works, lane, retry_policy=retry_policy, observer=observer):
            if isinstance(result, TaskFailure):
                tally.fail(result)
                continue
            ledger.record(result.tiles)
            finished |= {(tile.iy, tile.ix): tile for tile in result.tiles}
            tally.add(work, result)
    report = replace(
        tally.report(),
        skipped=skipped,
        seconds=time.monotonic() - began,
        finished=finished,
        batch=tally.batch(job.plan),
    )
    observer.notify(Event(kind="done", facts=report.facts()))
    if report.failures:
        raise IncompleteRunError(
            f"{len(report.failures)} of {counted(len(groups), 'group')} failed, "
            f"the first with: {report.failures[0].cause}",
            "the product is not complete and is not published",
            "Run again: finished tiles are kept and skipped",
            report,
        )
    return report


def proven_tiles(ledger: Ledger, sink: Sink) -> dict[tuple[int, int], TileReceipts]:
    """Tiles of the ledger, by (iy, ix), whose shards the sink still holds with the receipts' sizes and digests."""
    entries = ledger.entries
    with ThreadPoolExecutor(_CHECK_THREADS) as pool:
        held = pool.map(lambda tile: all(sink.holds(receipt) for receipt in tile.receipts), entries.values())
        return {place: tile for (place, tile), whole in zip(entries.items(), held, strict=True) if whole}


def _place(tile: Tile) -> tuple[int, int]:
    return tile.iy, tile.ix


def _work(job: FusionJob, state_sha256: str, name: str, tiles: Sequence[Tile]) -> Work:
    task = GroupTask(
        tiles=tuple(tiles),
        source=job.source,
        sink=job.sink,
        model=job.model,
        state_sha256=state_sha256,
        precision=job.plan.precision,
        batch=job.plan.batch,
        encoders=job.plan.encoders,
    )
    return Work(
        name=name,
        function=fuse_group,
        argument=task,
        shrink=_smaller,
        facts={"group": int(name.rpartition("-")[2]), "tiles": [list(_place(tile)) for tile in tiles]},
    )


def _smaller(task: GroupTask) -> GroupTask | None:
    """The task with half the batch; None if the batch is already 1."""
    return replace(task, batch=task.batch // 2) if task.batch > 1 else None


@dataclass(kw_only=True)
class _Tally:
    """Running totals of the groups that have ended, reported to the observer group by group."""

    observer: Observer
    tiles: int
    done: int
    reports: list[GroupReport] = field(default_factory=list)
    failures: list[TaskFailure] = field(default_factory=list)

    def add(self, work: Work, report: GroupReport) -> None:
        self.reports.append(report)
        self.done += len(report.tiles)
        self.observer.notify(
            Event(
                kind="group",
                facts={
                    **work.facts,
                    "done": self.done,
                    "of": self.tiles,
                    "fine_px": report.fine_px,
                    "seconds": _seconds([report]),
                    "peak_rss_bytes": report.peak_rss_bytes,
                    "batch": report.batch,
                    "host": report.host,
                    "pid": report.pid,
                },
            )
        )

    def fail(self, failure: TaskFailure) -> None:
        self.failures.append(failure)
        facts = {**failure.facts, "type": failure.kind, "cause": failure.cause, "attempts": failure.attempts}
        self.observer.notify(Event(kind="warning", facts=facts))

    def batch(self, plan: RunPlan) -> int:
        return min((report.batch for report in self.reports), default=plan.batch)

    def report(self) -> RunReport:
        return RunReport(
            tiles=self.tiles,
            skipped=0,
            seconds=0.0,
            fine_px=sum(report.fine_px for report in self.reports),
            loop_seconds=_seconds(self.reports),
            peak_rss_bytes=max((report.peak_rss_bytes for report in self.reports), default=0),
            batch=1,
            hosts=tuple(sorted({report.host for report in self.reports})),
            finished={},
            failures=tuple(self.failures),
        )


def _seconds(reports: Sequence[GroupReport]) -> dict[str, float]:
    names = [part.name for part in fields(LoopSeconds)]
    return {name: sum(getattr(report.seconds, name) for report in reports) for name in names}
