"""Charts as geometry: where values land, where lines break, what ticks say."""

from __future__ import annotations

import re
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.quality.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Series, nice_values


def chart(*series: Series, zero: bool = False) -> Chart:
    return Chart(title="t", x_label="x", y_label="y", series=series, zero=zero)


def line(x: list[float], y: list[float]) -> Series:
    return Series(name="s", style="fused", x=x, y=y)


def test_ends_of_the_range_lie_at_the_edges_of_the_plot() -> None:
    series = line([400.0, 2400.0], [0.0, 1.0])
    (left, low), (right, high) = chart(series, zero=True).marks(series)
    assert (left, right) == (LEFT, WIDTH - RIGHT)
    assert low == HEIGHT - BOTTOM
    assert high > TOP, "the largest value has air above it"


def test_larger_values_lie_higher_and_ticks_lie_on_their_values() -> None:
    series = line([500.0, 1000.0, 1500.0], [0.1, 0.3, 0.2])
    drawn = chart(series)
    heights = [y for _, y in drawn.marks(series)]
    assert sorted(range(3), key=lambda number: -heights[number]) == [0, 2, 1]
    by_label = {float(tick.label): tick.at for tick in drawn.y_ticks}
    assert by_label[0.2] == pytest.approx(heights[2], abs=0.06)
    assert [tick.label for tick in drawn.x_ticks] == ["600", "800", "1000", "1200", "1400"]


def test_a_line_is_broken_where_bands_are_missing_and_where_there_is_no_value() -> None:
    waves = [400.0 + 10 * number for number in range(20)] + [1400.0 + 10 * number for number in range(5)]
    series = line(waves, [0.1] * 25)
    assert chart(series).path(series).count("M") == 2
    missing = line([1.0, 2.0, 3.0, 4.0], [nan, 0.1, inf, 0.2])
    assert len(chart(missing).marks(missing)) == 2


@pytest.mark.parametrize("values", [[], [nan, inf]])
def test_a_chart_without_values_is_none(values: list[float]) -> None:
    assert not chart(line([1.0] * len(values), values))


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e3, 1e3)), min_size=1, max_size=40))
def test_whatever_the_values_all_is_drawn_within_the_plot(points: list[tuple[float, float]]) -> None:
    series = line([x for x, _ in points], [y for _, y in points])
    drawn = chart(series)
    for x, y in drawn.marks(series):
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT - BOTTOM
    assert all(LEFT <= tick.at <= WIDTH - RIGHT for tick in drawn.x_ticks)
    assert all(TOP <= tick.at <= HEIGHT - BOTTOM for tick in drawn.y_ticks)
    assert re.fullmatch(r"[ML\d. ]+", drawn.path(series))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_few_and_inside(low: float, width: float, most: int) -> None:
    found = nice_values(low, low + width, most)
    assert len(found) <= most + 1
    slack = 1e-6 * max(width, abs(low))
    assert all(low - slack <= value <= low + width + slack for value in found)
