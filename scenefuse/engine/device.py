"""Choose the device a model runs on, and recognise errors of a device or host that is out of memory."""

from __future__ import annotations

import os
from typing import Literal

import torch

from scenefuse.config import DeviceChoice
from scenefuse.errors import ResourceError, UsageError

Device = Literal["cpu", "cuda"]
"""Where a model runs."""

_MESSAGES = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # cuDNN's name for it since version 9
    "unable to find an engine",  # a convolution without memory for the workspace of any of its algorithms
)
"""Messages of out-of-memory errors for which torch has no type: on a CPU, from the driver, cuBLAS or cuDNN."""

# torch reads it once, at a process's first matrix product on a GPU. After a training in the same process, setting it
# where inference begins would be too late, and deterministic algorithms would refuse every product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def choose_device(wanted: DeviceChoice) -> Device:
    """`cuda` or `cpu`; auto is cuda if this machine has such a device."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {wanted!r}", "there is no such device", "Use auto, cpu or cuda")
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ResourceError("device cuda", "torch sees no CUDA device on this machine", "Use --device cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def device_memory_bytes() -> int:
    """Memory of the smallest CUDA device here: one plan has to fit every worker's device.

    Total memory, not what is free now: a run that resumes another's tiles must arrive at the same plan.
    """
    devices = range(torch.cuda.device_count())
    return min(int(torch.cuda.get_device_properties(device).total_memory) for device in devices)


def is_out_of_memory(error: BaseException) -> bool:
    """True for Python's and torch's errors of a device or host that is out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MESSAGES)
