"""What large archives and scenes cost beside the pixels: pairing, searching, planning, scheduling, resuming, preparing.

    python -m tests.bench.archive [--quick] [--json tests/bench/results/archive.json]

Each measurement runs in a process of its own; peak_mib is the largest resident size of that process, grown_mib what it
grew by after its imports and inputs. Bars: 10^5 x 10^5 scenes paired in 60 s and 2 GiB; 10^5 tiles planned and
submitted in seconds, the memory of coordinator and scheduler (here one process) not growing with what waits; less
than a tenth of a 64-Mpx scene's time spent on finding out about it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from scenefuse.archive.pair_search import find_in_archive
from scenefuse.archive.pairing import PairRule, find_pairs
from scenefuse.archive.scene import Scene
from scenefuse.config import RunConfig
from scenefuse.engine.budget import plan_run
from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.group import GroupReport, GroupTask, peak_rss_bytes
from scenefuse.engine.lanes import Call, InProcessLane
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.loop import LoopSeconds
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import ShardReceipt, TileReceipts
from scenefuse.engine.resident import ModelHandle
from scenefuse.engine.retry import RetryPolicy, work_off
from scenefuse.engine.run import FusionJob, _work, fuse_scene, proven_tiles
from scenefuse.models.state import SceneState
from scenefuse.pipeline.fuse import fuse
from scenefuse.sensors.sensor import Role
from scenefuse.workflow.specification import OutputSpec, SourceSpec, Workflow
from scenefuse.workflow.status import look_at_workflow
from tests.bench.archives import HS_COLLECTION, MS_COLLECTION, item_of, write_tiny_archive
from tests.bench.batch_call import BatchCall
from tests.bench.machine import machine
from tests.bench.tiling.scene import BenchScene
from tests.engine.fakes import AnalyticSource, NpySink, Setting, load_fake
from tests.engine.scenes import request
from tests.pipeline.making import HS_NM, MS_NM, write_pair

DAY = datetime(2024, 1, 1, 10, tzinfo=UTC)
CORE_PX = 64
"""Side of the tiles that are planned."""
REVISITS = 50
"""Acquisitions of each MSI tile, spread over two years."""


def pairing(count: int) -> dict[str, Any]:
    """So many HSIs of 30 km, strewn over the tiles of 110 km of which so many MSIs were acquired again and again."""
    hs, ms = strewn_scenes(count)
    meter = Meter()
    found = find_pairs(hs, ms, PairRule(max_gap_hours=72))
    return meter.read() | {"scenes": 2 * count, "pairs": len(found.pairs), "unpaired": len(found.unpaired)}


def strewn_scenes(count: int) -> tuple[list[Scene], list[Scene]]:
    """HSIs and MSIs over as many tiles of a degree as MSIs / REVISITS, in two years."""
    random = np.random.default_rng(0)
    tiles = max(1, count // REVISITS)
    rows = int(np.sqrt(tiles / 2)) + 1
    columns = -(-tiles // rows)
    tile = np.arange(count) % tiles
    corners = np.column_stack((tile % columns, tile // columns)) - (columns / 2, rows / 2)
    ms_days = random.uniform(0, 730, count)
    hs_places = random.uniform((-columns / 2, -rows / 2), (columns / 2, rows / 2), (count, 2))
    hs_days = random.uniform(0, 730, count)
    hs = [_scene("hsi", n, place, 0.28, day) for n, (place, day) in enumerate(zip(hs_places, hs_days, strict=True))]
    ms = [_scene("msi", n, place, 1.05, day) for n, (place, day) in enumerate(zip(corners, ms_days, strict=True))]
    return hs, ms


def _scene(role: Role, number: int, corner: Any, side_deg: float, day: float) -> Scene:
    west, south = map(float, corner)
    lean = 0.15 * side_deg
    ring = [[west + lean, south], [west + side_deg, south + lean], [west + side_deg - lean, south + side_deg]]
    ring += [[west, south + side_deg - lean], ring[0]]
    name = f"{role}-{number:06d}"
    return Scene(
        id=name,
        assets=(),
        href=f"{name}.json",
        role=role,
        acquired=DAY + timedelta(days=float(day)),
        footprint={"type": "Polygon", "coordinates": [ring]},
        cloud_fraction=0.1,
    )


def searching(pairs: int) -> dict[str, Any]:
    """A static catalogue of so many pairs, each item a file, read, understood and paired, as `batch` does first."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue = write_items(Path(folder), pairs)
        meter = Meter()
        rule = PairRule(hs_collection=HS_COLLECTION, ms_collection=MS_COLLECTION)
        found, skipped = find_in_archive([str(catalogue)], rule)
        return meter.read() | {"items": 2 * pairs, "pairs": len(found.pairs), "skipped": len(skipped)}


def write_items(root: Path, pairs: int) -> Path:
    """A static catalogue of so many pairs, each item a file, without rasters."""
    sides = ((HS_COLLECTION, [(nm, 10.0) for nm in HS_NM]), (MS_COLLECTION, list(MS_NM)))
    links = []
    for number in range(pairs):
        for name, bands_nm in sides:
            path = root / f"{name}-{number:05d}.json"
            path.write_text(json.dumps(item_of(f"{path.stem}.tif", number, bands_nm=bands_nm, collection=name)))
            links.append({"rel": "item", "href": f"./{path.name}", "type": "application/geo+json"})
    head = {"type": "Catalog", "stac_version": "1.1.0", "id": "tiny", "description": "Tiny"}
    path = root / "catalog.json"
    path.write_text(json.dumps(head | {"links": links}))
    return path


def looking(pairs: int) -> dict[str, Any]:
    """The status of a workflow of so many pairs, all of them done: item and provenance of one real product, again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = write_pair(root / "one", ratio=4, coarse_shape=(56, 56))
        config = RunConfig(model="gsa", format=("zarr",))
        one = fuse(files.hs, files.ms, out=root / "one-out", config=config, lane=InProcessLane())
        (root / "archive").mkdir()
        write_items(root / "archive", pairs)
        for number in range(pairs):
            names = [f"{collection}-{number:05d}" for collection in (HS_COLLECTION, MS_COLLECTION)]
            product = root / "out" / f"{names[0]}_{names[1]}_gsa_{number:08x}"
            product.mkdir(parents=True)
            provenance = (one.folder / "provenance.json").read_text()
            for name, file in zip(names, files.both, strict=True):
                (root / "archive" / f"{name}.tif").hardlink_to(file)
                provenance = provenance.replace(f'"{Path(file).name}"', f'"{name}.tif"')
            (product / "provenance.json").write_text(provenance)
            (product / f"{product.name}.json").write_bytes(one.item.read_bytes())
            (product / "fused.zarr").mkdir()
        source = SourceSpec(catalogs=(str(root / "archive" / "catalog.json"),))
        output = OutputSpec(products=str(root / "out"))
        rule = PairRule(hs_collection=HS_COLLECTION, ms_collection=MS_COLLECTION)
        workflow = Workflow(name="bench", source=source, output=output, rule=rule, fuse=config)
        meter = Meter()
        found = look_at_workflow(workflow)
        return meter.read() | {"pairs": len(found.pairs), "done": found.count("done")}


def planning(tiles: int) -> dict[str, Any]:
    """One scene of so many tiles: planned, cut into tasks, each task's report recorded, then resumed from the ledger.

    No pixel is read: the lane answers each task with the report of a group that is done.
    """
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter()
        job = job_of_tiles(tiles, Path(folder))
        planned_s = meter.seconds
        with Ledger(Path(folder) / "ledger.jsonl", job.sha256) as ledger:
            report = fuse_scene(job, lane=EchoLane(), ledger=ledger, observer=NullObserver())
        fused_s = meter.seconds
        with Ledger(Path(folder) / "ledger.jsonl", job.sha256) as ledger:
            proven = proven_tiles(ledger, job.sink)
        return meter.read() | {
            "tiles": len(proven),
            "groups": -(-report.tiles // job.plan.group_tiles),
            "plan_s": round(planned_s, 2),
            "tasks_and_ledger_s": round(fused_s - planned_s, 2),
            "resume_s": round(meter.seconds - fused_s, 2),
        }


def job_of_tiles(tiles: int, folder: Path) -> FusionJob:
    """A job of at least so many tiles, whose sink believes every receipt."""
    side = int(np.ceil(np.sqrt(tiles)))
    setting = Setting(source=AnalyticSource(coarse_shape=(CORE_PX // 4 * side, CORE_PX // 4 * side), ratio=4))
    handle = ModelHandle(ref=setting.ref, load=load_fake)
    plan = plan_run(setting.source, load_fake(setting.ref).card, request(core_px=CORE_PX))
    sink = BelievingSink(folder=folder)
    state = SceneState(facts={"ratio": 4})
    return FusionJob(source=setting.source, model=handle, state=state, sink=sink, plan=plan, identity="bench")


class BelievingSink(NpySink):
    """Every shard is there."""

    def holds(self, receipt: ShardReceipt) -> bool:
        return bool(receipt.key)


class EchoLane(InProcessLane):
    """Answers a group with the report of its end."""

    width = 8

    def submit(self, call: Call) -> None:
        super().submit(replace(call, function=report_of))


def report_of(task: GroupTask) -> GroupReport:
    """What a worker tells of a group, without any work."""
    tiles = tuple(
        TileReceipts(
            iy=tile.iy,
            ix=tile.ix,
            receipts=tuple(
                ShardReceipt(key=f"{name}/c/{tile.iy}/{tile.ix}", size_bytes=2**20, sha256=f"{tile.ix:064x}")
                for name in ("reflectance", "quality")
            ),
        )
        for tile in task.tiles
    )
    seconds = LoopSeconds(read=0.0, compute=0.0, write=0.0, starved=0.0, blocked=0.0, drain=0.0, whole=0.0)
    return GroupReport(tiles=tiles, fine_px=1, seconds=seconds, peak_rss_bytes=0, batch=1, host="none", pid=0)


def scheduling(tiles: int) -> dict[str, Any]:
    """The tasks of so many tiles, none of them doing anything, through a real cluster of two workers.

    grown_mib counts from the end of the first tenth: what the client and the scheduler, one process, keep of tasks
    that are done, and of those that wait.
    """
    with tempfile.TemporaryDirectory() as folder, open_lane(ClusterSpec(workers=2)) as lane:
        job = job_of_tiles(tiles, Path(folder))
        groups = job.plan.tiling.groups(job.plan.group_tiles)
        works = [_work(job, job.state.sha256, f"fuse-{n}", group) for n, group in enumerate(groups)]
        task_bytes = len(pickle.dumps(works[0].argument))
        works = [replace(work, function=report_of) for work in works]
        meter, most = Meter(), 0
        for ended, (_, result) in enumerate(work_off(works, lane, retry_policy=RetryPolicy(), observer=NullObserver())):
            if not isinstance(result, GroupReport):
                raise TypeError(result.cause)
            most = max(most, len(scheduler_of(lane).tasks))
            if ended == len(works) // 10:
                meter.weigh()
        kept = scheduler_of(lane)
        return meter.read() | {
            "tasks": len(works),
            "task_bytes": task_bytes,
            "most_tasks_in_scheduler": most,
            "left_in_scheduler": len(kept.tasks),
            "task_groups": len(kept.task_groups),
            "task_prefixes": len(kept.task_prefixes),
        }


def scheduler_of(lane: Any) -> Any:
    """The scheduler of an embedded cluster."""
    return lane._client.cluster.scheduler


def batching(pairs: int) -> dict[str, Any]:
    """So many tiny pairs through the real command; then the same call again, which finds them all."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue = write_tiny_archive(Path(folder) / "archive", pairs)
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            code = BatchCall(catalogue, Path(folder) / "out").wait(3600)
            if code:
                raise RuntimeError(f"The batch ended with {code}")
            seconds.append(round(time.perf_counter() - began, 2))
        return {"pairs": pairs, "seconds": seconds[0], "idle_pass_s": seconds[1]}


def preparing(mpx: int) -> dict[str, Any]:
    """One scene of so many Mpx (2^20), 31 + 4 bands from COGs to Zarr by the default method: the phases' shares."""
    with tempfile.TemporaryDirectory() as folder:
        scene = BenchScene(folder=Path(folder), side_px=round((mpx * 2**20) ** 0.5))
        scene.open("cog")
        config = RunConfig(format=("zarr",), register=False)
        began = time.perf_counter()
        product = fuse(scene.folder / "hs.tif", scene.folder / "ms.tif", out=Path(folder) / "out", config=config)
        seconds = round(time.perf_counter() - began, 2)
        facts = json.loads((product.folder / "run.json").read_bytes())["facts"]
        return {
            "mpx": mpx,
            "model": config.model,
            "seconds": seconds,
            "shares": {name: round(phase["share"], 3) for name, phase in facts["phases"].items()},
            "stages_s": {stage["stage"]: round(stage["seconds"], 2) for stage in facts["stages"]},
            "worker_peak_mib": round(facts["run"]["peak_rss_bytes"] / 2**20),
        }


class Meter:
    """Seconds and memory since it was made."""

    def __init__(self) -> None:
        self._rss = psutil.Process().memory_info().rss
        self._began, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._began

    def read(self) -> dict[str, Any]:
        """The figures of this moment; cpu_s is this process's own, whatever else the machine does."""
        peak = peak_rss_bytes()
        return {
            "seconds": round(self.seconds, 2),
            "cpu_s": round(time.process_time() - self._cpu, 2),
            "peak_mib": round(peak / 2**20),
            "grown_mib": round((peak - self._rss) / 2**20),
        }

    def weigh(self) -> None:
        """Count growth from here on."""
        self._rss = psutil.Process().memory_info().rss


SIZES: dict[str, tuple[Callable[[int], dict[str, Any]], int, int]] = {
    "pairing": (pairing, 100_000, 2_000),
    "searching": (searching, 10_000, 50),
    "looking": (looking, 1_000, 20),
    "planning": (planning, 100_000, 2_000),
    "scheduling": (scheduling, 100_000, 800),
    "batching": (batching, 100, 2),
    "preparing": (preparing, 64, 1),
}
"""Each measurement with its size and its quick one."""


def measure(names: list[str], *, quick: bool) -> list[dict[str, Any]]:
    """One record per measurement, each made in a new process."""
    context = multiprocessing.get_context("spawn")
    records = []
    for name in names:
        function, size, small = SIZES[name]
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            figures = pool.submit(function, small if quick else size).result()
        records.append({"measurement": name, "machine": machine()} | figures)
        print(json.dumps(records[-1]), flush=True)  # noqa: T201 - a benchmark prints its progress
    return records


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that the benchmark runs")
    parser.add_argument("--only", choices=list(SIZES), action="append", help="this measurement; repeatable")
    parser.add_argument("--json", type=Path, help="where the records go; those of other measurements there are kept")
    given = parser.parse_args()
    records = measure(given.only or list(SIZES), quick=given.quick)
    if given.json is not None:
        kept = json.loads(given.json.read_text())["records"] if given.json.exists() else []
        new = {record["measurement"] for record in records}
        kept = [record for record in kept if record["measurement"] not in new]
        order = sorted([*kept, *records], key=lambda record: list(SIZES).index(record["measurement"]))
        given.json.write_text(json.dumps({"records": order}, indent=1) + "\n")


if __name__ == "__main__":
    main()
