"""Check what this machine offers a run: libraries, formats, devices, memory, disk, an object store, a scheduler."""

from __future__ import annotations

import os
import platform
import re
import socket
import tempfile
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import torch

from scenefuse.engine.allowance import available_cores, available_memory_bytes
from scenefuse.engine.finding import Finding
from scenefuse.engine.scheduler_check import check_scheduler
from scenefuse.errors import SceneFuseError
from scenefuse.place.href import redact
from scenefuse.place.local import LocalPlace
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.raster.formats import JPEG_2000, gdal_formats, scene_formats
from scenefuse.words import counted

_PORTS = {"http": 80, "https": 443}

NEEDED_MEMORY_BYTES = 2 * 2**30
"""Free memory that one worker with the default core needs."""
PROBE_BYTES = 64 * 2**20
"""Size of the file written to measure the disk's speed."""
STORE_PROBE_BYTES = 8 * 2**20
"""Size of the object written to measure a store's speed."""


def check_machine(out: str | Path | Place, *, scheduler: str | None = None) -> tuple[Finding, ...]:
    """Check libraries, formats, processor, devices, memory, disk, S3 and, if given, the scheduler.

    out: where products would go. For an object store, its access is tested too, and the disk checked is the one on
    which its COGs are assembled.
    """
    place = place_at(out)
    folder = place.path if isinstance(place, LocalPlace) else Path(tempfile.gettempdir())
    scenes = scene_formats()
    formats = [_gdal(), _jpeg_2000(readable=scenes.jpeg_2000), _hdf5(readable=scenes.hdf5)]
    findings = [_libraries(), *formats, _processor(), _cuda(), _memory(), _disk(folder), _s3()]
    if not isinstance(place, LocalPlace):
        findings.append(_store(place))
    if scheduler is not None:
        findings.append(check_scheduler(scheduler))
    return tuple(findings)


def _libraries() -> Finding:
    names = ("torch", "dask", "xarray", "zarr", "rasterio", "numpy", "pystac")
    versions = {name: _version(name) for name in names}
    text = f"Python {platform.python_version()}, " + ", ".join(f"{name} {value}" for name, value in versions.items())
    return Finding(name="libraries", verdict="ok", text=text, facts={"versions": versions})


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _gdal() -> Finding:
    found = gdal_formats()
    facts = {"gdal": found.version, "drivers": list(found.drivers), "codecs": list(found.codecs)}
    if found.missing:
        text = f"GDAL {found.version} lacks {', '.join(found.missing)}: install rasterio's own wheel from PyPI"
        return Finding(name="gdal", verdict="failed", text=text, facts={**facts, "missing": list(found.missing)})
    text = f"GDAL {found.version} with {', '.join((*found.drivers, *found.codecs))}"
    return Finding(name="gdal", verdict="ok", text=text, facts=facts)


def _jpeg_2000(*, readable: bool) -> Finding:
    facts = {"driver": JPEG_2000}
    if readable:
        return Finding(name="jpeg 2000", verdict="ok", text=f"GDAL's {JPEG_2000} reads it", facts=facts)
    text = (
        f"GDAL has no {JPEG_2000} that works: Sentinel-2's bands as the Copernicus archive has them cannot be read; "
        "install rasterio's own wheel from PyPI"
    )
    return Finding(name="jpeg 2000", verdict="warning", text=text, facts=facts)


def _hdf5(*, readable: bool) -> Finding:
    version = _version("h5py")
    if readable:
        return Finding(name="hdf5", verdict="ok", text=f"h5py {version} reads it", facts={"h5py": version})
    text = (
        f"h5py ({version}) cannot read it: PRISMA's HE5 and EMIT's netCDF are refused; install its own wheel from PyPI"
    )
    return Finding(name="hdf5", verdict="warning", text=text, facts={"h5py": version})


def _processor() -> Finding:
    cores = available_cores()
    isa = torch.backends.cpu.get_cpu_capability()
    facts = {"cores": cores, "instruction_set": isa}
    text = f"{counted(cores, 'core')}, {isa}: {counted(cores, 'worker')} by default"
    return Finding(name="processor", verdict="ok", text=text, facts=facts)


def _cuda() -> Finding:
    driver = _nvidia_driver()
    facts: dict[str, Any] = {"driver": driver, "torch_cuda": torch.version.cuda, "devices": []}
    if not torch.cuda.is_available():
        build = (
            "CPU build of torch" if torch.version.cuda is None else f"torch for CUDA {torch.version.cuda}, no device"
        )
        if driver is None:
            return Finding(name="gpu", verdict="ok", text=f"none ({build}): methods run on the CPU", facts=facts)
        cure = "install the CUDA build of torch that fits the driver (PyTorch's site says which)"
        text = f"driver {driver}, but {build}: the device is not used; {cure}"
        return Finding(name="gpu", verdict="warning", text=text, facts=facts)
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    facts["devices"] = [{"name": device.name, "memory_bytes": device.total_memory} for device in devices]
    names = ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices)
    text = f"{names}, driver {driver or 'unknown'}, torch for CUDA {torch.version.cuda}"
    kernels, needed = torch.cuda.get_arch_list(), [f"sm_{device.major}{device.minor}" for device in devices]
    facts["architectures"] = kernels
    # A kernel runs on devices of its own major version and the same or a higher minor version.
    if not all(any(k[:-1] == sm[:-1] and k[-1] <= sm[-1] for k in kernels) for sm in needed):
        text = f"{text}: made for {', '.join(kernels)}, not for {', '.join(needed)}; install a newer torch"
        return Finding(name="gpu", verdict="failed", text=text, facts=facts)
    return Finding(name="gpu", verdict="ok", text=text, facts=facts)


def _nvidia_driver() -> str | None:
    """Version of NVIDIA's kernel driver; None if there is none."""
    try:
        line = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", line)
    return found.group() if found else line


def _memory() -> Finding:
    machine, allowed = psutil.virtual_memory(), available_memory_bytes()
    available = min(machine.available, allowed)
    facts = {"total_bytes": machine.total, "allowed_bytes": allowed, "available_bytes": available}
    text = f"{machine.available / 2**30:.1f} of {machine.total / 2**30:.1f} GiB free"
    if allowed < machine.total:
        text += f", of which this process may take {allowed / 2**30:.1f} GiB (a limit of its container, service or job)"
    if available < NEEDED_MEMORY_BYTES:
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
    """Check the extra, and endpoint and keys from the environment; accesses no bucket."""
    try:
        version = metadata.version("obstore")
    except metadata.PackageNotFoundError:
        return Finding(
            name="s3", verdict="ok", text="extra not installed: pip install 'scenefuse[s3]' for s3:// stores"
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    keys = bool(os.environ.get("AWS_ACCESS_KEY_ID"))
    facts = {"obstore": version, "endpoint": redact(endpoint) if endpoint else None, "keys": keys}
    if endpoint is None:
        text = f"obstore {version}; AWS_ENDPOINT_URL is not set: s3:// means Amazon's"
        return Finding(name="s3", verdict="ok", text=text, facts=facts)
    try:
        parts = urlsplit(endpoint)
        with socket.create_connection((parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)), timeout=5):
            pass
    except (OSError, ValueError) as error:  # the latter for what is no address
        text = f"{facts['endpoint']} does not answer ({error}): check AWS_ENDPOINT_URL and the network"
        return Finding(name="s3", verdict="failed", text=text, facts=facts)
    if not keys:
        text = f"{facts['endpoint']} answers; AWS_ACCESS_KEY_ID is not set: only what is public or a role can be used"
        return Finding(name="s3", verdict="warning", text=text, facts=facts)
    return Finding(name="s3", verdict="ok", text=f"{facts['endpoint']} answers, keys are set", facts=facts)


def _store(place: Place) -> Finding:
    """Check that products can be put there: write an object, read it back, change it on a condition, remove it."""
    probe = place / f".scenefuse-{uuid.uuid4().hex}.probe"
    data = os.urandom(STORE_PROBE_BYTES)
    try:
        place.free_bytes()  # names a bucket that does not exist
        started = time.perf_counter()
        probe.put(data)
        speed = len(data) / (time.perf_counter() - started)
        try:
            whole = probe.read() == data
            probe.discard()
            exclusive = _refuses_a_race(probe, None) and _refuses_a_race(probe, b"before")
        finally:
            probe.discard()
    except (SceneFuseError, OSError) as error:
        text = str(error) if isinstance(error, SceneFuseError) else f"{place} cannot be used ({error})"
        return Finding(name="store", verdict="failed", text=text)
    facts = {"write_bytes_per_s": round(speed), "conditional_requests": exclusive}
    if not whole:
        text = f"{place} gives back other bytes than were put: choose another store"
        return Finding(name="store", verdict="failed", text=text, facts=facts)
    if not exclusive:
        text = (
            f"{place} ignores the conditions of requests (If-None-Match, If-Match): two runs would work on one "
            "product; use a newer release of the store, or another one"
        )
        return Finding(name="store", verdict="failed", text=text, facts=facts)
    text = f"{place}: written ({speed / 2**20:.0f} MiB/s), read back, changed on a condition, removed"
    return Finding(name="store", verdict="ok", text=text, facts=facts)


def _refuses_a_race(probe: Place, before: bytes | None) -> bool:
    """True if the store refuses a change after another writer came between its read and its write."""
    if before is not None:
        probe.put(before)

    def changed(old: bytes | None) -> bytes | None:
        if old != before:
            return None
        probe.put(b"another's")
        return b"ours"

    return not probe.update(changed)
