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
        low, high = self._range(0)
        return [Tick(at=_round(self._x(value)), label=f"{value:g}") for value in nice_values(low, high, 6)]

    @property
    def y_ticks(self) -> list[Tick]:
        """Ticks to the left of the plot."""
        low, high = self._range(1)
        return [Tick(at=_round(self._y(value)), label=f"{value:g}") for value in nice_values(low, high, 5)]

    def path(self, series: Series) -> str:
        """The line of a series as SVG writes it, broken where points are missing."""
        return " ".join(
            "M" + " L".join(f"{_round(self._x(x)):g} {_round(self._y(y)):g}" for x, y in part)
            for part in _unbroken(series.points())
        )

    def marks(self, series: Series) -> list[tuple[float, float]]:
        """The dots of a series in the chart's coordinates."""
        return [(_round(self._x(x)), _round(self._y(y))) for x, y in series.points()]

    def _range(self, axis: int) -> tuple[float, float]:
        values = [point[axis] for series in self.series for point in series.points()]
        low, high = min(values), max(values)
        spare = (high - low) * (BREATHING if axis else 0.0) or (0.0 if high > low else max(abs(high), 1e-6) * 0.1)
        return (0.0 if axis and self.zero and low >= 0 else low - spare), high + spare

    def _x(self, value: float) -> float:
        low, high = self._range(0)
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        low, high = self._range(1)
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)


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
    gaps = [after[0] - before[0] for before, after in pairwise(points)]
    widest = GAP_STEPS * median(gaps) if gaps else 0.0
    part: list[tuple[float, float]] = []
    for number, point in enumerate(points):
        if part and gaps[number - 1] > widest:
            yield part
            part = []
        part.append(point)
    if part:
        yield part


def _round(value: float) -> float:
    return round(value, 1)
