"""PairCube: a pair of scenes as two aligned lazy cubes, read window by window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.scene import ScenePair
from scenefuse.cube.image import Choice, Image, open_image
from scenefuse.cube.input_file import InputFile
from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.placement import AxisMap, Offset, Placement, RasterGrid
from scenefuse.grid.planning import PairPlan, placement_of, plan_pair_grid
from scenefuse.grid.warp import warp_axes, warp_points
from scenefuse.grid.window import Window
from scenefuse.sensors.band import Band
from scenefuse.words import counted

if TYPE_CHECKING:
    import xarray as xr


LEAST_GAIN = 0.99
"""Largest ratio of an MSI band's pixel to the HSI's at which the band still adds detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """What the caller decides about the inputs, overriding all metadata."""

    hs_scale: float | None = None
    """Reflectance per DN of the HSI; None to go by metadata."""
    ms_scale: float | None = None
    """Reflectance per DN of the MSI; None to go by metadata."""
    drop_bands: tuple[str, ...] = ()
    """Names of HSI bands not to use."""
    drop_ms_bands: tuple[str, ...] = ()
    """Names of MSI bands not to use."""
    mask_clouds: bool = False
    """Whether clouds and their shadows become no data, where a scene has a mask of them."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts that may be reached even if they are loopback or not https."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PairCube:
    """Two images on the two aligned grids of a PairGrid; float32 reflectance, NaN = no data.

    Picklable; files open on the first read of each thread. A pixel's value never depends on the window.
    """

    pair_id: str
    """`<hs id>_<ms id>`."""
    hs_image: Image
    """The HSI's usable bands on their native grid."""
    ms_image: Image
    """The MSI's usable bands on their native grids."""
    plan: PairPlan
    """The two grids, and where the native pixels lie on them."""

    def __repr__(self) -> str:
        """Bands and sizes on one line; all fields would fill pages of a notebook."""
        grid = self.grid
        hs = _in_words(self.hs_bands, grid.coarse_shape, grid.fine_gsd_m * grid.ratio)
        ms = _in_words(self.ms_bands, grid.fine_shape, grid.fine_gsd_m)
        return f"PairCube({self.pair_id}: hs {hs}; ms {ms})"

    @property
    def grid(self) -> PairGrid:
        """The two aligned grids."""
        return self.plan.grid

    @property
    def hs_bands(self) -> tuple[Band, ...]:
        """Bands of read_hs, sorted by wavelength, bad bands dropped."""
        return self.hs_image.bands

    @property
    def ms_bands(self) -> tuple[Band, ...]:
        """Bands of read_ms, sorted by wavelength, each with its native gsd_m."""
        return self.ms_image.bands

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """The files the pixels come from, HSI first, for identity and provenance."""
        return (*self.hs_image.inputs, *self.ms_image.inputs)

    @property
    def fine_raster(self) -> RasterGrid:
        """The fine grid as a raster, on which a truth or a product of this pair lies."""
        grid = self.grid
        return RasterGrid(crs_wkt=grid.crs_wkt, transform=grid.fine_transform, shape=grid.fine_shape, name=self.pair_id)

    def read_hs(self, window: Window) -> NDArray[np.float32]:
        """(hs band, y, x) reflectance of a coarse window inside the scene; NaN = no data."""
        return self._hs_pixels(tuple(range(len(self.hs_bands))), window)

    def read_ms(self, window: Window) -> NDArray[np.float32]:
        """(ms band, y, x) reflectance of a fine window inside the scene; NaN = no data.

        Every band is resampled at most once, from its own native pixels.
        """
        return self._ms_pixels(tuple(range(len(self.ms_bands))), window)

    def _hs_pixels(self, bands: tuple[int, ...], window: Window) -> NDArray[np.float32]:
        """read_hs for some of its bands."""
        _check_inside(window, self.grid.coarse_shape)
        return _read(self.hs_image, self.hs_image.grids[0], bands, self.plan.hs, window)

    def _ms_pixels(self, bands: tuple[int, ...], window: Window) -> NDArray[np.float32]:
        """read_ms for some of its bands."""
        _check_inside(window, self.grid.fine_shape)
        grids = self.ms_image.grids
        if len(grids) == 1:
            return _read(self.ms_image, grids[0], bands, self.plan.ms, window)
        result = np.empty((len(bands), *window.shape), np.float32)
        for grid in grids:
            there = frozenset(self.ms_image.bands_on(grid))
            positions = [position for position, band in enumerate(bands) if band in there]
            if positions:
                placement = self.plan.ms if grid == grids[0] else placement_of(grid, grids[0], self.plan)
                chosen = tuple(bands[position] for position in positions)
                result[positions] = _read(self.ms_image, grid, chosen, placement, window)
        return result

    @property
    def hs(self) -> xr.DataArray:
        """The HSI on the coarse grid: lazy, (band, y, x), with wavelength_nm, fwhm_nm, time, x, y and the CRS."""
        from scenefuse.cube.lazy import lazy_cube

        return lazy_cube(
            self._hs_pixels,
            self.hs_bands,
            shape=self.grid.coarse_shape,
            transform=self.grid.coarse_transform,
            crs_wkt=self.grid.crs_wkt,
            acquired=self.hs_image.acquired,
        )

    @property
    def ms(self) -> xr.DataArray:
        """The MSI on the fine grid: lazy, (band, y, x), with wavelength_nm, fwhm_nm, time, x, y and the CRS."""
        from scenefuse.cube.lazy import lazy_cube

        return lazy_cube(
            self._ms_pixels,
            self.ms_bands,
            shape=self.grid.fine_shape,
            transform=self.grid.fine_transform,
            crs_wkt=self.grid.crs_wkt,
            acquired=self.ms_image.acquired,
        )

    def registered(self, shift_px: tuple[float, float]) -> PairCube:
        """The pair with the MSI's content moved back by shift_px (y, x) fine pixels, within the one resampling.

        shift_px: how far it lies down and right of the HSI's, beyond what this pair already accounts for
        (Shift.dy_px, Shift.dx_px of registration.estimate_shift).
        """
        before = self.grid.shift_px
        total = (before[0] + shift_px[0], before[1] + shift_px[1])
        plan = plan_pair_grid(self.hs_image.grids[0], self.ms_image.grids[0], shift_px=total)
        return replace(self, plan=plan)

    def in_place(self) -> PairCube:
        """The pair with the HSI's pixels where they are, untouched, if grid.phase_px can tell where; else unchanged."""
        plan = plan_pair_grid(
            self.hs_image.grids[0], self.ms_image.grids[0], shift_px=self.grid.shift_px, take_phase=True
        )
        return replace(self, plan=plan)

    def readings(self) -> dict[str, list[dict[str, Any]]]:
        """How each band of both images is read, by items, files and cards, for identity and provenance; JSON values."""
        return {"hs": _band_map(self.hs_image), "ms": _band_map(self.ms_image)}

    def facts(self) -> dict[str, Any]:
        """The decisions about grids, bands and radiometry, for the provenance; JSON values only."""
        grid = self.grid
        return {
            "grid": {
                "case": grid.case,
                "ratio": grid.ratio,
                "native_ratio": grid.native_ratio,
                "hs_gsd_m": grid.hs_gsd_m,
                "ms_gsd_m": grid.ms_gsd_m,
                "phase_rest_px": grid.phase_rest_px,
                "phase_px": list(grid.phase_px),
                "shift_px": list(grid.shift_px),
                "hs_kernel": grid.hs_kernel,
                "ms_kernel": grid.ms_kernel,
                "dropped_hs_rows_columns": list(self.plan.dropped_px),
                "notes": list(self.plan.notes),
            },
            "hs": _image_facts(self.hs_image),
            "ms": _image_facts(self.ms_image),
        }


def open_pair(pair: ScenePair, *, options: PairOptions | None = None) -> PairCube:
    """Open the pair as two aligned lazy cubes; whatever can be refused is refused here, before any work."""
    options = options or PairOptions()
    if options.mask_clouds and not (pair.hs.clouds or pair.ms.clouds):
        raise DataError(
            f"neither {pair.hs.id} nor {pair.ms.id} has a known cloud mask",
            "there is nothing to mask clouds with",
            "give scenes with SCL, QA_PIXEL, Fmask, QL_QUALITY_CLOUD or EMIT_L2A_MASK, or leave out --mask-clouds",
        )
    both = Choice(mask_clouds=options.mask_clouds, policy=AccessPolicy(allow_hosts=options.allow_hosts))
    hs = open_image(
        pair.hs,
        "hsi",
        replace(both, scale=options.hs_scale, drop=options.drop_bands),
    )
    ms = open_image(
        pair.ms,
        "msi",
        replace(both, scale=options.ms_scale, drop=options.drop_ms_bands),
    )
    if len(hs.grids) > 1:
        raise DataError(
            f"The bands of {pair.hs.id} lie on {len(hs.grids)} different grids",
            "a spectrum needs all its bands in one pixel",
            "resample them onto one grid, or select the bands of one detector",
        )
    plan = plan_pair_grid(hs.grids[0], ms.grids[0])
    for grid in ms.grids[1:]:
        placement_of(grid, ms.grids[0], plan)
    ms = _with_detail(ms, pair.ms.id, hs_gsd_m=plan.grid.hs_gsd_m)
    return PairCube(pair_id=pair.id, hs_image=hs, ms_image=ms, plan=plan)


def _with_detail(ms: Image, scene_id: str, *, hs_gsd_m: float) -> Image:
    """The MSI without the bands whose native pixels are no smaller than the HSI's.

    Sentinel-2's B01 and B09 have 60 m pixels: more blurred than a 30 m HSI, whose detail they would remove.
    """
    coarse = {
        i: f"with pixels of {band.gsd_m:g} m, which add no detail to {hs_gsd_m:.4g} m"
        for i, band in enumerate(ms.bands)
        if band.gsd_m is not None and band.gsd_m > LEAST_GAIN * hs_gsd_m
    }
    if len(coarse) == len(ms.bands):
        raise DataError(
            f"{scene_id} says that its bands' pixels are no smaller than the HSI's {hs_gsd_m:.4g} m",
            "the MSI has no detail to add",
            "pair the HSI with a finer MSI; if its bands were sharpened, give the file itself instead of the item",
        )
    return ms.without(coarse)


def _read(
    image: Image, grid: RasterGrid, bands: tuple[int, ...], placement: Placement, window: Window
) -> NDArray[np.float32]:
    """A window on the pair's grid, of bands that share one native grid."""
    if isinstance(placement, Offset):
        return _read_within(image, grid.shape, bands, placement.native(window))

    def read(native: Window) -> NDArray[np.float32]:
        return image.read(bands, native)

    if isinstance(placement, AxisMap):
        return warp_axes(read, grid.shape, placement, window)
    warped = warp_points(read, grid.shape, placement, window)
    return np.full((len(bands), *window.shape), np.nan, np.float32) if warped is None else warped


def _read_within(image: Image, shape: tuple[int, int], bands: tuple[int, ...], native: Window) -> NDArray[np.float32]:
    """A native window; NaN where it reaches beyond the bands' raster, which may be smaller than the finest one."""
    if native.y0 >= 0 and native.x0 >= 0 and native.y1 <= shape[0] and native.x1 <= shape[1]:
        return image.read(bands, native)
    result = np.full((len(bands), *native.shape), np.nan, np.float32)
    if native.y0 < shape[0] and native.x0 < shape[1] and native.y1 > 0 and native.x1 > 0:
        inside = native.clip(shape)
        result[(slice(None), *inside.within(native))] = image.read(bands, inside)
    return result


def _in_words(bands: tuple[Band, ...], shape: tuple[int, int], gsd_m: float) -> str:
    """Number and wavelengths of the bands, number and size of the pixels."""
    known = [band.wavelength_nm for band in bands if band.wavelength_nm is not None]
    span = f" of {min(known):.0f}-{max(known):.0f} nm" if known else ""
    return f"{counted(len(bands), 'band')}{span}, {shape[0]} x {shape[1]} px of {gsd_m:g} m"


def _check_inside(window: Window, shape: tuple[int, int]) -> None:
    """Raise ValueError for a window that reaches outside, the caller's mistake: grid.borders handles borders."""
    if window.y0 < 0 or window.x0 < 0 or window.y1 > shape[0] or window.x1 > shape[1]:
        raise ValueError(f"{window} is not inside a scene of {shape}")


def _band_map(image: Image) -> list[dict[str, Any]]:
    """Where each band of an image is stored, how its values become reflectance, and what it measures."""
    return [
        {
            "band": band.name,
            "wavelength_nm": band.wavelength_nm,
            "fwhm_nm": band.fwhm_nm,
            "gsd_m": band.gsd_m,
            "file": source.file,
            "file_band": source.file_band + 1,
            "scale": source.radiometry.scale,
            "offset": source.radiometry.offset,
            "nodata": ", ".join(map(str, source.radiometry.nodata)) or None,
        }
        for band, source in zip(image.bands, image.sources, strict=True)
    ]


def _image_facts(image: Image) -> dict[str, Any]:
    """The decisions about one image."""
    return {
        "files": [
            {
                "format": file.format,
                "scale_from": decision.source,
                "nodata_from": decision.nodata_source + ("" if file.mask is None else "; the file's mask"),
                "wavelengths": file.wavelength_note or "as given",
            }
            for file, decision in zip(image.files, image.radiometry, strict=True)
        ],
        "band_map": _band_map(image),
        "dropped": [{"band": name, "reason": reason} for name, reason in image.dropped],
        **({"clouds": [mask.code for mask in image.clouds]} if image.clouds else {}),
    }
