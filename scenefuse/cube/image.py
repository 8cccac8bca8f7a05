"""One side of a pair: the usable bands of a scene, sorted by wavelength, each with its source in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from scenefuse.archive.access import AccessPolicy, check_links
from scenefuse.archive.remote import RemoteFile
from scenefuse.archive.scene import Asset, Scene
from scenefuse.cube.cloud_mask import CloudMask, check_placed, open_cloud_mask
from scenefuse.cube.input_file import InputFile, input_files
from scenefuse.cube.radiometry import Decision, Radiometry, decide_radiometry, to_reflectance
from scenefuse.cube.sampled import GREATEST, NOT_RETRIEVED, sample_bands
from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.window import Window
from scenefuse.place.href import is_url
from scenefuse.raster.raster_file import FileBand, RasterFile, unique_names
from scenefuse.raster.readers import open_raster
from scenefuse.sensors.band import Band
from scenefuse.sensors.sensor import Role
from scenefuse.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSource:
    """Where a band's pixels are stored, and how they become reflectance."""

    file: int
    """Index of the file in Image.files."""
    file_band: int
    """Band of that file, counted from 0."""
    radiometry: Radiometry
    """Scale, offset, no-data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The usable bands of one scene. Picklable; a read opens the files that it needs."""

    role: Role
    """Which side of the pair it is."""
    bands: tuple[Band, ...]
    """Sorted by wavelength; in file order when an MSI's wavelengths are not known."""
    sources: tuple[BandSource, ...]
    """One per band: where it comes from in the files."""
    files: tuple[RasterFile, ...]
    """The files that bands come from."""
    inputs: tuple[InputFile, ...]
    """The same files, their side files and the cloud masks, for identity and provenance."""
    dropped: tuple[tuple[str, str], ...]
    """Unused bands: (name, reason)."""
    radiometry: tuple[Decision, ...]
    """One per file."""
    acquired: datetime | None
    """Time of acquisition; None when the scene does not give it."""
    clouds: tuple[CloudMask, ...] = ()
    """Masks of clouds, which become no data; empty when masking is off or the scene has no mask."""

    @property
    def grids(self) -> tuple[RasterGrid, ...]:
        """The distinct grids of the bands' files, finest first."""
        grids = {self.files[source.file].grid: None for source in self.sources}
        distinct: dict[Any, RasterGrid] = {}
        for grid in grids:
            distinct.setdefault((grid.crs_wkt, grid.transform, grid.shape), grid)
        return tuple(sorted(distinct.values(), key=_pixel_area))

    def bands_on(self, grid: RasterGrid) -> tuple[int, ...]:
        """Indices of the bands whose file lies on a grid."""
        same = (grid.crs_wkt, grid.transform, grid.shape)
        files = [(file.grid.crs_wkt, file.grid.transform, file.grid.shape) == same for file in self.files]
        return tuple(i for i, source in enumerate(self.sources) if files[source.file])

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        """(band, y, x) float32 reflectance of a native window of files that share one grid; NaN = no data.

        One call per file, whatever the number of bands, one for its mask, and one for each cloud mask.
        """
        result: NDArray[np.float32] = np.empty((len(bands), *window.shape), np.float32)
        grids = {self.files[self.sources[band].file].grid for band in bands[:1]}
        cloudy = [mask.read(grid, window) for grid in grids for mask in self.clouds]
        by_file: dict[int, list[int]] = {}
        for position, band in enumerate(bands):
            by_file.setdefault(self.sources[band].file, []).append(position)
        for file, positions in by_file.items():
            sources = [self.sources[bands[position]] for position in positions]
            stored = self.files[file].pixels.read([source.file_band for source in sources], window)
            reflectance = to_reflectance(stored, tuple(source.radiometry for source in sources))
            mask = self.files[file].mask
            if mask is not None:
                reflectance[:, ~mask.read(window)] = np.nan
            for there in cloudy:
                reflectance[:, there] = np.nan
            if len(by_file) == 1:
                return reflectance
            result[positions] = reflectance
        return result

    def without(self, unusable: dict[int, str]) -> Image:
        """The image without some bands, given as index to reason."""
        kept = [i for i in range(len(self.bands)) if i not in unusable]
        gone = tuple((self.bands[i].name, reason) for i, reason in unusable.items())
        return replace(
            self,
            bands=tuple(self.bands[i] for i in kept),
            sources=tuple(self.sources[i] for i in kept),
            dropped=(*self.dropped, *gone),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the caller decided about one image."""

    scale: float | None = None
    """Reflectance per stored value, overriding all metadata; None to go by metadata."""
    scale_option: bool = True
    """Whether a command-line option can give the scale; for a truth only its metadata can."""
    drop: tuple[str, ...] = ()
    """Names of bands not to use."""
    mask_clouds: bool = False
    """Whether clouds become no data, where the scene has a mask of them."""
    policy: AccessPolicy = field(default_factory=AccessPolicy)
    """Which hosts and redirects are followed to remote files."""


def open_image(scene: Scene, role: Role, choice: Choice) -> Image:
    """Open the usable bands of a scene: described, selected, sorted, and checked to hold data."""
    if not scene.assets:
        raise DataError(f"Scene {scene.id} has no asset with bands", "there are no pixels to read", "check its assets")
    option = ("--hs-scale" if role == "hsi" else "--ms-scale") if choice.scale_option else None
    files: list[RasterFile] = []
    inputs: list[InputFile] = []
    decisions: list[Decision] = []
    described: list[tuple[Band, BandSource, str | None]] = []
    for number, asset in enumerate(scene.assets):
        _check_links(scene, asset.href)
        raster = open_raster(asset.href, choice.policy)
        for found in (raster.path, *raster.sidecars):  # a header names its data, an image its metadata
            _check_links(scene, found)
        decision = decide_radiometry(asset, raster, given_scale=choice.scale, option=option)
        for i, (band, reason) in enumerate(_describe(asset, raster)):
            described.append((band, BandSource(file=number, file_band=i, radiometry=decision.bands[i]), reason))
        files.append(raster)
        inputs.extend(input_files(asset, raster, role))
        decisions.append(decision)
    clouds: list[CloudMask] = []
    for told in scene.clouds if choice.mask_clouds else ():
        _check_links(scene, told.asset.href)
        clouds.append(open_cloud_mask(told, choice.policy))
        for grid in dict.fromkeys(raster.grid for raster in files):
            check_placed(clouds[-1], grid)
        inputs.extend(input_files(told.asset, clouds[-1].file, role))
    names = unique_names([band.name for band, _, _ in described])
    described = [
        (replace(band, name=name), source, reason)
        for name, (band, source, reason) in zip(names, described, strict=True)
    ]
    usable, dropped = _select(described, choice, scene.id)
    image = Image(
        role=role,
        bands=tuple(band for band, _ in usable),
        sources=tuple(source for _, source in usable),
        files=tuple(files),
        inputs=tuple(inputs),
        dropped=dropped,
        radiometry=tuple(decisions),
        acquired=scene.acquired,
        clouds=tuple(clouds),
    )
    image = _with_reflectance(image, scene.id, choice)
    return _sorted(image, scene.id)


def _check_links(scene: Scene, place: str | Path | RemoteFile) -> None:
    """Refuse a local path by which a STAC item would reach outside its root; paths from the operator may."""
    if scene.is_stac and not isinstance(place, RemoteFile) and not is_url(str(place)):
        check_links(str(place), scene.root or str(Path(scene.href).parent))


def _describe(asset: Asset, raster: RasterFile) -> list[tuple[Band, str | None]]:
    """Each band of a file, every field from metadata or else from the file, and why it is unusable, if it is."""
    measured = [band for band in raster.bands if not band.is_mask]
    stated: tuple[Band | None, ...] = asset.bands or (None,) * len(measured)
    if len(stated) not in {len(measured), len(raster.bands)}:
        raise DataError(
            f"Asset {asset.key!r} describes {counted(len(stated), 'band')}, but {raster.path} has {len(raster.bands)}",
            "it is not clear which description belongs to which band",
            "correct the item, or give the file itself instead of the item",
        )
    statements = iter(stated)
    aligned = len(stated) == len(raster.bands)
    gsd_m = asset.gsd_m or _pixel_m(raster.grid)
    described: list[tuple[Band, str | None]] = []
    for own in raster.bands:
        told = next(statements) if aligned or not own.is_mask else None
        reason = "alpha or mask band" if own.is_mask else "flagged bad by its file" if own.bad else None
        described.append((_merge(told, own, gsd_m=gsd_m, alone=asset.key if len(raster.bands) == 1 else None), reason))
    return described


def _merge(told: Band | None, own: FileBand, *, gsd_m: float | None, alone: str | None) -> Band:
    """A band from its metadata and its file; alone: the asset's key when it has only one band."""
    if told is not None:
        return Band(
            name=told.name,
            wavelength_nm=told.wavelength_nm or own.wavelength_nm,
            fwhm_nm=told.fwhm_nm or own.fwhm_nm,
            gsd_m=told.gsd_m or gsd_m,
        )
    nameless = own.name.startswith("band ") and alone not in {None, "data"}
    name = alone if nameless and alone else own.name
    return Band(name=name, wavelength_nm=own.wavelength_nm, fwhm_nm=own.fwhm_nm, gsd_m=gsd_m)


def _select(
    described: list[tuple[Band, BandSource, str | None]], choice: Choice, scene_id: str
) -> tuple[list[tuple[Band, BandSource]], tuple[tuple[str, str], ...]]:
    """The usable bands, and the others with their reasons."""
    names = [band.name for band, _, _ in described]
    unknown = sorted(set(choice.drop) - set(names))
    if unknown:
        raise DataError(
            f"{scene_id} has no band named {', '.join(map(repr, unknown))}",
            "the selection of bands cannot be applied",
            f"choose among {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}",
        )
    usable: list[tuple[Band, BandSource]] = []
    dropped: list[tuple[str, str]] = []
    for band, source, flagged in described:
        reason = "dropped by option" if band.name in choice.drop else flagged
        if reason is None:
            usable.append((band, source))
        else:
            dropped.append((band.name, reason))
    if not usable:
        raise DataError(
            f"{scene_id} has no usable band ({_lost(dropped)})",
            "there is nothing to fuse",
            "check the selection of bands",
        )
    return usable, tuple(dropped)


def _lost(dropped: Sequence[tuple[str, str]]) -> str:
    """How many bands were left out, by reason."""
    counts = Counter(reason for _, reason in dropped)
    return "; ".join(f"{counted(count, 'band')} left out: {reason}" for reason, count in counts.items())


def _sorted(image: Image, scene_id: str) -> Image:
    """The image with its bands sorted by wavelength; equal wavelengths (detector overlap) stay in file order."""
    missing = [band.name for band in image.bands if band.wavelength_nm is None]
    if image.role == "hsi":
        if len(image.bands) < 2:
            lost = _lost(image.dropped)
            raise DataError(
                f"{scene_id} has {counted(len(image.bands), 'usable band')}{f' ({lost})' if lost else ''}",
                "a hyperspectral image of fewer than two bands has no spectrum to keep",
                "check that HS and MS are not swapped, and check the selection of bands",
            )
        if missing:
            notes = [f" ({file.wavelength_note})" for file in image.files if file.wavelength_note]
            raise DataError(
                f"{scene_id}: {counted(len(missing), 'band')} without wavelength{''.join(notes)}, "
                f"the first is {missing[0]!r}",
                "the bands cannot be sorted or matched with those of the MSI",
                "give wavelengths in the file (ENVI header with wavelength units, band tags) or in a STAC item",
            )
    if missing:
        return image
    order = sorted(range(len(image.bands)), key=lambda i: image.bands[i].wavelength_nm or 0.0)
    return replace(image, bands=tuple(image.bands[i] for i in order), sources=tuple(image.sources[i] for i in order))


def _with_reflectance(image: Image, scene_id: str, choice: Choice) -> Image:
    """The image without the bands that hold no data or no reflectance, provided that others do.

    DataError when there are no data at all, and when most bands hold no reflectance. If the caller gave the scale, a
    band is dropped only when more than half of its values are beyond reflectance: a wrong scale would put all there.
    """
    held, measured, beyond = np.zeros((3, len(image.bands)), np.bool_)
    for grid in image.grids:
        bands = image.bands_on(grid)
        sampled = sample_bands(partial(image.read, bands), grid.shape)
        there = list(bands)
        held[there], measured[there] = sampled.held, sampled.measured
        beyond[there] = sampled.beyond if choice.scale is None else sampled.mostly_beyond
    if not measured.any():
        raise DataError(
            f"{scene_id} holds no data in its {counted(len(image.bands), 'usable band')}",
            "there is nothing to fuse",
            "check the no-data value, and the file",
        )
    if 2 * beyond.sum() > measured.sum():
        raise _no_reflectance(image, np.flatnonzero(beyond).tolist(), scene_id, choice)
    return image.without(
        {
            **dict.fromkeys(np.flatnonzero(~held).tolist(), "no data in the sampled windows"),
            **dict.fromkeys(
                np.flatnonzero(held & ~measured).tolist(),
                f"reflectance not retrieved: {NOT_RETRIEVED} in the sampled windows",
            ),
            **dict.fromkeys(np.flatnonzero(beyond).tolist(), f"no reflectance: values beyond {GREATEST:g}"),
        }
    )


def _no_reflectance(image: Image, beyond: list[int], scene_id: str, choice: Choice) -> DataError:
    """The error for an image whose values cannot be reflectance."""
    names = ", ".join(image.bands[band].name for band in beyond[:5]) + (", ..." if len(beyond) > 5 else "")
    sources = ", ".join(dict.fromkeys(decision.source for decision in image.radiometry))
    option = "--hs-scale" if image.role == "hsi" else "--ms-scale"
    verb = "give" if choice.scale is None else "correct"
    scale = f", {verb} {option}" if choice.scale_option else " and the scale"
    return DataError(
        f"{scene_id} ({sources}) has values beyond {GREATEST:g} in {len(beyond)} of "
        f"{counted(len(image.bands), 'band')} ({names})",
        "no reflectance is that large: a no-data value is undeclared, or the scale is different",
        f"declare the no-data value (`gdal_edit.py -a_nodata`, `data ignore value` in an ENVI header){scale}",
    )


def _pixel_area(grid: RasterGrid) -> float:
    """Area of a pixel in squared CRS units."""
    return float(abs(np.linalg.det(grid.matrix)))


def _pixel_m(grid: RasterGrid) -> float | None:
    """Side of a pixel in metres when the CRS is projected; None otherwise."""
    if not grid.crs_wkt or not CRS.from_wkt(grid.crs_wkt).is_projected:
        return None
    a, b, _, d, e, _ = grid.transform
    unit = CRS.from_wkt(grid.crs_wkt).axis_info[0].unit_conversion_factor
    return float(np.sqrt(hypot(a, d) * hypot(b, e))) * unit
