"""The inference loop of one group: a reader thread, the device loop, and writer threads.

    read --(channel of 2)--> fuse --(channel of 2)--> encode, put       with a GPU; one or several writer threads
    read --(channel of 2)--> fuse, encode --(channel of 2)--> put       on one CPU core

Reading and putting wait for disks and networks, so they have threads of their own. Encoding is CPU work: with a GPU it
must not hold up the device. If the device is a CPU core itself, an encoding thread would only take turns on it with the
device loop, and find each result gone from the cache (bicubic: a fifth more time, 1.4 times the memory).

The first failure ends all threads, and its error is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from threading import Lock, Thread
from time import perf_counter
from typing import Generic, TypeVar

from scenefuse.engine.channel import Channel, ChannelClosedError

Job = TypeVar("Job")
Read = TypeVar("Read")
Fused = TypeVar("Fused")
Core = TypeVar("Core")
Encoded = TypeVar("Encoded")
Written = TypeVar("Written")
T = TypeVar("T")

QUEUE_WINDOWS = 2
"""Most windows that wait for the device, and most results that wait behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSeconds:
    """How a group spent its time; the first three overlap as far as there are threads.

    Starved means that the queue before the device was empty, blocked that the one behind it was full.
    """

    read: float
    """Seconds of reading, without waiting for room in the queue."""
    compute: float
    """Seconds of fusing in the device loop."""
    write: float
    """Seconds of encoding and putting, summed over all threads, without waiting for results."""
    starved: float
    """Seconds the device loop waited for windows: reading is too slow."""
    blocked: float
    """Seconds the device loop waited for room behind it: writing is too slow."""
    drain: float
    """Seconds from the end of the device loop to the last core written, while the device is idle."""
    whole: float
    """Seconds from start to end of the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps(Generic[Job, Read, Fused, Core, Encoded, Written]):
    """The steps of the loop: one thread each calls read and fuse; several may call the others at once."""

    read: Callable[[Job], Read]
    """Read the pixels of one window."""
    fuse: Callable[[Sequence[Read]], Sequence[Fused]]
    """Fuse a batch of windows; returns results in order, which the device may still be computing."""
    receive: Callable[[Fused], Core]
    """Wait for one result and return it."""
    encode: Callable[[Job, Core], Encoded]
    """Encode one result for storage."""
    put: Callable[[Job, Encoded], Written]
    """Store one encoded result; returns its receipt."""


def run_loop(
    jobs: Sequence[Job], steps: Steps[Job, Read, Fused, Core, Encoded, Written], *, batch: int, encoders: int = 0
) -> tuple[list[Written], LoopSeconds]:
    """Run all jobs; return the results of put, in the order of jobs, and how the time was spent.

    encoders: threads that encode and put; with 0 the device loop encodes and one thread puts.
    """
    loop = _Loop(jobs, steps, batch, encoders)
    threads = [
        Thread(target=loop.guarded, args=(loop.read_all,), name="scenefuse-read"),
        *(Thread(target=loop.guarded, args=(loop.put_all,), name="scenefuse-write") for _ in range(max(1, encoders))),
    ]
    start = perf_counter()
    try:
        for thread in threads:
            thread.start()
        loop.guarded(loop.fuse_all)
        device_seconds = perf_counter() - start
    except BaseException:  # a thread could not start
        loop.end()
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if loop.error is not None:
        raise loop.error
    whole = perf_counter() - start
    return [loop.written[index] for index in range(len(jobs))], LoopSeconds(
        **loop.seconds, drain=whole - device_seconds, whole=whole
    )


class _Loop(Generic[Job, Read, Fused, Core, Encoded, Written]):
    """The threads' bodies, the channels between them, and the first error."""

    def __init__(
        self,
        jobs: Sequence[Job],
        steps: Steps[Job, Read, Fused, Core, Encoded, Written],
        batch: int,
        encoders: int,
    ) -> None:
        self.written: dict[int, Written] = {}
        self.seconds = dict.fromkeys(("read", "compute", "write", "starved", "blocked"), 0.0)
        self.error: BaseException | None = None
        self._jobs = jobs
        self._steps = steps
        self._batch = batch
        self._encoders = encoders
        self._windows: Channel[tuple[int, Read]] = Channel(QUEUE_WINDOWS)
        self._results: Channel[tuple[int, Callable[[], Encoded]]] = Channel(QUEUE_WINDOWS)
        self._failing, self._timing = Lock(), Lock()

    def guarded(self, body: Callable[[], None]) -> None:
        """Run one body; an error in it ends the other bodies and, if it is the first, becomes the loop's error."""
        try:
            body()
        except ChannelClosedError:
            return
        except BaseException as error:  # noqa: BLE001 - run_loop raises it once the threads have ended
            with self._failing:
                self.error = self.error or error
            self.end()

    def end(self) -> None:
        """End all bodies, whatever they are waiting for."""
        self._windows.cancel()
        self._results.cancel()

    def read_all(self) -> None:
        for index, job in enumerate(self._jobs):
            with self._timed("read"):
                window = self._steps.read(job)
            self._windows.put((index, window))
        self._windows.finish()

    def fuse_all(self) -> None:
        batches = batched(self._windows, self._batch)
        while True:
            with self._timed("starved"):
                members = next(batches, None)
            if members is None:
                break
            self._fuse_batch(members)
        self._results.finish()

    def put_all(self) -> None:
        for index, encoded in self._results:
            shards = encoded()
            with self._timed("write"):
                self.written[index] = self._steps.put(self._jobs[index], shards)

    def _fuse_batch(self, members: Sequence[tuple[int, Read]]) -> None:
        """Fuse a batch and hand over its results one by one, so that none is held longer than necessary."""
        with self._timed("compute"):
            results = deque(self._steps.fuse([window for _, window in members]))
        for index, _ in members:
            self._hand_over(index, results.popleft())

    def _hand_over(self, index: int, fused: Fused) -> None:
        if self._encoders:
            waiting = partial(self._encoded, index, fused)
        else:
            encoded = self._encoded(index, fused)
            waiting = partial(_given, encoded)
        del fused
        with self._timed("blocked"):
            self._results.put((index, waiting))

    def _encoded(self, index: int, fused: Fused) -> Encoded:
        core = self._steps.receive(fused)
        with self._timed("write"):
            return self._steps.encode(self._jobs[index], core)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            with self._timing:
                self.seconds[name] += perf_counter() - start


def _given(value: T) -> T:
    return value


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most size, in order."""
    iterator = iter(items)
    while members := list(islice(iterator, size)):
        yield members
