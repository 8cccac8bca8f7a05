"""States that stages left in earlier runs, found again by all that they depend on: a scene is measured once.

A run that was killed while it measured goes on after its last stage; another method on the same pair begins with
fill, response and PSF known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import DataError
from scenefuse.models.state import SceneState
from scenefuse.place.place import Place

LEAST_SECONDS = 10.0
"""What took less, the start of workers included, is not kept, but measured again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStates:
    """The states kept in a folder, for one scene and one method."""

    folder: Place
    """Where they are, a file for each; it need not exist."""
    scene: str
    """Digest of what pixels and bands depend on: inputs, scales, bands left out, registration, numerics."""
    method: str
    """Digest of the method, its weights and its device."""

    def latest(self, stages: Sequence[str], shared: int) -> tuple[int, SceneState] | None:
        """How many of the stages, in their order, are known, and what they left; None when no one is.

        shared: how many of them do not depend on the method.
        """
        for count in range(len(stages), 0, -1):
            path = self._path(stages[:count], shared)
            if path.is_file():
                try:
                    return count, load_state(path)
                except DataError:  # damaged: measured again, and put in its place
                    continue
        return None

    def keep(self, stages: Sequence[str], shared: int, state: SceneState, seconds: float) -> None:
        """Keep what these stages left, where the last one took long enough."""
        if seconds >= LEAST_SECONDS:
            self.folder.make()
            save_state(self._path(stages, shared), state)

    def forget(self) -> None:
        """Remove what is kept of this scene, whatever the method; that of others stays."""
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
