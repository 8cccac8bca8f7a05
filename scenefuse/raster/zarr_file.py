"""A Zarr store (v2 or v3) that holds one (band, y, x) array, as xarray and rioxarray write it."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the accessor .rio, which knows where a CRS is kept
import xarray as xr
from numpy.typing import NDArray
from pyproj.exceptions import CRSError
from zarr.codecs import BloscCodec

from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.transform import Transform
from scenefuse.grid.window import Window
from scenefuse.raster.envi_header import NM_PER_UNIT
from scenefuse.raster.raster_file import FileBand, RasterFile, check_size, damaged, unique_names
from scenefuse.words import counted

PREFERRED = "reflectance"
"""Name of the array to use when a store has several (band, y, x) arrays."""
GRID_MAPPING = "spatial_ref"
"""Name under which rioxarray keeps CRS and transform. The image loses its reference to it where xarray's to_zarr is
given an encoding (chunks, compressors); the name remains."""
SAME_PIXEL = 0.01
"""Greatest distance, in pixels, at which a coordinate counts as the centre of one of GeoTransform's pixels."""
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""What zarr and xarray raise for metadata of the wrong kind."""
_UNDECODABLE = (RuntimeError, ValueError, EOFError, ArithmeticError, zlib.error, gzip.BadGzipFile)
"""What zarr and its codecs raise for bytes that they cannot decode, or chunks of no size."""


class ZarrPixels:
    """Reads windows of one array of a store; a pickled copy reopens it."""

    def __init__(self, path: Path, array: str) -> None:
        self.path = path
        self.array = array
        self._handles = threading.local()

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self.array

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self.path, self.array = state
        self._handles = threading.local()

    def read(self, bands: Sequence[int], window: Window) -> NDArray[Any]:
        """(band, y, x) stored values in the array's dtype."""
        if not hasattr(self._handles, "array"):
            self._handles.array = _open(self.path)[self.array].variable
        rows, columns = window.slices
        try:
            pixels: NDArray[Any] = self._handles.array[list(bands), rows, columns].values
        except _UNDECODABLE as error:
            raise damaged(self.path, f"rows {window.y0} to {window.y1} cannot be read ({error})") from error
        return pixels


def open_zarr(path: Path) -> RasterFile:
    """A Zarr store's (band, y, x) array: `reflectance`, or the only one there is."""
    store = _open(path)
    name = _choose(path, store)
    try:
        return _described(path, store[name], name)
    except (*_MALFORMED, CRSError) as error:
        raise DataError(
            f"{path}: an attribute or a coordinate of {name!r} is malformed ({error})",
            "scale, bands or georeference of the image are unknown",
            "write them as xarray and rioxarray do: numbers as numbers, GeoTransform as six blank-separated numbers",
        ) from error


def _described(path: Path, array: xr.DataArray, name: str) -> RasterFile:
    """The named array as its attributes and coordinates describe it."""
    count, height, width = array.shape
    check_size(path, count, (height, width))
    if _is_blosc(array):
        _check_frames(path, path / name)
    attributes = {**array.encoding, **array.attrs}
    if (str(attributes.get("_Unsigned")).lower(), array.dtype.kind) in {("true", "i"), ("false", "u")}:
        raise DataError(
            f"{path}: {name!r} has the attribute _Unsigned",
            "its integers stand for others than those stored",
            "write it with its real type: xarray.open_zarr decodes it",
        )
    scale, offset = attributes.get("scale_factor"), attributes.get("add_offset")
    shifted = offset is not None and array.dtype.kind == "f"  # floats may lack only the offset; integers need a scale
    nodata = _nodata(path, attributes)
    centres = _per_band(array, ("wavelength_nm", "wavelength"))
    widths = _per_band(array, ("fwhm_nm", "fwhm"))
    labels = _labels(array)
    names = unique_names([(labels[i] if labels else "") or f"band {i + 1}" for i in range(count)])
    bands = tuple(
        FileBand(
            name=names[i],
            wavelength_nm=centres[i] if centres else None,
            fwhm_nm=widths[i] if widths else None,
            scale=None if scale is None else float(scale),
            offset=None if offset is None else float(offset),
            nodata=nodata,
        )
        for i in range(count)
    )
    return RasterFile(
        path=path,
        format="Zarr",
        grid=RasterGrid(
            crs_wkt=array.rio.crs.to_wkt() if array.rio.crs else "",
            transform=_transform(path, array),
            shape=(height, width),
            name=str(path),
        ),
        dtype=str(array.dtype),
        bands=bands,
        scale_source="the array's scale_factor and add_offset" if scale is not None or shifted else None,
        wavelength_note=None if centres else _unknown_unit(array, ("wavelength_nm", "wavelength")),
        pixels=ZarrPixels(path, name),
    )


def _open(path: Path) -> xr.Dataset:
    """Open the store without decoding its values: the radiometry is ours."""
    _refuse_pickles(path)
    try:
        store: xr.Dataset = xr.open_zarr(
            path, chunks=None, consolidated=False, mask_and_scale=False, decode_coords="all"
        )
    except (OSError, *_MALFORMED) as error:
        raise DataError(
            f"{path} cannot be opened as a Zarr group ({error})",
            "it is not a store that xarray writes",
            "give the group that holds the (band, y, x) array",
        ) from error
    return store.set_coords(GRID_MAPPING) if GRID_MAPPING in store.data_vars else store


def _refuse_pickles(path: Path) -> None:
    """Refuse a Zarr v2 store with a pickled array: opening it would run whatever code its writer chose.

    xarray reads coordinates when it opens a store, and old releases of numcodecs unpickle anything.
    """
    for metadata in sorted(path.glob("*/.zarray")):
        try:
            described = json.loads(metadata.read_bytes())
            codecs = [*(described.get("filters") or ()), described.get("compressor")]
        except (ValueError, TypeError, AttributeError):
            continue  # zarr reports what is wrong with it
        if any(isinstance(codec, dict) and codec.get("id") == "pickle" for codec in codecs):
            raise DataError(
                f"{path}: the array {metadata.parent.name!r} is pickled",
                "reading it would run code that comes with the file",
                "rewrite it with a codec for numbers or text",
            )


def _is_blosc(array: xr.DataArray) -> bool:
    """True when each file of the array is one Blosc frame."""
    last = (array.encoding.get("compressors") or (None,))[-1]
    is_blosc = isinstance(last, BloscCodec) or getattr(last, "codec_id", None) == "blosc"  # Zarr v3, v2
    return is_blosc and not array.encoding.get("shards")


def _check_frames(path: Path, folder: Path) -> None:
    """Refuse an array with a truncated chunk: Blosc does not check, and the rest would be zeros or worse."""
    for chunk in folder.rglob("*"):
        if chunk.name.startswith(".") or chunk.name == "zarr.json" or not chunk.is_file():
            continue
        with chunk.open("rb") as file:
            head = file.read(16)
        promised, held = int.from_bytes(head[12:], "little"), chunk.stat().st_size
        if len(head) < 16 or held < promised:
            raise damaged(path, f"{chunk.relative_to(path)} ends at byte {held} of {promised}")


def _choose(path: Path, store: xr.Dataset) -> str:
    """Name of the array to read."""
    found = [str(name) for name, array in store.data_vars.items() if array.dims[1:] == ("y", "x") and array.ndim == 3]
    if PREFERRED in found:
        return PREFERRED
    if len(found) != 1:
        raise DataError(
            f"{path} has {counted(len(found), 'array')} of (band, y, x): {', '.join(found) or 'none'}",
            "it is not clear which one is the image",
            f"name the image {PREFERRED!r}, with dimensions (band, y, x)",
        )
    return found[0]


def _transform(path: Path, array: xr.DataArray) -> Transform:
    """The affine given by x and y, the pixel centres, else by the grid mapping (GDAL's GeoTransform).

    x and y take precedence because xarray crops them and leaves GeoTransform unchanged. For a rotated grid GeoTransform
    decides, as x and y cannot express it.
    """
    mapping = array.coords.get(array.rio.grid_mapping)
    text = "" if mapping is None else str(mapping.attrs.get("GeoTransform", ""))
    if not text:
        (left, right), (top, down) = _axis(path, array, "x", None), _axis(path, array, "y", None)
        return right, 0.0, left, 0.0, down, top
    c, a, b, f, d, e = (float(part) for part in text.split())
    if b == d == 0:
        (c, a), (f, e) = _axis(path, array, "x", (c, a)), _axis(path, array, "y", (f, e))
    return a, b, c, d, e, f


def _axis(path: Path, array: xr.DataArray, name: str, stated: tuple[float, float] | None) -> tuple[float, float]:
    """Outer edge of the first pixel and step to the next along x or y; stated: the same from GeoTransform.

    If the centres coincide with any of stated's pixels, the result is stated moved by whole pixels, free of the
    centres' rounding.
    """
    stored = array.coords[name].values if name in array.coords else np.empty(0)
    if stored.size < (2 if stated is None else 1) or stored.dtype.kind not in "iuf":
        if stated is not None:
            return stated
        raise DataError(
            f"{path} has neither a GeoTransform nor coordinates x and y",
            "it cannot be placed on the ground",
            "write it with rioxarray (rio.write_transform), or with coordinates x and y of the pixel centres",
        )
    centres = stored.astype(np.float64)
    if stated is not None:
        start, step = stated
        moved = (centres - start) / step - 0.5 - np.arange(len(centres))
        whole = float(np.rint(np.median(moved)))
        rounding = float(np.spacing(np.abs(stored).max())) / abs(step)
        if np.abs(moved - whole).max() <= max(SAME_PIXEL, rounding):
            return start + whole * step, step
    step = float((centres[-1] - centres[0]) / max(1, len(centres) - 1))
    if step == 0 or not np.abs(np.diff(centres) - step).max() <= 1e-3 * abs(step):  # also NaN
        if stated is not None:
            return stated
        raise DataError(f"{path}: {name} is not evenly spaced", "it is not a raster", "resample it onto a grid")
    start = float(centres[0]) - step / 2
    numbers_pixels = step == 1 and start in {-0.5, 0.0}
    return stated if stated is not None and numbers_pixels else (start, step)


def _nodata(path: Path, attributes: Mapping[str, Any]) -> float | None:
    """The no-data value: _FillValue or missing_value, as xarray accepts both; NaN means no data in any case."""
    stated = {float(attributes[key]) for key in ("_FillValue", "missing_value") if attributes.get(key) is not None}
    values = {value for value in stated if not np.isnan(value)}
    if len(values) > 1:
        raise DataError(
            f"{path} has the two no-data values {', '.join(f'{value:g}' for value in sorted(values))}",
            "an image is read with one, and the other would pass as reflectance",
            "write one value for both, as _FillValue",
        )
    return values.pop() if values else next(iter(stated), None)


def _unknown_unit(array: xr.DataArray, keys: tuple[str, ...]) -> str | None:
    """The wavelengths' unit, for the message that it is not supported; None when there are no wavelengths."""
    for key in keys:
        if key in array.coords and array.coords[key].dims == array.dims[:1]:
            return f"the units of {key!r} are {array.coords[key].attrs.get('units')!r}"
    return None


def _per_band(array: xr.DataArray, keys: tuple[str, ...]) -> tuple[float | None, ...] | None:
    """Nanometres per band from the first coordinate with a supported unit, in its name or its units attribute."""
    for key in keys:
        if key in array.coords and array.coords[key].dims == array.dims[:1]:
            coordinate = array.coords[key]
            unit = "nm" if key.endswith("_nm") else str(coordinate.attrs.get("units", "")).lower()
            if unit in NM_PER_UNIT:
                values = np.asarray(coordinate.values, np.float64) * NM_PER_UNIT[unit]
                return tuple(float(value) if value > 0 else None for value in values)
    return None


def _labels(array: xr.DataArray) -> list[str] | None:
    """Names of the bands, if band_name or the band coordinate holds text."""
    for key in ("band_name", str(array.dims[0])):
        if key in array.coords and array.coords[key].dtype.kind in "UOT":
            return [str(label) for label in array.coords[key].values]
    return None
