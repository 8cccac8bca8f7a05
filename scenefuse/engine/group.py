"""The task of the engine: a group of tiles, from windows to receipts."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenefuse.engine.flags import mask_core
from scenefuse.engine.loop import LoopSeconds, Steps, batched, run_loop
from scenefuse.engine.precision import Precision, repeatable
from scenefuse.engine.protocols import ShardReceipt, Sink, Source
from scenefuse.engine.resident import ModelHandle, resident_model, resident_state
from scenefuse.engine.windows import ModelWindow, read_model_window
from scenefuse.errors import ResourceError
from scenefuse.models.base import FusionModel
from scenefuse.models.state import SceneState
from scenefuse.tiles.tiling import Tile

_batch_limits: dict[tuple[str, int], int] = {}
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""What torch says of memory without a type of its own: on a CPU, and of what the driver, cuBLAS or cuDNN asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTask:
    """All that a worker needs to fuse a group of tiles, besides the scene state, which it keeps. Picklable."""

    tiles: tuple[Tile, ...]
    """The tiles, in the order of reading."""
    source: Source
    """Where windows come from."""
    sink: Sink
    """Where cores go."""
    model: ModelHandle
    """What fuses them."""
    state_sha256: str
    """Digest of the scene state, which the lane has shared."""
    precision: Precision
    """Numbers in which the model runs."""
    batch: int
    """Windows per call of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileReceipts:
    """A finished tile and the proof of its shards."""

    iy: int
    """Row of the tile."""
    ix: int
    """Column of the tile."""
    receipts: tuple[ShardReceipt, ...]
    """One per shard of the tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """What became of a group."""

    tiles: tuple[TileReceipts, ...]
    """Finished tiles, in the order of the task."""
    fine_px: int
    """Fine pixels written."""
    seconds: LoopSeconds
    """Where the time went."""
    peak_rss_bytes: int
    """Largest resident size of the process so far."""
    batch: int
    """Windows per call that fitted, at most the task's."""
    host: str
    """Name of the machine."""
    pid: int
    """Process on that machine."""


def fuse_group(task: GroupTask) -> GroupReport:
    """Fuse and store the tiles of a group; the same task gives the same bytes, wherever and whenever it runs."""
    model = resident_model(task.model)
    state = resident_state(task.state_sha256)
    fine_shape = task.source.grid.fine_shape

    def read(tile: Tile) -> ModelWindow:
        return read_model_window(task.source, tile.read, state)

    def fuse(members: Sequence[tuple[Tile, ModelWindow]]) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        tiles = [tile for tile, _ in members]
        windows = [window for _, window in members]
        return list(zip(_fuse_cores(task, model, tiles, windows, state), (w.valid for w in windows), strict=True))

    def write(tile: Tile, result: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> TileReceipts:
        fused, valid = result
        quality = mask_core(fused, valid, tile, fine_shape=fine_shape, near_px=model.card.effective_px)
        return TileReceipts(iy=tile.iy, ix=tile.ix, receipts=task.sink.write(tile, fused, quality))

    steps = Steps(read=lambda tile: (tile, read(tile)), fuse=fuse, write=write)
    with repeatable(task.model.device, task.precision):
        written, seconds = run_loop(task.tiles, steps, batch=task.batch)
    return GroupReport(
        tiles=tuple(written),
        fine_px=sum(tile.core.shape[0] * tile.core.shape[1] for tile in task.tiles),
        seconds=seconds,
        peak_rss_bytes=peak_rss_bytes(),
        batch=min(_batch_limits.get(_limit_key(task), task.batch), task.batch),
        host=socket.gethostname(),
        pid=os.getpid(),
    )


def peak_rss_bytes() -> int:
    """Largest resident size that this process has had, in bytes."""
    with contextlib.suppress(OSError):
        # getrusage's peak begins, on Linux, with that of the process which started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _fuse_cores(
    task: GroupTask, model: FusionModel, tiles: Sequence[Tile], windows: Sequence[ModelWindow], state: SceneState
) -> list[NDArray[np.float32]]:
    """Fused cores, each (band, y, x), views of their windows on a CPU; halves the batch as often as the device asks."""
    key = _limit_key(task)
    limit = min(_batch_limits.get(key, len(tiles)), len(tiles))
    while True:
        try:
            members = batched(zip(tiles, windows, strict=True), limit)
            return [core for some in members for core in _fuse_batch(task, model, some, state)]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if limit == 1:
                side = tiles[0].read.shape[0]
                raise ResourceError(
                    f"A window of {side} x {side} px does not fit the memory of {task.model.device}",
                    "no smaller batch is left to try",
                    f"Use --core-px {max(tiles[0].core.shape) // 2} or smaller",
                ) from None
        limit //= 2
        _batch_limits[key] = limit
        if task.model.device == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """True of Python's and torch's errors of a device or a host whose memory is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def _fuse_batch(
    task: GroupTask, model: FusionModel, members: Sequence[tuple[Tile, ModelWindow]], state: SceneState
) -> list[NDArray[np.float32]]:
    layout = torch.contiguous_format if task.precision == "fp32" else torch.channels_last
    to_device = partial(_stacked, device=task.model.device, layout=layout)
    hs = to_device([window.hs for _, window in members])
    ms = to_device([window.ms for _, window in members])
    fused = model.fuse(hs, ms, state)
    return [_core_of(fused[i], tile) for i, (tile, _) in enumerate(members)]


def _stacked(arrays: Sequence[NDArray[np.float32]], *, device: str, layout: torch.memory_format) -> Tensor:
    first = torch.from_numpy(arrays[0])
    batch = first[None] if len(arrays) == 1 else torch.stack([torch.from_numpy(array) for array in arrays])
    return batch.to(device).contiguous(memory_format=layout)


def _core_of(fused: Tensor, tile: Tile) -> NDArray[np.float32]:
    rows, columns = tile.core.within(tile.read)
    core: NDArray[np.float32] = fused[:, rows, columns].to(device="cpu", dtype=torch.float32).numpy()
    return core


def _limit_key(task: GroupTask) -> tuple[str, int]:
    return task.model.key, task.tiles[0].read.shape[0]
