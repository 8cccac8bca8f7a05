"""The pairs of an archive: its scenes searched, told apart by role, and paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pairing import Pairing, PairRule, Unpaired, find_pairs, split_roles
from scenefuse.archive.scene import Scene
from scenefuse.archive.search import SkippedItem, collect, search
from scenefuse.archive.source import open_source


def find_in_archive(
    sources: Sequence[str], rule: PairRule, *, bounds: Bounds | None = None, allow_hosts: tuple[str, ...] = ()
) -> tuple[Pairing, tuple[SkippedItem, ...]]:
    """The pairs of one or several sources together, and items that could not be read.

    With bounds of time they are those whose HSI was acquired within; its MSI may lie outside by as much as the rule
    allows. So windows that follow each other find together what one window over all of them finds: no pair is lost or
    made otherwise because the border of two windows goes between its scenes. Of unpaired scenes those within are told.
    """
    bounds = bounds or Bounds()
    wide = replace(
        bounds,
        since=_moved(bounds.since, -rule.max_gap_hours),
        until=_moved(bounds.until, rule.max_gap_hours),
    )
    scenes, skipped = _scenes(sources, rule, bounds=wide, allow_hosts=allow_hosts)
    roles = split_roles(scenes, rule)
    within = [scene for scene in roles.hs if _is_within(scene, bounds)]
    pairing = find_pairs(within, roles.ms, rule)
    unpaired = (*pairing.unpaired, *roles.unpaired)
    return replace(pairing, unpaired=tuple(one for one in unpaired if _is_within(one.scene, bounds))), skipped


def _scenes(
    sources: Sequence[str], rule: PairRule, *, bounds: Bounds, allow_hosts: tuple[str, ...]
) -> tuple[tuple[Scene, ...], tuple[SkippedItem, ...]]:
    """The scenes of the sources that the rule may pair, and items that could not be read."""
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
    return found.scenes, found.skipped


def _moved(time: datetime | None, hours: float) -> datetime | None:
    """The time so many hours later; None, which is no bound, where that is in no calendar."""
    try:
        return None if time is None else time + timedelta(hours=hours)
    except OverflowError:
        return None


def _is_within(scene: Scene, bounds: Bounds) -> bool:
    """True when the scene was acquired within the bounds; one that does not tell when is within no bound."""
    if bounds.since is None and bounds.until is None:
        return True
    if scene.acquired is None:
        return False
    acquired = scene.acquired if scene.acquired.tzinfo else scene.acquired.replace(tzinfo=UTC)
    return (bounds.since is None or acquired >= bounds.since) and (bounds.until is None or acquired <= bounds.until)


def unpaired_record(entry: Unpaired) -> dict[str, Any]:
    """A scene in no pair as JSON can hold it."""
    return {"scene_id": entry.scene.id, "collection": entry.scene.collection, "reason": entry.reason}
