"""The engine's own observers."""

from __future__ import annotations

import time

from scenefuse.engine.protocols import Event, Observer


class NullObserver:
    """Ignores all events."""

    def notify(self, event: Event) -> None:
        """Do nothing."""


class RecordingObserver:
    """Keeps every event with its time, for run.json and for tests."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []
        """Pairs of time, in seconds since the epoch, and event."""

    def notify(self, event: Event) -> None:
        """Keep the event."""
        self.events.append((time.time(), event))

    def facts(self, kind: str) -> list[dict[str, object]]:
        """Facts of all events of one kind, in order, each with its `time` in seconds since the epoch."""
        return [{"time": when, **event.facts} for when, event in self.events if event.kind == kind]


class TeeObserver:
    """Passes each event to several observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def notify(self, event: Event) -> None:
        """Pass the event to each observer, in order."""
        for observer in self._observers:
            observer.notify(event)
