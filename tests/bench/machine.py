"""What a result was measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""What makes bfloat16 fast on a processor; torch emulates it without."""


def machine() -> dict[str, Any]:
    """Hardware, instruction set, versions and day, as results record them."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": [name for name in BF16_INSTRUCTIONS if torch.cpu.get_capabilities().get(name)],
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy", "dask", "zarr", "rasterio")},
    }
