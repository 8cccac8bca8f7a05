"""A raster that shows what a pair's fused image should be, read on the pair's fine grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.source import load_scene
from scenefuse.cube.image import Choice, Image, open_image
from scenefuse.cube.pair import PairCube
from scenefuse.errors import DataError
from scenefuse.grid.window import Window

SAME_BAND_NM = 0.5
"""Greatest distance of band centres that count as the same band."""
SAME_PIXEL = 1e-3
"""Greatest offset between the two grids, in pixels, that counts as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The bands and pixels of a raster that are those of a pair's result."""

    image: Image
    """The raster; it may cover more ground and hold more bands."""
    bands: tuple[int, ...]
    """Its band for each band of the HSI."""
    down: int
    """Its row at the fine grid's row 0."""
    right: int
    """Its column at the fine grid's column 0."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """(hs band, y, x) reflectance of a fine window inside the scene; NaN = no data."""
        there = Window(
            y0=window.y0 + self.down, y1=window.y1 + self.down, x0=window.x0 + self.right, x1=window.x1 + self.right
        )
        return self.image.read(self.bands, there)


def open_truth(raster: str, cube: PairCube) -> Truth:
    """The raster as truth of a pair; DataError unless it holds every pixel and band of the result."""
    image = open_image(load_scene(raster), "hsi", Choice())
    return Truth(image=image, bands=_bands(image, cube, raster), **_place(image, cube, raster))


def _bands(image: Image, cube: PairCube, raster: str) -> tuple[int, ...]:
    """Index of the raster's band for each band of the HSI."""
    waves = np.array([np.nan if band.wavelength_nm is None else band.wavelength_nm for band in image.bands])
    found = []
    for band in cube.hs_bands:
        distance = np.abs(waves - (np.nan if band.wavelength_nm is None else band.wavelength_nm))
        if not np.nanmin(distance, initial=np.inf) <= SAME_BAND_NM:
            raise DataError(
                f"{raster} has no band within {SAME_BAND_NM} nm of {band.name} ({band.wavelength_nm} nm)",
                "it is no truth of that band",
                "Give a raster with all bands of the HSI, or leave the band out with --drop-band",
            )
        found.append(int(np.nanargmin(distance)))
    return tuple(found)


def _place(image: Image, cube: PairCube, raster: str) -> dict[str, int]:
    """Row (`down`) and column (`right`) of the raster where the fine grid begins."""
    theirs, grid = image.grids[0], cube.grid
    ours = np.array([grid.fine_transform[:3], grid.fine_transform[3:], (0.0, 0.0, 1.0)])
    place = np.linalg.inv(theirs.matrix) @ ours
    whole = np.rint(place[:2, 2]).astype(int)
    right, down = int(whole[0]), int(whole[1])
    aligned = np.allclose(place[:2, :2], np.eye(2), atol=1e-6) and np.abs(place[:2, 2] - whole).max() < SAME_PIXEL
    rows, columns = grid.fine_shape
    inside = min(down, right) >= 0 and down + rows <= theirs.shape[0] and right + columns <= theirs.shape[1]
    if not (aligned and inside):
        raise DataError(
            f"{raster} does not hold the pixels of {cube.pair_id}",
            "it cannot teach what each of them should be",
            "Warp it onto the MSI's grid, over the overlap of the two scenes at least",
        )
    return {"down": down, "right": right}
