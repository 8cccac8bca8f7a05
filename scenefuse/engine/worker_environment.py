"""What a worker process is started with: threads, GDAL's and the C library's memory, Dask's own watching of memory.

Embedded workers get it from here; those that others start get the same from `workflows/deploy/worker.env` or from the
image (tests compare the three). Without it results are the same, but memory grows and work takes longer.
"""

from __future__ import annotations

import os
from types import MappingProxyType

import dask

WORKER_ENVIRONMENT = MappingProxyType(
    {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # MiB of GDAL's block cache: its default, 5 % of memory, grows with the machine and fills with the scene.
        "GDAL_CACHEMAX": "64",
        # glibc's own thresholds grow with what is freed, and a worker's peak drifts upwards. Fixed ones keep it flat,
        # but small ones, as Dask's 64 KiB, map and fault in each array anew: the same work then takes three times the
        # system's time.
        "MALLOC_TRIM_THRESHOLD_": str(16 * 2**20),
        "MALLOC_MMAP_THRESHOLD_": str(16 * 2**20),
        # Each thread of a worker would have an arena of its own and keep there what it has freed: the peak of 16 Mpx
        # was up to 1.2 times that of 4. Two are as fast.
        "MALLOC_ARENA_MAX": "2",
        # Pages of 2 MiB where the kernel leaves it to the program: a convolution's result is new memory each time, and
        # a fault for each 4 KiB of it was 40 % of the time of a small network (peak: 4 % more).
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
)
"""Variables that libraries read as a process begins."""

WORKER_DASK_CONFIG = MappingProxyType(
    {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
    }
)
"""Dask's settings of a worker: what passes its limit is restarted; nothing spills or waits in silence before."""


def worker_variables() -> dict[str, str]:
    """All of it as environment variables, Dask's settings in the spelling that Dask reads."""
    return {**WORKER_ENVIRONMENT, **{_dask_name(key): str(value) for key, value in WORKER_DASK_CONFIG.items()}}


def missing_here() -> list[str]:
    """Names of the variables that this process should have been started with and was not, or with another value."""
    variables = [name for name, value in WORKER_ENVIRONMENT.items() if os.environ.get(name) != value]
    settings = [_dask_name(key) for key, value in WORKER_DASK_CONFIG.items() if dask.config.get(key) != value]
    return variables + settings


def _dask_name(key: str) -> str:
    """The environment variable from which Dask reads a setting."""
    return f"DASK_{key.upper().replace('.', '__')}"
