"""Which two grids a pair is fused on, and how each raster gets there: DESIGN's cases A and B.

The fine frame is made of whole coarse pixels that lie inside both rasters; coarse pixels that only partly
overlap are dropped (the plan's notes say how many).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from pyproj import CRS

from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import RATIOS, PairGrid
from scenefuse.grid.placement import AxisMap, Offset, PointMap, RasterGrid, same_crs
from scenefuse.grid.relation import (
    Relation,
    check_georeference,
    is_parallel,
    no_overlap,
    on_turn_of,
    overlap_px,
    relate,
)
from scenefuse.grid.resample import MOST_PHASE_PX, NO_PHASE, Phase
from scenefuse.grid.transform import coarsened, moved, refined
from scenefuse.words import counted

RATIO_TOLERANCE = 1e-3
"""Largest deviation of the ratio of GSDs from an integer at which the grids still nest."""
PHASE_TOLERANCE_PX = 0.05
"""Largest offset of the HSI from the coarse grid, or from one beside it by a phase, at which it counts as on it,
in fine pixels."""
RATIO_STRETCH = 1.05
"""How many times finer than the MSI's the fine grid may be."""

CUBIC = "cubic (Keys, a=-0.5)"
AREA_CUBIC = "area-aware cubic (Keys, a=-0.5, widened to the target pixel)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """The two aligned grids, and where their pixels lie in the native rasters."""

    grid: PairGrid
    """The frame of every window."""
    hs: Offset | PointMap
    """Where coarse pixels lie in the HSI's raster."""
    ms: Offset | AxisMap
    """Where fine pixels lie in the MSI's finest raster."""
    dropped_px: tuple[int, int]
    """Native HSI rows and columns, (y, x), that the frame leaves out: outside the MSI, or only partly inside."""
    notes: tuple[str, ...]
    """What was decided, in sentences, for readers and for the provenance."""


def plan_pair_grid(
    hs: RasterGrid, ms: RasterGrid, *, shift_px: tuple[float, float] = (0.0, 0.0), take_phase: bool = False
) -> PairPlan:
    """The grids on which the pair is fused; DataError with the reason if it cannot be.

    shift_px: (y, x) fine pixels by which the MSI's content lies further down and right than the HSI's, as found by
    registration; the single resampling, or the choice of phase, compensates for it. take_phase: use the HSI untouched
    if its pixels lie beside the coarse grid by one phase, which the plan's grid then has; without it, it is warped.
    """
    for raster in (hs, ms):
        check_georeference(raster)
    relation = relate(on_turn_of(hs, ms), ms)
    ratio = _nesting_ratio(relation)
    if ratio is not None:
        return _plan_on_ms_grid(relation, ratio, shift_px, take_phase=take_phase)
    ratio = _largest_ratio(relation)
    if relation.parallel and not CRS.from_wkt(ms.crs_wkt).is_geographic:
        return _plan_on_hs_grid(relation, ratio, shift_px)
    return _plan_on_ms_grid(relation, ratio, shift_px, take_phase=take_phase)


def placement_of(raster: RasterGrid, reference: RasterGrid, plan: PairPlan) -> Offset | AxisMap:
    """Where fine pixels lie in another raster of the MSI, from their place in its finest raster.

    Each of the MSI's bands is resampled once from its own pixels: a 20 m band never passes through the 10 m grid.
    """
    message = "the bands of one image must lie on parallel grids in one CRS"
    cure = "reproject them onto one grid"
    if not same_crs(raster.crs_wkt, reference.crs_wkt):
        raise DataError(f"{raster.name} and {reference.name} have different CRS", message, cure)
    between = np.linalg.inv(raster.matrix) @ reference.matrix
    if not is_parallel(between, reference.shape):
        raise DataError(f"{raster.name} is rotated against {reference.name}", message, cure)
    base = plan.ms if isinstance(plan.ms, AxisMap) else _as_axis_map(plan.ms)
    (step_y, step_x), (start_y, start_x) = (between[1, 1], between[0, 0]), (between[1, 2], between[0, 2])
    placed = AxisMap(
        origin=(float(start_y + step_y * base.origin[0]), float(start_x + step_x * base.origin[1])),
        scale=(float(step_y * base.scale[0]), float(step_x * base.scale[1])),
    )
    return placed.whole(plan.grid.fine_shape, 1e-6) or placed


def _nesting_ratio(relation: Relation) -> int | None:
    """The ratio of two grids that nest in one CRS (case A without a warp); None otherwise."""
    if not relation.parallel:
        return None
    ratio = round(relation.ratios[0])
    nests = all(abs(value - ratio) <= RATIO_TOLERANCE for value in relation.ratios)
    return ratio if nests and ratio in RATIOS else None


def _largest_ratio(relation: Relation) -> int:
    """The largest allowed ratio whose fine pixels are at most 5 % finer than the MSI's."""
    ratio = min(relation.ratios)
    allowed = [candidate for candidate in RATIOS if candidate <= RATIO_STRETCH * ratio]
    if allowed:
        return allowed[-1]
    hs_gsd_m, ms_gsd_m = relation.gsds_m
    consequence = (
        "the MSI is not the finer of the two and has no detail to add"
        if ratio <= 1
        else "less than a ratio of 2 is left"
    )
    raise DataError(
        f"The HSI's pixels are {hs_gsd_m:.4g} m and the MSI's {ms_gsd_m:.4g} m, a ratio of {ratio:.3g}",
        consequence,
        "pair the HSI with an MSI of at most half its pixel size, and check that HS and MS are not swapped",
    )


def _plan_on_ms_grid(relation: Relation, ratio: int, shift_px: tuple[float, float], *, take_phase: bool) -> PairPlan:
    """Case A: the fine grid is the MSI's own; the HSI is used untouched if it nests, or with its phase, else warped."""
    hs, ms = relation.hs, relation.ms
    mapping = PointMap(frame_transform=ms.transform, frame_crs_wkt=ms.crs_wkt, raster=hs, shift_px=shift_px)
    overlap = overlap_px(mapping, ms)
    phase_y, phase_x = _phase(mapping, overlap, ratio)
    y0, y1 = _whole_pixels(overlap[0], overlap[1], phase_y, ratio, PHASE_TOLERANCE_PX)
    x0, x1 = _whole_pixels(overlap[2], overlap[3], phase_x, ratio, PHASE_TOLERANCE_PX)
    if y1 <= y0 or x1 <= x0:
        raise no_overlap(hs, ms)
    fine = moved(ms.transform, y0, x0)
    coarse_shape = ((y1 - y0) // ratio, (x1 - x0) // ratio)
    shift_coarse = (shift_px[0] / ratio, shift_px[1] / ratio)
    warp = PointMap(frame_transform=coarsened(fine, ratio), frame_crs_wkt=ms.crs_wkt, raster=hs, shift_px=shift_coarse)
    nearest = _nearest_offset(warp, coarse_shape, ratio)
    nests = nearest.rest_px <= PHASE_TOLERANCE_PX
    untouched = nests or (take_phase and nearest.spread_px <= PHASE_TOLERANCE_PX)
    phase_px = nearest.phase_px if untouched and not nests else NO_PHASE
    grid = PairGrid(
        crs_wkt=_recognised(ms.crs_wkt),
        fine_transform=fine,
        coarse_shape=coarse_shape,
        ratio=ratio,
        case="ms-grid",
        hs_gsd_m=relation.gsds_m[0],
        ms_gsd_m=relation.gsds_m[1],
        hs_resampled=not untouched,
        ms_resampled=False,
        phase_rest_px=nearest.rest_px,
        phase_px=phase_px,
        shift_px=shift_px,
        hs_kernel="none" if untouched else CUBIC,
    )
    notes = [
        f"The fine grid is the MSI's own from its pixel (row {y0}, column {x0}); {ratio} fine pixels to a coarse one"
    ]
    if nests:
        notes.append(f"the HSI's pixels are used untouched ({nearest.rest_px:.3f} fine pixels off the coarse grid)")
    elif untouched:
        beside = f"{phase_px[0]:+.3f} rows, {phase_px[1]:+.3f} columns (fine pixels) beside the coarse grid"
        notes.append(f"the HSI's pixels are used untouched, {beside}")
    elif relation.parallel:
        notes.append(f"the HSI is warped once by {nearest.rest_px:.3f} fine pixels, {CUBIC}")
    else:
        notes.append(f"the HSI is warped once from its own grid, {CUBIC}")
    dropped = (max(0, hs.shape[0] - coarse_shape[0]), max(0, hs.shape[1] - coarse_shape[1]))
    notes += _dropped_notes(dropped)
    return PairPlan(
        grid=grid,
        hs=nearest.offset if untouched else warp,
        ms=Offset(y0=y0, x0=x0),
        dropped_px=dropped,
        notes=tuple(notes),
    )


def _plan_on_hs_grid(relation: Relation, ratio: int, shift_px: tuple[float, float]) -> PairPlan:
    """Case B: the coarse grid is the HSI's own, untouched; the MSI is resampled once to HSI / ratio.

    If registration found a shift, the georeference follows the MSI, as in case A: the HSI's pixels keep their values,
    but their place on the map is corrected by the shift, so that the product aligns with the finer image.
    """
    hs, ms = relation.hs, relation.ms
    between = np.linalg.inv(ms.matrix) @ hs.matrix  # HSI pixels to MSI pixels
    step = (float(between[1, 1]) / ratio, float(between[0, 0]) / ratio)
    start = (
        float(between[1, 2]) + step[0] * shift_px[0],
        float(between[0, 2]) + step[1] * shift_px[1],
    )
    rows = _lines_inside(start[0], step[0], ratio, hs.shape[0], ms.shape[0])
    columns = _lines_inside(start[1], step[1], ratio, hs.shape[1], ms.shape[1])
    if rows[1] <= rows[0] or columns[1] <= columns[0]:
        raise no_overlap(hs, ms)
    coarse = moved(hs.transform, rows[0] + shift_px[0] / ratio, columns[0] + shift_px[1] / ratio)
    grid = PairGrid(
        crs_wkt=_recognised(hs.crs_wkt),
        fine_transform=refined(coarse, ratio),
        coarse_shape=(rows[1] - rows[0], columns[1] - columns[0]),
        ratio=ratio,
        case="hs-grid",
        hs_gsd_m=relation.gsds_m[0],
        ms_gsd_m=relation.gsds_m[1],
        hs_resampled=False,
        ms_resampled=True,
        shift_px=shift_px,
        ms_kernel=AREA_CUBIC,
    )
    placed = AxisMap(origin=(start[0] + step[0] * ratio * rows[0], start[1] + step[1] * ratio * columns[0]), scale=step)
    dropped = (hs.shape[0] - grid.coarse_shape[0], hs.shape[1] - grid.coarse_shape[1])
    notes = [
        f"The GSDs {grid.hs_gsd_m:.4g} m and {grid.ms_gsd_m:.4g} m do not nest (ratio {grid.native_ratio:.4g})",
        (
            f"the HSI's grid is kept and the MSI is resampled once to {grid.fine_gsd_m:.4g} m, {AREA_CUBIC}: "
            f"{grid.fine_gsd_m / grid.ms_gsd_m:.3g} times its own pixel"
        ),
        *_dropped_notes(dropped),
    ]
    if any(shift_px):
        notes.append(
            f"the map coordinates follow the MSI: those of the HSI are corrected by {shift_px[0]:+.3f} rows, "
            f"{shift_px[1]:+.3f} columns of {grid.fine_gsd_m:.4g} m"
        )
    return PairPlan(grid=grid, hs=Offset(y0=rows[0], x0=columns[0]), ms=placed, dropped_px=dropped, notes=tuple(notes))


def _whole_pixels(start: float, stop: float, phase: int, step: int, tolerance: float) -> tuple[int, int]:
    """First and last edge of the steps (edges = phase mod step) that lie inside [start, stop] within tolerance."""
    first = phase + step * -floor((phase - start + tolerance) / step)
    last = phase + step * floor((stop + tolerance - phase) / step)
    return first, last


def _phase(mapping: PointMap, overlap: tuple[float, float, float, float], ratio: int) -> tuple[int, int]:
    """The phase (y, x), 0 to ratio - 1, of the coarse grid whose corners lie nearest to the HSI's at the middle."""
    middle = (np.array((overlap[0] + overlap[1]) / 2), np.array((overlap[2] + overlap[3]) / 2))
    row, column = mapping.native(*middle)
    corner = mapping.frame(np.round(row), np.round(column))
    return round(float(corner[0])) % ratio, round(float(corner[1])) % ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nearest:
    """The whole-pixel offset nearest to a warp of the coarse frame, and how far from it the raster's pixels lie."""

    offset: Offset
    """The offset."""
    rest_px: float
    """Largest distance along an axis between the raster's pixels and the frame's, fine pixels."""
    phase_px: Phase
    """Rows and columns by which the raster's pixels lie beside the frame's, fine pixels: the middle of the extremes."""
    spread_px: float
    """Largest distance along an axis from there, fine pixels."""


def _nearest_offset(warp: PointMap, shape: tuple[int, int], ratio: int) -> _Nearest:
    """Measured over a net of coarse pixel centres, corners included."""
    rows = np.unique(np.linspace(0, shape[0] - 1, 21).round())
    columns = np.unique(np.linspace(0, shape[1] - 1, 21).round())
    net_y, net_x = np.meshgrid(rows, columns, indexing="ij")
    native_y, native_x = warp.native(net_y + 0.5, net_x + 0.5)
    away_y, away_x = native_y - net_y - 0.5, native_x - net_x - 0.5
    middle_y = away_y[len(rows) // 2, len(columns) // 2]
    middle_x = away_x[len(rows) // 2, len(columns) // 2]
    offset = Offset(y0=round(float(middle_y)), x0=round(float(middle_x)))
    beside = [ratio * (offset.y0 - away_y), ratio * (offset.x0 - away_x)]
    down, right = (float(np.clip((axis.min() + axis.max()) / 2, -MOST_PHASE_PX, MOST_PHASE_PX)) for axis in beside)
    rest = max(float(np.abs(axis).max()) for axis in beside)
    spread = max(float(np.abs(axis - phase).max()) for axis, phase in zip(beside, (down, right), strict=True))
    return _Nearest(offset=offset, rest_px=rest, phase_px=(down, right), spread_px=spread)


def _lines_inside(start: float, step: float, ratio: int, count: int, limit: int) -> tuple[int, int]:
    """First and last edge of the count coarse lines, each of ratio steps from start, that lie inside [0, limit].

    A line that extends outside by no more than PHASE_TOLERANCE_PX fine pixels counts as inside.
    """
    rest = PHASE_TOLERANCE_PX / ratio
    first = max(0, ceil(-start / (step * ratio) - rest))
    stop = min(count, floor((limit - start) / (step * ratio) + rest))
    return first, stop


def _dropped_notes(dropped: tuple[int, int]) -> list[str]:
    """A note on what the crop to whole coarse pixels inside both rasters left out; empty if nothing."""
    if not any(dropped):
        return []
    lost = f"{counted(dropped[0], 'row')} and {counted(dropped[1], 'column')} of the HSI"
    return [f"{lost} lie outside the MSI, wholly or partly: left out"]


def _as_axis_map(offset: Offset) -> AxisMap:
    """An Offset as the more general AxisMap."""
    return AxisMap(origin=(float(offset.y0), float(offset.x0)), scale=(1.0, 1.0))


def _recognised(crs_wkt: str) -> str:
    """WKT2 of the CRS; the EPSG registry's own if the registry has the CRS, under whatever name."""
    crs = CRS.from_wkt(crs_wkt)
    code = crs.to_epsg()
    if code is not None and CRS.from_epsg(code).equals(crs, ignore_axis_order=True):
        crs = CRS.from_epsg(code)
    return crs.to_wkt()
