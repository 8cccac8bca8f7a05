"""What computes here: versions of the libraries that affect pixel values or bytes, and the processor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata

import torch

from scenefuse import __version__
from scenefuse.engine.device import Device

LIBRARIES = ("torch", "numpy", "scipy", "zarr", "rasterio")
"""Libraries that affect pixel values or bytes, besides scenefuse itself."""

INSTRUCTION_SET = "instruction_set"
"""Key of the instruction set among the versions in software_facts."""


def software_facts(device: Device) -> dict[str, str]:
    """What computes tiles in this process: versions by name, and the instruction set."""
    return {**software_versions(), INSTRUCTION_SET: instruction_set(device)}


def merged(makers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Merge the facts of several machines, or of runs before and after an upgrade: `2.12.0, 2.13.0`.

    >>> merged([{"torch": "2.13.0", "numpy": "2.4.6"}, {"torch": "2.12.0", "numpy": "2.4.6"}])
    {'torch': '2.12.0, 2.13.0', 'numpy': '2.4.6'}
    """
    found: dict[str, set[str]] = {}
    for each in makers:
        for name, value in each.items():
            found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def software_versions() -> dict[str, str]:
    """Versions of scenefuse and of LIBRARIES, by name."""
    return {"scenefuse": __version__, **{name: _version(name) for name in LIBRARIES}}


def instruction_set(device: Device) -> str:
    """The processor's instruction set as torch names it, `AVX512`; for a GPU its compute capability, `sm_90`."""
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"sm_{major}{minor}"
    return str(torch.backends.cpu.get_cpu_capability())


@cache
def _version(name: str) -> str:
    """The installed version; cached, because it is read from a file and constant within a process."""
    return metadata.version(name)
