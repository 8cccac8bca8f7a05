"""PRISMA's L2D product as ASI delivers it: one HDF-EOS5 file of surface reflectance on a UTM grid.

PRISMA Products Specification Document, ASI, issue 2.3 (2020). Cubes are (row, band, column) uint16; reflectance is
L2Scale...Min + DN * (L2Scale...Max - L2Scale...Min) / 65535. Bands are listed by falling wavelength, some without
data (List_Cw_..._Flags is 0). Outside the swath every band is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.transform import Transform, to_ground
from scenefuse.grid.window import Window
from scenefuse.raster.hdf5_file import NM_DIGITS, Hdf5File
from scenefuse.raster.raster_file import FileBand, RasterFile, check_size, damaged

SWATHS = "HDFEOS/SWATHS"
L2D = f"{SWATHS}/PRS_L2D_HCO"
"""The hyperspectral cube on the map; products of other levels have other names here."""
DETECTORS = ("Vnir", "Swir")
"""As attributes spell them; the cubes' names are in capitals."""
FULL_SCALE = 65535
MISPLACED_PX = 0.3
"""Greatest distance between the corner attributes and Latitude, Longitude, in pixels; beyond it a file is refused.

A pixel's corner and centre are half a pixel apart; Latitude and Longitude are float32, accurate to 0.5 m."""


@dataclass(frozen=True, slots=True)
class CubeBand:
    """Where a band is stored."""

    detector: str
    """One of DETECTORS."""
    index: int
    """Its index in the detector's cube, from 0."""


class PrismaPixels:
    """Reads windows of both detectors' cubes as one image."""

    def __init__(self, file: Hdf5File, bands: tuple[CubeBand, ...]) -> None:
        self.file = file
        self.bands = bands

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.uint16]:
        """(band, y, x) DN; each cube is read once, from the first to the last of its requested bands."""
        wanted = [self.bands[band] for band in bands]
        stored = np.empty((len(wanted), *window.shape), np.uint16)
        for detector in DETECTORS:
            places = [place for place, band in enumerate(wanted) if band.detector == detector]
            if places:
                indexes = [wanted[place].index for place in places]
                first = min(indexes)
                part = self._cube(detector, window, slice(first, max(indexes) + 1))
                stored[places] = part[[index - first for index in indexes]]
        return stored

    def any_data(self, window: Window) -> NDArray[np.bool_]:
        """(y, x) False outside the swath, where every VNIR band is 0."""
        data: NDArray[np.bool_] = np.asarray(self._cube(DETECTORS[0], window, slice(None)).any(axis=0))
        return data

    def _cube(self, detector: str, window: Window, bands: slice) -> NDArray[np.uint16]:
        """(band, y, x) DN of some bands of a cube."""
        rows, columns = window.slices
        return self.file.read(self.file.array(_cube_name(detector)), rows, bands, columns).transpose(1, 0, 2)


@dataclass(frozen=True, slots=True)
class PrismaMask:
    """Where the swath is. A value of 0 alone does not show it: water-vapour bands are 0 inside it, too."""

    pixels: PrismaPixels
    """The file's pixels."""
    band: None = None
    """The mask is not stored as a band."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(y, x) True inside the swath."""
        return self.pixels.any_data(window)


def open_prisma(file: Hdf5File) -> RasterFile:
    """The bands of a PRISMA product; DataError for a level without a map grid, or a grid that cannot be right."""
    if not file.has(L2D):
        raise DataError(
            f"{file.path} is a PRISMA product without the swath PRS_L2D_HCO",
            "only L2D is surface reflectance on a map grid",
            "order or process the scene as L2D",
        )
    shape = _shape(file)
    bands: list[FileBand] = []
    places: list[CubeBand] = []
    for detector in DETECTORS:
        count = file.array(_cube_name(detector)).shape[1]
        centres = file.numbers(f"List_Cw_{detector}", count)
        widths = file.numbers(f"List_Fwhm_{detector}", count)
        present = file.numbers(f"List_Cw_{detector}_Flags", count) == 1
        low, high = (file.number(f"L2Scale{detector}{end}") for end in ("Min", "Max"))
        for number, index in enumerate(i for i in np.argsort(centres).tolist() if present[i]):
            places.append(CubeBand(detector, index))
            bands.append(
                FileBand(
                    name=f"{detector.lower()} {number + 1}",
                    wavelength_nm=round(float(centres[index]), NM_DIGITS),
                    fwhm_nm=round(float(widths[index]), NM_DIGITS),
                    scale=(high - low) / FULL_SCALE,
                    offset=low,
                )
            )
    pixels = PrismaPixels(file, tuple(places))
    return RasterFile(
        path=file.path,
        format="PRISMA L2D (HDF5)",
        grid=_grid(file, shape),
        dtype="uint16",
        bands=tuple(bands),
        scale_source="the file's L2ScaleVnirMin, L2ScaleVnirMax, L2ScaleSwirMin and L2ScaleSwirMax",
        pixels=pixels,
        mask=PrismaMask(pixels),
    )


def _cube_name(detector: str) -> str:
    return f"{L2D}/Data Fields/{detector.upper()}_Cube"


def _shape(file: Hdf5File) -> tuple[int, int]:
    """Rows and columns of both cubes, which are uint16."""
    arrays: list[Any] = [file.array(_cube_name(detector)) for detector in DETECTORS]
    shapes = [array.shape for array in arrays]
    if any(len(shape) != 3 for shape in shapes) or len({(shape[0], shape[-1]) for shape in shapes}) > 1:
        raise damaged(file.path, f"its cubes have the shapes {shapes[0]} and {shapes[1]}")
    if any(array.dtype != np.uint16 for array in arrays):
        raise damaged(file.path, f"its cubes hold {arrays[0].dtype} and {arrays[1].dtype} in place of uint16")
    rows, _, columns = shapes[0]
    check_size(file.path, sum(shape[1] for shape in shapes), (rows, columns))
    return rows, columns


def _grid(file: Hdf5File, shape: tuple[int, int]) -> RasterGrid:
    """The UTM grid given by the corner attributes, checked against Latitude and Longitude.

    By the specification, the attributes give the centres of the corner pixels. If Latitude and Longitude show that
    they are the image's outer corners instead, that is accepted; a file where neither holds is refused.
    """
    crs = _crs(file)
    west, north = file.number("Product_ULcorner_easting"), file.number("Product_ULcorner_northing")
    east, south = file.number("Product_LRcorner_easting"), file.number("Product_LRcorner_northing")
    rows, columns = shape
    places: dict[Transform, float] = {}
    for between, start in ((1, 0.5), (0, 0.0)):  # from centre to centre, or from edge to edge
        if min(shape) > between and west < east and south < north:
            a, e = (east - west) / (columns - between), (south - north) / (rows - between)
            transform = a, 0.0, west - start * a, 0.0, e, north - start * e
            places[transform] = _distance_px(file, crs, transform, shape)
    best = min(places, key=lambda transform: places[transform], default=None)
    if best is None or not places[best] <= MISPLACED_PX:  # also NaN
        raise DataError(
            f"{file.path}: its corners ({west:g}, {north:g}) and ({east:g}, {south:g}) lie "
            f"{f'{places[best]:.1f} pixels' if best else 'nowhere near'} from its Latitude and Longitude",
            "the image would be misplaced on the ground",
            "fetch the file again; if that does not help, report the scene to ASI",
        )
    return RasterGrid(crs_wkt=crs.to_wkt(), transform=best, shape=shape, name=str(file.path))


def _crs(file: Hdf5File) -> CRS:
    """The CRS of its Epsg_Code."""
    code = int(file.number("Epsg_Code"))
    try:
        return CRS.from_epsg(code)
    except CRSError as error:
        raise DataError(f"{file.path}: Epsg_Code is {code}", "no CRS has that code", "fetch it again") from error


def _distance_px(file: Hdf5File, crs: CRS, transform: Transform, shape: tuple[int, int]) -> float:
    """Largest distance, in pixels, between the corner pixels' centres and their Latitude and Longitude."""
    latitude, longitude = (file.array(f"{L2D}/Geolocation Fields/{name}") for name in ("Latitude", "Longitude"))
    if latitude.shape != shape or longitude.shape != shape:
        raise damaged(file.path, f"Latitude and Longitude have the shapes {latitude.shape} and {longitude.shape}")
    corners = [(row, column) for row in (0, shape[0] - 1) for column in (0, shape[1] - 1)]
    east, north = ([float(file.read(array, *corner)) for corner in corners] for array in (longitude, latitude))
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(east, north)
    own = to_ground(transform, *(np.array(axis) + 0.5 for axis in zip(*corners, strict=True)))
    return float(np.hypot((own[0] - x) / transform[0], (own[1] - y) / transform[4]).max())
