"""EMIT's L2A reflectance and mask as LP DAAC distributes them: netCDF-4 in sensor geometry, with a lookup table.

R. O. Green et al., EMIT L2A Algorithm Theoretical Basis and User Guide, JPL D-107859. The image is (line, sample, band)
float32 reflectance. For each pixel of a geographic grid, the geometric lookup table gives the line and sample that lie
there, counted from 1: 0 where there are none, negative where the nearest ones fill a gap between lines. Pixels are
copied as they are, so no spectra are mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.window import Window
from scenefuse.raster.hdf5_file import NM_DIGITS, Hdf5File
from scenefuse.raster.raster_file import FileBand, RasterFile, check_size, damaged

IMAGE, MASK = "reflectance", "mask"
SAMPLES, LINES = "location/glt_x", "location/glt_y"
"""Sample and line at each pixel of the map."""
NODATA = -9999.0
"""Where no line lies, or where processing gave no reflectance."""
MOST_LOOSE = 4.0
"""Most sensor pixels read per map pixel; a window that would take more is read in parts."""
LEAST_PART_PX = 32
"""Longest side, in pixels, of a window that is not divided further."""


class EmitPixels:
    """Reads windows of the map."""

    def __init__(self, file: Hdf5File, image: str) -> None:
        self.file = file
        self.image = image

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        """(band, y, x) float32; NODATA where the swath does not reach."""
        result = np.full((len(bands), *window.shape), NODATA, np.float32)
        samples, lines = (self.file.read(self.file.array(name), *window.slices) for name in (SAMPLES, LINES))
        samples, lines = np.abs(samples.astype(np.int64)), np.abs(lines.astype(np.int64))
        shape = self.file.array(self.image).shape
        if lines.max() > shape[0] or samples.max() > shape[1]:
            raise damaged(self.file.path, f"its lookup table leads to line {lines.max()}, sample {samples.max()}")
        whole = Window(y0=0, y1=lines.shape[0], x0=0, x1=lines.shape[1])
        for part in _parts(lines, samples, whole):
            self._gather(bands, lines[part.slices], samples[part.slices], result[(slice(None), *part.slices)])
        return result

    def _gather(
        self, bands: Sequence[int], lines: NDArray[np.int64], samples: NDArray[np.int64], result: NDArray[np.float32]
    ) -> None:
        """Copy into result the pixels that lines and samples point to, all read in one box of the image."""
        there = (lines > 0) & (samples > 0)
        rows, columns = lines[there] - 1, samples[there] - 1
        top, left, first = int(rows.min()), int(columns.min()), min(bands)
        part = self.file.read(
            self.file.array(self.image),
            slice(top, int(rows.max()) + 1),
            slice(left, int(columns.max()) + 1),
            slice(first, max(bands) + 1),
        )
        spectra = part[rows - top, columns - left]  # (pixel, band)
        result[:, there] = spectra[:, [band - first for band in bands]].T


def open_emit(file: Hdf5File) -> RasterFile:
    """The bands of an EMIT L2A product on its geographic grid."""
    count = _band_count(file, IMAGE)
    centres, widths, good = (
        file.read(file.array(f"sensor_band_parameters/{name}"), slice(None))
        for name in ("wavelengths", "fwhm", "good_wavelengths")
    )
    if {len(centres), len(widths), len(good)} != {count}:
        raise damaged(file.path, f"it has {count} bands, and {len(centres)} wavelengths")
    bands = tuple(
        FileBand(
            name=f"band {i + 1}",
            wavelength_nm=round(float(centres[i]), NM_DIGITS),
            fwhm_nm=round(float(widths[i]), NM_DIGITS),
            bad=not good[i],  # no reflectance is computed in deep water-vapour bands, which hold -0.01
            nodata=NODATA,
        )
        for i in range(count)
    )
    return RasterFile(
        path=file.path,
        format="EMIT L2A (netCDF-4)",
        grid=_grid(file),
        dtype="float32",
        bands=bands,
        pixels=EmitPixels(file, IMAGE),
    )


def open_emit_mask(file: Hdf5File) -> RasterFile:
    """The mask delivered with a product: flags of cloud, cirrus, water, spacecraft, dilated cloud, then others."""
    return RasterFile(
        path=file.path,
        format="EMIT L2A mask (netCDF-4)",
        grid=_grid(file),
        dtype="float32",
        bands=tuple(FileBand(name=f"band {i + 1}", nodata=NODATA) for i in range(_band_count(file, MASK))),
        wavelength_note="they are EMIT's mask; the reflectance is in EMIT_L2A_RFL_*.nc",
        pixels=EmitPixels(file, MASK),
    )


def _band_count(file: Hdf5File, image: str) -> int:
    """Number of bands of an image in the file; DataError when its shape or the lookup table's is impossible."""
    shape, table = file.array(image).shape, file.array(LINES).shape
    if len(table) != 2 or file.array(SAMPLES).shape != table or len(shape) != 3:
        raise damaged(file.path, f"its image has the shape {shape}, its lookup table {table}")
    check_size(file.path, shape[2], table)
    return int(shape[2])


def _grid(file: Hdf5File) -> RasterGrid:
    """The lookup table's grid, from the attributes geotransform (GDAL's order) and spatial_ref."""
    c, a, b, f, d, e = file.numbers("geotransform", 6).tolist()
    try:
        crs = CRS.from_user_input(str(file.attribute("spatial_ref")))
    except CRSError as error:
        raise DataError(
            f"{file.path}: spatial_ref is {file.attribute('spatial_ref')!r}",
            "the image cannot be placed on the ground",
            "fetch the file again",
        ) from error
    rows, columns = file.array(LINES).shape
    return RasterGrid(crs_wkt=crs.to_wkt(), transform=(a, b, c, d, e, f), shape=(rows, columns), name=str(file.path))


def _parts(lines: NDArray[np.int64], samples: NDArray[np.int64], part: Window) -> Iterator[Window]:
    """Parts of a window whose pixels lie close together in sensor geometry; parts without any are left out."""
    lines_there, samples_there = lines[part.slices], samples[part.slices]
    there = (lines_there > 0) & (samples_there > 0)
    if not there.any():
        return
    box_px = int(np.ptp(lines_there[there]) + 1) * int(np.ptp(samples_there[there]) + 1)
    rows, columns = part.shape
    if box_px <= MOST_LOOSE * there.sum() or max(rows, columns) <= LEAST_PART_PX:
        yield part
        return
    y, x = part.y0 + rows // 2, part.x0 + columns // 2
    halves = (
        (replace(part, y1=y), replace(part, y0=y)) if rows >= columns else (replace(part, x1=x), replace(part, x0=x))
    )
    for half in halves:
        yield from _parts(lines, samples, half)
