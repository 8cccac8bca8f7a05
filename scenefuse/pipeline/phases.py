"""Measure the wall time of a run, phase by phase."""

from __future__ import annotations

import time


class Phases:
    """Stopwatch for consecutive phases, one at a time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._name: str | None = None
        self._began = 0.0

    def begin(self, name: str) -> None:
        """End the current phase and begin this one."""
        self.end()
        self._name, self._began = name, time.monotonic()

    def end(self) -> dict[str, float]:
        """End the current phase; return the seconds of each phase so far, in the order they first began."""
        if self._name is not None:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + time.monotonic() - self._began
            self._name = None
        return dict(self._seconds)
