"""Open the workers: an embedded cluster of processes, or an existing scheduler."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import dask
import distributed.utils
import torch
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.security import Security
from distributed.utils import LoopRunner
from tornado.ioloop import IOLoop

from scenefuse.engine.allowance import available_cores, available_memory_bytes
from scenefuse.engine.dask_lane import NO_WORKERS_LIMIT_S, DaskLane
from scenefuse.engine.device import Device
from scenefuse.engine.lanes import InProcessLane, Lane
from scenefuse.engine.worker_environment import WORKER_DASK_CONFIG, WORKER_ENVIRONMENT
from scenefuse.errors import ResourceError, TransientError, UsageError
from scenefuse.place.href import scheme_of

CONNECT_S = 15
"""Seconds within which a given scheduler must answer."""

QUEUE_LIMIT_S = 1800.0
"""Seconds a run waits for a worker of an existing cluster, which may be queued or have its machine still starting."""

_DASK_CONFIG = {
    **WORKER_DASK_CONFIG,
    # A worker's death goes back to the engine at once: it counts attempts itself.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": True,
    "distributed.comm.timeouts.connect": "30s",
}


_forked_from: frozenset[str] | None = None
"""Environment variables that this process's fork server started with; None before it starts."""
_broken_off = False
"""Whether the start of the cluster was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """The workers of a run."""

    workers: int | None = None
    """Worker processes; None: one per core, or one per GPU; 0: none, tasks run in this process."""
    scheduler: str | None = None
    """Address of an existing Dask scheduler, `tcp://host:8786` or `tls://...`; excludes `workers`.

    TLS certificates come from Dask's own configuration.
    """
    memory_limit_bytes: int | None = None
    """Memory of each worker; None for an equal share of this machine's."""
    device: Device = "cpu"
    """Where models run; `cuda` requires the Dask resource GPU, one per worker."""

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.workers is not None:
            raise UsageError(
                f"--workers {self.workers} with --scheduler {self.scheduler}",
                "an existing cluster has its own workers",
                "Give one of the two",
            )
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers {self.workers}", "a count cannot be negative", "Give 0 or more")
        gpus = torch.cuda.device_count() if self.device == "cuda" else 0
        if self.workers is not None and 0 < gpus < self.workers:
            raise UsageError(
                f"--workers {self.workers} on {gpus} GPUs", "a worker would have none", f"Give {gpus} or fewer"
            )

    @property
    def worker_count(self) -> int:
        """Workers of an embedded cluster with defaults applied, at least 1."""
        if self.workers is not None:
            return max(1, self.workers)
        return max(1, torch.cuda.device_count() if self.device == "cuda" else available_cores())

    @property
    def worker_memory_bytes(self) -> int:
        """Memory per worker of an embedded cluster with defaults applied: a share of the machine, container or job."""
        return self.memory_limit_bytes or available_memory_bytes() // self.worker_count


@contextmanager
def open_lane(spec: ClusterSpec) -> Iterator[Lane]:
    """Open a lane on the workers of spec; on exit, also after an error, everything it started is gone."""
    if spec.workers == 0 and spec.scheduler is None:
        yield InProcessLane()
        return
    with open_client(spec) as client:
        lane = DaskLane(
            client,
            resources={"GPU": 1.0} if spec.device == "cuda" else None,
            on_this_machine=spec.scheduler is None,
            no_workers_limit_s=NO_WORKERS_LIMIT_S if spec.scheduler is None else QUEUE_LIMIT_S,
        )
        try:
            yield lane
        finally:
            lane.close()


@contextmanager
def open_client(spec: ClusterSpec) -> Iterator[Client]:
    """Open a Dask client on an embedded cluster of processes, or on spec's scheduler."""
    if spec.scheduler is not None:
        _require_certificates(spec.scheduler)
        try:
            client = Client(spec.scheduler, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"No Dask scheduler answers at {spec.scheduler} ({error})",
                "nothing can run",
                "Start one with `dask scheduler`, or leave out --scheduler for workers on this machine",
            ) from error
        with _silent_client(), client:
            yield client
        return
    starting = {
        "distributed.nanny.pre-spawn-environ": dict(WORKER_ENVIRONMENT),
        "distributed.worker.multiprocessing-method": "forkserver" if _may_fork(spec) else "spawn",
    }
    with (
        dask.config.set({**_DASK_CONFIG, **starting}),
        _deaf_loop() as loop,
        _embedded_cluster(spec, loop) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _require_certificates(address: str) -> None:
    """Raise if the address is one of TLS, and Dask has no certificates for it: its client would only fail halfway."""
    if scheme_of(address) not in ("tls", "wss"):
        return
    try:
        found, why = Security().get_connection_args("client")["ssl_context"], "none are named"
    except OSError as error:
        found, why = None, str(error)
    if found is None:
        raise ResourceError(
            f"Dask's configuration has no certificates for {address} ({why})",
            "nothing can run",
            "Set distributed.comm.tls.ca-file and, in distributed.comm.tls.client, cert and key",
        )


@contextmanager
def _silent_client() -> Iterator[None]:
    """Keep Dask's client from logging the traceback of a lost connection, which the lane turns into an error."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("batched", "client", "core")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


class StartingNanny(Nanny):
    """A worker's nanny that stays silent about a failed start if the cluster's start was interrupted."""

    async def start_unsafe(self) -> Self:
        """Start the worker and return the nanny."""
        try:
            await super().start_unsafe()  # type: ignore[no-untyped-call] # Dask's
        except Exception:
            if not _broken_off:
                raise
        return self


def _embedded_cluster(spec: ClusterSpec, loop: IOLoop) -> SpecCluster:
    """Start a cluster of local processes and wait until all are up; if that fails, try a second time."""
    global _broken_off  # noqa: PLW0603 - see _end_server
    _broken_off = False
    _require_semaphores()
    try:
        with contextlib.suppress(RuntimeError, OSError):
            return _start_cluster(spec, loop)
        return _start_cluster(spec, loop)
    except KeyboardInterrupt:
        _end_server()
        raise
    except (RuntimeError, OSError) as error:
        raise TransientError(
            f"{spec.worker_count} worker processes did not start ({error.__cause__ or error})",
            "nothing can run",
            "Look for what ends processes on this machine (memory, limits), then run again; a script that calls "
            "scenefuse does so under `if __name__ == '__main__':`, as every worker process imports it",
        ) from error


def _require_semaphores() -> None:
    """Raise if processes cannot share a semaphore: without queues between them, each would die on starting."""
    try:
        multiprocessing.get_context("spawn").Semaphore()
    except OSError as error:
        raise ResourceError(
            f"Processes here cannot share a semaphore ({error.strerror})",
            "no worker can be started",
            "Mount a tmpfs at /dev/shm, writable and not full; or use the workers of a running --scheduler",
        ) from error


def _may_fork(spec: ClusterSpec) -> bool:
    """Whether to fork workers from a server that has imported this process's modules once for all; starts the server.

    A spawned worker takes seconds of CPU time to import torch and the like, and holds its own copy of their memory.
    The server starts with the first cluster and ends with this process. It must never have touched a GPU. It also keeps
    its original environment: variables removed since then would reappear, so workers are not forked in that case.
    """
    global _forked_from  # noqa: PLW0603 - the server, too, is one per process
    if spec.device == "cuda" or "forkserver" not in multiprocessing.get_all_start_methods():
        return False
    if _forked_from is None:
        if multiprocessing.forkserver._forkserver._forkserver_pid is not None:  # type: ignore[attr-defined] # noqa: SLF001
            return False  # another's, started without WORKER_ENVIRONMENT: its BLAS has a thread per core
        distributed.utils._forkserver_preload_set = True  # noqa: SLF001 - Dask's list includes pandas, which takes 0.6 s
        ours = [name for name in sys.modules if name.startswith(f"{__name__.partition('.')[0]}.")]
        ours = [name for name in ours if not name.endswith("__main__")]
        multiprocessing.get_context("forkserver").set_forkserver_preload(["distributed.nanny", *ours])
        _start_server()
        _forked_from = frozenset(os.environ)
    return _forked_from <= os.environ.keys()


def _start_server() -> None:
    """Start the server from which workers are forked."""
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    with _deaf():
        try:
            os.environ.update(WORKER_ENVIRONMENT)
            multiprocessing.forkserver.ensure_running()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextmanager
def _deaf_loop() -> Iterator[IOLoop]:
    """Run the event loop, in a thread of its own, from which nannies spawn workers, with SIGINT blocked."""
    runner = LoopRunner()
    with _deaf():
        runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


@contextmanager
def _deaf() -> Iterator[None]:
    """Block SIGINT for threads and processes started within: they, and whatever they start, ignore Ctrl-C.

    A terminal sends it to all its processes. The command ends its workers itself; otherwise each would add its own
    traceback, and nannies would start new ones. Started and forked processes inherit the blocked signal.
    """
    multiprocessing.resource_tracker.ensure_running()  # else the first process start does, and unblocks the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_server() -> None:
    """Kill the server from which workers are forked, if it is ours; the next cluster starts another.

    Otherwise this process would wait seconds at exit until the server has finished its imports, only for a worker that
    then finds its queues gone and prints an error.
    """
    global _broken_off  # noqa: PLW0603 - read by the nannies of the one cluster that starts
    _broken_off = True
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined] # noqa: SLF001
    if _forked_from is not None and server is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


def _start_cluster(spec: ClusterSpec, loop: IOLoop) -> SpecCluster:
    with warnings.catch_warnings():
        # Another run may take the dashboard's port between check and bind; using another port needs no warning.
        warnings.filterwarnings("ignore", "Port [0-9]+ is already in use")
        return SpecCluster(
            workers={number: _worker(number, spec) for number in range(spec.worker_count)},
            scheduler={
                "cls": Scheduler,
                "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": f"127.0.0.1:{_dashboard_port()}"},
            },
            loop=loop,
            silence_logs=50,
            # The with block closes it. A cluster interrupted while starting ends with this process: closing it Dask's
            # way would fail with a traceback about workers that are not up.
            shutdown_on_close=False,
        )


def _worker(number: int, spec: ClusterSpec) -> dict[str, Any]:
    environment = {**os.environ, **WORKER_ENVIRONMENT}
    if spec.device == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
    return {
        "cls": StartingNanny,
        "options": {
            "nthreads": 1,
            "host": "127.0.0.1",
            "memory_limit": spec.worker_memory_bytes,
            "resources": {"GPU": 1} if spec.device == "cuda" else {},
            "env": environment,
            "dashboard": False,
            "silence_logs": 50,
        },
    }


def _dashboard_port() -> int:
    """8787 if free, else 0 for any free port; distributed, left to find out itself, warns and leaks a socket."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 8787))
        except OSError:
            return 0
    return 8787
