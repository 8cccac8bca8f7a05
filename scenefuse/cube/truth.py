"""A raster that shows what a fused image should be, read on the fused image's grid, for scoring or training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.source import load_scene
from scenefuse.cube.image import Choice, Image, open_image
from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid, same_crs
from scenefuse.grid.window import Window
from scenefuse.place.href import redact
from scenefuse.sensors.band import Band

SAME_BAND_NM = 0.5
"""Greatest distance between the centres of bands that count as the same."""
SAME_PIXEL = 1e-3
"""Greatest offset between the two grids, in pixels, that counts as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The bands and pixels of a raster that correspond to those of a fused image."""

    image: Image
    """The raster; it may cover more ground and hold more bands."""
    bands: tuple[int, ...]
    """The raster's band for each band of the fused image."""
    down: int
    """The raster's row at the fused image's row 0."""
    right: int
    """The raster's column at the fused image's column 0."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """(hs band, y, x) reflectance of a window of the fused image; NaN = no data."""
        there = Window(
            y0=window.y0 + self.down, y1=window.y1 + self.down, x0=window.x0 + self.right, x1=window.x1 + self.right
        )
        return self.image.read(self.bands, there)


def open_truth(raster: str, grid: RasterGrid, bands: Sequence[Band], *, policy: AccessPolicy | None = None) -> Truth:
    """Open a raster as the truth for a fused image on grid with these bands; DataError unless it holds all of them.

    policy: which hosts are followed to a remote raster; None for the public ones.
    """
    policy = policy or AccessPolicy()
    image = open_image(load_scene(raster, policy=policy), "hsi", Choice(policy=policy, scale_option=False))
    down, right = _place(image.grids[0], grid, raster)
    return Truth(image=image, bands=_matching(image, bands, raster), down=down, right=right)


def _matching(image: Image, bands: Sequence[Band], raster: str) -> tuple[int, ...]:
    """Index of the raster's band for each of the bands."""
    waves = np.array([np.nan if band.wavelength_nm is None else band.wavelength_nm for band in image.bands])
    found = []
    for band in bands:
        distance = np.abs(waves - (np.nan if band.wavelength_nm is None else band.wavelength_nm))
        if not np.nanmin(distance, initial=np.inf) <= SAME_BAND_NM:
            raise DataError(
                f"{redact(raster)} has no band within {SAME_BAND_NM} nm of {band.name} ({band.wavelength_nm} nm)",
                "it is not a truth for that band",
                "Give a raster with all bands of the HSI, or leave the band out with --drop-band",
            )
        found.append(int(np.nanargmin(distance)))
    return tuple(found)


def _place(theirs: RasterGrid, ours: RasterGrid, raster: str) -> tuple[int, int]:
    """Row and column of the raster where our grid begins; a missing CRS is taken to be the other's."""
    if theirs.crs_wkt and ours.crs_wkt and not same_crs(theirs.crs_wkt, ours.crs_wkt):
        names = [CRS.from_wkt(wkt).name for wkt in (theirs.crs_wkt, ours.crs_wkt)]
        raise DataError(
            f"{redact(raster)} is in {names[0]}, and {ours.name} in {names[1]}",
            "the same coordinates mean other ground there",
            "Warp it onto the fine grid, covering at least the overlap of the two scenes",
        )
    place = np.linalg.inv(theirs.matrix) @ ours.matrix
    whole = np.rint(place[:2, 2]).astype(int)
    right, down = int(whole[0]), int(whole[1])
    aligned = np.allclose(place[:2, :2], np.eye(2), atol=1e-6) and np.abs(place[:2, 2] - whole).max() < SAME_PIXEL
    rows, columns = ours.shape
    inside = min(down, right) >= 0 and down + rows <= theirs.shape[0] and right + columns <= theirs.shape[1]
    if not (aligned and inside):
        raise DataError(
            f"{redact(raster)} does not hold the pixels of {ours.name}",
            "the two cannot be compared pixel by pixel",
            "Warp it onto the fine grid, covering at least the overlap of the two scenes",
        )
    return down, right
