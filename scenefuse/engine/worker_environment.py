"""Environment of a worker process: threads, memory of GDAL and the C library, Dask's memory monitoring.

Embedded workers get it from here; workers started by others get the same from `workflows/deploy/worker.env` or the
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
        # GDAL's block cache in MiB: its default, 5 % of memory, grows with the machine and fills up with the scene.
        "GDAL_CACHEMAX": "64",
        # glibc's dynamic thresholds grow with what is freed, so a worker's peak drifts upwards. Fixed ones keep it
        # flat; but small ones, like Dask's 64 KiB, map and fault in every array again, which triples the system time.
        # With 16 MiB the heap fragments, and AELF-t's peak is about a tenth higher.
        "MALLOC_TRIM_THRESHOLD_": str(8 * 2**20),
        "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20),
        # Otherwise each thread of a worker has its own arena, which keeps what the thread has freed: the peak at 16 Mpx
        # was up to 1.2 times that at 4 Mpx. Two arenas are as fast.
        "MALLOC_ARENA_MAX": "2",
        # Pages of 2 MiB where the kernel leaves that to the program: each result of a convolution is new memory, and
        # faulting it in by 4 KiB took 40 % of a small network's time (peak memory: 4 % more).
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
)
"""Variables that libraries read when a process starts."""

WORKER_DASK_CONFIG = MappingProxyType(
    {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
    }
)
"""Dask's settings of a worker: over 95 % of its memory limit it is restarted; it never spills or pauses silently."""


def worker_variables() -> dict[str, str]:
    """The whole environment as variables, with Dask's settings spelt as Dask reads them."""
    return {**WORKER_ENVIRONMENT, **{_dask_name(key): str(value) for key, value in WORKER_DASK_CONFIG.items()}}


def missing_here() -> list[str]:
    """Names of the variables that this process was started without, or with another value."""
    variables = [name for name, value in WORKER_ENVIRONMENT.items() if os.environ.get(name) != value]
    settings = [_dask_name(key) for key, value in WORKER_DASK_CONFIG.items() if dask.config.get(key) != value]
    return variables + settings


def _dask_name(key: str) -> str:
    """The environment variable from which Dask reads a setting."""
    return f"DASK_{key.upper().replace('.', '__')}"
