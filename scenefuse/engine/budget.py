"""Plan a run: how the scene is cut and what that costs, checked before any work."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn

from scenefuse.config import Halo, PrecisionChoice
from scenefuse.cube.source import PairSource
from scenefuse.engine.device import Device
from scenefuse.engine.loop import QUEUE_WINDOWS
from scenefuse.engine.precision import Precision, choose_precision
from scenefuse.errors import ResourceError, UsageError
from scenefuse.models.base import UPSAMPLE_MARGIN, ModelCard
from scenefuse.tiles.tiling import LEAST_WINDOW_PX, Tiling, lattice_px, round_core_px, round_halo_px

TARGET_CORE_PX = 512
"""Core side that the planner aims for, fine pixels."""

GROUP_TILES: dict[Device, int] = {"cpu": 8, "cuda": 64}
"""Most tiles of a group, if every worker gets one: at each group's end a GPU waits for the encoders."""

MOST_ENCODERS: dict[Device, int] = {"cpu": 1, "cuda": 16}
"""Most encoder threads per device: a CPU core fuses no faster than one other core encodes."""

_GROUP_SECONDS = 60.0
"""Time a group should take at most, because it is lost if its worker dies."""
_PROCESS_BYTES: dict[Device, int] = {"cpu": 640 * 2**20, "cuda": 2 * 2**30}
"""Memory of a worker before its first window: interpreter, torch, GDAL with its cache; CUDA and cuDNN libraries."""
_CONTEXT_BYTES = 2**30
"""GPU memory that a process takes before its first window: context, kernels, workspaces, weights."""
MULTIPLY_ADDS_PER_S: dict[Device, float] = {"cpu": 2e10, "cuda": 5e12}
"""Rough rate of one CPU core and of one GPU, for the plan's time estimate."""
_BYTES_PER_S = 2e8
"""Rough rate of reading and writing pixels, for the same estimate."""
_LEAST_TIME_LIMIT_S = 900.0
"""Shortest time limit of a group: estimates for small groups are unreliable."""
_TIME_LIMIT_FACTOR = 20
"""Multiple of its estimated time after which a group counts as hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Constraints on the plan; None leaves a choice to the planner."""

    workers: int
    """Worker processes that will run."""
    worker_memory_bytes: int
    """Host memory of each worker."""
    device: Device = "cpu"
    """Where models run."""
    device_memory_bytes: int | None = None
    """Memory of each GPU; needed for `cuda`."""
    worker_cores: int = 1
    """Processor cores for each worker. A model on a CPU takes one of them; the others encode."""
    precision: PrecisionChoice = "auto"
    """Numeric precision of the models."""
    halo: Halo = "default"
    """`default`: the card's halo, error at most 1e-6; `full`: its support, bitwise equal to the whole on a CPU."""
    core_px: int | None = None
    """Core side in fine pixels; rounded to the lattice, with a note."""
    batch: int | None = None
    """Windows per call of the model."""
    bytes_per_value: int = 2
    """Size of a stored value: 2 for int16."""
    free_disk_bytes: int | None = None
    """Free space where the product goes; None if unknown (an object store)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """How a scene is cut, and the resources the run needs."""

    tiling: Tiling
    """Cores and windows."""
    batch: int
    """Windows per call of the model."""
    group_tiles: int
    """Tiles per task."""
    encoders: int
    """Threads of a worker that encode cores beside its device loop; with 0 the loop itself encodes."""
    workers: int
    """Worker processes."""
    device: Device
    """Where the model runs."""
    precision: Precision
    """Numeric precision of the model."""
    worker_bytes: int
    """Peak host memory of a worker, estimated."""
    device_bytes: int
    """Peak memory of a GPU, estimated; 0 on a CPU."""
    read_bytes: int
    """Bytes of pixels read from both images as float32, halos included."""
    write_bytes: int
    """Bytes written before compression: an upper bound of the disk space for the array."""
    multiply_adds: float
    """Multiply-adds of the whole run, halos included."""
    seconds: float
    """Rough time of the tiles alone, from typical rates of a CPU core or a GPU."""
    time_limit_s: float
    """Seconds after which a group counts as hung."""
    notes: tuple[str, ...] = ()
    """What the planner changed, for users."""

    @property
    def tiles(self) -> int:
        """Tiles of the run."""
        return len(self.tiling)

    @property
    def groups(self) -> int:
        """Tasks of the run."""
        return -(-self.tiles // self.group_tiles)

    @property
    def recomputed(self) -> float:
        """Fine pixels computed per pixel of a core: ((core + 2 halo) / core)^2."""
        return (self.tiling.window_px / self.tiling.core_px) ** 2

    def facts(self) -> dict[str, Any]:
        """All numbers of the plan in JSON types."""
        derived = {"tiles": self.tiles, "groups": self.groups, "recomputed": self.recomputed}
        return {**asdict(self), **derived, "notes": list(self.notes)}

    def sha256_with(self, identity: str) -> str:
        """Digest of what makes runs of one product interchangeable: tiling, batch, device, precision; not workers."""
        nouns = [identity, asdict(self.tiling), self.batch, self.device, self.precision]
        return hashlib.sha256(json.dumps(nouns, sort_keys=True).encode()).hexdigest()


def plan_run(source: PairSource, card: ModelCard, request: PlanRequest) -> RunPlan:
    """Plan a scene's run; ResourceError, which suggests what would fit, if memory or disk is too small."""
    _check_request(request)
    lattice = lattice_px(
        model_lattice_px=card.lattice_px, ratio=source.grid.ratio, ms_band_ratio=_ms_band_ratio(source)
    )
    precision = choose_precision(request.precision, card=card, device=request.device)
    reach = card.support_px if request.halo == "full" else card.halo_px
    # A core's flags depend on pixels up to effective_px around it, so the window must hold them.
    halo = round_halo_px(max(reach, card.effective_px), lattice)
    fine_shape = source.grid.fine_shape

    def plan_with(core_px: int) -> RunPlan:
        tiling = Tiling(fine_shape=fine_shape, core_px=core_px, halo_px=halo, lattice_px=lattice)
        return _costed(tiling, source, card, request, precision)

    plan = _chosen(plan_with, request, lattice=lattice, halo_px=halo, fine_shape=fine_shape)
    need = plan.write_bytes
    if request.free_disk_bytes is not None and need > request.free_disk_bytes:
        raise ResourceError(
            f"The product needs up to {size_text(need)}, {size_text(request.free_disk_bytes)} are free",
            "the run would stop half-way",
            "Free some space, or give another --out",
        )
    return plan


def _check_request(request: PlanRequest) -> None:
    for name in ("workers", "worker_cores", "core_px", "batch"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}", "it must be at least 1", f"Give a positive {name}")
    if request.halo not in ("default", "full"):
        raise UsageError(f"halo {request.halo!r}", "there is no such halo", "Use default or full")
    if request.device == "cuda" and request.device_memory_bytes is None:
        raise UsageError("device cuda without its memory", "the batch cannot be planned", "Give device_memory_bytes")


def _chosen(
    plan_with: Callable[[int], RunPlan],
    request: PlanRequest,
    *,
    lattice: int,
    halo_px: int,
    fine_shape: tuple[int, int],
) -> RunPlan:
    """The plan with the requested core, or with the largest one up to the target that fits."""
    step = round_core_px(1, lattice)
    least = -(-max(1, LEAST_WINDOW_PX - 2 * halo_px) // step) * step
    # No core is larger than the scene: beyond it there is only the scene's mirror image to compute.
    scene = -(-max(fine_shape) // step) * step
    if request.core_px is not None:
        rounded = max(least, round_core_px(request.core_px, lattice))
        core = min(rounded, max(least, scene))
        plan = plan_with(core)
        if not _fits(plan, request):
            fitting = next((p for p in _shrinking(plan_with, core - step, least, step) if _fits(p, request)), None)
            _refuse(plan, request, fitting)
        if core < rounded:
            return replace(plan, notes=(f"core {request.core_px} px cut to {core} px, which hold the whole scene",))
        if core != request.core_px:
            return replace(plan, notes=(f"core {request.core_px} px rounded to {core} px, a multiple of {step}",))
        return plan
    core = max(least, min(round_core_px(TARGET_CORE_PX, lattice), scene))
    fitting = next((plan for plan in _shrinking(plan_with, core, least, step) if _fits(plan, request)), None)
    if fitting is None:
        _refuse(plan_with(least), request, None)
    if fitting.tiling.core_px < core:
        note = f"core {fitting.tiling.core_px} px instead of {core} px, to fit the memory of a worker"
        return replace(fitting, notes=(note,))
    return fitting


def _shrinking(plan_with: Callable[[int], RunPlan], core: int, least: int, step: int) -> Iterator[RunPlan]:
    return (plan_with(size) for size in range(core, least - 1, -step))


def _refuse(plan: RunPlan, request: PlanRequest, fitting: RunPlan | None) -> NoReturn:
    side = plan.tiling.window_px
    on_device = plan.device_bytes > (request.device_memory_bytes or plan.device_bytes)
    need, have, where = (
        (plan.device_bytes, request.device_memory_bytes or 0, "the GPU")
        if on_device
        else (plan.worker_bytes, request.worker_memory_bytes, "a worker")
    )
    cure = f"Use --core-px {fitting.tiling.core_px}, or" if fitting else "No core is small enough: use"
    more = (
        f"a GPU of {size_text(need)}"
        if on_device
        else f"--memory-limit {math.ceil(need / 2**20)}MiB, perhaps with fewer --workers"
    )
    raise ResourceError(
        f"A window of {side} x {side} px needs {size_text(need)}, {where} has {size_text(have)}",
        "the run would run out of memory",
        f"{cure} {more}",
    )


def _fits(plan: RunPlan, request: PlanRequest) -> bool:
    on_device = plan.device_bytes <= (request.device_memory_bytes or 0) or plan.device == "cpu"
    return plan.worker_bytes <= request.worker_memory_bytes and on_device


def _costed(tiling: Tiling, source: PairSource, card: ModelCard, request: PlanRequest, precision: Precision) -> RunPlan:
    """The plan for this tiling, with its costs.

    A worker holds windows in the reader, the queue and the model's batch; the model's working memory; results (on a
    CPU with their halo) in the model, in the queue behind it and in the encoders; and, while encoding, cores as
    integers and as bytes. If the device loop encodes, only bytes wait behind it. With a GPU, windows and results are in
    pinned memory, and the reader also holds the window that it is pinning.
    """
    hs, ms = len(source.hs_bands), len(source.ms_bands)
    window_px = tiling.window_px**2
    coarse_px = (tiling.window_px // source.grid.ratio + 2 * UPSAMPLE_MARGIN) ** 2
    images_bytes = 4 * window_px * ms, 4 * coarse_px * hs
    window_bytes, result_bytes = sum(images_bytes) + window_px, window_px * (4 * hs + 1)
    waiting_bytes, core_bytes, pinning_bytes = window_bytes, result_bytes, 0
    if request.device == "cuda":
        waiting_bytes = sum(map(_pinned_bytes, images_bytes)) + window_px
        core_bytes, pinning_bytes = _pinned_bytes(4 * tiling.core_px**2 * hs) + window_px, window_bytes
    bytes_per_px = hs * request.bytes_per_value + 1
    working_bytes = math.ceil(window_px * card.activation_bytes_per_pixel)
    batch = request.batch or _default_batch(working_bytes, request)
    on_device = working_bytes * batch
    if request.device == "cuda":  # besides a batch, the next one's windows and the last one's cores
        on_device += _CONTEXT_BYTES + (window_bytes + result_bytes) * batch
    stored_bytes = tiling.core_px**2 * bytes_per_px
    encoder_bytes = core_bytes + 2 * stored_bytes
    encoders = _encoders(encoder_bytes, request)
    if encoders:
        behind = QUEUE_WINDOWS * core_bytes + encoders * encoder_bytes
    else:  # integers and bytes in the loop, bytes in the queue and in the thread that puts them
        behind = (2 + QUEUE_WINDOWS + 1) * stored_bytes
    held = pinning_bytes + (1 + QUEUE_WINDOWS + batch) * waiting_bytes + batch * core_bytes + behind
    host = _PROCESS_BYTES[request.device] + held + (0 if request.device == "cuda" else on_device)
    tiles = len(tiling)
    multiply_adds = card.multiply_adds_per_pixel * window_px * tiles
    read_bytes, write_bytes = tiles * window_bytes, math.prod(tiling.fine_shape) * bytes_per_px
    moved_bytes = read_bytes + write_bytes / max(1, encoders)
    seconds = multiply_adds / MULTIPLY_ADDS_PER_S[request.device] + moved_bytes / _BYTES_PER_S
    group_tiles = _group_tiles(tiles, seconds / tiles, batch, request)
    return RunPlan(
        tiling=tiling,
        batch=batch,
        group_tiles=group_tiles,
        encoders=encoders,
        workers=request.workers,
        device=request.device,
        precision=precision,
        worker_bytes=host,
        device_bytes=on_device if request.device == "cuda" else 0,
        read_bytes=read_bytes,
        write_bytes=write_bytes,
        multiply_adds=multiply_adds,
        seconds=seconds / min(request.workers, -(-tiles // group_tiles)),
        time_limit_s=max(_LEAST_TIME_LIMIT_S, _TIME_LIMIT_FACTOR * group_tiles * seconds / tiles),
    )


def _pinned_bytes(size_bytes: int) -> int:
    """Host memory that torch takes for this much pinned memory: the next power of two."""
    return 1 << (size_bytes - 1).bit_length()


def _default_batch(working_bytes: int, request: PlanRequest) -> int:
    """Default batch: 1 on a CPU, where more gains nothing; on a GPU what fits half of its memory, at most 8."""
    if request.device == "cpu":
        return 1
    return max(1, min(8, (request.device_memory_bytes or 0) // 2 // working_bytes))


def _encoders(encoder_bytes: int, request: PlanRequest) -> int:
    """Encoder threads: one per processor core that runs no model, as many as a quarter of the memory holds.

    Encoding a tile's core of 217 bands takes a processor core half a second; a GPU should compute it in less.
    """
    most = min(MOST_ENCODERS[request.device], request.worker_memory_bytes // 4 // encoder_bytes)
    if request.device == "cpu":
        return min(request.worker_cores - 1, most)
    return max(1, min(request.worker_cores, most))


def _group_tiles(tiles: int, tile_seconds: float, batch: int, request: PlanRequest) -> int:
    """Tiles of a group: at most GROUP_TILES or a minute's worth, with as many groups for each worker as for the next.

    With sixteen tiles in groups of six, one of two workers would wait while the other does the last four.
    """
    most = min(GROUP_TILES[request.device], max(1, int(_GROUP_SECONDS / tile_seconds)))
    rounds = -(-tiles // (most * request.workers))
    size = -(-tiles // (rounds * request.workers))
    return -(-size // batch) * batch


def _ms_band_ratio(source: PairSource) -> int:
    """Coarsest MSI band's GSD / fine GSD if that is an integer and the MSI is not resampled, else 1."""
    known = [band.gsd_m for band in source.ms_bands if band.gsd_m is not None]
    if not known or source.grid.ms_resampled:
        return 1
    quotient = max(known) / source.grid.ms_gsd_m
    return round(quotient) if abs(quotient - round(quotient)) < 1e-3 and quotient >= 1 else 1


def size_text(size_bytes: float) -> str:
    """Readable size: `1.25 GiB`, `100.0 MiB`, `285 KiB`, `4 bytes`."""
    if size_bytes >= 2**29:
        return f"{size_bytes / 2**30:.2f} GiB"
    if size_bytes >= 2**20:
        return f"{size_bytes / 2**20:.1f} MiB"
    return f"{size_bytes / 2**10:.0f} KiB" if size_bytes >= 2**10 else f"{size_bytes:.0f} bytes"
