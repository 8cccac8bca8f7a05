"""Workers of this machine: how they begin and end."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import dask
import pytest

from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.errors import ResourceError


def test_without_shared_memory_the_refusal_says_so_before_a_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    multiprocessing.get_context("spawn").Semaphore()  # what it is made of is imported
    monkeypatch.setattr("_multiprocessing.SemLock", refuse)
    with pytest.raises(ResourceError, match="Mount a tmpfs") as refused, open_lane(ClusterSpec(workers=1)):
        pass
    assert not refused.value.retryable, "it does not pass by itself"


@pytest.mark.parametrize("named", ["", "/nowhere.pem"])
def test_tls_without_certificates_is_refused_with_what_to_set(named: str) -> None:
    files = {f"distributed.comm.tls.{name}": named or None for name in ("ca-file", "client.cert", "client.key")}
    refused = pytest.raises(ResourceError, match=r"no certificates for tls://127\.0\.0\.1:1 \(.*comm\.tls\.ca-file")
    with dask.config.set(files), refused, open_lane(ClusterSpec(scheduler="tls://127.0.0.1:1")):
        pass


INTERRUPTED = """
import _thread, asyncio
from scenefuse.engine import cluster

class Slow(cluster.Nanny):
    async def start_unsafe(self):
        _thread.interrupt_main()
        await asyncio.sleep(60)

cluster.StartingNanny = Slow
try:
    with cluster.open_lane(cluster.ClusterSpec(workers=1)):
        print("never")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_an_interrupt_while_workers_start_leaves_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


AT_WORK = """
import sys, time
from scenefuse.engine import cluster

if sys.argv[1] == "spawn":  # as workers with a GPU start
    cluster._may_fork = lambda spec: False
try:
    print("starting", flush=True)
    with cluster.open_lane(cluster.ClusterSpec(workers=2)):
        print("up", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "spawn"])
@pytest.mark.parametrize(("phase", "later_s"), [("starting", 0.5), ("starting", 2.0), ("up", 0.1)])
def test_a_terminals_interrupt_which_all_processes_get_leaves_no_traceback(
    way: str, phase: str, later_s: float
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != phase:
        assert process.poll() is None
    time.sleep(later_s)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout.splitlines()[-1:], stderr) == (0, ["interrupted"], "")
