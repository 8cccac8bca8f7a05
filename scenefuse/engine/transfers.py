"""Copy host arrays to device tensors and back while the device computes.

On a GPU each direction has its own stream and pinned host memory, which torch keeps for later copies and reuses only
once the last one is done. The device loop then only enqueues work: while one batch is computed, the next one's windows
are uploaded and the last one's cores downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenefuse.engine.device import Device

Array = NDArray[np.float32]


class Transfers(Protocol):
    """Copies of one group, made by the threads of its loop."""

    def pin(self, array: Array) -> Tensor:
        """In the reader: the array in memory from which the device can copy while it computes."""
        ...

    def upload(self, windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
        """In the device loop: pinned windows as one batch on the device, (n, band, y, x)."""
        ...

    def download(self, core: Tensor) -> Callable[[], Array]:
        """In the device loop: a function that returns the core, (band, y, x) float32; the encoder calls it."""
        ...

    def keep_pace(self) -> None:
        """In the device loop, after each batch: return once all batches but the last are computed."""
        ...


def transfers_of(device: Device) -> Transfers:
    """The transfers to and from this device."""
    return GpuTransfers() if device == "cuda" else HostTransfers()


class HostTransfers:
    """Transfers for a CPU, which computes in host memory: copies only to form a batch."""

    def pin(self, array: Array) -> Tensor:
        """A view: there is no upload to prepare."""
        return torch.from_numpy(array)

    def upload(self, windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
        """The windows as one batch; a view if there is only one."""
        return _batch(windows, layout)

    def download(self, core: Tensor) -> Callable[[], Array]:
        """A view of the core if it is float32, else a converted copy."""
        array: Array = core.to(torch.float32).numpy()
        return lambda: array

    def keep_pace(self) -> None:
        """Do nothing: a CPU computes synchronously."""


class GpuTransfers:
    """Asynchronous transfers for a GPU: only an encoder waits, for its own core."""

    def __init__(self) -> None:
        self._upward, self._downward = _streams()
        self._last: torch.cuda.Event | None = None

    def pin(self, array: Array) -> Tensor:
        """A copy in pinned memory; otherwise the driver would make it itself while the loop waits."""
        return torch.from_numpy(array).pin_memory()

    def upload(self, windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
        """Copy on the upload stream: later computation waits for it, what is running does not."""
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self._upward):
            there = [window.to("cuda", non_blocking=True) for window in windows]
        computing.wait_stream(self._upward)
        for window in there:
            window.record_stream(computing)  # else its memory could be reused before it is computed with
        return _batch(there, layout)

    def download(self, core: Tensor) -> Callable[[], Array]:
        """Copy on the download stream once the core is computed."""
        dense = core.to(torch.float32).contiguous()
        host = torch.empty(dense.shape, dtype=torch.float32, pin_memory=True)
        self._downward.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._downward):
            host.copy_(dense, non_blocking=True)
            done = _event(self._downward)
        dense.record_stream(self._downward)

        def received() -> Array:
            done.synchronize()
            array: Array = host.numpy()
            return array

        return received

    def keep_pace(self) -> None:
        """Keep at most two batches on the device, and the loop's compute seconds close to the device's."""
        before, self._last = self._last, _event(torch.cuda.current_stream())
        if before is not None:
            before.synchronize()


@cache
def _streams() -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """Streams for upload and download, shared by all groups of a process.

    torch caches memory per stream: with new streams for each group, its windows would stay on the device beside those
    of the next, up to torch's 32 streams.
    """
    return torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """An event after the stream's work so far; waiting for it sleeps, where the default spins on an encoder's core."""
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(stream)
    return event


def _batch(windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
    batch = windows[0][None] if len(windows) == 1 else torch.stack(list(windows))
    return batch.contiguous(memory_format=layout)
