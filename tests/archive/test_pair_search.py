"""The pairs that a search of an archive's scenes ends in."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("since", "until", "pairs"), [("10:15", "10:15", 1), ("10:16", None, 0), (None, "10:14", 0)])
def test_both_ends_of_a_window_belong_to_it(tmp_path: Path, since: str | None, until: str | None, pairs: int) -> None:
    items = [scenes.write_item(tmp_path / f"{role}.json", href=f"./{role}.tif", role=role) for role in ("hsi", "msi")]
    catalogue = scenes.write_catalogue(tmp_path, items)  # both of 2024-06-04 10:15
    first, last = (None if end is None else parse_time("--since", f"2024-06-04T{end}") for end in (since, until))
    found, _ = find_in_archive([str(catalogue)], PairRule(), bounds=Bounds(since=first, until=last))
    assert len(found.pairs) == pairs


@pytest.mark.parametrize("gap", [1e9, float("inf")])
def test_partners_may_be_acquired_any_time_before_or_after(tmp_path: Path, gap: float) -> None:
    late = {"datetime": "2034-01-01T00:00:00Z"}
    items = [
        scenes.write_item(tmp_path / "hsi.json", href="./hsi.tif"),
        scenes.write_item(tmp_path / "msi.json", href="./msi.tif", role="msi", properties=late),
    ]
    catalogue = scenes.write_catalogue(tmp_path, items)
    bounds = Bounds(since=parse_time("--since", "2024-06-01"), until=parse_time("--until", "2024-06-30"))
    found, _ = find_in_archive([str(catalogue)], PairRule(max_gap_hours=gap), bounds=bounds)
    assert [pair.id for pair in found.pairs] == ["hsi_msi"]


def test_days_searched_one_by_one_lose_no_pair(tmp_path: Path) -> None:
    items = [
        scenes.write_item(tmp_path / "hsi.json", href="./hsi.tif", properties={"datetime": "2024-06-05T10:15:00Z"}),
        scenes.write_item(tmp_path / "msi.json", href="./msi.tif", role="msi"),  # of 2024-06-04 10:15
    ]
    catalogue = scenes.write_catalogue(tmp_path, items)
    for day, pairs in (("2024-06-04", 0), ("2024-06-05", 1)):
        bounds = Bounds(since=parse_time("--since", day), until=parse_time("--until", day, day_ends=True))
        found, _ = find_in_archive([str(catalogue)], PairRule(), bounds=bounds)
        assert len(found.pairs) == pairs
