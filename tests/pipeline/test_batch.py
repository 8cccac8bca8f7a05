"""Archives of two items: which scenes are found, and where their products find them again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from scenefuse.archive.pairing import PairRule
from scenefuse.pipeline.batch import Bounds, find_in_archive, parse_time
from tests.cli import scenes

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    return scenes.write_hs(folder / "hs.tif"), scenes.write_ms(folder / "ms.tif")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024-07-14", datetime(2024, 7, 14, tzinfo=UTC), datetime(2024, 7, 14, 23, 59, 59, 999999, tzinfo=UTC)),
        ("20240714", datetime(2024, 7, 14, tzinfo=UTC), datetime(2024, 7, 14, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2024-07-14T00:00", datetime(2024, 7, 14, tzinfo=UTC), datetime(2024, 7, 14, tzinfo=UTC)),
        (
            "2024-07-14T00:00+02:00",
            datetime(2024, 7, 13, 22, tzinfo=UTC),
            datetime(2024, 7, 13, 22, tzinfo=UTC),
        ),
    ],
)
def test_a_day_ends_with_its_last_moment_and_a_time_is_itself(text: str, first: datetime, last: datetime) -> None:
    assert parse_time("since", text) == first
    assert parse_time("until", text, day_ends=True) == last


def test_a_search_until_a_day_finds_the_scenes_of_that_day(pair: Pair, tmp_path: Path) -> None:
    catalogue = scenes.archive_of(pair, tmp_path)  # both of 2024-06-04 10:15
    for until, pairs in (("2024-06-03", 0), ("2024-06-04", 1), ("2024-06-04T10:00", 0)):
        bounds = Bounds(until=parse_time("--until", until, day_ends=True))
        found, _ = find_in_archive([str(catalogue)], PairRule(), bounds=bounds)
        assert len(found.pairs) == pairs
