"""States from stages of earlier runs, found again by everything they depend on: a scene is measured once.

A run killed while measuring resumes after its last stage; another method on the same pair starts with fill, response
and PSF known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import DataError
from scenefuse.models.state import SceneState
from scenefuse.place.place import Place

LEAST_SECONDS = 10.0
"""A stage that took less, starting workers included, is measured again instead of being kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStates:
    """States kept in a folder for one scene and one method."""

    folder: Place
    """Folder with one file for each state; need not exist."""
    scene: str
    """Digest of what pixels and bands depend on: inputs, scales, dropped bands, registration, numerics."""
    method: str
    """Digest of the method, its weights and its device."""

    def latest(self, stages: Sequence[str], shared: int) -> tuple[int, SceneState] | None:
        """How many of the stages, in order, are known, and the state they left; None if not even the first is.

        shared: how many of them, from the first, do not depend on the method.
        """
        for count in range(len(stages), 0, -1):
            with suppress(FileNotFoundError, DataError):  # damaged: measured again and overwritten
                return count, load_state(self._path(stages[:count], shared))
        return None

    def keep(self, stages: Sequence[str], shared: int, state: SceneState, seconds: float) -> None:
        """Keep the state that these stages left if the last one took long enough."""
        if seconds >= LEAST_SECONDS:
            save_state(self._path(stages, shared), state)

    def forget(self) -> None:
        """Remove this scene's states of all methods; those of other scenes stay."""
        for name in self.folder.names():
            if name.startswith(self._prefix):
                (self.folder / name).discard()
        self.folder.unmake()

    @property
    def _prefix(self) -> str:
        return f"{hashlib.sha256(self.scene.encode()).hexdigest()[:16]}-"

    def _path(self, stages: Sequence[str], shared: int) -> Place:
        method = "" if len(stages) <= shared else self.method
        digest = hashlib.sha256(json.dumps([method, list(stages)]).encode())
        return self.folder / f"{self._prefix}{digest.hexdigest()[:32]}.safetensors"
