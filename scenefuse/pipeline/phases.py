"""Where the wall time of a run goes, phase after phase."""

from __future__ import annotations

import time


class Phases:
    """A clock that is told what begins; one phase at a time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._name: str | None = None
        self._began = 0.0

    def begin(self, name: str) -> None:
        """End the phase that is on and begin this one."""
        self.end()
        self._name, self._began = name, time.monotonic()

    def end(self) -> dict[str, float]:
        """Seconds of each phase so far, in the order of their begin; none is on now."""
        if self._name is not None:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + time.monotonic() - self._began
            self._name = None
        return dict(self._seconds)
