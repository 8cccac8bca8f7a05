"""Which device a model runs on, and how a device or a host says that its memory is used up."""

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
    "DEVICE_ALLOCATION_FAILED",  # cuDNN's name of it since version 9
    "unable to find an engine",  # a convolution that found no memory for the workspace of any of its algorithms
)
"""What torch says of memory without a type of its own: on a CPU, and of what the driver, cuBLAS or cuDNN asks for."""

# torch looks at it once, at a process's first matrix product on a GPU, a training's for example: set only where
# inference begins, it would be too late there, and deterministic algorithms refuse every product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def choose_device(wanted: DeviceChoice) -> Device:
    """`cuda` or `cpu`; auto is cuda where this machine has one."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {wanted!r}", "there is no such device", "Use auto, cpu or cuda")
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ResourceError("device cuda", "torch sees no CUDA device on this machine", "Use --device cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def device_memory_bytes() -> int:
    """Memory of the smallest CUDA device here: one plan is for all workers, and so for each one's device.

    All of it, not what is free now: a run that goes on from another's tiles must come to the same plan.
    """
    devices = range(torch.cuda.device_count())
    return min(int(torch.cuda.get_device_properties(device).total_memory) for device in devices)


def is_out_of_memory(error: BaseException) -> bool:
    """True of Python's and torch's errors of a device or a host whose memory is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MESSAGES)
