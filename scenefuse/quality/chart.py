"""A line chart as an SVG that a page's own styles colour: geometry alone, no fonts and no drawing library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from statistics import median

WIDTH, HEIGHT = 480, 250
"""Of a chart's own coordinates; a page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 40
"""Margins around the plot, for labels."""
GAP_STEPS = 6
"""A line is broken where two points are further apart than so many times the usual."""
BREATHING = 0.05
"""Share of the values' range that is left free above and below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of one kind."""

    name: str
    """What the legend calls it."""
    style: str
    """CSS class: `fused`, `hs`, `ms`, `truth`."""
    x: Sequence[float]
    """Where."""
    y: Sequence[float]
    """How much; what is not finite is left out."""
    dots: bool = False
    """Dots instead of a line: values between which nothing is known."""

    def points(self) -> list[tuple[float, float]]:
        """The finite points from left to right."""
        both = zip(self.x, self.y, strict=True)
        return sorted((float(x), float(y)) for x, y in both if isfinite(x) and isfinite(y))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    """In the chart's coordinates."""
    label: str
    """The value there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart; where no series has a finite point there is nothing to draw."""

    title: str
    """What a reader sees in it, in words."""
    x_label: str
    """Quantity and unit."""
    y_label: str
    """Quantity and unit."""
    series: tuple[Series, ...]
    """What is drawn, the last on top."""
    zero: bool = False
    """Whether the axis of values begins at 0."""

    def __bool__(self) -> bool:
        return any(series.points() for series in self.series)

    @property
    def x_ticks(self) -> list[Tick]:
        """Ticks below the plot."""
        x, _ = self._scales()
        return [Tick(at=x(value), label=f"{value:g}") for value in nice_values(x.low, x.high, 6)]

    @property
    def y_ticks(self) -> list[Tick]:
        """Ticks to the left of the plot."""
        _, y = self._scales()
        return [Tick(at=y(value), label=f"{value:g}") for value in nice_values(y.low, y.high, 5)]

    def path(self, series: Series) -> str:
        """The line of a series as SVG writes it, broken where points are missing."""
        x, y = self._scales()
        parts = ([f"{x(point[0]):g} {y(point[1]):g}" for point in part] for part in _unbroken(series.points()))
        return " ".join("M" + " L".join(part) for part in parts)

    def marks(self, series: Series) -> list[tuple[float, float]]:
        """The dots of a series in the chart's coordinates."""
        x, y = self._scales()
        return [(x(point[0]), y(point[1])) for point in series.points()]

    def _scales(self) -> tuple[_Scale, _Scale]:
        """From values to the chart's coordinates, along both axes; larger values are further up."""
        points = [point for series in self.series for point in series.points()]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        left, right = _widened(min(xs), max(xs), 0.0)
        low, high = _widened(min(ys), max(ys), BREATHING)
        if self.zero and min(ys) >= 0:
            low = 0.0
        return (
            _Scale(low=left, high=right, start=LEFT, end=WIDTH - RIGHT),
            _Scale(low=low, high=high, start=HEIGHT - BOTTOM, end=TOP),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Values of [low, high] to coordinates from start to end, in tenths."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    """The range with so much of it free at both ends; around a single value a tenth of it."""
    spare = (high - low) * share if high > low else max(abs(high), 1e-6) * 0.1
    return low - spare, high + spare


def nice_values(low: float, high: float, most: int) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten in [low, high].

    >>> nice_values(412.0, 2440.0, 6)
    [500.0, 1000.0, 1500.0, 2000.0]
    """
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    digits = max(0, 1 - floor(log10(step)))
    return [round(number * step, digits) for number in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _unbroken(points: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """The points in parts, between which more is missing than between any of a part."""
    ends = [0, *breaks([x for x, _ in points]), len(points)]
    yield from (points[start:stop] for start, stop in pairwise(ends) if start < stop)


def breaks(x: Sequence[float]) -> list[int]:
    """Numbers of those points of a rising line before which it is broken: more is missing there than usually.

    >>> breaks([400.0, 410.0, 420.0, 500.0, 510.0])
    [3]
    """
    gaps = [after - before for before, after in pairwise(x)]
    widest = GAP_STEPS * median(gaps) if gaps else 0.0
    return [number for number, gap in enumerate(gaps, start=1) if gap > widest]
