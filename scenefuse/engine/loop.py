"""The inference loop of one group: a reader thread, the device loop, a writer thread.

    read --(channel of 2)--> fuse --(channel of 2)--> write

Whichever fails first ends the other two, and its error is the one that is raised.
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
    """Seconds in the writer, waiting for cores left out."""
    wait: float
    """Seconds that the device loop waited for windows or for room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps(Generic[Job, Read, Fused, Written]):
    """The three steps of the loop; each is called from one thread only."""

    read: Callable[[Job], Read]
    """Pixels of one window."""
    fuse: Callable[[Sequence[Read]], Sequence[Fused]]
    """Results of a batch of windows, in its order."""
    write: Callable[[Job, Fused], Written]
    """What came of storing one result."""


class _Clock:
    """Seconds by name, each name from one thread; and the first error of them all."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self.error: BaseException | None = None
        self._lock = Lock()

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += perf_counter() - start

    def fail(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error


def run_loop(
    jobs: Sequence[Job], steps: Steps[Job, Read, Fused, Written], *, batch: int
) -> tuple[list[Written], LoopSeconds]:
    """What came of writing each job, in the order of jobs, and where the time went."""
    clock = _Clock()
    windows: Channel[tuple[Job, Read]] = Channel(QUEUE_WINDOWS)
    cores: Channel[tuple[Job, Fused]] = Channel(QUEUE_WINDOWS)
    written: list[Written] = []

    def stop(error: BaseException) -> None:
        clock.fail(error)
        windows.cancel()
        cores.cancel()

    def read_all() -> None:
        try:
            for job in jobs:
                with clock.running("read"):
                    window = steps.read(job)
                windows.put((job, window))
            windows.finish()
        except ChannelClosedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            stop(error)

    def write_all() -> None:
        try:
            for job, fused in cores:
                with clock.running("write"):
                    written.append(steps.write(job, fused))
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            stop(error)

    threads = [Thread(target=read_all, name="scenefuse-read"), Thread(target=write_all, name="scenefuse-write")]
    start = perf_counter()
    for thread in threads:
        thread.start()
    try:
        for members in batched(windows, batch):
            with clock.running("compute"):
                results = steps.fuse([window for _, window in members])
            for (job, _), fused in zip(members, results, strict=True):
                cores.put((job, fused))
        cores.finish()
    except ChannelClosedError:
        pass
    except BaseException as error:  # noqa: BLE001 - raised again below, when both threads have ended
        stop(error)
    finally:
        device_seconds = perf_counter() - start
        for thread in threads:
            thread.join()
    if clock.error is not None:
        raise clock.error
    return written, LoopSeconds(**clock.seconds, wait=max(0.0, device_seconds - clock.seconds["compute"]))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Items in lists of at most size, in order."""
    iterator = iter(items)
    while members := list(islice(iterator, size)):
        yield members
