"""The pairs of an archive: search its scenes, split them by role, and pair them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
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
    """The pairs of one or several sources together, and the items that could not be read.

    Time bounds apply to the acquisition of the HSI; its MSI may lie outside by up to the rule's max_gap_hours.
    Consecutive windows therefore find the same pairs as one window over all of them: no pair is lost or changed because
    the border between two windows falls between its scenes. Unpaired scenes are reported if they lie within.
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
    """The time shifted by hours; None, which means no bound, if the calendar has no such time."""
    try:
        return None if time is None else time + timedelta(hours=hours)
    except OverflowError:
        return None


def _is_within(scene: Scene, bounds: Bounds) -> bool:
    """True if the scene was acquired within the bounds; a scene without a time is outside every bound."""
    if bounds.since is None and bounds.until is None:
        return True
    if scene.acquired is None:
        return False
    since, until = bounds.since, bounds.until
    return (since is None or scene.acquired >= since) and (until is None or scene.acquired <= until)


def unpaired_record(entry: Unpaired) -> dict[str, Any]:
    """An unpaired scene as a JSON-compatible record."""
    return {"scene_id": entry.scene.id, "collection": entry.scene.collection, "reason": entry.reason}
