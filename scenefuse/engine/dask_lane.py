"""The lane on the workers of a Dask cluster: an embedded one, or one that others run."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from distributed import Client, Future, WorkerPlugin, get_worker
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.comm.core import CommClosedError
from torch import AcceleratorError

from scenefuse.engine.device import is_out_of_memory
from scenefuse.engine.lanes import Call, Outcome, TimeLimitError
from scenefuse.engine.resident import drop_state, keep_state
from scenefuse.errors import ResourceError, WorkError
from scenefuse.models.state import SceneState

NO_WORKERS_LIMIT_S = 120.0
"""Seconds that a lane waits for a first worker, or for a last one to come back."""

_WIDTH_FRESH_S = 0.2
"""Seconds for which the count of workers is believed: asked for each task, it took most of the coordinator's time."""

_REGISTER_AGAIN = 5
"""Workers that may die one after the other while they are told of a scene state."""
_REGISTER_PAUSE_S = 0.5

_SILENT_S = 60.0
"""Seconds without a heartbeat, of which there is one at least every few seconds, after which a worker that keeps the
others waiting counts as hung."""

_FETCH_S = 60.0
"""Time to fetch a result. If its worker has died since, Dask computes it again, for as long as that takes."""

_FAREWELL_S = 1.0
"""Time that a worker whose device failed leaves itself: Dask sends the error of the call that found it a bit later."""
_device_lost = threading.Event()
"""Set in a process whose device failed: CUDA gives no way back but a new process."""


class SchedulerLostError(WorkError):
    """The scheduler went away in the middle of a run; what is finished is kept, and a new one can go on."""

    retryable = True


class DaskLane:
    """Runs calls on the workers of a Dask cluster, one at a time on each thread of each worker.

    Outcomes come by callbacks and a queue, for as_completed wakes up ten times a second. Workers announce the
    start of a call by an event, so that a time limit counts from there, and a call that only waited on a
    worker that died is not blamed for it.
    """

    def __init__(
        self,
        client: Client,
        *,
        resources: dict[str, float] | None = None,
        on_this_machine: bool = False,
        no_workers_limit_s: float = NO_WORKERS_LIMIT_S,
    ) -> None:
        """A lane on the client's workers: those with the resources, if any are asked for."""
        self._client = client
        scheduler: Any = client.scheduler  # None before the client has connected, and after it lost the scheduler
        self._address = scheduler.address
        self._on_this_machine = on_this_machine
        self._resources = resources or {}
        self._no_workers_limit_s = no_workers_limit_s
        self._name = uuid4().hex
        self._topic = f"scenefuse-{self._name}"
        self._calls: dict[str, tuple[Call, Future[Any]]] = {}
        self._began: dict[str, tuple[float, str]] = {}
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lonely_since: float | None = None
        self._width: tuple[float, int] | None = None
        client.subscribe_topic(self._topic, self._note_start)

    @property
    def width(self) -> int:
        """Threads of all workers, at least one; the scheduler is asked at most once in _WIDTH_FRESH_S."""
        if self._width is None or time.monotonic() - self._width[0] > _WIDTH_FRESH_S:
            with self._reaching():
                self._width = time.monotonic(), max(1, int(sum(self._client.nthreads().values())))
        return self._width[1]

    @property
    def dashboard(self) -> str | None:
        """Dask's dashboard, `http://127.0.0.1:8787/status`."""
        with self._reaching():
            return str(self._client.dashboard_link) or None

    @property
    def on_this_machine(self) -> bool:
        """True for an embedded cluster; of a running one nobody knows."""
        return self._on_this_machine

    def submit(self, call: Call) -> None:
        """Send a call to the scheduler, under a key that no other client's call has: it would share the result."""
        with self._reaching():
            future = self._client.submit(
                _announced,
                self._topic,
                call,
                key=f"{call.key}-{self._name}",
                pure=False,
                retries=0,
                resources=self._resources or None,
            )
        self._calls[call.key] = call, future
        future.add_done_callback(lambda _: self._events.put(call.key))

    def settle(self, timeout_s: float) -> Outcome | None:
        """The next outcome; restarts the worker of a call past its limit."""
        deadline = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            overdue = self._next_overdue()
            wake = min(deadline, overdue[0] if overdue else deadline)
            try:
                key = self._events.get(timeout=max(0.0, wake - now))
            except queue.Empty:
                if overdue and overdue[0] <= time.monotonic():
                    if self._runs(overdue[1]):
                        return self._restart(overdue[1])
                    continue
                self._refuse_loneliness()
                return None
            if key in self._calls:
                return self._finish(key)

    @contextmanager
    def sharing(self, state: SceneState) -> Iterator[str]:
        """The state's sha256, under which every present and future worker keeps it."""
        digest = state.sha256
        plugin = _StateKeeper(name=f"{self._topic}-{digest}", state=state)
        with self._reaching():
            self._register(plugin)
        try:
            yield digest
        finally:
            if self._client.status == "running":
                # The plugin goes to, and from, every worker: one that dies meanwhile is no error of the others.
                with contextlib.suppress(OSError):
                    self._tell_all(lambda: self._client.unregister_worker_plugin(plugin.name))

    def cancel(self) -> None:
        """Cancel what has not started and forget the rest."""
        futures = [future for _, future in self._calls.values()]
        self._calls.clear()
        self._began.clear()
        if futures and self._client.status == "running":
            with contextlib.suppress(OSError):  # a scheduler that is gone has nothing left to cancel
                self._client.cancel(futures)

    def close(self) -> None:
        """Stop listening; the client stays open."""
        self.cancel()
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)

    def _register(self, plugin: _StateKeeper) -> None:
        """Have the plugin in every worker; again when one of them dies meanwhile."""
        for _ in range(_REGISTER_AGAIN):
            with contextlib.suppress(CommClosedError):
                self._tell_all(lambda: self._client.register_plugin(plugin))
                return
            time.sleep(_REGISTER_PAUSE_S)
        self._tell_all(lambda: self._client.register_plugin(plugin))

    def _tell_all(self, tell: Callable[[], object]) -> None:
        """Call what waits for an answer of every worker; one that hangs meanwhile is killed, or waited for no more.

        Dask waits without limit: it would be the end of the run. When its process is gone, the call ends by
        CommClosedError. One without a nanny, or on a machine that hangs as a whole, stays behind with the thread.
        """
        answered, errors = threading.Event(), list[BaseException]()

        def telling() -> None:
            try:
                tell()
            except BaseException as error:  # noqa: BLE001 - raised again
                errors.append(error)
            finally:
                answered.set()

        threading.Thread(target=telling, name="scenefuse-tell", daemon=True).start()
        silence = _Silence()
        while not answered.wait(_SILENT_S / 4):
            hung = silence.after(self._heartbeats())
            if not hung:
                continue
            threading.Thread(target=self._kill, args=(hung,), name="scenefuse-kill", daemon=True).start()
            if not answered.wait(_SILENT_S):
                raise CommClosedError(f"{', '.join(hung)} did not answer for {2 * _SILENT_S:.0f} s")
        if errors:
            raise errors[0]

    def _heartbeats(self) -> dict[str, float]:
        """When each worker gave its last sign of life, by the scheduler's clock."""
        with self._reaching():
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return {address: worker["last_seen"] for address, worker in workers.items()}

    def _kill(self, workers: list[str]) -> dict[str, Any]:
        """True for each worker that its nanny killed; the nanny starts another one when its process is gone.

        Not restart_workers: it first asks a hung worker to close, and with a worker that is just starting beside it,
        it was seen to wait for good.
        """
        with self._reaching():
            replies: Any = self._client.run(_kill_worker, workers=workers, nanny=True, on_error="return")
        return dict(replies)

    def _note_start(self, event: tuple[float, Any]) -> None:
        """Remember when a worker began a call, and which: Dask calls this in a thread of its own."""
        key, worker = event[1]
        self._began[key] = time.monotonic(), worker

    def _next_overdue(self) -> tuple[float, str] | None:
        """When the first of the calls that have begun reaches its time limit, and its key; None when none has begun."""
        limits = [
            (start + self._calls[key][0].time_limit_s, key)
            for key, (start, _) in list(self._began.items())
            if key in self._calls
        ]
        return min(limits, default=None)

    def _runs(self, key: str) -> bool:
        """Whether the worker that began the call is still there; where it is not, the call waits for another one."""
        with self._reaching():
            there = self._began[key][1] in self._client.nthreads()
        if not there:
            self._began.pop(key, None)
        return there

    def _finish(self, key: str) -> Outcome:
        """The outcome of a call whose future is done."""
        _, future = self._calls.pop(key)
        began = self._began.pop(key, None) is not None
        self._lonely_since = None
        try:
            return Outcome(key=key, result=future.result(timeout=_FETCH_S))
        except (FutureCancelledError, ClosedClientError) as error:
            # Nobody but the client itself cancels a call that is in flight, and only when its connection is lost.
            raise self._lost(error) from error
        except Exception as error:  # noqa: BLE001 - judged by its type in retry.py
            return Outcome(key=key, error=error, began=began)
        finally:
            future.release()

    def _restart(self, key: str) -> Outcome:
        """Kill the worker of a call that is past its time limit; a TimeLimitError as the call's outcome."""
        call, future = self._calls.pop(key)
        _, worker = self._began.pop(key)
        future.cancel()
        cause = f"{key} ran longer than {call.time_limit_s:.0f} s on {worker}"
        if self._kill([worker]).get(worker) is not True:
            cause = f"{cause}, which has no nanny that could restart it"
        return Outcome(key=key, error=TimeLimitError(cause))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """A block that talks to the scheduler."""
        if self._client.status != "running":  # a client without a scheduler fails in as many ways as it has methods
            raise self._lost(ConnectionError("the connection was lost"))
        try:
            yield
        except (OSError, ClosedClientError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> SchedulerLostError:
        return SchedulerLostError(
            f"The Dask scheduler at {self._address} went away ({error})",
            "the run stopped; its product is not visible to readers",
            "Start a scheduler again and repeat the command: what is finished is kept",
        )

    def _refuse_loneliness(self) -> None:
        """Raise ResourceError when for too long there was no worker that could take a call."""
        if self._has_fitting_worker():
            self._lonely_since = None
            return
        self._lonely_since = self._lonely_since or time.monotonic()
        if time.monotonic() - self._lonely_since > self._no_workers_limit_s:
            wanted = " ".join(f"{name}={amount:g}" for name, amount in self._resources.items())
            raise ResourceError(
                f"No worker {f'with the resource {wanted} ' if wanted else ''}at the Dask scheduler for "
                f"{self._no_workers_limit_s:.0f} s",
                "no task can run",
                f"Start workers (dask worker ADDRESS --nthreads 1{f' --resources {wanted}' if wanted else ''}), "
                "then run again: what is finished is kept",
            )

    def _has_fitting_worker(self) -> bool:
        with self._reaching():
            if not self._resources:
                return bool(self._client.nthreads())
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return any(
            all(worker["resources"].get(name, 0) >= amount for name, amount in self._resources.items())
            for worker in workers
        )


class _Silence:
    """Which workers give no sign of life: their heartbeats stand still for _SILENT_S of our own clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def after(self, heartbeats: dict[str, float]) -> list[str]:
        """Workers that have been silent for so long, with these as the last heartbeats of all."""
        now = time.monotonic()
        before, self._seen = self._seen, {}
        for worker, beat in heartbeats.items():
            known = before.get(worker)
            self._seen[worker] = known if known is not None and known[0] == beat else (beat, now)
        return [worker for worker, (_, since) in self._seen.items() if now - since >= _SILENT_S]


class _StateKeeper(WorkerPlugin):
    """Keeps a scene state in every worker; the scheduler hands it to workers that come later, too."""

    def __init__(self, *, name: str, state: SceneState) -> None:
        self.name = name
        self._digest = state.sha256
        self._state = state

    def setup(self, worker: object) -> None:  # noqa: ARG002 - distributed's signature
        keep_state(self._digest, self._state)

    def teardown(self, worker: object) -> None:  # noqa: ARG002 - distributed's signature
        drop_state(self._digest)


def _kill_worker(dask_worker: Any) -> bool:
    """True when the nanny, where this runs, killed its worker."""
    if dask_worker.pid is None:
        return False
    os.kill(dask_worker.pid, signal.SIGKILL)
    return True


def _announced(topic: str, call: Call) -> Any:
    """What the call returns; its worker tells the lane, by an event of this topic, that it begins."""
    if _device_lost.is_set():
        time.sleep(_FAREWELL_S)
        os.kill(os.getpid(), signal.SIGKILL)  # not announced, so that the call is not blamed; the nanny starts another
    worker = get_worker()
    worker.log_event(topic, (call.key, worker.address))
    try:
        return call.function(call.argument)
    except Exception as error:  # noqa: BLE001 - raised again
        if isinstance(error, AcceleratorError) and not is_out_of_memory(error):
            _device_lost.set()
        raise _alone(error) from None


def _alone(error: Exception) -> Exception:
    """The error without those that led to it, which it names in a note.

    Libraries have errors that pickle cannot make again (GDAL's, zarr's), and Dask would then send a text in place of
    the whole chain: nobody could judge the error by its type.
    """
    led_to_it = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if led_to_it is not None:
        error.add_note(f"caused by {led_to_it!r}")
    error.__cause__ = error.__context__ = None
    return error
