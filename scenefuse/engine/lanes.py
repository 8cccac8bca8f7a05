"""Where tasks run: the calls a lane takes, the outcomes it returns, and the lane that is this process itself.

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
    """A task exceeded its time limit; its worker was restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt at one task."""

    key: str
    """Unique name among all calls in flight: a hash of nouns and the attempt."""
    function: Callable[[Any], Any]
    """A module-level function."""
    argument: Any
    """Its argument; picklable."""
    time_limit_s: float
    """Seconds from its start after which its worker is restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended."""

    key: str
    """The call's key."""
    result: Any = None
    """What the function returned."""
    error: BaseException | None = None
    """What the function raised, or why it did not finish; None if it did."""
    began: bool = True
    """False if the call certainly never started because its worker died while it was waiting."""


class Lane(Protocol):
    """Takes calls and returns outcomes. Used from one thread."""

    @property
    def width(self) -> int:
        """Calls that run at the same time."""
        ...

    @property
    def dashboard(self) -> str | None:
        """URL where the workers can be watched in a browser; None if there are no workers."""
        ...

    @property
    def on_this_machine(self) -> bool:
        """True if every process of the lane can read this one's temporary files."""
        ...

    def submit(self, call: Call) -> None:
        """Take a call; returns at once."""
        ...

    def settle(self, timeout_s: float) -> Outcome | None:
        """Wait for the next outcome; None if none came in time."""
        ...

    def sharing(self, state: SceneState) -> AbstractContextManager[str]:
        """Keep the state in every process of the lane while the block runs; yields its sha256, the key to it."""
        ...

    def cancel(self) -> None:
        """Give up all calls in flight."""
        ...


class InProcessLane:
    """Runs each call in this process, when settle is called."""

    width = 1
    dashboard = None
    on_this_machine = True

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()

    def submit(self, call: Call) -> None:
        """Take a call; it runs in settle."""
        self._calls.append(call)

    def settle(self, timeout_s: float) -> Outcome | None:
        """Run the oldest call and return its outcome; sleep if there is none."""
        if not self._calls:
            time.sleep(timeout_s)
            return None
        call = self._calls.popleft()
        try:
            return Outcome(key=call.key, result=call.function(call.argument))
        except Exception as error:  # noqa: BLE001 - retry.py judges it by its type
            return Outcome(key=call.key, error=error)

    @contextmanager
    def sharing(self, state: SceneState) -> Iterator[str]:
        """Keep the state in this process; yields its sha256."""
        digest = state.sha256
        keep_state(digest, state)
        try:
            yield digest
        finally:
            drop_state(digest)

    def cancel(self) -> None:
        """Drop the waiting calls."""
        self._calls.clear()
