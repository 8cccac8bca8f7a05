"""The engine's task: fuse a group of tiles, from windows to receipts."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenefuse.cube.source import PairSource
from scenefuse.engine.device import is_out_of_memory
from scenefuse.engine.flags import mask_core
from scenefuse.engine.loop import LoopSeconds, Steps, batched, run_loop
from scenefuse.engine.precision import Precision, repeatable
from scenefuse.engine.protocols import EncodedShard, Sink, TileReceipts
from scenefuse.engine.resident import ModelHandle, resident_model, resident_state
from scenefuse.engine.software import software_facts
from scenefuse.engine.transfers import Transfers, transfers_of
from scenefuse.engine.windows import read_model_window
from scenefuse.errors import ResourceError
from scenefuse.models.base import FusionModel
from scenefuse.models.state import SceneState
from scenefuse.tiles.tiling import Tile

_batch_limits: dict[tuple[str, int], int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTask:
    """What a worker needs to fuse a group of tiles, apart from the scene state, which it keeps. Picklable."""

    tiles: tuple[Tile, ...]
    """The tiles, in the order of reading."""
    source: PairSource
    """Where windows come from."""
    sink: Sink
    """Where cores go."""
    model: ModelHandle
    """The method."""
    state_sha256: str
    """Digest of the scene state, shared by the lane."""
    precision: Precision
    """Numeric precision of the model."""
    batch: int
    """Windows per call of the model."""
    encoders: int = 0
    """Threads that encode and put cores beside the device loop; with 0 the loop itself encodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """The outcome of a group."""

    tiles: tuple[TileReceipts, ...]
    """Finished tiles, in the order of the task."""
    fine_px: int
    """Fine pixels written."""
    seconds: LoopSeconds
    """How the time was spent."""
    peak_rss_bytes: int
    """Peak resident size of the process so far."""
    batch: int
    """Windows per call that fitted into memory, at most the task's batch."""
    host: str
    """Name of the machine."""
    pid: int
    """Process id on that machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A tile's window on its way to the device."""

    tile: Tile
    hs: Tensor
    ms: Tensor
    valid: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Core:
    """A tile's core on its way back."""

    fused: NDArray[np.float32]
    valid: NDArray[np.bool_]


def fuse_group(task: GroupTask) -> GroupReport:
    """Fuse and store the tiles of a group; the same task always gives the same bytes."""
    model = resident_model(task.model)
    state = resident_state(task.state_sha256)
    fine_shape = task.source.grid.fine_shape
    transfers = transfers_of(task.model.device)
    made_by = software_facts(task.model.device)

    def read(tile: Tile) -> _Window:
        window = read_model_window(task.source, tile.read, state)
        return _Window(tile=tile, hs=transfers.pin(window.hs), ms=transfers.pin(window.ms), valid=window.valid)

    def fuse(windows: Sequence[_Window]) -> list[Callable[[], _Core]]:
        cores = _fuse_cores(task, model, windows, state, transfers)
        transfers.keep_pace()
        # Only a window's mask waits for the encoders: the memory of its pixels is free once they are on the device.
        return [partial(_received, core, window.valid) for core, window in zip(cores, windows, strict=True)]

    def encode(tile: Tile, core: _Core) -> tuple[EncodedShard, ...]:
        quality = mask_core(core.fused, core.valid, tile, fine_shape=fine_shape, near_px=model.card.effective_px)
        return task.sink.encode(tile, core.fused, quality)

    def put(tile: Tile, shards: tuple[EncodedShard, ...]) -> TileReceipts:
        return TileReceipts(iy=tile.iy, ix=tile.ix, receipts=task.sink.put(shards), made_by=made_by)

    steps = Steps(read=read, fuse=fuse, receive=lambda core: core(), encode=encode, put=put)
    with repeatable(task.model.device, task.precision):
        written, seconds = run_loop(task.tiles, steps, batch=task.batch, encoders=task.encoders)
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
    """Peak resident size of this process, in bytes."""
    with contextlib.suppress(OSError):
        # On Linux, getrusage's peak starts from that of the parent process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _received(core: Callable[[], NDArray[np.float32]], valid: NDArray[np.bool_]) -> _Core:
    return _Core(fused=core(), valid=valid)


def _fuse_cores(
    task: GroupTask, model: FusionModel, windows: Sequence[_Window], state: SceneState, transfers: Transfers
) -> list[Callable[[], NDArray[np.float32]]]:
    """Functions that return each fused core, (band, y, x); halves the batch whenever memory runs out."""
    key = _limit_key(task)
    limit = min(_batch_limits.get(key, len(windows)), len(windows))
    while True:
        try:
            return [
                core for some in batched(windows, limit) for core in _fuse_batch(task, model, some, state, transfers)
            ]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if limit == 1:
                tile = windows[0].tile
                side = tile.read.shape[0]
                said = (str(error).splitlines() or [""])[0]  # a broken library may report the same
                raise ResourceError(
                    f"A window of {side} x {side} px does not fit the memory of {task.model.device} ({said})",
                    "no smaller batch is left to try",
                    f"Use --core-px {max(tile.core.shape) // 2} or smaller",
                ) from None
        limit //= 2
        _batch_limits[key] = limit
        if task.model.device == "cuda":
            torch.cuda.empty_cache()


def _fuse_batch(
    task: GroupTask, model: FusionModel, windows: Sequence[_Window], state: SceneState, transfers: Transfers
) -> list[Callable[[], NDArray[np.float32]]]:
    layout = torch.contiguous_format if task.precision == "fp32" else torch.channels_last
    hs = transfers.upload([window.hs for window in windows], layout)
    ms = transfers.upload([window.ms for window in windows], layout)
    fused = model.fuse(hs, ms, state)
    places = [window.tile.core.within(window.tile.read) for window in windows]
    return [transfers.download(fused[i][:, *place]) for i, place in enumerate(places)]


def _limit_key(task: GroupTask) -> tuple[str, int]:
    return task.model.key, task.tiles[0].read.shape[0]
