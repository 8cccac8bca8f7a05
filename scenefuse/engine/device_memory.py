"""How a device or a host says that its memory is used up."""

from __future__ import annotations

import torch

_MESSAGES = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""What torch says of memory without a type of its own: on a CPU, and of what the driver, cuBLAS or cuDNN asks for."""


def is_out_of_memory(error: BaseException) -> bool:
    """True of Python's and torch's errors of a device or a host whose memory is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MESSAGES)
