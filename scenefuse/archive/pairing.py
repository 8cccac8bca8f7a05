"""Which hyperspectral and multispectral scenes show the same ground at about the same time, and why others do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import shapely
from numpy.typing import NDArray

from scenefuse.archive.footprint import equal_area_footprint
from scenefuse.archive.scene import Scene, ScenePair
from scenefuse.errors import DataError, UsageError
from scenefuse.sensors.sensor import Role

_CHUNK = 2000
"""Scenes looked up at once; bounds memory where many footprints overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRule:
    """What makes two scenes a pair."""

    max_gap_hours: float = 72.0
    """Maximum time between the acquisitions in hours."""
    min_overlap_fraction: float = 0.2
    """Minimum overlap area / area of the smaller footprint, 0 to 1."""
    max_cloud_fraction: float = 0.2
    """Maximum cloud cover of either scene, 0 to 1; scenes that do not state theirs pass."""
    hs_collection: str | None = None
    """Collection of the hyperspectral scenes; None decides by each scene's role."""
    ms_collection: str | None = None
    """Collection of the multispectral scenes; None decides by each scene's role."""
    max_per_hs: int = 1
    """Maximum pairs per hyperspectral scene, best first; a multispectral scene may serve several."""

    def __post_init__(self) -> None:
        if not self.max_gap_hours >= 0:
            raise UsageError(
                f"max_gap_hours is {self.max_gap_hours}", "no two scenes are that close in time", "Give 0 or more"
            )
        if self.max_per_hs < 1:
            raise UsageError(f"max_per_hs is {self.max_per_hs}", "no scene could have a pair", "Give 1 or more")
        for name in ("min_overlap_fraction", "max_cloud_fraction"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UsageError(f"{name} is {share}", "it is not a fraction", "Give 0 to 1: 0.2 is 20 %")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """A scene without a pair."""

    scene: Scene
    """The scene."""
    reason: str
    """The most specific reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Scenes by the side of a pair that they can take."""

    hs: tuple[Scene, ...]
    """Hyperspectral scenes."""
    ms: tuple[Scene, ...]
    """Multispectral scenes."""
    unpaired: tuple[Unpaired, ...]
    """Scenes that are neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Every given scene, in a pair or with the reason why not."""

    pairs: tuple[ScenePair, ...]
    """Pairs sorted by acquisition of the HSI, then ids; those of one HSI from best to worst."""
    unpaired: tuple[Unpaired, ...]
    """Scenes in no pair, hyperspectral ones first."""


def split_roles(scenes: Iterable[Scene], rule: PairRule) -> Roles:
    """The scenes by role; collections that the rule names take precedence over metadata.

    A scene listed twice counts once, one that its archive has replaced (STAC's `deprecated`) on neither side.
    """
    hs: list[Scene] = []
    ms: list[Scene] = []
    unpaired: list[Unpaired] = []
    seen: set[tuple[str | None, str, str]] = set()
    for scene in scenes:
        key = (scene.collection, scene.id, scene.href)
        if key in seen:
            continue
        seen.add(key)
        side = _side_of(scene, rule)
        if side is not None and scene.properties.get("deprecated") is True:
            unpaired.append(Unpaired(scene=scene, reason="its item says that it is deprecated"))
        elif side == "hsi":
            hs.append(scene)
        elif side == "msi":
            ms.append(scene)
        else:
            unpaired.append(Unpaired(scene=scene, reason=_no_role(scene, rule)))
    return Roles(hs=tuple(hs), ms=tuple(ms), unpaired=tuple(unpaired))


def find_pairs(hs: Sequence[Scene], ms: Sequence[Scene], rule: PairRule | None = None) -> Pairing:
    """Pairs under the rule, and the most specific reason for each scene without one.

    The best pair of an HSI minimises gap / max_gap + (1 - overlap) + cloud cover of the MSI; ties go by id. Scenes are
    looked up in an R-tree per time slab of max_gap_hours, so that the work grows with the number of scenes and of true
    neighbours, not with their product.
    """
    rule = rule or PairRule()
    hs_side, ms_side = _Side.of(hs, rule), _Side.of(ms, rule)
    pairs: list[ScenePair] = []
    ms_used: set[int] = set()
    hs_used: set[int] = set()
    taken: dict[int, str] = {}
    links = _links(hs_side, ms_side, rule)
    for i in sorted(links, key=lambda i: (hs_side.times_h[i], hs[i].id, i)):
        fitting = sorted(links[i], key=lambda link: (link.cost, ms[link.ms].id, link.ms))
        chosen = fitting[: rule.max_per_hs]
        hs_used.add(i)
        ms_used.update(link.ms for link in chosen)
        taken.update(
            (link.ms, f"{hs[i].id} took {ms[chosen[0].ms].id} before it") for link in fitting[rule.max_per_hs :]
        )
        pairs += [
            ScenePair(hs=hs[i], ms=ms[link.ms], overlap_fraction=link.overlap_fraction, gap_hours=link.gap_hours)
            for link in chosen
        ]
    missing = [
        *_explain(hs_side, ms_side, hs_used, {}, rule),
        *_explain(ms_side, hs_side, ms_used, taken, rule),
    ]
    return Pairing(pairs=tuple(pairs), unpaired=tuple(missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """An MSI that fits an HSI."""

    ms: int
    overlap_fraction: float
    gap_hours: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """The scenes of one role as arrays; refused holds those that their own metadata rule out."""

    scenes: Sequence[Scene]
    refused: dict[int, str]
    areas: NDArray[np.object_]
    """(scene,) shapely areas; None if refused for place or time."""
    times_h: NDArray[np.float64]
    """(scene,) hours since 1970; NaN if unknown."""
    cloudy: dict[int, str] = field(default_factory=dict)
    """The entries of refused that are refused for clouds alone."""

    @classmethod
    def of(cls, scenes: Sequence[Scene], rule: PairRule) -> _Side:
        """The side, with the reasons found in each scene by itself."""
        refused: dict[int, str] = {}
        cloudy: dict[int, str] = {}
        areas = np.full(len(scenes), None, dtype=object)
        times_h = np.full(len(scenes), np.nan)
        for i, scene in enumerate(scenes):
            if scene.acquired is None:
                refused[i] = "its time of acquisition is unknown"
                continue
            try:
                areas[i] = equal_area_footprint(scene.footprint, scene.id)
            except DataError as error:
                refused[i] = f"{error.value.removeprefix(scene.id).strip()}: {error.consequence}"
                continue
            times_h[i] = scene.acquired.timestamp() / 3600
            if scene.cloud_fraction is not None and scene.cloud_fraction > rule.max_cloud_fraction:
                cloudy[i] = f"cloud {scene.cloud_fraction:.0%} > {rule.max_cloud_fraction:.0%}"
        return cls(scenes=scenes, refused=refused | cloudy, areas=areas, times_h=times_h, cloudy=cloudy)

    @property
    def placed(self) -> NDArray[np.intp]:
        """Indexes of the scenes with a place and a time, cloudy ones included."""
        return np.flatnonzero(~np.isnan(self.times_h))

    @property
    def usable(self) -> NDArray[np.intp]:
        """Indexes of the scenes that are not refused."""
        return np.array([i for i in self.placed if i not in self.refused], dtype=np.intp)


def _links(hs: _Side, ms: _Side, rule: PairRule) -> dict[int, list[_Link]]:
    """The MSIs that fit each HSI, for HSIs that have any."""
    links: dict[int, list[_Link]] = {}
    for i, j in _near(hs, ms, rule.max_gap_hours):
        gaps = np.abs(hs.times_h[i] - ms.times_h[j])
        i, j, gaps = (values[gaps <= rule.max_gap_hours] for values in (i, j, gaps))  # noqa: PLW2901 - narrowed
        overlaps = _overlap_fractions(hs.areas[i], ms.areas[j])
        for k in np.flatnonzero((overlaps >= rule.min_overlap_fraction) & (overlaps > 0)):
            gap_share = gaps[k] / rule.max_gap_hours if rule.max_gap_hours else 0.0
            cost = gap_share + (1 - overlaps[k]) + (ms.scenes[j[k]].cloud_fraction or 0.0)
            links.setdefault(int(i[k]), []).append(
                _Link(ms=int(j[k]), overlap_fraction=float(overlaps[k]), gap_hours=float(gaps[k]), cost=float(cost))
            )
    return links


def _near(hs: _Side, ms: _Side, gap_hours: float) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Index pairs of usable scenes whose areas intersect and whose time slabs are equal or adjacent."""
    hs_i, ms_i = hs.usable, ms.usable
    if not len(hs_i) or not len(ms_i):
        return
    width = max(gap_hours, 1.0)
    hs_slab, ms_slab = (
        np.floor(side.times_h[i] / width) if isfinite(width) else np.zeros(len(i))
        for side, i in ((hs, hs_i), (ms, ms_i))
    )
    hs_order, ms_order = np.argsort(hs_slab, kind="stable"), np.argsort(ms_slab, kind="stable")
    hs_i, hs_slab, ms_i, ms_slab = hs_i[hs_order], hs_slab[hs_order], ms_i[ms_order], ms_slab[ms_order]
    for slab in np.unique(hs_slab):
        near = ms_i[np.searchsorted(ms_slab, slab - 1) : np.searchsorted(ms_slab, slab + 1, side="right")]
        here = hs_i[np.searchsorted(hs_slab, slab) : np.searchsorted(hs_slab, slab, side="right")]
        if len(near):
            yield from _touching(hs, here, ms, near)


def _touching(
    one: _Side, one_i: NDArray[np.intp], other: _Side, other_i: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Index pairs from the two sets of indexes whose areas intersect, in chunks."""
    tree = shapely.STRtree(other.areas[other_i])
    for start in range(0, len(one_i), _CHUNK):
        chunk = one_i[start : start + _CHUNK]
        found = tree.query(one.areas[chunk], predicate="intersects")
        if found.size:
            yield chunk[found[0]], other_i[found[1]]


def _overlap_fractions(one: NDArray[np.object_], other: NDArray[np.object_]) -> NDArray[np.float64]:
    """(pair,) overlap area / area of the smaller footprint, 0 to 1."""
    if not len(one):
        return np.zeros(0)
    smaller = np.minimum(shapely.area(one), shapely.area(other))
    return np.minimum(shapely.area(shapely.intersection(one, other)) / smaller, 1.0)


def _explain(side: _Side, other: _Side, used: set[int], taken: dict[int, str], rule: PairRule) -> list[Unpaired]:
    """A reason for each of the side's scenes that is in no pair."""
    reasons = {i: reason for i, reason in side.refused.items() if i not in used}
    open_i = np.array([i for i in side.usable if i not in used], dtype=np.intp)
    candidates = other.placed
    if len(open_i) and len(candidates):
        for i, j in _touching(side, open_i, other, candidates):
            order = np.argsort(i, kind="stable")
            found, starts = np.unique(i[order], return_index=True)
            for k, mine in zip(found.tolist(), np.split(j[order], starts[1:]), strict=True):
                reasons[k] = taken.get(k) or _nearest_miss(k, mine, side, other, rule)
    alone = "no footprint of the other role overlaps it" if len(candidates) else "there is no scene of the other role"
    for k in open_i.tolist():
        reasons.setdefault(k, alone)
    return [Unpaired(scene=side.scenes[i], reason=reasons[i]) for i in sorted(reasons)]


def _nearest_miss(i: int, j: NDArray[np.intp], side: _Side, other: _Side, rule: PairRule) -> str:
    """Why none of the overlapping scenes j fits scene i: time first, then overlap, then clouds."""
    gaps = np.abs(other.times_h[j] - side.times_h[i])
    if gaps.min() > rule.max_gap_hours:
        k = int(gaps.argmin())
        return (
            f"nearest in time of {len(j)} overlapping is {other.scenes[j[k]].id}, {_duration(gaps[k])} away"
            f" > {_duration(rule.max_gap_hours)}"
        )
    j = j[gaps <= rule.max_gap_hours]
    overlaps = _overlap_fractions(np.repeat(side.areas[i : i + 1], len(j)), other.areas[j])
    if overlaps.max() < rule.min_overlap_fraction or overlaps.max() == 0:
        k = int(overlaps.argmax())
        return f"largest overlap is {overlaps[k]:.0%} with {other.scenes[j[k]].id} < {rule.min_overlap_fraction:.0%}"
    k = int(overlaps.argmax())
    best = other.scenes[j[k]].id
    return f"{best} would fit, but has {other.cloudy.get(int(j[k]), 'a better pair')}"


def _side_of(scene: Scene, rule: PairRule) -> Role | None:
    """The side of a scene: by a collection that the rule names for one side, else by its role."""
    if rule.hs_collection != rule.ms_collection:
        if rule.hs_collection is not None and scene.collection == rule.hs_collection:
            return "hsi"
        if rule.ms_collection is not None and scene.collection == rule.ms_collection:
            return "msi"
    named = rule.hs_collection if scene.role == "hsi" else rule.ms_collection
    return scene.role if named is None or named == scene.collection else None


def _no_role(scene: Scene, rule: PairRule) -> str:
    """Why a scene is on neither side."""
    if scene.role is None and rule.hs_collection is None and rule.ms_collection is None:
        return f"its role is unknown: {scene.role_reason or 'metadata does not tell'}"
    wanted = " and ".join(name for name in (rule.hs_collection, rule.ms_collection) if name is not None)
    role = f"role {scene.role}" if scene.role else f"unknown role ({scene.role_reason or 'metadata does not tell'})"
    return f"its collection {scene.collection} is not {wanted}, and it has {role}"


def _duration(hours: float) -> str:
    """Hours up to three days, days beyond."""
    return f"{hours:.1f} h" if hours <= 72 else f"{hours / 24:.1f} days"
