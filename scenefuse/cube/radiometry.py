"""From stored values to reflectance."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.delivered import product_around
from scenefuse.archive.scene import Asset
from scenefuse.errors import DataError
from scenefuse.raster.raster_file import RasterFile
from scenefuse.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiometry:
    """How the stored values of one band become reflectance: scale * value + offset."""

    scale: float
    """Reflectance per stored value."""
    offset: float
    """Reflectance at stored value 0."""
    nodata: tuple[float, ...]
    """Stored values that mean no data, besides NaN and infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The radiometry of a file's bands, and where it comes from."""

    bands: tuple[Radiometry, ...]
    """One per band, in file order."""
    source: str
    """Where scale and offset come from, for people and provenance."""
    nodata_source: str
    """Where no-data comes from."""


def to_reflectance(stored: NDArray[Any], bands: tuple[Radiometry, ...]) -> NDArray[np.float32]:
    """Reflectance per band, (band, y, x) float32: scale * value + offset; NaN where the value means no data."""
    reflectance = stored.astype(np.float32)
    for index, band in enumerate(bands):
        pixels = reflectance[index]  # a view
        missing = ~np.isfinite(pixels)
        for nodata in band.nodata:
            missing |= _equals(stored[index], nodata)
        if band.scale != 1.0:
            pixels *= np.float32(band.scale)
        if band.offset != 0.0:
            pixels += np.float32(band.offset)
        pixels[missing] = np.nan
    return reflectance


def decide_radiometry(asset: Asset, raster: RasterFile, *, given_scale: float | None, option: str | None) -> Decision:
    """Scale, offset and no-data of every band of a file.

    DataError when integers have no scale anywhere, or a scale or offset makes no reflectance.

    Sources in this order: the caller's scale, STAC metadata, the file itself, and the sensor card if the file holds the
    same kind of values as the card's product, integers or floats. Floats without a scale are taken as reflectance.
    Nothing is ever inferred from the range of the values.
    option: the command-line option that gives the scale, for messages; None when there is none.
    """
    count = len(raster.bands)
    scale, scale_source = _scale(asset, raster, given_scale, option)
    offset, offset_source = _offset(asset, raster, scale, scale_source)
    _require_finite(raster, "scale", scale, scale_source, positive=True, option=option)
    _require_finite(raster, "offset", offset, offset_source)
    nodata, nodata_source = _nodata(asset, raster)
    bands = tuple(Radiometry(scale=scale[i], offset=offset[i], nodata=nodata[i]) for i in range(count))
    source = scale_source if offset_source in {scale_source, None} else f"{scale_source}; offset: {offset_source}"
    return Decision(bands=bands, source=source, nodata_source=nodata_source)


def _require_finite(
    raster: RasterFile,
    name: str,
    values: tuple[float, ...],
    source: str | None,
    *,
    positive: bool = False,
    option: str | None = None,
) -> None:
    """DataError if a value is infinite, no number, or not positive where it must be."""
    for value in values:
        if not isfinite(value) or (positive and value <= 0):
            raise DataError(
                f"{raster.path} has {name} {value:g} ({source})",
                "reflectance cannot be computed with it",
                f"correct it{f', or give {option}' if option else ''}",
            )


STAC = "STAC metadata"
CARD = "the sensor card"
NOT_DECLARED = "none declared: NaN and infinity only"


def _scale(asset: Asset, raster: RasterFile, given: float | None, option: str | None) -> tuple[tuple[float, ...], str]:
    """Scale per band, and its source."""
    count = len(raster.bands)
    own = [band.scale for band in raster.bands]
    if given is not None:
        return (given,) * count, f"option {option}"
    if asset.scale is not None and "scale" not in asset.card_fields:
        return _per_band(asset.scale, count, asset, "scale"), STAC
    if raster.scale_source is not None:
        return tuple(1.0 if value is None else value for value in own), raster.scale_source
    if asset.scale is not None and _is_of_card(raster, asset.scale, option):
        return _per_band(asset.scale, count, asset, "scale"), CARD
    if raster.dtype.startswith("float"):
        return (1.0,) * count, "floating-point values without a scale: taken as reflectance"
    raise DataError(
        f"{raster.path} holds {raster.dtype} values, and neither metadata nor the file gives a scale",
        "reflectance cannot be derived from the stored numbers",
        _cure(raster, option),
    )


def _cure(raster: RasterFile, option: str | None) -> str:
    """Where a scale may come from: a band of a delivered product has an offset, too, which no option gives."""
    folder = product_around(raster.path) if isinstance(raster.path, Path) else None
    if folder is not None:
        return f"give the product, {folder}, whose scale and offset are known, and all of its bands"
    if option is None:
        return "Store it in the file (reflectance times 10000: gdal_edit.py -scale 0.0001), or reflectance as floats"
    return f"give it with {option}, for example {option} 0.0001 for reflectance times 10000"


def _is_of_card(raster: RasterFile, scale: tuple[float, ...], option: str | None) -> bool:
    """True if the file holds values like the card's product: floats of reflectance (scale 1), else integers.

    DataError for floats where the product has integers: they may be those integers, or reflectance already.
    """
    floats, of_floats = raster.dtype.startswith("float"), set(scale) == {1.0}
    if floats and not of_floats:
        raise DataError(
            f"{raster.path} holds {raster.dtype} values without a scale, where its sensor's product has integers of "
            f"scale {scale[0]:g}",
            "it is not clear whether they are such integers or reflectance already",
            f"give {option} 1 if they are reflectance, {option} {scale[0]:g} if not"
            if option is not None
            else f"Store the scale in the file (gdal_edit.py -scale {scale[0]:g}) or raster:scale in the item",
        )
    return floats == of_floats


def _offset(
    asset: Asset, raster: RasterFile, scale: tuple[float, ...], scale_source: str
) -> tuple[tuple[float, ...], str | None]:
    """Offset per band, and its source; a file's own offset belongs to its own scale, a baseline's to integers."""
    count = len(raster.bands)
    if asset.offset_of_integers and set(scale) == {1.0}:
        return (0.0,) * count, None
    if asset.offset is not None and "offset" not in asset.card_fields:
        return _per_band(asset.offset, count, asset, "offset"), STAC
    if scale_source == raster.scale_source:
        return tuple(band.offset or 0.0 for band in raster.bands), scale_source
    if asset.offset is not None and scale_source == CARD:
        return _per_band(asset.offset, count, asset, "offset"), CARD
    return (0.0,) * count, None


def _nodata(asset: Asset, raster: RasterFile) -> tuple[tuple[tuple[float, ...], ...], str]:
    """No-data values per band, and their source: metadata and the file, or the sensor card when neither has one.

    The file's own value counts in addition to the metadata's, as it does for anyone who reads the file alone.
    """
    stated = [band.nodata for band in raster.bands]
    by_card = "nodata" in asset.card_fields
    told = None if by_card and any(value is not None for value in stated) else asset.nodata
    values = tuple(
        tuple(dict.fromkeys(value for value in (told, own) if value is not None and np.isfinite(value)))
        for own in stated
    )
    sources = {CARD if by_card else STAC: told is not None, "the file": any(own not in {None, told} for own in stated)}
    return values, " and ".join(source for source, says in sources.items() if says) or NOT_DECLARED


def _per_band(values: tuple[float, ...], count: int, asset: Asset, field: str) -> tuple[float, ...]:
    """One value per band from one for all or one each."""
    if len(values) not in {1, count}:
        raise DataError(
            f"Asset {asset.key!r} gives {counted(len(values), 'value')} of {field} for {counted(count, 'band')}",
            "it is not clear which value belongs to which band",
            "correct the item",
        )
    return values * count if len(values) == 1 else values


def _equals(values: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where the stored values are the no-data value, in their own type."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            same: NDArray[np.bool_] = values == np.float64(nodata).astype(values.dtype)
    elif nodata == int(nodata):
        same = values == int(nodata)
    else:
        same = np.zeros(values.shape, np.bool_)
    return same
