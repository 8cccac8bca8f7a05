"""Rasters and scenes that the tests of raster and cube write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from scenefuse.archive.scene import Asset, Scene, ScenePair

WriteTiff = Callable[..., Path]


def bare_scene(path: Path, **asset: Any) -> Scene:
    return Scene(id=path.stem, href=str(path), assets=(Asset(key="data", href=str(path), **asset),), is_stac=False)


def pair_of(hs: Path | Scene, ms: Path | Scene) -> ScenePair:
    return ScenePair(
        hs=hs if isinstance(hs, Scene) else bare_scene(hs), ms=ms if isinstance(ms, Scene) else bare_scene(ms)
    )


def texture(bands: int, shape: tuple[int, int], seed: int = 0) -> NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    return rng.integers(200, 6000, (bands, *shape)).astype(np.int16)


def tiff_writer(folder: Path) -> WriteTiff:
    def write(
        name: str,
        pixels: NDArray[Any],
        *,
        gsd: float = 30.0,
        origin: tuple[float, float] = (4e5, 58e5),
        crs: str | None = "EPSG:32633",
        wavelengths_nm: Sequence[float] | None = None,
        scale: float | None = 1e-4,
        **profile: Any,
    ) -> Path:
        path = folder / name
        with rasterio.open(
            path, "w", driver="GTiff", count=pixels.shape[0], height=pixels.shape[1], width=pixels.shape[2],
            dtype=pixels.dtype, crs=crs, transform=Affine(gsd, 0, origin[0], 0, -gsd, origin[1]), **profile,
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
            if scale is not None:
                dataset.scales = [scale] * pixels.shape[0]
            for band, wavelength_nm in enumerate(wavelengths_nm or (), start=1):
                dataset.update_tags(band, wavelength=str(wavelength_nm), wavelength_units="Nanometers", fwhm="9.5")
        return path

    return write
