"""Stopping: SIGINT and SIGTERM wait until a training can be left, between two steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a process to stop."""
IMPATIENT_AFTER_S = 1.0
"""Seconds after which a second signal stops at once; one that comes sooner is the same wish, told by the launcher."""


class Stopping:
    """While this is entered, a first signal is noted and no exception breaks a step in two.

    In threads besides the main one, where Python hands out no signals, and for signals that are ignored (`nohup`), it
    leaves all as it is.
    """

    def __init__(self) -> None:
        self._asked: float | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self._asked is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if callable(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked is not None and now - self._asked > IMPATIENT_AFTER_S:
            raise KeyboardInterrupt
        self._asked = self._asked or now
