"""Stopping: hold back SIGINT and SIGTERM until training can stop, between two steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a process to stop."""
IMPATIENT_AFTER_S = 1.0
"""Seconds after which a second signal stops at once; a sooner one is the same request, repeated by the launcher."""


class Stopping:
    """A context that notes a first signal, so that no exception breaks a step in two.

    It does nothing outside the main thread, where Python delivers no signals, and for ignored signals (`nohup`).
    """

    def __init__(self) -> None:
        self._asked: float | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has arrived."""
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
