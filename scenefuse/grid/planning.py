"""Which two grids a pair is fused on, and how each raster gets there: DESIGN's cases A and B.

The fine frame is made of whole coarse pixels that lie inside both rasters; coarse pixels that only partly
overlap are dropped, at most one row or column on each side (the plan's notes say how many).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, hypot

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod

from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import RATIOS, PairGrid
from scenefuse.grid.placement import (
    AxisMap,
    Offset,
    PointMap,
    RasterGrid,
    same_crs,
    transformer,
    whole_pixels,
)

RATIO_TOLERANCE = 1e-3
"""How far the ratio of GSDs may be from an integer for the grids to nest."""
PHASE_TOLERANCE_PX = 0.05
"""Fine pixels by which the HSI may lie off the coarse grid and still be used untouched."""
RATIO_STRETCH = 1.05
"""How much finer than the MSI's the fine grid may be."""
MAX_ANISOTROPY = 2.0
"""Largest ratio of the two sides of an MSI pixel seen on the HSI's grid."""

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
    """Native HSI rows and columns, (y, x), that the frame leaves out: outside the MSI, or overlapping it partly."""
    notes: tuple[str, ...]
    """What was decided, in sentences, for people and for the provenance."""


def plan_pair_grid(hs: RasterGrid, ms: RasterGrid, *, shift_px: tuple[float, float] = (0.0, 0.0)) -> PairPlan:
    """The grids on which the pair is fused, or a DataError with the reason why it cannot be.

    shift_px: (y, x) fine pixels by which the MSI's content lies further down and right than the HSI's (what
    registration found); it is compensated within the one resampling, or within the choice of the phase.
    """
    for raster in (hs, ms):
        _check_georeference(raster)
    relation = _relate(hs, ms)
    ratio = _nesting_ratio(relation)
    if ratio is not None:
        return _plan_on_ms_grid(relation, ratio, shift_px)
    ratio = _largest_ratio(relation)
    if relation.parallel and not CRS.from_wkt(ms.crs_wkt).is_geographic:
        return _plan_on_hs_grid(relation, ratio, shift_px)
    return _plan_on_ms_grid(relation, ratio, shift_px)


def placement_of(raster: RasterGrid, reference: RasterGrid, plan: PairPlan) -> Offset | AxisMap:
    """Where fine pixels lie in another raster of the MSI, given their place in its finest raster.

    Each of the MSI's bands is resampled once from its own pixels: a 20 m band never passes the 10 m grid.
    """
    message = "the bands of one image must lie on parallel grids in one CRS"
    cure = "reproject them onto one grid"
    if not same_crs(raster.crs_wkt, reference.crs_wkt):
        raise DataError(f"{raster.name} and {reference.name} have different CRS", message, cure)
    between = np.linalg.inv(raster.matrix) @ reference.matrix
    if not _is_parallel(between, reference.shape):
        raise DataError(f"{raster.name} is rotated against {reference.name}", message, cure)
    base = plan.ms if isinstance(plan.ms, AxisMap) else _as_axis_map(plan.ms)
    (step_y, step_x), (start_y, start_x) = (between[1, 1], between[0, 0]), (between[1, 2], between[0, 2])
    placed = AxisMap(
        origin=(float(start_y + step_y * base.origin[0]), float(start_x + step_x * base.origin[1])),
        scale=(float(step_y * base.scale[0]), float(step_x * base.scale[1])),
    )
    return placed.whole(plan.grid.fine_shape, 1e-6) or placed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Relation:
    """How the two rasters lie to each other."""

    hs: RasterGrid
    ms: RasterGrid
    ratios: tuple[float, float]
    """MSI pixels per HSI pixel along the MSI's rows and columns at the middle of the overlap, (y, x)."""
    parallel: bool
    """True when rows map to rows and columns to columns, in one CRS and without a flip."""
    overlap: tuple[float, float, float, float]
    """Bounding box of the overlap in MSI pixels (y0, y1, x0, x1), registration left out."""
    gsds_m: tuple[float, float]
    """Native GSD of the HSI and of the MSI, metres."""

    @property
    def map(self) -> PointMap:
        """From the MSI's pixels to the HSI's."""
        return PointMap(frame_transform=self.ms.transform, frame_crs_wkt=self.ms.crs_wkt, raster=self.hs)


def _check_georeference(raster: RasterGrid) -> None:
    """Refuse a raster that cannot be placed on the ground."""
    if not raster.crs_wkt:
        raise DataError(
            f"{raster.name} has no CRS",
            "it cannot be placed on the ground",
            f"assign the right one, for example `rio edit-info --crs EPSG:32633 {raster.name}`",
        )
    crs = CRS.from_wkt(raster.crs_wkt)
    if not (crs.is_projected or crs.is_geographic):
        raise DataError(
            f"{raster.name} has the CRS {crs.name!r}, which is neither projected nor geographic",
            "it cannot be placed on the ground",
            "reproject it to a projected CRS",
        )
    determinant = np.linalg.det(raster.matrix)
    if raster.transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0) or not np.isfinite(determinant) or determinant == 0:
        raise DataError(
            f"{raster.name} has the geotransform {raster.transform}",
            "it cannot be placed on the ground",
            "georeference it (gdal_translate -a_ullr, or orthorectification when it only has RPCs or GCPs)",
        )


def _relate(hs: RasterGrid, ms: RasterGrid) -> _Relation:
    """Overlap, ratio and orientation of two georeferenced rasters."""
    mapping = PointMap(frame_transform=ms.transform, frame_crs_wkt=ms.crs_wkt, raster=hs)
    overlap = _overlap(mapping, ms)
    one_crs = same_crs(hs.crs_wkt, ms.crs_wkt)
    middle_y, middle_x = (overlap[0] + overlap[1]) / 2, (overlap[2] + overlap[3]) / 2
    steps = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    rows, columns = mapping.native(middle_y + steps[:, 0], middle_x + steps[:, 1])
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        raise DataError(
            f"{ms.name} has pixels that the CRS of {hs.name} cannot express",
            "the pair cannot be placed on one grid",
            "reproject one of the two so that both lie inside the valid area of one CRS",
        )
    down = hypot(rows[1] - rows[0], columns[1] - columns[0])
    right = hypot(rows[2] - rows[0], columns[2] - columns[0])
    ratios = (1.0 / down, 1.0 / right)
    parallel = one_crs and _is_parallel(np.linalg.inv(hs.matrix) @ ms.matrix, ms.shape)
    if not parallel and max(ratios) > MAX_ANISOTROPY * min(ratios):
        raise DataError(
            f"A pixel of {ms.name} is {max(ratios) / min(ratios):.2f} times longer than wide on the ground",
            "one ratio of pixel sizes cannot describe the pair, as happens with geographic grids near the poles",
            "reproject the MSI to a projected CRS, UTM for example",
        )
    place = ((middle_y, middle_x), (float(rows[0]), float(columns[0])))
    gsds = (_gsd_m(hs, place[1]), _gsd_m(ms, place[0]))
    return _Relation(hs=hs, ms=ms, ratios=ratios, parallel=parallel, overlap=overlap, gsds_m=gsds)


def _overlap(mapping: PointMap, ms: RasterGrid) -> tuple[float, float, float, float]:
    """Bounding box in MSI pixels (y0, y1, x0, x1) of the ground that both rasters cover."""
    height, width = mapping.raster.shape
    along = np.linspace(0.0, 1.0, 65)
    rows = np.concatenate([along * 0, along * height, along * 0 + height, along * height])
    columns = np.concatenate([along * width, along * 0, along * width, along * 0 + width])
    rows, columns = mapping.frame(rows, columns)
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        raise DataError(
            f"{mapping.raster.name} reaches beyond where the CRS of {ms.name} is defined",
            "its border cannot be placed on the MSI's grid",
            "crop it, or reproject the MSI to the HSI's CRS",
        )
    y0, y1 = max(0.0, float(rows.min())), min(float(ms.shape[0]), float(rows.max()))
    x0, x1 = max(0.0, float(columns.min())), min(float(ms.shape[1]), float(columns.max()))
    if y1 <= y0 or x1 <= x0:
        raise _no_overlap(mapping.raster, ms)
    return y0, y1, x0, x1


def _no_overlap(hs: RasterGrid, ms: RasterGrid) -> DataError:
    """The refusal of two rasters that share no whole coarse pixel."""
    return DataError(
        f"{hs.name} and {ms.name} have no whole HSI pixel in common",
        "there is nothing to fuse",
        "pair scenes whose footprints overlap",
    )


def _is_parallel(between: NDArray[np.float64], shape: tuple[int, int]) -> bool:
    """True when an affine between two rasters has no rotation and no flip, to 0.01 pixel over shape."""
    turned = abs(between[0, 1]) * shape[0] + abs(between[1, 0]) * shape[1]
    return bool(turned < 0.01 and between[0, 0] > 0 and between[1, 1] > 0)


def _gsd_m(raster: RasterGrid, place: tuple[float, float]) -> float:
    """Side of a pixel in metres: the map's own, unless the map is more than 1 % off the ground at place (y, x)."""
    crs = CRS.from_wkt(raster.crs_wkt)
    a, b, c, d, e, f = raster.transform
    steps = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    columns, rows = place[1] + steps[:, 1], place[0] + steps[:, 0]
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    geodetic = crs.geodetic_crs
    geod = crs.get_geod()
    if geodetic is None or geod is None:
        geodetic, geod = CRS.from_epsg(4326), Geod(ellps="WGS84")
    if not crs.is_geographic:
        x, y = transformer(raster.crs_wkt, geodetic.to_wkt()).transform(x, y)
    _, _, down = geod.inv(x[0], y[0], x[1], y[1])
    _, _, right = geod.inv(x[0], y[0], x[2], y[2])
    ground = float(np.sqrt(down * right))
    if crs.is_geographic:
        return ground
    nominal = float(np.sqrt(hypot(a, d) * hypot(b, e))) * crs.axis_info[0].unit_conversion_factor
    return nominal if abs(nominal / ground - 1.0) <= 0.01 else ground


def _nesting_ratio(relation: _Relation) -> int | None:
    """The ratio of two grids that nest in one CRS (case A without a warp); None otherwise."""
    if not relation.parallel:
        return None
    ratio = round(relation.ratios[0])
    nests = all(abs(value - ratio) <= RATIO_TOLERANCE for value in relation.ratios)
    return ratio if nests and ratio in RATIOS else None


def _largest_ratio(relation: _Relation) -> int:
    """The largest allowed ratio that asks at most 5 % more resolution than the MSI has."""
    ratio = min(relation.ratios)
    allowed = [candidate for candidate in RATIOS if candidate <= RATIO_STRETCH * ratio]
    if allowed:
        return allowed[-1]
    hs_gsd_m, ms_gsd_m = relation.gsds_m
    consequence = (
        "the MSI is the coarser of the two and has no detail to add" if ratio <= 1 else "less than a ratio of 2 is left"
    )
    raise DataError(
        f"The HSI's pixels are {hs_gsd_m:.4g} m and the MSI's {ms_gsd_m:.4g} m, a ratio of {ratio:.3g}",
        consequence,
        "pair the HSI with an MSI of at most half its pixel size (and check that HS and MS are not exchanged)",
    )


def _plan_on_ms_grid(relation: _Relation, ratio: int, shift_px: tuple[float, float]) -> PairPlan:
    """Case A: the fine grid is the MSI's own; the HSI is used untouched if it nests, else warped once."""
    hs, ms = relation.hs, relation.ms
    mapping = PointMap(frame_transform=ms.transform, frame_crs_wkt=ms.crs_wkt, raster=hs, shift_px=shift_px)
    overlap = _overlap(mapping, ms)
    phase_y, phase_x = _phase(mapping, overlap, ratio)
    y0, y1 = whole_pixels(overlap[0], overlap[1], phase_y, ratio, PHASE_TOLERANCE_PX)
    x0, x1 = whole_pixels(overlap[2], overlap[3], phase_x, ratio, PHASE_TOLERANCE_PX)
    if y1 <= y0 or x1 <= x0:
        raise _no_overlap(hs, ms)
    fine = _moved(ms.transform, y0, x0)
    coarse = (fine[0] * ratio, fine[1] * ratio, fine[2], fine[3] * ratio, fine[4] * ratio, fine[5])
    coarse_shape = ((y1 - y0) // ratio, (x1 - x0) // ratio)
    shift_coarse = (shift_px[0] / ratio, shift_px[1] / ratio)
    warp = PointMap(frame_transform=coarse, frame_crs_wkt=ms.crs_wkt, raster=hs, shift_px=shift_coarse)
    offset, rest_px = _nearest_offset(warp, coarse_shape, ratio)
    untouched = rest_px <= PHASE_TOLERANCE_PX
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
        phase_rest_px=rest_px,
        shift_px=shift_px,
        hs_kernel="none" if untouched else CUBIC,
    )
    notes = [
        f"The fine grid is the MSI's own from its pixel (row {y0}, column {x0}); {ratio} fine pixels to a coarse one"
    ]
    if untouched:
        notes.append(f"the HSI's pixels are used untouched ({rest_px:.3f} fine pixels off the coarse grid)")
    elif relation.parallel:
        notes.append(f"the HSI is warped once by {rest_px:.3f} fine pixels, {CUBIC}")
    else:
        notes.append(f"the HSI is warped once from its own grid, {CUBIC}")
    dropped = (max(0, hs.shape[0] - coarse_shape[0]), max(0, hs.shape[1] - coarse_shape[1]))
    return PairPlan(
        grid=grid,
        hs=offset if untouched else warp,
        ms=Offset(y0=y0, x0=x0),
        dropped_px=dropped,
        notes=tuple(notes),
    )


def _plan_on_hs_grid(relation: _Relation, ratio: int, shift_px: tuple[float, float]) -> PairPlan:
    """Case B: the coarse grid is the HSI's own, untouched; the MSI is resampled once to HSI / ratio.

    Where registration found a shift, the georeference follows the MSI, as in case A: the HSI's pixels keep their
    values, and their place on the map is corrected by the shift, so that the product lies on the finer image.
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
        raise _no_overlap(hs, ms)
    coarse = _moved(hs.transform, rows[0] + shift_px[0] / ratio, columns[0] + shift_px[1] / ratio)
    fine = (coarse[0] / ratio, coarse[1] / ratio, coarse[2], coarse[3] / ratio, coarse[4] / ratio, coarse[5])
    grid = PairGrid(
        crs_wkt=_recognised(hs.crs_wkt),
        fine_transform=fine,
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
    fine_gsd_m = grid.hs_gsd_m / ratio
    dropped = (hs.shape[0] - grid.coarse_shape[0], hs.shape[1] - grid.coarse_shape[1])
    notes = [
        f"The GSDs {grid.hs_gsd_m:.4g} m and {grid.ms_gsd_m:.4g} m do not nest (ratio {grid.native_ratio:.4g})",
        (
            f"the HSI's grid is kept and the MSI is resampled once to {fine_gsd_m:.4g} m, {AREA_CUBIC}: "
            f"{fine_gsd_m / grid.ms_gsd_m:.3g} times its own pixel"
        ),
    ]
    if any(shift_px):
        notes.append(
            f"the map coordinates follow the MSI: those of the HSI are corrected by {shift_px[0]:+.3f} rows, "
            f"{shift_px[1]:+.3f} columns of {fine_gsd_m:.4g} m"
        )
    return PairPlan(grid=grid, hs=Offset(y0=rows[0], x0=columns[0]), ms=placed, dropped_px=dropped, notes=tuple(notes))


def _phase(mapping: PointMap, overlap: tuple[float, float, float, float], ratio: int) -> tuple[int, int]:
    """The phase (y, x), 0 to ratio - 1, of the coarse grid whose corners lie nearest to the HSI's at the middle."""
    middle = (np.array((overlap[0] + overlap[1]) / 2), np.array((overlap[2] + overlap[3]) / 2))
    row, column = mapping.native(*middle)
    corner = mapping.frame(np.round(row), np.round(column))
    return round(float(corner[0])) % ratio, round(float(corner[1])) % ratio


def _nearest_offset(warp: PointMap, shape: tuple[int, int], ratio: int) -> tuple[Offset, float]:
    """The whole-pixel offset nearest to a warp of the coarse frame, and what it leaves over in fine pixels.

    The rest is the largest over a net of coarse pixel centres, corners included.
    """
    rows = np.unique(np.linspace(0, shape[0] - 1, 21).round())
    columns = np.unique(np.linspace(0, shape[1] - 1, 21).round())
    net_y, net_x = np.meshgrid(rows, columns, indexing="ij")
    native_y, native_x = warp.native(net_y + 0.5, net_x + 0.5)
    away_y, away_x = native_y - net_y - 0.5, native_x - net_x - 0.5
    middle_y = away_y[len(rows) // 2, len(columns) // 2]
    middle_x = away_x[len(rows) // 2, len(columns) // 2]
    offset = Offset(y0=round(float(middle_y)), x0=round(float(middle_x)))
    rest = max(float(np.abs(away_y - offset.y0).max()), float(np.abs(away_x - offset.x0).max()))
    return offset, rest * ratio


def _lines_inside(start: float, step: float, ratio: int, count: int, limit: int) -> tuple[int, int]:
    """First and last edge of the count coarse lines, each of ratio steps from start, that lie inside [0, limit].

    A line that reaches out by no more than PHASE_TOLERANCE_PX fine pixels counts as inside.
    """
    rest = PHASE_TOLERANCE_PX / ratio
    first = max(0, ceil(-start / (step * ratio) - rest))
    stop = min(count, floor((limit - start) / (step * ratio) + rest))
    return first, stop


def _as_axis_map(offset: Offset) -> AxisMap:
    """An Offset in the form of the more general map."""
    return AxisMap(origin=(float(offset.y0), float(offset.x0)), scale=(1.0, 1.0))


def _moved(
    transform: tuple[float, float, float, float, float, float], row: float, column: float
) -> tuple[float, float, float, float, float, float]:
    """The affine whose pixel (0, 0) is this one's (row, column)."""
    a, b, c, d, e, f = transform
    return a, b, a * column + b * row + c, d, e, d * column + e * row + f


def _recognised(crs_wkt: str) -> str:
    """WKT2 of the CRS; the EPSG registry's own where the CRS is one of its, under whatever name."""
    crs = CRS.from_wkt(crs_wkt)
    code = crs.to_epsg()
    if code is not None and CRS.from_epsg(code).equals(crs, ignore_axis_order=True):
        crs = CRS.from_epsg(code)
    return crs.to_wkt()
