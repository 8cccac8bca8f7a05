"""Record of a workflow's passes, OUT/.workflows/<name>.json, and the lease of the pass under way.

A workflow has no other state besides the archive, the products and the records of failures. The record may be removed
at any time: nothing is then made differently or twice, but `status` knows of no earlier pass.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from scenefuse.archive.bounds import Bounds
from scenefuse.config import parse
from scenefuse.engine.lease import Lease, LeaseHeldError, live_owner
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import DataError, SceneFuseError, UsageError
from scenefuse.failure import Failure
from scenefuse.place.durable import json_bytes
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.workflow.specification import Workflow

FOLDER = ".workflows"
"""Name of the folder beside the products."""
_RECORDS = ("last", "last_good")
_PULSE_S = 10.0
"""Least seconds between two recorded signs of life of a pass."""

Outcome = Literal["done", "incomplete", "failed", "interrupted"]
Kind = Literal["pass", "backfill"]
"""Scheduled passes and backfill steps may be under way at the same time; each kind has its own record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRecord:
    """Record of one pass. Times are ISO 8601, UTC."""

    began: str
    """When it began."""
    ended: str | None = None
    """When it ended; None while it is under way or if it was killed."""
    alive: str | None = None
    """Its last sign of life."""
    since: str | None = None
    """Start of the time window that it searched; None for no bound."""
    until: str | None = None
    """End of the time window; None for no bound."""
    outcome: Outcome | None = None
    """`done`; `incomplete`: some pairs failed or were not published; `failed`: for example, the archive could not be
    searched; `interrupted`; None until it has ended."""
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Number of pairs, and how many were fused, found, failed, left to another process, published, not published."""
    error: Mapping[str, Any] | None = field(default=None, hash=False)
    """Why it failed: kind, cause, retryable."""

    @property
    def is_good(self) -> bool:
        """Whether it went through the whole archive, whatever the outcome of single pairs."""
        return self.outcome in ("done", "incomplete")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassHistory:
    """Record of a workflow's passes."""

    last: PassRecord | None = None
    """The pass that began last."""
    last_good: PassRecord | None = None
    """The last pass that went through the whole archive."""
    failed_in_a_row: int = 0
    """Number of passes that have failed since."""

    def facts(self) -> dict[str, Any]:
        """The history in JSON types."""
        return asdict(self)


class PassUnderWayError(LeaseHeldError):
    """Another process is doing a pass of the same workflow; once it has ended, what was due is done."""


def history_place(out: Place, name: str, kind: Kind = "pass") -> Place:
    """Location of the history of a workflow's passes."""
    return out / FOLDER / (f"{name}.json" if kind == "pass" else f"{name}.{kind}.json")


def read_history(out: Place, name: str, kind: Kind = "pass") -> PassHistory:
    """The history of a workflow's passes; empty if there was none."""
    place = history_place(out, name, kind)
    try:
        return _parsed(place.read(), place)
    except FileNotFoundError:
        return PassHistory()


def is_under_way(out: Place, name: str, kind: Kind = "pass") -> bool:
    """Whether any process is doing a pass of the workflow now."""
    return live_owner(_lease_place(out, name, kind)) is not None


class PassKeeper:
    """Context in which this process alone does a pass of the workflow; records how the pass ends.

    Passes events on to its observer, and takes them as signs of life.
    """

    def __init__(self, workflow: Workflow, bounds: Bounds, *, began: datetime, kind: Kind, observer: Observer) -> None:
        out, name = place_at(workflow.output.products), workflow.name
        self._place = history_place(out, name, kind)
        self._lease_place = _lease_place(out, name, kind)
        self._name, self._observer = name, observer
        self._pulse = time.monotonic()
        self._record = PassRecord(
            began=began.isoformat(), alive=_now(), since=_text(bounds.since), until=_text(bounds.until)
        )

    def __enter__(self) -> Self:
        self._place.parent.make()
        try:
            self._lease = Lease(self._lease_place)
        except LeaseHeldError as error:
            raise PassUnderWayError(
                f"A pass of the workflow {self._name} is under way in another process",
                f"two at a time would do the same work ({error.value})",
                "Wait for it to end; a dead one's lease ends by itself within a minute",
            ) from error
        try:
            self._change(lambda history: replace(history, last=self._record))
        except BaseException:
            self._lease.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            failed = isinstance(error, Exception)
            self._end("failed" if failed else "interrupted", error=asdict(Failure.of(error)) if failed else None)
        self._lease.release()

    def finished(self, counts: Mapping[str, int], *, whole: bool) -> None:
        """Record that the pass went through; whole: everything that was due is done."""
        self._end("done" if whole else "incomplete", counts=counts)

    def notify(self, event: Event) -> None:
        """Pass the event on and, from time to time, record that the pass is alive."""
        self._observer.notify(event)
        if time.monotonic() - self._pulse > _PULSE_S:
            self._pulse = time.monotonic()
            self._record = replace(self._record, alive=_now())
            with contextlib.suppress(OSError, SceneFuseError):  # a sign of life that cannot be recorded ends no pass
                self._change(lambda history: replace(history, last=self._record))

    def _end(self, outcome: Outcome, *, counts: Mapping[str, int] | None = None, error: Any = None) -> None:
        ended = replace(self._record, ended=_now(), alive=_now(), outcome=outcome, counts=counts or {}, error=error)

        def with_end(history: PassHistory) -> PassHistory:
            if ended.is_good:
                return PassHistory(last=ended, last_good=ended)
            failed = history.failed_in_a_row + (outcome == "failed" and history.last != ended)
            return replace(history, last=ended, failed_in_a_row=failed)

        if outcome in ("failed", "interrupted"):
            with contextlib.suppress(OSError, SceneFuseError):  # the error that ended the pass matters more
                self._change(with_end)
        else:
            self._change(with_end)

    def _change(self, change: Callable[[PassHistory], PassHistory]) -> None:
        def changed(old: bytes | None) -> bytes:
            history = PassHistory()
            with contextlib.suppress(DataError):  # a damaged history stops no pass: it starts over
                history = history if old is None else _parsed(old, self._place)
            return json_bytes(change(history).facts())

        self._place.update(changed)


def _parsed(data: bytes, place: Place) -> PassHistory:
    try:
        document = json.loads(data)
        records = {name: document[name] and parse(PassRecord, document[name], where=name) for name in _RECORDS}
        return PassHistory(**{**document, **records})
    except (ValueError, TypeError, KeyError, UsageError) as error:
        raise DataError(
            f"{place} is not a record of passes ({error})",
            "it is not known when the last pass was",
            "Remove the file, or run a pass, which replaces it",
        ) from error


def _lease_place(out: Place, name: str, kind: Kind) -> Place:
    return history_place(out, name, kind).parent / f"{history_place(out, name, kind).name.removesuffix('.json')}.lease"


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
