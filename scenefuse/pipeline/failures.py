"""Record failures under an output: one JSON record per pair and method in OUT/failures.jsonl until it succeeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from scenefuse.archive.scene import ScenePair
from scenefuse.config import RunConfig, parse
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import DataError, SceneFuseError, WorkError
from scenefuse.failure import Failure
from scenefuse.place.href import redact
from scenefuse.place.location import own_path
from scenefuse.place.place import Place
from scenefuse.product.files import FAILURES

_OF_THE_MACHINE = ("scheduler", "workers", "memory_limit", "allow_host")
"""Options left out of a record: whoever retries chooses the machine and the hosts to trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairWork:
    """What to fuse, and how; `refill` can repeat it from its record alone."""

    hs_id: str
    """The HSI's item id."""
    ms_id: str
    """The MSI's item id."""
    hs_href: str
    """Where the HSI's item is; the query of a URL is dropped."""
    ms_href: str
    """Where the MSI's item is; the query of a URL is dropped."""
    hs_root: str | None = None
    """Folder of the source in which the HSI was found; its item may name files in it."""
    ms_root: str | None = None
    """Folder of the source in which the MSI was found; its item may name files in it."""
    model: str
    """Name of the method."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options of the run that differ from the defaults, without those of the machine."""

    @classmethod
    def of(cls, pair: ScenePair, config: RunConfig) -> PairWork:
        """The fusion of a pair with a run's options."""
        default = RunConfig()
        options = {name: value for name, value in asdict(config).items() if value != getattr(default, name)}
        if config.weights is not None and (path := own_path(config.weights)).is_file():
            options["weights"] = str(path.absolute())
        return cls(
            hs_id=pair.hs.id,
            ms_id=pair.ms.id,
            hs_href=redact(pair.hs.href),
            ms_href=redact(pair.ms.href),
            hs_root=pair.hs.root,
            ms_root=pair.ms.root,
            model=config.model,
            options={name: value for name, value in options.items() if name not in (*_OF_THE_MACHINE, "model")},
        )

    @property
    def key(self) -> tuple[str, ...]:
        """Identifies the work, so that a later success or failure of it replaces its record."""
        return self.hs_href, self.hs_id, self.ms_href, self.ms_id, self.model

    def because(self, error: Exception) -> PairFailure:
        """The record of this work, failed with this error."""
        kind, retryable = _type_of(error)
        return PairFailure(
            **{each.name: getattr(self, each.name) for each in fields(PairWork)},
            kind=kind,
            cause=Failure.of(error).cause,
            retryable=retryable,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def config(self, machine: RunConfig) -> RunConfig:
        """The run's options, with those of the machine taken from `machine`."""
        recorded = parse(RunConfig, {**self.options, "model": self.model}, where=f"{FAILURES}: options")
        return replace(recorded, **{name: getattr(machine, name) for name in _OF_THE_MACHINE})


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFailure(PairWork):
    """Work that failed, and why; one JSON record."""

    kind: str
    """Kind of failure: data, model, resource, transient, worker, time, work or bug; busy: not failed but running."""
    cause: str
    """What went wrong: value, consequence and cure."""
    retryable: bool
    """True when the same call may succeed later."""
    at: str
    """When it failed, ISO 8601, UTC."""


def record_failure(out: Place, failure: PairFailure, observer: Observer) -> None:
    """Record the failure, replacing an earlier one of the same work.

    Only warns if the record cannot be written: the caller has the failure itself to report.
    """
    try:
        out.make()
        _rewrite(out, {failure.key}, [failure])
    except (SceneFuseError, OSError) as error:
        message = f"{out / FAILURES} could not be written ({error}): {failure.hs_id} with {failure.ms_id} is not in it"
        observer.notify(Event(kind="warning", facts={"message": message}))


def forget_failure(out: Place, work: PairWork) -> None:
    """Remove the record of this work's failure, if there is one."""
    _rewrite(out, {work.key}, [])


def read_failures(out: Place) -> tuple[PairFailure, ...]:
    """The records of an output, oldest first; empty if nothing failed."""
    try:
        lines = (out / FAILURES).read().splitlines()
    except FileNotFoundError:
        return ()
    return tuple(_parsed(line, out) for line in lines)


def _parsed(line: bytes, out: Place) -> PairFailure:
    try:
        return PairFailure(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{out / FAILURES} has a line that is not a record ({error})",
            "it is not clear what failed",
            "Remove the line; batch finds its pair again",
        ) from error


def _rewrite(out: Place, keys: set[tuple[str, ...]], failures: Iterable[PairFailure]) -> None:
    """Remove the records with these keys and append the failures; remove the file if no record is left."""
    added = [json.dumps(asdict(failure), sort_keys=True).encode() for failure in failures]

    def rewritten(old: bytes | None) -> bytes | None:
        if old is None and not added:
            return None
        kept = [line for line in (old or b"").splitlines() if _key(line) not in keys]
        return b"".join(line + b"\n" for line in (*kept, *added))

    place = out / FAILURES
    if place.update(rewritten) and not added:
        place.discard(lambda data: not data)


def _key(line: bytes) -> tuple[str, ...] | None:
    """The record's key; None for a line that is not a record, which is kept."""
    try:
        record = json.loads(line)
        return record["hs_href"], record["hs_id"], record["ms_href"], record["ms_id"], record.get("model", "")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _type_of(error: BaseException) -> tuple[str, bool]:
    """Kind of a failure and whether it is retryable, taken from the cause if one stopped the work."""
    from scenefuse.engine.retry import GivenUpError, kind_of  # not needed to read records
    from scenefuse.engine.run import IncompleteRunError

    if isinstance(error, IncompleteRunError) and error.report is not None:
        failures = error.report.failures
        return failures[0].kind, all(failure.retryable for failure in failures)
    if isinstance(error, GivenUpError) and error.failure is not None:
        return error.failure.kind, error.failure.retryable
    if isinstance(error, WorkError) and error.__cause__ is not None and not error.retryable:
        return _type_of(error.__cause__)
    if isinstance(error, SceneFuseError):
        return error.kind, error.retryable
    kind = kind_of(error)
    return kind, kind == "transient"
