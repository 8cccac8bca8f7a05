"""From a host's arrays to a device's tensors and back, beside the device's arithmetic.

On a GPU each direction has a stream of its own and pinned memory on the host, which torch keeps for the next copy and
gives to nobody before the last one is done. The device loop then only puts work into queues: while a batch is
computed, the windows of the next go up and the cores of the one before come down.
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
    """The copies of one group, in the threads of its loop."""

    def pin(self, array: Array) -> Tensor:
        """In the reader: the array in memory from which the device can copy it beside its arithmetic."""
        ...

    def upload(self, windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
        """In the device loop: pinned windows as one batch, (n, band, y, x), on the device."""
        ...

    def download(self, core: Tensor) -> Callable[[], Array]:
        """In the device loop: what gives the core, (band, y, x), in float32; called where the core is encoded."""
        ...

    def keep_pace(self) -> None:
        """In the device loop, after each batch: return once all but the last are computed."""
        ...


def transfers_of(device: Device) -> Transfers:
    """The copies to and from this device."""
    return GpuTransfers() if device == "cuda" else HostTransfers()


class HostTransfers:
    """A CPU computes in the host's own memory: no copy, but for a batch."""

    def pin(self, array: Array) -> Tensor:
        """A view: there is no copy to wait for."""
        return torch.from_numpy(array)

    def upload(self, windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
        """A view of a window alone."""
        return _batch(windows, layout)

    def download(self, core: Tensor) -> Callable[[], Array]:
        """A view of what is in float32."""
        array: Array = core.to(torch.float32).numpy()
        return lambda: array

    def keep_pace(self) -> None:
        """Nothing: what was asked for is computed."""


class GpuTransfers:
    """Copies that no thread waits for, but each encoder for its own core."""

    def __init__(self) -> None:
        self._upward, self._downward = _streams()
        self._last: torch.cuda.Event | None = None

    def pin(self, array: Array) -> Tensor:
        """A copy in pinned memory: from elsewhere the driver would copy it there itself, and the loop would wait."""
        return torch.from_numpy(array).pin_memory()

    def upload(self, windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
        """Copied on the upward stream; what is computed next waits for it, and what is computed now does not."""
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self._upward):
            there = [window.to("cuda", non_blocking=True) for window in windows]
        computing.wait_stream(self._upward)
        for window in there:
            window.record_stream(computing)  # its memory belongs to the stream that it was made on
        return _batch(there, layout)

    def download(self, core: Tensor) -> Callable[[], Array]:
        """Copied on the downward stream once the core is computed."""
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
        """Keeps two batches on the device at most, and the loop's seconds of computing near the device's."""
        before, self._last = self._last, _event(torch.cuda.current_stream())
        if before is not None:
            before.synchronize()


@cache
def _streams() -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """Upward and downward, the same for all groups of a process.

    What torch keeps of memory is kept by stream: each group's windows in a stream of their own would stay on the device
    beside the next group's, up to torch's 32 streams.
    """
    return torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """What the stream has been given so far; who waits for it sleeps, where by default a core spins that encodes."""
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(stream)
    return event


def _batch(windows: Sequence[Tensor], layout: torch.memory_format) -> Tensor:
    batch = windows[0][None] if len(windows) == 1 else torch.stack(list(windows))
    return batch.contiguous(memory_format=layout)
