"""Line charts as SVG geometry, coloured by the page's styles: no fonts and no drawing library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from statistics import median

WIDTH, HEIGHT = 480, 250
"""Size in the chart's own coordinates; the page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 40
"""Margins around the plot, for labels."""
GAP_STEPS = 6
"""A line is broken where two points are further apart than this many times the median step."""
BREATHING = 0.05
"""Share of the value range left free above and below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The values of one line or set of dots."""

    name: str
    """Name in the legend."""
    style: str
    """CSS class: `fused`, `hs`, `ms`, `truth`."""
    x: Sequence[float]
    """Positions."""
    y: Sequence[float]
    """Values; non-finite ones are left out."""
    dots: bool = False
    """Draw dots instead of a line, if nothing is known between the values."""

    def points(self) -> list[tuple[float, float]]:
        """The finite points from left to right."""
        both = zip(self.x, self.y, strict=True)
        return sorted((float(x), float(y)) for x, y in both if isfinite(x) and isfinite(y))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    """Position in the chart's coordinates."""
    label: str
    """The value there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart; false if no series has a finite point, as there is nothing to draw."""

    title: str
    """What a reader sees in it, in words."""
    x_label: str
    """Quantity and unit."""
    y_label: str
    """Quantity and unit."""
    series: tuple[Series, ...]
    """What to draw, the last on top."""
    zero: bool = False
    """Whether the value axis starts at 0."""

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
        """SVG path of a series, broken where points are missing."""
        x, y = self._scales()
        parts = ([f"{x(point[0]):g} {y(point[1]):g}" for point in part] for part in _unbroken(series.points()))
        return " ".join("M" + " L".join(part) for part in parts)

    def marks(self, series: Series) -> list[tuple[float, float]]:
        """Dots of a series in the chart's coordinates."""
        x, y = self._scales()
        return [(x(point[0]), y(point[1])) for point in series.points()]

    def _scales(self) -> tuple[_Scale, _Scale]:
        """Scales from values to the chart's coordinates along x and y; larger values are higher up."""
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
    """Maps values of [low, high] to coordinates from start to end, rounded to tenths."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    """The range extended by that share of itself at both ends; for a single value, by a tenth of it."""
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
    """Split the points where the gap exceeds GAP_STEPS times the median one."""
    ends = [0, *breaks([x for x, _ in points]), len(points)]
    yield from (points[start:stop] for start, stop in pairwise(ends) if start < stop)


def breaks(x: Sequence[float]) -> list[int]:
    """Indices of the points of a rising line before which the gap exceeds GAP_STEPS times the median one.

    >>> breaks([400.0, 410.0, 420.0, 500.0, 510.0])
    [3]
    """
    gaps = [after - before for before, after in pairwise(x)]
    widest = GAP_STEPS * median(gaps) if gaps else 0.0
    return [number for number, gap in enumerate(gaps, start=1) if gap > widest]
