"""The pairs of an archive: its scenes searched, told apart by role, and paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pairing import Pairing, PairRule, Unpaired, find_pairs, split_roles
from scenefuse.archive.search import SkippedItem, collect, search
from scenefuse.archive.source import open_source


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
