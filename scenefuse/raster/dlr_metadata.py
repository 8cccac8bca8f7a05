"""The METADATA.XML that DLR delivers beside an EnMAP or DESIS image, whose GeoTIFF holds no wavelengths.

EnMAP HSI Level 1B, 1C, 2A Product Specification, EN-PCV-ICD-2009-2; DESIS Product Specification, PAV-DLR-ICD-003.
`bandCharacterisation` holds each band's centre and width at half maximum in nanometres, and the gain and offset that
turn the integers of L2A into reflectance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from scenefuse.archive.delivered import DLR_IMAGE
from scenefuse.archive.document import read_start
from scenefuse.archive.remote import RemoteFile, open_remote
from scenefuse.errors import DataError
from scenefuse.raster.raster_file import FileBand, RasterFile, damaged
from scenefuse.words import counted

_ENDINGS = ("-METADATA.XML", "-METADATA.xml", "-METADATA.XML.XML")
"""What follows the product's name: for EnMAP, for DESIS, and for EnMAP as some browsers save it."""
_MOST_BYTES = 32 * 2**20
"""Largest file that is accepted; a scene's has about 1 MiB."""
_WIDTHS, _GAINS, _OFFSETS = (
    ("FWHMOfBand", "wavelengthWidthOfBand"),
    ("GainOfBand", "gainOfBand"),
    ("OffsetOfBand", "offsetOfBand"),
)
"""EnMAP's element names, and DESIS's."""


def with_dlr_metadata(raster: RasterFile) -> RasterFile:
    """The GeoTIFF with its bands described by the METADATA.XML beside it; unchanged if its name is not DLR's.

    DataError for an image of radiance, and when the metadata describe another number of bands. Without metadata the
    image keeps its own description of the bands, and wavelength_note says what was looked for.
    """
    found = DLR_IMAGE.fullmatch(_name(raster.path))
    if found is None:
        return raster
    beside = _beside(raster.path, found["product"])
    if isinstance(beside, str):
        return replace(raster, wavelength_note=beside)
    root = _parse(beside)
    level = next((element.text or "" for element in _named(root, "level")), "").strip()
    if level.upper().startswith("L1"):
        raise DataError(
            f"{raster.path} is of level {level}",
            "it holds at-sensor radiance, from which reflectance cannot be derived",
            "give the L2A product of the scene",
        )
    return replace(
        raster,
        bands=_described(raster.bands, root, beside),
        scale_source="the gains in METADATA.XML",
        sidecars=(*raster.sidecars, beside),
    )


def _described(bands: Sequence[FileBand], root: ET.Element, path: Path | RemoteFile) -> tuple[FileBand, ...]:
    """The file's bands with wavelength, width, scale, offset and no-data value."""
    rows = [row for group in _named(root, "bandCharacterisation") for row in group if _number(row, _GAINS) is not None]
    if len(rows) != len(bands):
        raise DataError(
            f"{path} describes {counted(len(rows), 'band')}, but its image has {len(bands)}",
            "it is not clear which description belongs to which band",
            "fetch both again, or rename the image if it is only part of the product's",
        )
    numbers = [row.get("number") for row in rows]
    if any(numbers) and numbers != [str(i + 1) for i in range(len(rows))]:
        raise damaged(path, f"its bands are numbered {', '.join(map(str, numbers))}")
    background = next((element.text or "" for element in _named(root, "backgroundValue")), "")
    described = []
    for number, (band, row) in enumerate(zip(bands, rows, strict=True), start=1):
        centre, width, gain, offset = (
            _number(row, names) for names in (("wavelengthCenterOfBand",), _WIDTHS, _GAINS, _OFFSETS)
        )
        if centre is None or width is None or gain is None or min(centre, width, gain) <= 0:
            raise damaged(path, f"band {number} has the centre {centre}, the width {width} and the gain {gain}")
        nodata = band.nodata if band.nodata is not None else _float(background)
        described.append(
            replace(band, wavelength_nm=centre, fwhm_nm=width, scale=gain, offset=offset or 0.0, nodata=nodata)
        )
    return tuple(described)


def _parse(path: Path | RemoteFile) -> ET.Element:
    """The root of the document; DataError when it is not XML, or too large."""
    if isinstance(path, RemoteFile):
        raw = path.read((0, min(path.size_bytes, _MOST_BYTES + 1)))
    else:
        raw = read_start(path, _MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise damaged(path, f"has more than {_MOST_BYTES / 2**20:.0f} MiB")
    try:
        return ET.fromstring(raw)  # noqa: S314 - expat opens no other file and limits entity expansion
    except ET.ParseError as error:
        raise damaged(path, f"is no XML ({error})") from error


def _beside(image: Path | RemoteFile, product: str) -> Path | RemoteFile | str:
    """The metadata in the folder of a product's image, or the reason why there are none."""
    if isinstance(image, Path):
        there = (path for ending in _ENDINGS if (path := image.with_name(product + ending)).is_file())
        return next(there, f"there is no {product}{_ENDINGS[0]} beside {image}")
    folder = image.url.partition("?")[0].rpartition("/")[0]
    refusals: list[str] = []
    for ending in _ENDINGS[:2]:
        try:
            return open_remote(f"{folder}/{product}{ending}", image.policy)
        except DataError as error:  # not fatal: an item may describe the bands
            refusals.append(error.value)
    return f"its metadata were looked for, and {' and '.join(refusals)}"


def _name(path: Path | RemoteFile) -> str:
    return path.name if isinstance(path, Path) else urlsplit(path.url).path.rpartition("/")[2]


def _named(root: ET.Element, name: str) -> Iterator[ET.Element]:
    """All elements of that name, in any namespace."""
    return (element for element in root.iter() if _local(element) == name)


def _number(row: ET.Element, names: Sequence[str]) -> float | None:
    """The number in the child that has one of the names; None when there is none."""
    return next((_float(child.text or "") for child in row if _local(child) in names), None)


def _local(element: ET.Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _float(text: str) -> float | None:
    """The text as a finite number; None when it is not one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
