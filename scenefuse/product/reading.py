"""Read a finished product back, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from scenefuse.engine.state_file import load_state
from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.window import Window
from scenefuse.models.state import SceneState
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import STATE, STORE
from scenefuse.product.layout import lacking_item, level_path
from scenefuse.product.place_store import open_array, open_store
from scenefuse.product.shards import decode_reflectance
from scenefuse.product.stac_item import read_item
from scenefuse.sensors.band import Band


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProduct:
    """A finished product as its store describes it."""

    folder: Path | Place
    """The product's folder."""
    grid: RasterGrid
    """Georeferenced pixel grid."""
    bands: tuple[Band, ...]
    """Its bands, sorted by wavelength."""
    core_px: int
    """Side of a shard in pixels."""
    ratio: int
    """HSI pixel size / product pixel size."""
    band_chunk: int
    """Bands that are decoded together."""
    scale: float
    """Reflectance per integer step."""
    nodata: int
    """Integer that means no data."""
    _opened: dict[str, zarr.Array[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Opened arrays by path: opening one takes as long as reading a shard."""

    def read(self, window: Window, bands: slice = slice(None)) -> NDArray[np.float32]:
        """Reflectance (band, y, x) of a window inside the product, all bands or some; NaN = no data."""
        return self._reflectance(np.asarray(self._array("reflectance")[(bands, *window.slices)]))

    def read_overview(self, factor: int, bands: Sequence[int]) -> NDArray[np.float32]:
        """Reflectance (band, y, x) of some bands of a whole level; NaN = no data. factor: 1 or an overview's factor."""
        level = self._array(f"{level_path(factor)}reflectance")
        return self._reflectance(np.stack([np.asarray(level[band]) for band in bands]))

    def read_flags(self, window: Window) -> NDArray[np.uint8]:
        """QualityFlag bits (y, x) of a window inside the product."""
        return np.asarray(self._array("quality")[window.slices], np.uint8)

    def overview_factor(self, longest_px: int) -> int:
        """Factor of the finest level with no side longer than longest_px, or else of the coarsest level."""
        group = open_store(self.folder / STORE)
        factor = 1
        while max(-(-side // factor) for side in self.grid.shape) > longest_px:
            if f"{level_path(2 * factor)}reflectance" not in group:
                break
            factor *= 2
        return factor

    def _array(self, name: str) -> zarr.Array[Any]:
        if name not in self._opened:
            self._opened[name] = open_array(self.folder / STORE, name)
        return self._opened[name]

    def _reflectance(self, integers: NDArray[np.int16]) -> NDArray[np.float32]:
        return decode_reflectance(integers, scale=self.scale, nodata=self.nodata)


def open_product(folder: Path | Place) -> StoredProduct:
    """Open the product in folder; DataError if it has no item, without which a product does not exist."""
    folder = place_at(folder).resolved()
    try:
        item = read_item(folder)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = f"{folder.name}.json {lacking_item(folder)}" if missing else str(error)
        raise DataError(
            f"{folder} holds no finished product ({why})",
            "there is nothing to read",
            "Give the folder of a product, or run the fusion again to finish it",
        ) from error
    store = folder / STORE
    root, array = open_store(store), open_array(store, "reflectance")
    attributes: dict[str, Any] = dict(array.attrs)
    names, wavelengths, fwhms = (
        np.asarray(open_array(store, name)[...]) for name in ("band", "wavelength_nm", "fwhm_nm")
    )
    transform: Any = root.attrs["spatial:transform"]
    a, b, c, d, e, f = (float(value) for value in transform)
    return StoredProduct(
        folder=folder,
        grid=RasterGrid(
            crs_wkt=str(open_array(store, "spatial_ref").attrs["crs_wkt"]),
            transform=(a, b, c, d, e, f),
            shape=(array.shape[1], array.shape[2]),
            name=folder.name,
        ),
        bands=tuple(
            Band(name=str(name), wavelength_nm=_known(wave), fwhm_nm=_known(fwhm))
            for name, wave, fwhm in zip(names, wavelengths, fwhms, strict=True)
        ),
        core_px=(array.shards or array.chunks)[1],
        band_chunk=array.chunks[0],
        ratio=int(item["properties"]["scenefuse:ratio"]),
        scale=float(attributes["scale_factor"]),
        nodata=int(attributes["_FillValue"]),
    )


def read_state(folder: Path | Place) -> SceneState:
    """The state of the product's scene; DataError if it is missing or damaged."""
    place = place_at(folder) / STATE
    try:
        return load_state(place)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no {STATE}",
            "what was measured on its scene, the instruments' PSF among it, is not known",
            "scenefuse verify says what else is wrong with it",
        ) from error


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
