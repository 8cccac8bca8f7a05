"""What this machine offers a run: libraries, devices, memory, disk, a scheduler."""

from __future__ import annotations

import os
import platform
import socket
import tempfile
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil
import torch

NEEDED_MEMORY_BYTES = 2 * 2**30
"""Least free memory for one worker with the default core."""
PROBE_BYTES = 64 * 2**20
"""Size of the file that measures the disk's speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was checked."""

    name: str
    """What was checked."""
    verdict: Literal["ok", "warning", "failed"]
    """`failed`: a fusion would not run."""
    text: str
    """One line for people, with the cure when something is wrong."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The numbers, for programs; sizes in bytes."""


def check_machine(folder: Path, *, scheduler: str | None = None) -> tuple[Finding, ...]:
    """Findings on libraries, processor, devices, memory, the folder's disk and the scheduler if one is named."""
    findings = [_libraries(), _processor(), _cuda(), _memory(), _disk(folder), _s3()]
    if scheduler is not None:
        findings.append(_scheduler(scheduler))
    return tuple(findings)


def _libraries() -> Finding:
    names = ("torch", "dask", "xarray", "zarr", "rasterio", "numpy", "pystac")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    text = f"Python {platform.python_version()}, " + ", ".join(f"{name} {value}" for name, value in versions.items())
    return Finding(name="libraries", verdict="ok", text=text, facts={"versions": versions})


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0))
    isa = torch.backends.cpu.get_cpu_capability()
    facts = {"cores": cores, "instruction_set": isa}
    return Finding(
        name="processor", verdict="ok", text=f"{cores} cores, {isa}: {cores} workers by default", facts=facts
    )


def _cuda() -> Finding:
    if not torch.cuda.is_available():
        build = (
            "CPU build of torch" if torch.version.cuda is None else f"torch for CUDA {torch.version.cuda}, no device"
        )
        return Finding(name="gpu", verdict="ok", text=f"none ({build}): methods run on the CPU", facts={"devices": []})
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    facts = [{"name": device.name, "memory_bytes": device.total_memory} for device in devices]
    text = ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices)
    return Finding(name="gpu", verdict="ok", text=text, facts={"devices": facts})


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    facts = {"total_bytes": memory.total, "available_bytes": memory.available}
    text = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    if memory.available < NEEDED_MEMORY_BYTES:
        text += f": a worker needs about {NEEDED_MEMORY_BYTES / 2**30:.0f} GiB; close something or use --core-px 256"
        return Finding(name="memory", verdict="warning", text=text, facts=facts)
    return Finding(name="memory", verdict="ok", text=text, facts=facts)


def _disk(folder: Path) -> Finding:
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = psutil.disk_usage(str(existing)).free
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            started = time.perf_counter()
            file.write(os.urandom(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            speed = PROBE_BYTES / (time.perf_counter() - started)
    except OSError as error:
        text = f"{existing} cannot be written ({error.strerror}): choose another --out"
        return Finding(name="disk", verdict="failed", text=text, facts={"free_bytes": free})
    text = f"{existing}: {free / 2**30:.0f} GiB free, writes {speed / 2**20:.0f} MiB/s"
    return Finding(name="disk", verdict="ok", text=text, facts={"free_bytes": free, "write_bytes_per_s": round(speed)})


def _s3() -> Finding:
    try:
        version = metadata.version("obstore")
    except metadata.PackageNotFoundError:
        return Finding(
            name="s3", verdict="ok", text="extra not installed: pip install 'scenefuse[s3]' for s3:// stores"
        )
    return Finding(name="s3", verdict="ok", text=f"obstore {version}", facts={"obstore": version})


def _scheduler(address: str) -> Finding:
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 8786), timeout=5):
            return Finding(name="scheduler", verdict="ok", text=f"{address} answers")
    except OSError as error:
        text = f"{address} does not answer ({error}): start it, or leave --scheduler out to use own workers"
        return Finding(name="scheduler", verdict="failed", text=text)
