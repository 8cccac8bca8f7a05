"""Fusing an archive: search, pair, fuse each pair; one bad scene never stops the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.pairing import Pairing, PairRule, Unpaired, find_pairs, split_roles
from scenefuse.archive.scene import ScenePair
from scenefuse.archive.search import BBox, SkippedItem, collect, search
from scenefuse.archive.source import open_source
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import open_lane
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import SceneFuseError, UsageError
from scenefuse.models.registry import require_method
from scenefuse.pipeline.fuse import FusedProduct, cluster_spec, fuse, writable_bytes
from scenefuse.product.output import FAILURES, require_output


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where and when scenes are looked for; None is everywhere and always."""

    bbox: BBox | None = None
    """West, south, east, north in degrees."""
    since: datetime | None = None
    """First time of acquisition."""
    until: datetime | None = None
    """Last time of acquisition."""

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
class PairFailure:
    """A pair that could not be fused; one JSON record."""

    hs_id: str
    """The HSI's item id."""
    ms_id: str
    """The MSI's item id."""
    hs_href: str
    """Where the HSI's item is."""
    ms_href: str
    """Where the MSI's item is."""
    kind: str
    """Type of the failure: data, model, resource, transient, work or bug."""
    cause: str
    """What went wrong: value, consequence and cure."""
    retryable: bool
    """True when the same call may succeed later."""


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
    out: Path,
    rule: PairRule | None = None,
    config: RunConfig | None = None,
    bounds: Bounds | None = None,
    observer: Observer | None = None,
) -> BatchReport:
    """Fuse every pair of the sources into out; products that are there already are found, not made again.

    A pair that fails is recorded (`failures.jsonl` in out, one JSON object a line) and the rest goes on. What no pair
    could get past is refused before the first: an unknown method, an output folder that is not ours or not writable.
    """
    config, observer = config or RunConfig(), observer or NullObserver()
    require_method(config.model, weights=config.weights)
    require_output(out)
    writable_bytes(out)
    pairing, skipped = find_in_archive(sources, rule or PairRule(), bounds=bounds, allow_hosts=config.allow_host)
    products: list[FusedProduct] = []
    failures: list[PairFailure] = []
    if pairing.pairs:
        with open_lane(cluster_spec(config)) as lane:
            for pair in pairing.pairs:
                try:
                    products.append(fuse(pair.hs, pair.ms, out=out, config=config, observer=observer, lane=lane))
                except SceneFuseError as error:
                    failures.append(_failure(pair, error, kind=error.kind, retryable=error.retryable))
                except Exception as error:  # noqa: BLE001 - a bug in one pair must not stop the archive; it is recorded
                    failures.append(_failure(pair, error, kind="bug", retryable=False))
                else:
                    continue
                observer.notify(Event(kind="warning", facts={"message": f"{pair.id}: {failures[-1].cause}"}))
    _record(out, failures)
    return BatchReport(pairing=pairing, skipped=skipped, products=tuple(products), failures=tuple(failures))


def parse_time(name: str, text: str | None) -> datetime | None:
    """An ISO 8601 day or time, UTC when it names no zone; None stays None."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{name} {text!r}", "it is no ISO 8601 day or time", "Write it like 2026-07-14") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _failure(pair: ScenePair, error: Exception, *, kind: str, retryable: bool) -> PairFailure:
    return PairFailure(
        hs_id=pair.hs.id,
        ms_id=pair.ms.id,
        hs_href=pair.hs.href,
        ms_href=pair.ms.href,
        kind=kind,
        cause=str(error) if isinstance(error, SceneFuseError) else f"{type(error).__name__}: {error}",
        retryable=retryable,
    )


def _record(out: Path, failures: Sequence[PairFailure]) -> None:
    """Replace the record of failures by this batch's; no file when nothing failed."""
    path = out / FAILURES
    if not failures:
        path.unlink(missing_ok=True)
        return
    out.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [json.dumps({"at": at, **asdict(failure)}) for failure in failures]
    part = path.with_name(f".{path.name}.part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(path)
