"""The command line called in process, with what it printed and its exit code."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from scenefuse.cli.app import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a command left behind."""

    code: int
    """Its exit code."""
    stdout: str
    """What it printed for programs and people."""
    stderr: str
    """Progress, notes and errors."""

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Runs `scenefuse` with arguments."""

    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *arguments: object) -> Ended:
        self.capture.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        self.monkeypatch.setattr(sys, "argv", ["scenefuse", *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
        printed = self.capture.readouterr()
        return Ended(code=int(ended.value.code or 0), stdout=printed.out, stderr=printed.err)


def assert_explained(ended: Ended, code: int, *said: str) -> dict[str, Any]:
    """The error's record: for programs on stdout, and for people, the same three parts, on stderr."""
    assert ended.code == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.document["exit_code"] == code
    error: dict[str, Any] = ended.document["error"]
    assert all(error[part].strip() for part in ("kind", "value", "consequence", "cure"))
    cure = error["cure"][0].upper() + error["cure"][1:]
    assert f"Error: {error['value']}: {error['consequence']}. {cure}.\n" in ended.stderr
    for text in said:
        assert text.lower() in ended.stderr.lower()
    return error


def interrupt_at(monkeypatch: pytest.MonkeyPatch, name: str, *, call: int, number: signal.Signals) -> None:
    """A real signal to this process as the function of that name returns from its so-manieth call."""
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(module), attribute)
    calls: list[Any] = []

    def called(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        calls.append(found)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return found

    monkeypatch.setattr(name, called)
