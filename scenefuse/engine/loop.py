"""The inference loop of one group: a reader thread, the device loop, a writer thread or several.

    read --(channel of 2)--> fuse --(channel of 2)--> write

Whichever fails first ends the others, and its error is the one that is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from threading import Lock, Thread
from time import perf_counter
from typing import Generic, TypeVar

from scenefuse.engine.channel import Channel, ChannelClosedError

Job = TypeVar("Job")
Read = TypeVar("Read")
Fused = TypeVar("Fused")
Core = TypeVar("Core")
Written = TypeVar("Written")
T = TypeVar("T")

QUEUE_WINDOWS = 2
"""Windows that wait before the device, and cores that wait before the writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSeconds:
    """Where the time of a group went; the first three run at the same time."""

    read: float
    """Seconds in the reader, waiting for room left out."""
    compute: float
    """Seconds in the device loop's own work."""
    write: float
    """Seconds in the writers, waiting for cores left out; of several together."""
    wait: float
    """Seconds that the device loop waited for windows or for room."""
    drain: float
    """Seconds from the device loop's end to the last core written, in which the device is idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps(Generic[Job, Read, Fused, Core, Written]):
    """The steps of the loop; read and fuse are called from one thread each, receive and write from every writer."""

    read: Callable[[Job], Read]
    """Pixels of one window."""
    fuse: Callable[[Sequence[Read]], Sequence[Fused]]
    """Results of a batch of windows, in its order; a device may still be at work on them."""
    receive: Callable[[Fused], Core]
    """One result as soon as it is there."""
    write: Callable[[Job, Core], Written]
    """What came of storing one result."""


def run_loop(
    jobs: Sequence[Job], steps: Steps[Job, Read, Fused, Core, Written], *, batch: int, writers: int = 1
) -> tuple[list[Written], LoopSeconds]:
    """What came of writing each job, in the order of jobs, and where the time went."""
    loop = _Loop(jobs, steps, batch)
    threads = [
        Thread(target=loop.guarded, args=(loop.read_all,), name="scenefuse-read"),
        *(Thread(target=loop.guarded, args=(loop.write_all,), name="scenefuse-write") for _ in range(writers)),
    ]
    start = perf_counter()
    for thread in threads:
        thread.start()
    try:
        loop.guarded(loop.fuse_all)
        device_seconds = perf_counter() - start
    finally:
        for thread in threads:
            thread.join()
    if loop.error is not None:
        raise loop.error
    wait, drain = device_seconds - loop.seconds["compute"], perf_counter() - start - device_seconds
    return [loop.written[index] for index in range(len(jobs))], LoopSeconds(
        **loop.seconds, wait=max(0.0, wait), drain=drain
    )


class _Loop(Generic[Job, Read, Fused, Core, Written]):
    """The threads' bodies, the channels between them, and the first error of them all."""

    def __init__(self, jobs: Sequence[Job], steps: Steps[Job, Read, Fused, Core, Written], batch: int) -> None:
        self.written: dict[int, Written] = {}
        self.seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self.error: BaseException | None = None
        self._jobs = jobs
        self._steps = steps
        self._batch = batch
        self._windows: Channel[tuple[int, Read]] = Channel(QUEUE_WINDOWS)
        self._cores: Channel[tuple[int, Fused]] = Channel(QUEUE_WINDOWS)
        self._failing, self._timing = Lock(), Lock()

    def guarded(self, body: Callable[[], None]) -> None:
        """Run one body; its error becomes the loop's, if it is the first, and ends the other bodies."""
        try:
            body()
        except ChannelClosedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by run_loop, when the threads have ended
            with self._failing:
                self.error = self.error or error
            self._windows.cancel()
            self._cores.cancel()

    def read_all(self) -> None:
        for index, job in enumerate(self._jobs):
            with self._timed("read"):
                window = self._steps.read(job)
            self._windows.put((index, window))
        self._windows.finish()

    def fuse_all(self) -> None:
        for members in batched(self._windows, self._batch):
            with self._timed("compute"):
                results = self._steps.fuse([window for _, window in members])
            for (index, _), fused in zip(members, results, strict=True):
                self._cores.put((index, fused))
        self._cores.finish()

    def write_all(self) -> None:
        for index, fused in self._cores:
            core = self._steps.receive(fused)
            with self._timed("write"):
                self.written[index] = self._steps.write(self._jobs[index], core)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            with self._timing:
                self.seconds[name] += perf_counter() - start


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Items in lists of at most size, in order."""
    iterator = iter(items)
    while members := list(islice(iterator, size)):
        yield members
