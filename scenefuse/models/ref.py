"""ModelRef: the facts from which any process builds the same model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scenefuse.sensors.band import Band


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A method by name, with everything its numbers depend on. Picklable; sent to workers in place of weights."""

    name: str
    """Name in the registry: `gsa`."""
    hs_bands: tuple[Band, ...]
    """Bands of the coarse input, sorted by wavelength."""
    ms_bands: tuple[Band, ...]
    """Bands of the fine input."""
    ratio: int
    """Coarse pixel size / fine pixel size."""
    weights: str | None = None
    """Path of a safetensors file; None for a method without weights."""
    weights_sha256: str | None = None
    """SHA-256 the file must have, hexadecimal."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options of the method that change its numbers: numbers, strings, booleans."""
