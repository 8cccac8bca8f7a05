"""SceneState: everything a tile's result depends on besides its own window and the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.grid.resample import NO_PHASE, Phase


@dataclass(frozen=True, kw_only=True)
class SceneState:
    """Findings about a whole scene, made before its first tile, frozen and hashed.

    Always present after prepare: arrays `hs_mean` (hs bands) and `ms_mean` (ms bands), the fill spectra, reflectance;
    `srf` (ms bands, hs bands), rows summing to 1; facts `ratio`, `phase_px` (as in PairGrid), `psf_sigma_px` (fine
    pixels: Gaussian blur from the fine grid to the coarse sampling). Methods and networks add their own as
    `<method>/<name>`.
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Named arrays, float64 or float32, C order; treated as read-only."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Named scalars and strings, JSON-serialisable."""

    def with_(
        self, arrays: Mapping[str, NDArray[Any]] | None = None, facts: Mapping[str, Any] | None = None
    ) -> SceneState:
        """A copy of the state with these arrays and facts added."""
        return replace(self, arrays={**self.arrays, **(arrays or {})}, facts={**self.facts, **(facts or {})})

    @property
    def phase_px(self) -> Phase:
        """Rows and columns by which the HSI lies beside the coarse grid, fine pixels; none if it is not recorded."""
        down, right = self.facts.get("phase_px", NO_PHASE)
        return float(down), float(right)

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of names, dtypes, shapes, bytes and facts, sorted by name."""
        digest = hashlib.sha256()
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
            digest.update(array.tobytes())
        digest.update(json.dumps(dict(self.facts), sort_keys=True).encode())
        return digest.hexdigest()
