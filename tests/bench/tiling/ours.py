"""Ours: the engine's own plan, windows, loop and sinks; and what it is measured by: its parts, each alone."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
import zarr
from distributed import Client
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from scenefuse.config import Halo
from scenefuse.cube.source import PairSource
from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run
from scenefuse.engine.cluster import ClusterSpec, open_client
from scenefuse.engine.dask_lane import DaskLane
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.precision import repeatable
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.protocols import EncodedShard, ShardReceipt, Sink
from scenefuse.engine.resident import resident_model
from scenefuse.engine.run import FusionJob, RunReport, fuse_scene
from scenefuse.engine.state_file import load_state, save_state
from scenefuse.engine.windows import read_model_window
from scenefuse.grid.window import Window
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.observation import observation_stages
from scenefuse.models.registry import weightless_names
from scenefuse.product.commit import finish_data
from scenefuse.product.files import STORE
from scenefuse.product.layout import lay_out
from scenefuse.product.shards import ZarrSink
from scenefuse.product.spec import ProductSpec
from scenefuse.tiles.tiling import Tile
from tests.bench.tiling.contest import Case, Clock, Image, Outcome
from tests.bench.tiling.models import CountedModel, handle_of
from tests.bench.tiling.scene import BANDS, RATIO, Files, MemorySource

START_S = 120.0
"""How long processes that begin at once wait for each other."""
_start: Barrier
"""Where the processes of `two_forwards` begin at once."""


@dataclass(frozen=True, slots=True)
class MemorySink:
    """Cores into one array, each pixel's writes counted."""

    image: Image
    """(band, y, x)."""
    writes: NDArray[np.uint8]
    """(y, x)."""

    def encode(self, tile: Tile, fused: Image, quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:  # noqa: ARG002
        """Copy the core; there are no shards."""
        self.image[(slice(None), *tile.core.slices)] = fused
        self.writes[tile.core.slices] += 1
        return ()

    def put(self, shards: Sequence[EncodedShard]) -> tuple[ShardReceipt, ...]:  # noqa: ARG002
        """No receipts."""
        return ()

    def holds(self, receipt: ShardReceipt) -> bool:
        """False: nothing outlives the process."""
        raise AssertionError(receipt)


def freeze(case: Case, files: Files = "cog") -> None:
    """Find the scene's state by the product's own preparation, and keep it."""
    if case.state_path.exists():
        return
    source = case.scene.open(files)
    handle = handle_of(case.ref)
    weightless = case.model in weightless_names()
    stages = observation_stages(source.hs_bands, source.ms_bands, source.grid.ratio) if weightless else ()
    save_state(case.state_path, prepare(source, Preparation(stages=stages, model=handle)))


def fuse_in_memory(
    case: Case, clock: Clock, work: Path, *, halo: Halo = "default", core_px: int | None = None
) -> Outcome:
    """Ours from arrays to an array."""
    hs, ms = case.scene.arrays()
    shape = ms.shape[1:]
    sink = MemorySink(np.empty((len(hs), *shape), np.float32), np.zeros(shape, np.uint8))
    job = _job(case, MemorySource(hs=hs, ms=ms), sink, halo=halo, core_px=core_px)
    return _outcome(job, _fuse(job, clock, work), image=lambda: sink.image, writes=sink.writes)


def fuse_files(case: Case, clock: Clock, work: Path, *, files: Files, cog: bool = False) -> Outcome:
    """Ours from COGs or Zarr stores to a product's Zarr store, and its copy as a COG if asked for."""
    source = case.scene.open(files)
    spec = _spec(source, case.core_px)
    job = _job(case, source, ZarrSink(store=work / STORE, spec=spec))
    with clock.running():
        lay_out(work, spec)
    report = _fuse(job, clock, work)
    if cog:
        with clock.running():
            finish_data(work, spec, cog=True)
    return _outcome(job, report, image=lambda: _stored(work, spec))


def fuse_by_workers(case: Case, clock: Clock, work: Path, *, workers: int) -> Outcome:
    """Ours from COGs to shards on worker processes of one core each; their start is not counted."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    source = case.scene.open("cog")
    spec = _spec(source, case.core_px)
    job = _job(case, source, ZarrSink(store=work / STORE, spec=spec), workers=workers)
    lay_out(work, spec)
    with open_client(ClusterSpec(workers=workers)) as client:
        _pin_each(client)
        client.run(_warm, job)
        lane = DaskLane(client)
        try:
            report = _fuse(job, clock, work, lane=lane)
        finally:
            lane.close()
    return _outcome(
        job, report, facts={"group_tiles": job.plan.group_tiles, "worker_peak_rss_bytes": report.peak_rss_bytes}
    )


def forward(case: Case, clock: Clock, work: Path) -> Outcome:  # noqa: ARG001 - a contestant
    """The model alone on the windows that ours gives it."""
    job = _forward_job(case)
    _forward(job, job.plan.tiling, clock)
    return _outcome(job, None)


def two_forwards(case: Case, clock: Clock, work: Path) -> Outcome:  # noqa: ARG001 - a contestant
    """The model alone on half of the windows in each of two processes, a core each: what these cores give together."""
    context = multiprocessing.get_context("forkserver")
    start = context.Barrier(2)
    cores = range(os.cpu_count() or 1)
    with ProcessPoolExecutor(2, mp_context=context, initializer=_share_start, initargs=(start,)) as pool:
        shares = [pool.submit(_forward_share, case, part, cores[part % len(cores)]) for part in (0, 1)]
        clocks = [share.result() for share in shares]
    clock.wall_s = max(share.wall_s for share in clocks)
    clock.cpu_s = sum(share.cpu_s for share in clocks)
    return _outcome(_forward_job(case), None)


def _share_start(start: Barrier) -> None:
    global _start  # noqa: PLW0603 - a barrier reaches a pool's processes by inheritance only
    _start = start


def _forward_share(case: Case, part: int, core: int) -> Clock:
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {core})
    job = _forward_job(case)
    tiles = list(job.plan.tiling)[part::2]
    _forward(job, tiles[:1], Clock())
    _start.wait(START_S)
    clock = Clock()
    _forward(job, tiles, clock)
    return clock


def _forward_job(case: Case) -> FusionJob:
    hs, ms = case.scene.arrays()
    sink = MemorySink(np.empty((0, 0, 0), np.float32), np.empty((0, 0), np.uint8))
    return _job(case, MemorySource(hs=hs, ms=ms), sink)


def _forward(job: FusionJob, tiles: Iterable[Tile], clock: Clock) -> None:
    """Run the model on these tiles' windows; reading them does not count."""
    model = resident_model(job.model)
    with repeatable("cpu", "fp32"):
        for tile in tiles:
            window = read_model_window(job.source, tile.read, job.state)
            inputs = [torch.from_numpy(array)[None] for array in (window.hs, window.ms)]
            with clock.running():
                model.fuse(inputs[0], inputs[1], job.state)


def codec(case: Case, clock: Clock, work: Path, *, files: Files) -> Outcome:
    """The same windows read and the same cores written by the libraries alone, in a store made for them, no model."""
    source = case.scene.open(files)
    spec = _spec(source, case.core_px)
    job = _job(case, source, ZarrSink(store=work / STORE, spec=spec))
    result = np.load(case.image_path(files, "ours"), mmap_mode="r")
    with clock.running():
        lay_out(work, spec)
    root = zarr.open_group(work / STORE, mode="r+", zarr_format=3, use_consolidated=False)
    reflectance, quality = (_array(root, name) for name in ("reflectance", "quality"))
    readers = _cog_readers(case) if files == "cog" else _zarr_readers(case)
    for tile in job.plan.tiling:
        core = (slice(None), *tile.core.slices)
        numbers = np.rint(result[core] / np.float32(spec.scale)).astype(np.int16)
        with clock.running():
            for read, window in zip(readers, _native_windows(tile, source), strict=True):
                read(window)
            reflectance[core] = numbers
            quality[tile.core.slices] = np.zeros(tile.core.shape, np.uint8)
    return _outcome(job, None)


def plan_of(case: Case) -> RunPlan:
    """The plan of ours, default halo: rivals take its window for theirs."""
    side = case.scene.side_px
    nothing = np.float32(0)
    hs, ms = (np.broadcast_to(nothing, (bands, px, px)) for bands, px in zip(BANDS, (side // RATIO, side), strict=True))
    return _plan(case, MemorySource(hs=hs, ms=ms))


def _plan(
    case: Case, source: PairSource, *, halo: Halo = "default", core_px: int | None = None, workers: int = 1
) -> RunPlan:
    request = PlanRequest(
        workers=workers,
        worker_memory_bytes=2**42,
        precision="fp32",
        halo=halo,
        core_px=core_px or case.core_px,
        batch=1,
    )
    return plan_run(source, resident_model(handle_of(case.ref)).card, request)


def _job(
    case: Case, source: PairSource, sink: Sink, *, halo: Halo = "default", core_px: int | None = None, workers: int = 1
) -> FusionJob:
    plan = _plan(case, source, halo=halo, core_px=core_px, workers=workers)
    state = load_state(case.state_path)
    return FusionJob(
        source=source, model=handle_of(case.ref), state=state, sink=sink, plan=plan, identity="tiling benchmark"
    )


def _fuse(job: FusionJob, clock: Clock, work: Path, *, lane: Lane | None = None) -> RunReport:
    with clock.running(), Ledger(work / "ledger.jsonl", job.sha256) as ledger:
        return fuse_scene(job, lane=lane or InProcessLane(), ledger=ledger, observer=NullObserver())


def _outcome(
    job: FusionJob,
    report: RunReport | None,
    *,
    image: Any = None,
    writes: NDArray[np.uint8] | None = None,
    facts: dict[str, Any] | None = None,
) -> Outcome:
    model = resident_model(job.model)
    tiling = job.plan.tiling
    loops = {f"{name}_s": seconds for name, seconds in report.loop_seconds.items()} if report else {}
    sides = {"core_px": tiling.core_px, "halo_px": tiling.halo_px, "window_px": tiling.window_px}
    return Outcome(
        computed_px=model.computed_px or None if isinstance(model, CountedModel) else None,
        coverage=None if writes is None else (int(writes.min()), int(writes.max())),
        cuts=tuple(range(0, tiling.fine_shape[0], tiling.core_px)),
        image=image,
        facts={**loops, **sides, **(facts or {})},
    )


def _spec(source: PairSource, core_px: int) -> ProductSpec:
    return ProductSpec(item_id="bench", grid=source.grid, bands=source.hs_bands, core_px=core_px)


def _stored(work: Path, spec: ProductSpec) -> Image:
    group = zarr.open_group(work / STORE, mode="r", zarr_format=3, use_consolidated=False)
    integers = np.asarray(_array(group, "reflectance")[...])
    return np.where(integers == spec.nodata, np.float32(np.nan), integers * np.float32(spec.scale))


def _array(group: zarr.Group, name: str) -> Any:
    return group[name]


def _native_windows(tile: Tile, source: PairSource) -> Iterator[Window]:
    """The part inside the scene of what ours reads for a tile: coarse pixels, fine pixels."""
    grid = source.grid
    yield tile.read.coarsen(grid.ratio).grow(UPSAMPLE_MARGIN).clip(grid.coarse_shape)
    yield tile.read.clip(grid.fine_shape)


def _cog_readers(case: Case) -> list[Any]:
    rasters = [rasterio.open(case.scene.folder / f"{name}.tif", NUM_THREADS="1") for name in ("hs", "ms")]

    def reader(raster: Any) -> Any:
        def read(window: Window) -> NDArray[np.int16]:
            height, width = window.shape
            with rasterio.Env(GDAL_CACHEMAX=64):  # type: ignore[no-untyped-call]
                pixels: NDArray[np.int16] = raster.read(window=RasterWindow(window.x0, window.y0, width, height))
            return pixels

        return read

    return [reader(raster) for raster in rasters]


def _zarr_readers(case: Case) -> list[Any]:
    arrays = [
        _array(zarr.open_group(case.scene.folder / f"{name}.zarr", mode="r"), "reflectance") for name in ("hs", "ms")
    ]
    return [lambda window, array=array: array[(slice(None), *window.slices)] for array in arrays]


def _warm(job: FusionJob) -> None:
    """A worker as it is after its first tile: libraries imported, files open, the model loaded; nothing is kept."""
    resident_model(job.model)
    tile = job.plan.tiling.tile(0, 0)
    window = read_model_window(job.source, tile.read, job.state)
    core = np.zeros((len(window.hs), *tile.core.shape), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(job.source, job.plan.tiling.core_px)
        sink = ZarrSink(store=lay_out(Path(folder), spec), spec=spec)
        sink.put(sink.encode(tile, core, np.zeros(tile.core.shape, np.uint8)))


def _pin_each(client: Client) -> None:
    """One core for each worker process, for its threads of this moment, whose children inherit it."""
    cores = sorted(os.sched_getaffinity(0))
    for number, address in enumerate(sorted(client.nthreads())):
        client.run(_pin, cores[number % len(cores)], workers=[address])


def _pin(core: int) -> None:
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
