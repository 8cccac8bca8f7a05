"""Fusing an archive: search, pair, fuse each pair; one bad scene never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, time
from functools import partial
from pathlib import Path
from typing import Any

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.pairing import Pairing, PairRule, Unpaired, find_pairs, split_roles
from scenefuse.archive.search import BBox, SkippedItem, collect, search
from scenefuse.archive.source import open_source
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import open_lane
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import UsageError
from scenefuse.pipeline.failures import PairFailure, record_failure, work_of
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.opening import require_config
from scenefuse.pipeline.planning import cluster_spec
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.output import require_output


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where and when scenes are looked for; None is everywhere and always."""

    bbox: BBox | None = None
    """West, south, east, north in degrees."""
    since: datetime | None = None
    """First time of acquisition."""
    until: datetime | None = None
    """Last time of acquisition, inclusive."""

    def __post_init__(self) -> None:
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
                raise UsageError(
                    f"bbox {west:g} {south:g} {east:g} {north:g}",
                    "it is no box on the globe, and no scene would be found",
                    "Give west, south, east, north in degrees, south first of the two latitudes",
                )
        if self.since is not None and self.until is not None and self.since > self.until:
            raise UsageError(
                f"since {self.since.isoformat()} is after until {self.until.isoformat()}",
                "no scene would be found",
                "Exchange the two",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """What became of an archive's pairs."""

    pairing: Pairing
    """Pairs that belong together, and why the other scenes do not."""
    skipped: tuple[SkippedItem, ...] = ()
    """Items of the archive that could not be read."""
    products: tuple[FusedProduct, ...] = ()
    """Products that are there now, made by this batch or found."""
    failures: tuple[PairFailure, ...] = field(default=())
    """Pairs that failed."""

    def facts(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return {
            "pairs": len(self.pairing.pairs),
            "products": [product.facts() for product in self.products],
            "failures": [asdict(failure) for failure in self.failures],
            "unpaired": [unpaired_record(entry) for entry in self.pairing.unpaired],
            "skipped_items": [asdict(entry) for entry in self.skipped],
        }


def find_in_archive(
    sources: Sequence[str], rule: PairRule, *, bounds: Bounds | None = None, allow_hosts: tuple[str, ...] = ()
) -> tuple[Pairing, tuple[SkippedItem, ...]]:
    """The pairs of one or several sources together, and items that could not be read."""
    bounds = bounds or Bounds()
    policy = AccessPolicy(allow_hosts=allow_hosts)
    wanted = [name for name in (rule.hs_collection, rule.ms_collection) if name is not None]
    collections = wanted if rule.hs_collection is not None and rule.ms_collection is not None else None
    found = collect(
        entry
        for source in dict.fromkeys(sources)
        for entry in search(
            open_source(source, policy=policy),
            collections=collections,
            bbox=bounds.bbox,
            since=bounds.since,
            until=bounds.until,
        )
    )
    roles = split_roles(found.scenes, rule)
    pairing = find_pairs(roles.hs, roles.ms, rule)
    return replace(pairing, unpaired=(*pairing.unpaired, *roles.unpaired)), found.skipped


def unpaired_record(entry: Unpaired) -> dict[str, Any]:
    """A scene in no pair as JSON can hold it."""
    return {"scene_id": entry.scene.id, "collection": entry.scene.collection, "reason": entry.reason}


def batch(
    sources: Sequence[str],
    *,
    out: str | Path | Place,
    rule: PairRule | None = None,
    config: RunConfig | None = None,
    bounds: Bounds | None = None,
    observer: Observer | None = None,
) -> BatchReport:
    """Fuse every pair of the sources into out; products that are there already are found, not made again.

    A pair that fails is recorded (`failures.jsonl` in out, one JSON object a line, for refill) and the rest goes on.
    What no pair could get past is refused before the first: an unknown method, an output that is not ours or not
    writable.
    """
    config, observer = config or RunConfig(), observer or NullObserver()
    require_config(config)
    out = place_at(out)
    require_output(out)
    out.free_bytes()
    pairing, skipped = find_in_archive(sources, rule or PairRule(), bounds=bounds, allow_hosts=config.allow_host)
    products: list[FusedProduct] = []
    failures: list[PairFailure] = []
    if pairing.pairs:
        with open_lane(cluster_spec(config)) as lane:
            for pair in pairing.pairs:
                call = partial(fuse, pair.hs, pair.ms, out=out, config=config, lane=lane)
                made = attempt_pair(call, work_of(pair, config), out=out, observer=observer)
                if isinstance(made, PairFailure):
                    failures.append(made)
                else:
                    products.append(made)
    return BatchReport(pairing=pairing, skipped=skipped, products=tuple(products), failures=tuple(failures))


def attempt_pair(
    call: Callable[..., FusedProduct], work: PairFailure, *, out: Place, observer: Observer
) -> FusedProduct | PairFailure:
    """The product that the call makes; or, whatever stops it, the record of the failure, which is kept in out."""
    try:
        return call(observer=observer)
    except Exception as error:  # noqa: BLE001 - a bug in one pair must not stop the archive; it is recorded
        failure = work.because(error)
    record_failure(out, failure, observer)
    observer.notify(Event(kind="warning", facts={"message": f"{failure.hs_id} with {failure.ms_id}: {failure.cause}"}))
    return failure


def parse_time(name: str, text: str | None, *, day_ends: bool = False) -> datetime | None:
    """An ISO 8601 day or time, UTC when it names no zone; None stays None.

    A day is its first moment; with day_ends its last, so that what is bounded by it includes the day.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{name} {text!r}", "it is no ISO 8601 day or time", "Write it like 2026-07-14") from error
    if day_ends and _is_day(text):
        moment = datetime.combine(moment, time.max)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_day(text: str) -> bool:
    """True when ISO 8601 text names a day and no time."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
