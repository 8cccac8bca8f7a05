"""What every contestant is given and gives back: the case, a clock, an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.models.ref import ModelRef
from tests.bench.tiling.models import OWN_NETWORKS, ref_of
from tests.bench.tiling.scene import RATIO, BenchScene, MemorySource, Stack

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model on one scene with one size of core. Picklable."""

    model: str
    """Name of the model."""
    scene: BenchScene
    """The scene."""
    core_px: int
    """Side of our cores in fine pixels."""

    @property
    def ref(self) -> ModelRef:
        """The recipe of the model for the scene's bands."""
        nothing = np.empty((0, 0, 0), np.float32)
        source = MemorySource(hs=nothing, ms=nothing)
        return ref_of(self.model, source.hs_bands, source.ms_bands, RATIO)

    @property
    def stack(self) -> Stack:
        """How rivals get the HSI on the fine grid for this model."""
        return "repeated" if self.model in OWN_NETWORKS else "cubic"

    @property
    def state_path(self) -> Path:
        """Where the frozen state of this model and scene is kept."""
        return self.scene.folder / f"state-{self.model}.safetensors"

    def image_path(self, lane: str, contestant: str) -> Path:
        """Where a result is kept for comparison."""
        return self.scene.folder / f"image-{self.model}-{lane}-{contestant}.npy".replace(" ", "-")


@dataclass(slots=True)
class Clock:
    """Wall time and processor time of what runs inside `running`, all threads of the process together."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block that counts."""
        wall, cpu = perf_counter(), process_time()
        try:
            yield
        finally:
            self.wall_s += perf_counter() - wall
            self.cpu_s += process_time() - cpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one run."""

    computed_px: int | None = None
    """Fine pixels that went through the model; None when it does not count them."""
    coverage: tuple[int, int] | None = None
    """Least and largest number of windows that wrote a pixel."""
    cuts: tuple[int, ...] = ()
    """Rows, and columns, at which a window's contribution begins or ends."""
    image: Callable[[], Image] | None = None
    """The result (band, y, x), read back where it was stored; None when there is none."""
    facts: dict[str, Any] = field(default_factory=dict)
    """More figures."""


Contestant = Callable[[Case, Clock, Path], Outcome]
"""Runs a case under the clock; the path is an empty folder for its files."""
