"""Where tasks run: calls that a lane takes, outcomes that it gives, and the lane that is this very process.

The lane on the workers of a Dask cluster is in dask_lane.py; both look the same to the engine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from scenefuse.engine.resident import drop_state, keep_state
from scenefuse.models.state import SceneState


class TimeLimitError(Exception):
    """A task ran past its time limit; its worker was restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt at one task."""

    key: str
    """Its name among all calls in flight: a hash of nouns and the attempt."""
    function: Callable[[Any], Any]
    """A module-level function."""
    argument: Any
    """Its argument; picklable."""
    time_limit_s: float
    """Seconds after its start when its worker is restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended."""

    key: str
    """The call's key."""
    result: Any = None
    """What the function returned."""
    error: BaseException | None = None
    """What it raised, or why it did not run to its end; None when it did."""
    began: bool = True
    """False when the call certainly never started: its worker died with it waiting."""


class Lane(Protocol):
    """Takes calls, gives outcomes. Used from one thread."""

    @property
    def width(self) -> int:
        """Calls that run at the same time."""
        ...

    @property
    def dashboard(self) -> str | None:
        """Where the workers can be watched in a browser; None where there are none."""
        ...

    @property
    def on_this_machine(self) -> bool:
        """True when every process of the lane finds the temporary files of this one."""
        ...

    def submit(self, call: Call) -> None:
        """Take a call; returns at once."""
        ...

    def settle(self, timeout_s: float) -> Outcome | None:
        """The next outcome, or None when none came in time."""
        ...

    def sharing(self, state: SceneState) -> AbstractContextManager[str]:
        """A block in which every process of the lane keeps the state, under its sha256, which is what it gives."""
        ...

    def cancel(self) -> None:
        """Give up all calls in flight."""
        ...


class InProcessLane:
    """Runs each call in this process, when its outcome is asked for."""

    width = 1
    dashboard = None
    on_this_machine = True

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()

    def submit(self, call: Call) -> None:
        """Take a call; it runs in settle."""
        self._calls.append(call)

    def settle(self, timeout_s: float) -> Outcome | None:
        """The outcome of the oldest call; sleeps when there is none."""
        if not self._calls:
            time.sleep(timeout_s)
            return None
        call = self._calls.popleft()
        try:
            return Outcome(key=call.key, result=call.function(call.argument))
        except Exception as error:  # noqa: BLE001 - judged by its type in attempts.py
            return Outcome(key=call.key, error=error)

    @contextmanager
    def sharing(self, state: SceneState) -> Iterator[str]:
        """The state's sha256, under which this process keeps it."""
        digest = state.sha256
        keep_state(digest, state)
        try:
            yield digest
        finally:
            drop_state(digest)

    def cancel(self) -> None:
        """Drop the calls that wait."""
        self._calls.clear()
