"""Workers of this machine: how they begin and end."""

from __future__ import annotations

import subprocess
import sys

import pytest

INTERRUPTED = """
import _thread, asyncio
from scenefuse.engine import cluster

class Slow(cluster.Nanny):
    async def start_unsafe(self):
        _thread.interrupt_main()
        await asyncio.sleep(60)

cluster.Nanny = Slow
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
