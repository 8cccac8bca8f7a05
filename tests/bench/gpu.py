"""What a GPU makes of the product: its networks alone, then from files to a store, and what lower precision costs.

    python -m tests.bench.gpu [--json tests/bench/results/gpu.json] [--device cpu --quick]

Weights are random (drift and speed do not ask for good ones; the shipped network's drift is in every run's own
provenance). For each method and precision:

- forward: the network on windows that are on the device already, in the plan's batches: as it is, through
  torch.compile, and as a CUDA graph. What is faster by a tenth or more, and repeats, is worth building in.
- files alone: the engine's own loop over the same scene, with the threads that it has beside a device, but with
  nothing to compute: what reading, encoding and storing take by themselves.
- end to end: COGs to the product's store. The bar is 1.15 of the slower one of forward and files alone; the device's
  busy share is forward by the whole time.
- repeats: a second run stores the same bytes.
- drift: the largest and the root mean square difference from fp32, and how many values are no numbers, of a few
  windows in each precision's own layout.

With --device cpu it is the same code on a processor: a rehearsal, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenefuse.cube.pair import PairCube
from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run
from scenefuse.engine.device import Device, device_memory_bytes
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.loop import Steps, batched, run_loop
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.precision import Precision, repeatable
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.resident import ModelHandle, resident_model
from scenefuse.engine.run import FusionJob, RunReport, fuse_scene
from scenefuse.engine.transfers import transfers_of
from scenefuse.engine.windows import read_model_window
from scenefuse.models.network import NetworkModel
from scenefuse.models.observation import observation_stages
from scenefuse.models.state import SceneState
from scenefuse.product.files import STORE
from scenefuse.product.layout import lay_out
from scenefuse.product.shards import ZarrSink
from scenefuse.product.spec import ProductSpec
from scenefuse.tiles.tiling import Tile
from tests.bench.machine import machine
from tests.bench.tiling.models import OWN_NETWORKS, load_bench_model, ref_of
from tests.bench.tiling.scene import RATIO, BenchScene

WEIGHTLESS = ("gsa", "hysure-l2")
"""Methods without weights that are measured, too: nearly all of their time is files."""
BAR = 1.15
"""End to end by the slower of forward and files alone, at most."""
ROUNDS = 3
DRIFT_WINDOWS = 4

Step = Callable[[Tensor, Tensor], Tensor]
"""Windows (n, band, y, x) of both images to fused windows."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One method on one scene and one device."""

    name: str
    scene: BenchScene
    device: Device
    small: bool = False
    """Small cores, one round, and nothing compiled, which takes minutes."""

    @property
    def rounds(self) -> int:
        """Runs of each; the median counts."""
        return 1 if self.small else ROUNDS

    def source(self) -> PairCube:
        """The pair as the product opens it."""
        return self.scene.open("cog")

    def handle(self, source: PairCube) -> ModelHandle:
        """The method as tasks name it."""
        ref = ref_of(self.name, source.hs_bands, source.ms_bands, RATIO)
        return ModelHandle(ref=ref, load=load_bench_model, device=self.device)

    def precisions(self) -> tuple[Precision, ...]:
        """Those that a run may be asked for."""
        own = resident_model(self.handle(self.source())).card.precisions
        return tuple(name for name in ("fp32", "bf16") if name in own)

    def state(self, source: PairCube) -> SceneState:
        """What the product's own preparation finds."""
        stages = observation_stages(source.hs_bands, source.ms_bands, source.grid.ratio)
        return prepare(source, Preparation(stages=stages, model=self.handle(source)))

    def plan(self, source: PairCube, precision: Precision) -> RunPlan:
        """The plan of the product for one device with all cores of this machine beside it."""
        request = PlanRequest(
            workers=1,
            worker_memory_bytes=2**36,
            device=self.device,
            device_memory_bytes=device_memory_bytes() if self.device == "cuda" else None,
            worker_cores=os.cpu_count() or 1,
            precision=precision,
            core_px=64 if self.small else None,
        )
        return plan_run(source, resident_model(self.handle(source)).card, request)


def measure(subject: Subject) -> Iterator[dict[str, Any]]:
    """A record for each precision."""
    source = subject.source()
    state = subject.state(source)
    for precision in subject.precisions():
        _tell(f"{subject.name} {subject.scene.mpx:g} Mpx {precision}")
        plan = subject.plan(source, precision)
        forwards = _forwards(subject, plan, state, precision)
        files_s = statistics.median(_files_alone(subject, plan, state) for _ in range(subject.rounds))
        if subject.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        runs = [_end_to_end(subject, plan, state) for _ in range(max(2, subject.rounds))]
        wall_s = statistics.median(seconds for seconds, _, _ in runs)
        forward_s = forwards["eager"]["seconds"]
        loop = runs[-1][1].loop_seconds
        yield {
            "method": subject.name,
            "mpx": subject.scene.mpx,
            "precision": precision,
            "core_px": plan.tiling.core_px,
            "window_px": plan.tiling.window_px,
            "batch": runs[-1][1].batch,
            "encoders": plan.encoders,
            "forward": forwards,
            "files_s": files_s,
            "wall_s": wall_s,
            "mpx_per_s": subject.scene.mpx / wall_s,
            "busy": forward_s / wall_s,
            "loop": {name: loop[name] / loop["whole"] for name in ("compute", "starved", "blocked", "drain")},
            "wall_by_slower": wall_s / max(forward_s, files_s),
            "repeats": len({digests for _, _, digests in runs}) == 1,
            "device_peak_bytes": torch.cuda.max_memory_allocated() if subject.device == "cuda" else None,
            "planned_device_bytes": plan.device_bytes,
        }


def drift(subject: Subject) -> Iterator[dict[str, Any]]:
    """A record for each precision below fp32, fp16 on a GPU among them."""
    source = subject.source()
    state, plan = subject.state(source), subject.plan(source, "fp32")
    lower: tuple[Precision, ...] = ("bf16", "fp16") if subject.device == "cuda" else ("bf16",)
    tiles = list(plan.tiling)[:DRIFT_WINDOWS]
    exact = _fused(subject, plan, state, tiles, "fp32")
    for precision in lower:
        found = _fused(subject, plan, state, tiles, precision)
        finite = np.isfinite(found)
        difference = np.abs(found - exact, dtype=np.float64)[finite]
        yield {
            "method": subject.name,
            "precision": precision,
            "max": float(difference.max(initial=0.0)),
            "rms": float(np.sqrt((difference**2).sum() / max(1, difference.size))),
            "not_finite": int((~finite).sum()),
            "window_px": plan.tiling.window_px,
        }


def _forwards(subject: Subject, plan: RunPlan, state: SceneState, precision: Precision) -> dict[str, dict[str, Any]]:
    """Seconds of all windows of the scene, by way of running; a way that does not run says why."""
    tiles = list(plan.tiling)[: plan.batch]
    (batch,) = _batches(subject, plan, state, tiles, precision)
    model = resident_model(subject.handle(subject.source()))
    calls = plan.tiles / len(tiles)

    def eager(hs: Tensor, ms: Tensor) -> Tensor:
        return model.fuse(hs, ms, state)

    ways: dict[str, Callable[[], Step]] = {"eager": lambda: eager}
    if isinstance(model, NetworkModel) and not subject.small:
        ways["compiled"] = lambda: _compiled(model)
    if isinstance(model, NetworkModel) and subject.device == "cuda":
        ways["graph"] = lambda: _graph(eager, *batch)
    found: dict[str, dict[str, Any]] = {}
    with repeatable(subject.device, precision):
        exact = eager(*batch).float()
        for way, make in ways.items():
            _tell(f"  forward, {way}")
            began = perf_counter()
            try:
                step = make()
                result = step(*batch).float()
                _wait(subject.device)
            except Exception as error:  # noqa: BLE001 - recorded: a compiler may be missing, or may not take the network
                found[way] = {"missing": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
                continue
            first_s = perf_counter() - began
            seconds = statistics.median(_seconds(step, batch, subject.device) for _ in range(subject.rounds)) * calls
            found[way] = {
                "seconds": seconds,
                "mpx_per_s": subject.scene.mpx / seconds,
                "first_s": first_s,
                "from_eager": float((result - exact).abs().max()),
            }
    return found


def _compiled(model: NetworkModel) -> Step:
    """The bare network, whose statistics are frozen by now, as torch.compile makes it."""
    compiled = torch.compile(model.network, dynamic=False)

    def step(hs: Tensor, ms: Tensor) -> Tensor:
        with torch.inference_mode(mode=False), torch.no_grad():  # what it traces of numpy fails in inference mode
            fused: Tensor = compiled(hs, ms)
            return fused

    return step


def _graph(step: Step, hs: Tensor, ms: Tensor) -> Step:
    """The step as a CUDA graph of these shapes, its inputs copied in and its result left in place."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    own = hs.clone(), ms.clone()
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(*own)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step(*own)

    def replay(hs: Tensor, ms: Tensor) -> Tensor:
        own[0].copy_(hs)
        own[1].copy_(ms)
        graph.replay()
        return result

    return replay


def _seconds(step: Step, batch: tuple[Tensor, Tensor], device: Device) -> float:
    """Of one call among several that follow each other, as in a run."""
    calls = 5 if device == "cuda" else 1
    _wait(device)
    began = perf_counter()
    for _ in range(calls):
        step(*batch)
    _wait(device)
    return (perf_counter() - began) / calls


def _files_alone(subject: Subject, plan: RunPlan, state: SceneState) -> float:
    """Seconds of the engine's loop where fusing gives the same core each time."""
    source = subject.source()
    transfers = transfers_of(subject.device)
    bands = len(source.hs_bands)
    ready = np.random.default_rng(0).random((bands, plan.tiling.core_px, plan.tiling.core_px), np.float32)

    def read(tile: Tile) -> Tile:
        window = read_model_window(source, tile.read, state)
        transfers.pin(window.hs), transfers.pin(window.ms)
        return tile

    def core(tile: Tile) -> np.ndarray[Any, np.dtype[np.float32]]:
        rows, columns = tile.core.shape
        return np.ascontiguousarray(ready[:, :rows, :columns])

    with tempfile.TemporaryDirectory(dir=subject.scene.folder) as folder:
        sink = _sink(Path(folder), source, plan)
        steps = Steps(
            read=read,
            fuse=lambda tiles: tiles,
            receive=core,
            encode=lambda tile, fused: sink.encode(tile, fused, np.zeros(tile.core.shape, np.uint8)),
            put=lambda _, shards: sink.put(shards),
        )
        began = perf_counter()
        for group in plan.tiling.groups(plan.group_tiles):
            run_loop(group, steps, batch=plan.batch, encoders=plan.encoders)
        return perf_counter() - began


def _end_to_end(subject: Subject, plan: RunPlan, state: SceneState) -> tuple[float, RunReport, tuple[str, ...]]:
    """Seconds from COGs to a store, the engine's report, and the digests of all shards."""
    source = subject.source()
    with tempfile.TemporaryDirectory(dir=subject.scene.folder) as folder:
        job = FusionJob(
            source=source,
            model=subject.handle(source),
            state=state,
            sink=_sink(Path(folder), source, plan),
            plan=plan,
            identity="GPU benchmark",
        )
        began = perf_counter()
        with Ledger(Path(folder) / "ledger.jsonl", job.sha256) as ledger:
            report = fuse_scene(job, lane=InProcessLane(), ledger=ledger, observer=NullObserver())
        seconds = perf_counter() - began
    receipts = (receipt for _, tile in sorted(report.finished.items()) for receipt in tile.receipts)
    return seconds, report, tuple(receipt.sha256 for receipt in receipts)


def _sink(folder: Path, source: PairCube, plan: RunPlan) -> ZarrSink:
    spec = ProductSpec(item_id="bench", grid=source.grid, bands=source.hs_bands, core_px=plan.tiling.core_px)
    lay_out(folder, spec)
    return ZarrSink(store=folder / STORE, spec=spec)


def _batches(
    subject: Subject, plan: RunPlan, state: SceneState, tiles: Sequence[Tile], precision: Precision
) -> list[tuple[Tensor, Tensor]]:
    """The windows of the tiles on the device, in the plan's batches and the engine's layout."""
    source, transfers = subject.source(), transfers_of(subject.device)
    layout = torch.contiguous_format if precision == "fp32" else torch.channels_last
    found = []
    for some in batched(tiles, plan.batch):
        windows = [read_model_window(source, tile.read, state) for tile in some]
        hs, ms = ([transfers.pin(getattr(window, name)) for window in windows] for name in ("hs", "ms"))
        found.append((transfers.upload(hs, layout), transfers.upload(ms, layout)))
    return found


def _fused(
    subject: Subject, plan: RunPlan, state: SceneState, tiles: Sequence[Tile], precision: Precision
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The tiles' fused windows, (tile, hs band, y, x)."""
    model = resident_model(subject.handle(subject.source()))
    batches = _batches(subject, plan, state, tiles, precision)
    with repeatable(subject.device, precision):
        return np.concatenate([model.fuse(hs, ms, state).float().cpu().numpy() for hs, ms in batches])


def _wait(device: Device) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def table(records: Sequence[dict[str, Any]], drifts: Sequence[dict[str, Any]]) -> str:
    """Both as markdown."""
    ways = ("eager", "compiled", "graph")
    lines = [
        "| method | Mpx | precision | forward, Mpx/s: " + " | ".join(ways) + " | end to end, Mpx/s | busy |"
        f" wall / slower (bar {BAR}) | repeats |",
        "|---|---|---|" + "---|" * len(ways) + "---|---|---|---|",
    ]
    for record in records:
        speeds = (record["forward"].get(way, {}).get("mpx_per_s") for way in ways)
        cells = [
            record["method"],
            f"{record['mpx']:.3g}",
            record["precision"],
            *("" if speed is None else f"{speed:.2f}" for speed in speeds),
            f"{record['mpx_per_s']:.2f}",
            f"{record['busy']:.0%}",
            f"{record['wall_by_slower']:.2f}",
            "yes" if record["repeats"] else "NO",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| method | precision | largest | rms | no numbers |", "|---|---|---|---|---|"]
    for found in drifts:
        cells = [found["method"], found["precision"], f"{found['max']:.1e}", f"{found['rms']:.1e}"]
        lines.append(f"| {' | '.join(cells)} | {found['not_finite']} |")
    return "\n".join(lines)


def subjects(folder: Path, device: Device, *, small: bool, only: Sequence[str]) -> list[Subject]:
    """Networks on 16 Mpx (S3RNet on 4) and methods without weights on 64; tiny ones for a rehearsal."""
    sides = {name: 2048 if name == "s3rnet" else 8192 if name in WEIGHTLESS else 4096 for name in only}
    return [
        Subject(
            name=name,
            scene=BenchScene(folder=folder / str(side), side_px=side),
            device=device,
            small=small,
        )
        for name, side in ((name, 192 if small else side) for name, side in sides.items())
    ]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = (*OWN_NETWORKS, *WEIGHTLESS)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="tiny scenes, and two methods: shows that it runs")
    parser.add_argument("--methods", nargs="+", choices=every, help="these only")
    parser.add_argument("--json", type=Path, help="where the records go")
    parser.add_argument("--work", type=Path, help="folder for scenes while it runs, 20 GB free")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here: use --device cpu for a rehearsal")
    records: list[dict[str, Any]] = []
    drifts: list[dict[str, Any]] = []
    only = given.methods or (("aelf-t", "gsa") if given.quick else every)
    with tempfile.TemporaryDirectory(dir=given.work, prefix="gpu-") as folder:
        for subject in subjects(Path(folder), given.device, small=given.quick, only=only):
            subject.scene.folder.mkdir(exist_ok=True)
            for record in measure(subject):
                records.append(record)
                _write(given.json, records, drifts)  # after each, so that a run that is stopped leaves what it has
            if subject.name in OWN_NETWORKS:
                drifts += drift(subject)
                _write(given.json, records, drifts)
    print(table(records, drifts))  # noqa: T201 - a benchmark prints its tables


def _write(path: Path | None, records: list[dict[str, Any]], drifts: list[dict[str, Any]]) -> None:
    if path is not None:
        document = {"machine": machine(), "records": records, "drift": drifts}
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - progress


if __name__ == "__main__":
    main()
