"""Which scenes belong together."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scenefuse.archive import pairing as module
from scenefuse.archive.footprint import equal_area_footprint
from scenefuse.archive.pairing import PairRule, find_pairs, split_roles
from scenefuse.archive.scene import Scene
from scenefuse.errors import DataError, UsageError
from scenefuse.sensors.sensor import Role

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def scene(name: str, role: Role | None, footprint: dict[str, Any] | None, **facts: Any) -> Scene:
    facts = {"acquired": NOON, **facts}
    return Scene(id=name, role=role, footprint=footprint, href=f"{name}.json", assets=(), **facts)


def hs(name: str = "h", footprint: dict[str, Any] | None = None, **facts: Any) -> Scene:
    return scene(name, "hsi", footprint or box(13, 52, 13.4, 52.3), **facts)


def ms(name: str = "m", footprint: dict[str, Any] | None = None, **facts: Any) -> Scene:
    return scene(name, "msi", footprint or box(13, 52, 14, 53), **facts)


def reason_of(one: Scene, *others: Scene, rule: PairRule | None = None) -> str:
    roles = split_roles([one, *others], rule or PairRule())
    pairing = find_pairs(roles.hs, roles.ms, rule)
    return next(entry.reason for entry in (*roles.unpaired, *pairing.unpaired) if entry.scene is one)


def test_a_pair_knows_its_overlap_and_its_gap() -> None:
    later = ms(acquired=NOON + timedelta(hours=5, minutes=30))
    pairing = find_pairs([hs(footprint=box(13.9, 52.0, 14.1, 52.2))], [later])
    (pair,) = pairing.pairs
    assert pair.id == "h_m"
    assert pair.overlap_fraction == pytest.approx(0.5)
    assert pair.gap_hours == pytest.approx(5.5)
    assert pairing.unpaired == ()


def test_the_best_of_several_is_taken_and_the_others_say_which() -> None:
    near = ms("near", acquired=NOON + timedelta(hours=1))
    far = ms("far", acquired=NOON + timedelta(hours=60))
    cloudy = ms("cloudy", acquired=NOON + timedelta(hours=1), cloud_fraction=0.15)
    pairing = find_pairs([hs()], [far, cloudy, near])
    assert [pair.id for pair in pairing.pairs] == ["h_near"]
    assert {entry.scene.id: entry.reason for entry in pairing.unpaired} == {
        "far": "h took near before it",
        "cloudy": "h took near before it",
    }
    both = find_pairs([hs()], [far, cloudy, near], PairRule(max_per_hs=2))
    assert [pair.id for pair in both.pairs] == ["h_near", "h_cloudy"]


def test_a_scene_that_its_archive_replaced_is_in_no_pair() -> None:
    old, new = ms("old", properties={"deprecated": True}), ms("new", properties={"deprecated": False})
    assert reason_of(old, hs(), new) == "its item says that it is deprecated"
    roles = split_roles([hs(), old, new], PairRule())
    assert [pair.id for pair in find_pairs(roles.hs, roles.ms).pairs] == ["h_new"]


def test_of_two_as_near_in_time_the_one_that_covers_more_is_taken() -> None:
    part, whole = ms("a part", box(13.2, 52, 14, 53)), ms("the whole")
    assert [pair.id for pair in find_pairs([hs()], [part, whole]).pairs] == ["h_the whole"]


@pytest.mark.parametrize(("hours", "best"), [(40, "late"), (48, "part")])
def test_time_counts_by_the_longest_gap_and_ground_by_the_smaller_footprint(hours: int, best: str) -> None:
    late = ms("late", acquired=NOON + timedelta(hours=hours))  # costs hours / 72
    part = ms("part", box(13.24, 52, 14, 53))  # covers 0.4 of the HSI: costs 0.6
    assert [pair.ms.id for pair in find_pairs([hs()], [late, part]).pairs] == [best]


def test_footprints_that_only_touch_are_no_pair_whatever_the_rule() -> None:
    beside = ms(footprint=box(13.4, 52, 14, 53))
    assert find_pairs([hs()], [beside], PairRule(min_overlap_fraction=0)).pairs == ()


def test_a_time_without_a_zone_is_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        (pair,) = find_pairs([hs(acquired=NOON.replace(tzinfo=None))], [ms()]).pairs
    time.tzset()
    assert pair.gap_hours == 0
    assert pair.hs.acquired == NOON  # as the cube and the product need it


@pytest.mark.parametrize(
    ("reason", "others"),
    [
        ("there is no scene of the other role", []),
        ("no footprint of the other role overlaps it", [ms(footprint=box(20, 20, 21, 21))]),
        (
            "nearest in time of 2 overlapping is b, 31.0 days away > 72.0 h",
            [ms("a", acquired=NOON - timedelta(days=40)), ms("b", acquired=NOON + timedelta(days=31))],
        ),
        ("largest overlap is 10% with b < 20%", [ms("a", box(13.38, 52, 14, 53)), ms("b", box(13.36, 52, 14, 53))]),
        ("a would fit, but has cloud 63% > 20%", [ms("a", cloud_fraction=0.63)]),
        (
            "nearest in time of 1 overlapping is b, 4.2 days away > 72.0 h",
            [ms("b", acquired=NOON + timedelta(hours=100), cloud_fraction=0.9)],
        ),
    ],
)
def test_a_scene_without_a_pair_has_the_most_specific_reason(reason: str, others: list[Scene]) -> None:
    assert reason_of(hs(), *others) == reason


@pytest.mark.parametrize(
    ("lonely", "reason"),
    [
        (hs(cloud_fraction=0.63), "cloud 63% > 20%"),
        (hs(acquired=None), "time of acquisition is unknown"),
        (scene("h", "hsi", None), "no footprint"),
        (hs(footprint={"type": "Point", "coordinates": [13, 52]}), "no area"),
        (hs(footprint={"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}), "closed line"),
        (hs(footprint={"type": "Polygon", "coordinates": "x"}), "no area"),
        (hs(footprint=box(13, 52, 13.4, 91)), "closed line of longitudes and latitudes"),
        (hs(footprint=box(13, 52, 13, 53)), "without area"),
        (scene("x", None, box(13, 52, 14, 53), role_reason="3 of 40 bands"), "role is unknown: 3 of 40 bands"),
    ],
)
def test_a_scene_that_nothing_could_fit_says_so(lonely: Scene, reason: str) -> None:
    assert reason in reason_of(lonely, ms())


def test_collections_decide_before_metadata() -> None:
    rule = PairRule(hs_collection="h", ms_collection="m")
    scenes = [
        scene("a", None, None, collection="h"),
        scene("b", "hsi", None, collection="m"),
        scene("c", "hsi", None, collection="other"),
    ]
    roles = split_roles([*scenes, scenes[0]], rule)
    assert ([s.id for s in roles.hs], [s.id for s in roles.ms]) == (["a"], ["b"])
    assert "its collection other is not h and m" in roles.unpaired[0].reason
    half = split_roles([*scenes, scene("d", "msi", None, collection="any")], PairRule(hs_collection="h"))
    assert ([s.id for s in half.hs], [s.id for s in half.ms]) == (["a"], ["d"])


@given(st.permutations(range(12)))
def test_the_order_of_the_scenes_does_not_matter(order: list[int]) -> None:
    sensed = [ms(f"m{i}", box(13 + i / 40, 52, 14, 53), acquired=NOON + timedelta(hours=i % 4)) for i in range(12)]
    rule = PairRule(max_per_hs=3)
    straight = find_pairs([hs("h1"), hs("h2", box(13.2, 52, 13.6, 52.3))], sensed, rule)
    shuffled = find_pairs([hs("h2", box(13.2, 52, 13.6, 52.3)), hs("h1")], [sensed[i] for i in order], rule)
    assert [pair.id for pair in shuffled.pairs] == [pair.id for pair in straight.pairs]
    assert sorted(entry.scene.id for entry in shuffled.unpaired) == sorted(
        entry.scene.id for entry in straight.unpaired
    )


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.integers(0, 4)), max_size=12),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.integers(0, 4)), max_size=12),
    st.sampled_from([0.0, 5.0, 72.0, float("inf")]),
)
def test_pairs_are_those_of_a_search_of_all_by_all(
    one: list[tuple[int, int, int, int]], other: list[tuple[int, int, int, int]], gap: float
) -> None:
    def make(role: Role, i: int, row: tuple[int, int, int, int]) -> Scene:
        x, y, hour, cloud = row
        place = box(x / 10, y / 10, x / 10 + 1, y / 10 + 1)
        return scene(f"{role}{i}", role, place, acquired=NOON + timedelta(hours=hour), cloud_fraction=cloud / 10)

    hsi = [make("hsi", i, row) for i, row in enumerate(one)]
    msi = [make("msi", i, row) for i, row in enumerate(other)]
    rule = PairRule(max_gap_hours=gap, max_per_hs=100)
    pairing = find_pairs(hsi, msi, rule)
    expected = set()
    for a in hsi:
        for b in msi:
            assert a.acquired is not None
            assert b.acquired is not None
            p, q = (equal_area_footprint(s.footprint, s.id) for s in (a, b))
            share = p.intersection(q).area / min(p.area, q.area)
            late = abs((a.acquired - b.acquired).total_seconds()) / 3600 > gap
            clear = max(a.cloud_fraction or 0, b.cloud_fraction or 0) <= 0.2
            if share >= 0.2 and not late and clear:
                expected.add(f"{a.id}_{b.id}")
    assert {pair.id for pair in pairing.pairs} == expected
    paired = {s.id for pair in pairing.pairs for s in (pair.hs, pair.ms)}
    assert sorted([*paired, *(entry.scene.id for entry in pairing.unpaired)]) == sorted(s.id for s in (*hsi, *msi))


def test_ratios_of_areas_are_those_on_the_ellipsoid() -> None:
    geod = pyproj.Geod(ellps="WGS84")
    tall, wide = box(10, 60, 12, 70), box(10, 60, 14, 62)

    def densified(footprint: dict[str, Any]) -> float:
        polygon = shapely.segmentize(shapely.geometry.shape(footprint), 0.05)
        return abs(geod.geometry_area_perimeter(polygon)[0])

    ours = equal_area_footprint(tall, "t").area / equal_area_footprint(wide, "w").area
    assert ours == pytest.approx(densified(tall) / densified(wide), rel=5e-3)


@pytest.mark.parametrize(
    "crossing",
    [
        box(179.5, 10, -179.5, 11),
        box(179.5, 10, 180.5, 11),
        box(-180.5, 10, -179.5, 11),
        {
            "type": "MultiPolygon",
            "coordinates": [box(179.5, 10, 180, 11)["coordinates"], box(-180, 10, -179.5, 11)["coordinates"]],
        },
    ],
)
def test_a_footprint_across_the_antimeridian_is_found_on_both_sides(crossing: dict[str, Any]) -> None:
    for side in (box(179.6, 10.2, 179.9, 10.8), box(-179.9, 10.2, -179.6, 10.8), box(179.8, 10.2, -179.8, 10.8)):
        (pair,) = find_pairs([hs(footprint=side)], [ms(footprint=crossing)]).pairs
        assert pair.overlap_fraction == pytest.approx(1.0)
    assert find_pairs([hs(footprint=box(0, 10, 1, 11))], [ms(footprint=crossing)]).pairs == ()


def test_a_hole_is_cut_out_on_whichever_side_of_the_antimeridian_it_is_written() -> None:
    outer = box(179, 10, -179, 12)["coordinates"][0]
    for hole in (box(179.5, 10.5, -179.5, 11.5), box(-180.5, 10.5, -179.5, 11.5), box(179.5, 10.5, 180.5, 11.5)):
        area = equal_area_footprint({"type": "Polygon", "coordinates": [outer, hole["coordinates"][0]]}, "holed").area
        whole = equal_area_footprint({"type": "Polygon", "coordinates": [outer]}, "whole").area
        assert area / whole == pytest.approx(1 - 1 / 4, abs=0.01)


def test_a_footprint_around_the_globe_is_a_box_and_one_around_a_pole_is_refused() -> None:
    assert find_pairs([hs()], [ms(footprint=box(-180, -90, 180, 90))]).pairs
    polar = [[lon, 80.0] for lon in range(-180, 180, 30)] + [[180.0 - 360.0, 80.0]]
    with pytest.raises(DataError, match="around a pole"):
        equal_area_footprint({"type": "Polygon", "coordinates": [polar]}, "polar")


def test_an_impossible_rule_is_refused() -> None:
    for wrong in (
        {"max_gap_hours": -1},
        {"min_overlap_fraction": 2},
        {"max_per_hs": 0},
        {"max_gap_hours": float("nan")},
    ):
        with pytest.raises(UsageError, match=r"max_per_hs|max_gap|overlap|cloud"):
            PairRule(**wrong)


def test_of_many_scenes_only_neighbours_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counted(one: NDArray[np.object_], other: NDArray[np.object_]) -> NDArray[np.float64]:
        compared.append(len(one))
        return overlap_fractions(one, other)

    overlap_fractions = module._overlap_fractions
    monkeypatch.setattr(module, "_overlap_fractions", counted)
    rng = np.random.default_rng(1)

    def make(role: Role, size: float) -> list[Scene]:
        places = rng.uniform((-180, -60, 0), (179, 60, 8760), (5000, 3)).tolist()
        return [
            scene(f"{role}{i}", role, box(x, y, x + size, y + size), acquired=NOON + timedelta(hours=hour))
            for i, (x, y, hour) in enumerate(places)
        ]

    hsi, msi = make("hsi", 0.3), make("msi", 1.0)
    pairing = find_pairs(hsi, msi)
    assert 0 < sum(compared) < 5000 * 5000 / 100
    assert (
        len(pairing.unpaired) + len({p.hs.id for p in pairing.pairs}) + len({p.ms.id for p in pairing.pairs}) == 10000
    )


def test_a_footprint_with_a_number_beyond_all_floats_is_refused() -> None:
    ring = [[0, 0], [1, 0], [10**400, 1], [0, 0]]
    with pytest.raises(DataError, match="no GeoJSON"):
        equal_area_footprint({"type": "Polygon", "coordinates": [ring]}, "odd")
