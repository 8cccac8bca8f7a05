"""The pairs that a search of an archive's scenes ends in."""

from __future__ import annotations

from pathlib import Path

from scenefuse.archive.bounds import Bounds, parse_time
from scenefuse.archive.pair_search import find_in_archive
from scenefuse.archive.pairing import PairRule
from tests.cli import scenes


def test_a_search_until_a_day_finds_the_scenes_of_that_day(tmp_path: Path) -> None:
    items = [scenes.write_item(tmp_path / f"{role}.json", href=f"./{role}.tif", role=role) for role in ("hsi", "msi")]
    catalogue = scenes.write_catalogue(tmp_path, items)  # both of 2024-06-04 10:15
    for until, pairs in (("2024-06-03", 0), ("2024-06-04", 1), ("2024-06-04T10:00", 0)):
        bounds = Bounds(until=parse_time("--until", until, day_ends=True))
        found, _ = find_in_archive([str(catalogue)], PairRule(), bounds=bounds)
        assert len(found.pairs) == pairs
