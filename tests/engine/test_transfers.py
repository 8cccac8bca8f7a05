"""What of the copies to and from a GPU can be seen without one; the rest is in tests/gpu."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scenefuse.engine import group, transfers
from scenefuse.engine.loop import QUEUE_WINDOWS
from scenefuse.engine.transfers import Array, GpuTransfers, HostTransfers
from tests.engine.fakes import AnalyticSource, NpySink, Setting
from tests.engine.scenes import job_of, run_job


@dataclass
class FakeEvent:
    blocking: bool = False
    waited: int = 0

    def record(self, stream: FakeStream) -> None:
        stream.events.append(self)

    def synchronize(self) -> None:
        self.waited += 1


@dataclass
class FakeStream:
    events: list[FakeEvent] = field(default_factory=list)


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStream]:
    """The stream on which a GPU that is none computes."""
    stream = FakeStream()
    for name, fake in (("Stream", FakeStream), ("Event", FakeEvent), ("current_stream", lambda: stream)):
        monkeypatch.setattr(torch.cuda, name, fake)
    transfers._streams.cache_clear()
    yield stream
    transfers._streams.cache_clear()


def test_all_groups_of_a_process_copy_on_the_same_two_streams(computing: FakeStream) -> None:
    first, second = GpuTransfers(), GpuTransfers()
    assert first._upward is second._upward
    assert first._downward is second._downward
    assert len({id(stream) for stream in (computing, first._upward, first._downward)}) == 3


def test_the_loop_sleeps_until_the_batch_before_the_last_is_computed(computing: FakeStream) -> None:
    copies = GpuTransfers()
    for _ in range(3):
        copies.keep_pace()
    assert [(event.blocking, event.waited) for event in computing.events] == [(True, 1), (True, 1), (True, 0)]


class Counting(HostTransfers):
    """Copies of a host whose first core takes its time; it knows which windows are still held."""

    def __init__(self) -> None:
        self.pinned: list[weakref.ref[Tensor]] = []
        self.held = 0
        self.first = True

    def pin(self, array: Array) -> Tensor:
        window = super().pin(array)
        self.pinned.append(weakref.ref(window))
        return window

    def download(self, core: Tensor) -> Callable[[], Array]:
        received, slow = super().download(core), self.first
        self.first = False

        def receive() -> Array:
            if slow:
                time.sleep(0.5)
                self.held = sum(window() is not None for window in self.pinned)
            return received()

        return receive


def test_encoders_hold_no_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = Counting()
    monkeypatch.setattr(group, "transfers_of", lambda _: copies)
    setting = Setting(source=AnalyticSource(coarse_shape=(64, 96), ratio=3))
    job = job_of(setting, NpySink(folder=tmp_path), core_px=48, batch=1)
    run_job(replace(job, plan=replace(job.plan, encoders=1, group_tiles=24)), tmp_path)
    assert len(copies.pinned) == 2 * 24
    # Two images of each window: in the reader's hand, in the queue, in the model's batch.
    assert 0 < copies.held <= 2 * (1 + QUEUE_WINDOWS + 1)
