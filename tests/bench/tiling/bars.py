"""What ours has to reach, each bar a line with its figure, judged from one run's records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from scenefuse.models.registry import weightless_names

Record = dict[str, Any]

HEAVY_MMAC = 0.3
"""Models from here on spend their time in arithmetic: the tiling around it may cost little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar and what was found."""

    name: str
    """What is asked."""
    where: str
    """Model, size and lane."""
    figure: float
    """What was measured."""
    limit: float
    """What it is held against."""
    passed: bool
    """Whether it holds."""

    def facts(self) -> dict[str, Any]:
        """The bar as JSON can hold it."""
        return asdict(self)


class Book:
    """The records of a run, found by what they are of."""

    def __init__(self, records: list[Record]) -> None:
        self.records = [record for record in records if "missing" not in record]
        self._by_place = {(r["model"], r["mpx"], r["lane"], r["contestant"]): r for r in self.records}

    def get(self, like: Record, *, lane: str | None = None, contestant: str, mpx: float | None = None) -> Record | None:
        """The record of another contestant, lane or size beside this one."""
        return self._by_place.get((like["model"], mpx or like["mpx"], lane or like["lane"], contestant))

    def of(self, contestant: str) -> list[Record]:
        """All records of one contestant."""
        return [record for record in self.records if record["contestant"] == contestant]


def judge(records: list[Record]) -> list[Bar]:
    """Every bar that the records can answer."""
    book = Book(records)
    parts: tuple[Callable[[Book], Iterator[Bar]], ...] = (
        _exactness,
        _overheads,
        _pixels,
        _memory,
        _workers,
        _copying,
        _against_monai,
        _against_terratorch,
        _against_dask,
    )
    return [bar for part in parts for bar in part(book)]


def _most(name: str, record: Record, figure: float, limit: float) -> Bar:
    return Bar(name=name, where=_where(record), figure=figure, limit=limit, passed=figure <= limit)


def _least(name: str, record: Record, figure: float, limit: float) -> Bar:
    return Bar(name=name, where=_where(record), figure=figure, limit=limit, passed=figure >= limit)


def _where(record: Record) -> str:
    return f"{record['model']}, {record['mpx']:g} Mpx, {record['lane']}"


def _exactness(book: Book) -> Iterator[Bar]:
    for name, limit in (("ours full halo", 0.0), ("ours", 1e-6)):
        for record in book.of(name):
            if record["lane"] == "memory" and record["error"]:
                halo = "full halo" if limit == 0 else "default halo"
                title = f"largest difference from {record['error']['against']}, {halo}"
                yield _most(title, record, record["error"]["all"]["max"], limit)
                if tuple(record["coverage"]) != (1, 1):
                    raise ValueError(f"{_where(record)}: pixels were written {record['coverage']} times")


def _overheads(book: Book) -> Iterator[Bar]:
    for record in book.of("ours"):
        forward = book.get(record, lane="memory", contestant="forward")
        if record["facts"]["mmac_per_px"] < HEAVY_MMAC or forward is None:
            continue
        if "drain_s" in record:
            yield _most("drain / wall", record, record["drain_s"] / record["wall_s"], 0.05)
        if record["lane"] == "memory":
            yield _most("wall / forward", record, record["wall_s"] / forward["wall_s"], 1.05)
        codec = book.get(record, contestant="codec")
        if codec is not None:
            yield _most(
                "wall / (forward + codec)", record, record["wall_s"] / (forward["wall_s"] + codec["wall_s"]), 1.1
            )


def _pixels(book: Book) -> Iterator[Bar]:
    for record in book.of("ours"):
        if record["lane"] == "memory":
            least = (record["window_px"] / record["core_px"]) ** 2
            gap = abs(record["computed_px"] / record["side_px"] ** 2 / least - 1)
            yield _most("pixels computed, gap to ((T + 2h) / T)^2", record, gap, 0.02)


def _memory(book: Book) -> Iterator[Bar]:
    for record in (*book.of("ours"), *book.of("ours and COG")):
        before = book.get(record, contestant=record["contestant"], mpx=4.0)
        if record["mpx"] > 4 and record["lane"] != "memory" and before is not None:
            growth = record["peak_rss_bytes"] / before["peak_rss_bytes"]
            yield _most(f"peak memory, {record['mpx']:g} Mpx / 4 Mpx", record, growth, 1.1)


def _workers(book: Book) -> Iterator[Bar]:
    for record in book.of("two workers"):
        one = book.get(record, contestant="one worker")
        if one is None:
            continue
        speed = one["wall_s"] / record["wall_s"]
        yield _least("speed of two one-core workers / one", record, speed, 1.8)
        bare, two_bare = (book.get(record, lane="memory", contestant=name) for name in ("forward", "two forwards"))
        if bare is not None and two_bare is not None:
            cores = bare["wall_s"] / two_bare["wall_s"]
            yield _least("the same, share of what two bare networks reach", record, speed / cores, 0.95)


def _copying(book: Book) -> Iterator[Bar]:
    for record in book.of("ours"):
        codec = book.get(record, contestant="codec")
        if record["model"] in weightless_names() and codec is not None:
            yield _least("speed / speed of copying", record, codec["wall_s"] / record["wall_s"], 0.6)


def _against_monai(book: Book) -> Iterator[Bar]:
    for record in book.of("ours"):
        rival = book.get(record, contestant="monai gaussian 0.25")
        if record["lane"] != "memory" or rival is None:
            continue
        faster = (rival["wall_s"] + _stacking_s(book, record)) / record["wall_s"]
        fewer = rival["computed_px"] / record["computed_px"]
        yield _least("speed / MONAI Gaussian 0.25, per ratio of pixels computed", record, faster / fewer, 0.9)
        if record["error"] and rival["error"]:
            gap = record["error"]["all"]["max"] - rival["error"]["all"]["max"]
            yield _most("largest error less MONAI's", record, gap, 0.0)


def _against_terratorch(book: Book) -> Iterator[Bar]:
    for record in book.of("ours"):
        rival = book.get(record, contestant="terratorch tuned")
        if record["lane"] != "memory" or rival is None:
            continue
        spent = rival["wall_s"] + _stacking_s(book, record)
        yield _most("wall / terratorch's tiled inference", record, record["wall_s"] / spent, 1.0)
        if record["error"] and rival["error"]:
            gap = record["error"]["all"]["max"] - rival["error"]["all"]["max"]
            yield _most("largest error less terratorch's", record, gap, 0.0)


def _against_dask(book: Book) -> Iterator[Bar]:
    for record in book.of("ours"):
        rival = book.get(record, contestant="dask tuned")
        if rival is None or record["lane"] not in {"memory", "zarr"}:
            continue
        spent = rival["wall_s"] + _stacking_s(book, record)
        yield _most("wall / dask map_overlap", record, record["wall_s"] / spent, 1.0)
        if record["mpx"] == 16:
            share = record["peak_rss_bytes"] / rival["peak_rss_bytes"]
            yield _most("peak memory / dask map_overlap", record, share, 0.5)


def _stacking_s(book: Book, record: Record) -> float:
    """Seconds that a rival's upsampling and stacking took beforehand, and that ours spends inside."""
    found = book.get(record, lane="memory", contestant="stacking")
    return found["wall_s"] if found else 0.0
