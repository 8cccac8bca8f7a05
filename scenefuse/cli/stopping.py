"""Stopping a long command: orderly at the first signal, immediately at the second."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from scenefuse.cli.log import json_line
from scenefuse.errors import SceneFuseError

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRunError(SceneFuseError):
    """SIGINT or SIGTERM arrived; finished work is kept, and the same call resumes."""

    kind = "interrupted"
    exit_code = 130
    retryable = True


def interruption() -> InterruptedRunError:
    """The error of an interrupted command that can be resumed."""
    return InterruptedRunError("Interrupted", "what is finished is kept", "The same command resumes")


def until_interrupted(found: Iterable[T], *, whole: str) -> tuple[list[T], InterruptedRunError | None]:
    """Collect everything found; on SIGINT or SIGTERM, what was found before it, and the error to end with.

    whole: the full amount in words. For commands that leave nothing but their output: InterruptedRunError is raised if
    nothing was found yet.
    """
    done: list[T] = []
    try:
        for entry in found:
            done.append(entry)  # noqa: PERF402 - entries from before an interruption are kept
    except KeyboardInterrupt as error:
        interrupted = begun_anew(f"{len(done)} of {whole}", shown=bool(done))
        if not done:
            raise interrupted from error
        return done, interrupted
    return done, None


def begun_anew(done: str, *, shown: bool) -> InterruptedRunError:
    """The error of an interrupted command that cannot be resumed; done: how far it came, in words."""
    left = "what was finished is shown, and only that" if shown else "there is nothing to show yet"
    return InterruptedRunError(f"Interrupted after {done}", left, "The same command starts over")


@contextmanager
def stopping_in_order(*, as_json: bool) -> Iterator[None]:
    """Context that the first SIGINT or SIGTERM ends with InterruptedRunError, and a second one immediately.

    The latter is like SIGKILL: workers end with this process, its leases are free, the same command resumes.
    """
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores one

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        os._exit(InterruptedRunError.exit_code)

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for each in heard:
            signal.signal(each, end)
        text = "stopping in order; once more ends it at once"
        name = signal.Signals(number).name
        line = json_line("stopping", level="info", signal=name, message=text) if as_json else f"{name}: {text}"
        with contextlib.suppress(OSError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode())  # print may be running
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    except KeyboardInterrupt as error:
        raise interruption() from error
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:  # otherwise the process is ending, and a second signal still ends it
                signal.signal(number, handler)
