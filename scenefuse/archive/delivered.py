"""STAC items for products as their archives deliver them: folders or files without an item.

Products are recognised by the names that missions define: EnMAP and DESIS (DLR), PRISMA (ASI), EMIT (LP DAAC),
Sentinel-2 (SAFE, by ESA), Landsat 8 and 9 (Collection 2, by USGS). A product is given by its folder, its metadata file
or, if it has a single image, that image.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scenefuse.archive.document import read_start
from scenefuse.errors import DataError
from scenefuse.words import counted

_SENTINEL2 = re.compile(
    r"S2(?P<unit>[A-D])_MSI(?P<level>L1C|L2A)_(?P<time>\d{8}T\d{6})_N(?P<major>\d\d)(?P<minor>\d\d)_R\d{3}_T\w{5}_\d{8}T\d{6}"
)
_SENTINEL2_BAND = re.compile(r"\w+_(?P<band>B\d[0-9A])(_(?P<gsd>\d\d)m)?\.jp2")
_SENTINEL2_TOLD = re.compile(r"<(BOA_ADD_OFFSET|RADIO_ADD_OFFSET) band_id=\"\d+\">(?P<dn>-?\d+)</")
_SENTINEL2_DN = re.compile(r"<(BOA_)?QUANTIFICATION_VALUE unit=\"none\">(?P<dn>[1-9]\d*)</")
_LANDSAT = re.compile(r"L[CO]0(?P<unit>[89])_L2S[PR]_\d{6}_(?P<day>\d{8})_\d{8}_\d\d_\w\w")
_LANDSAT_BAND = re.compile(r"\w+_SR_(?P<band>B[1-7])\.TIF")
_LANDSAT_TIME = re.compile(r"DATE_ACQUIRED = (?P<day>[\d-]+).*?SCENE_CENTER_TIME = \"?(?P<time>[\d:]+)", re.DOTALL)
_DLR = {
    "ENMAP": re.compile(r"ENMAP\d\d-____L\d[ABC]-DT\d+_(?P<time>\d{8}T\d{6})Z_\d{3}_V\d{6}_\d{8}T\d{6}Z"),
    "DESIS": re.compile(r"DESIS-HSI-L\d[ABC]-DT\d+_\d+-(?P<time>\d{8}T\d{6})-V\d{4}"),
}
_DLR_FILE = re.compile(r"-(SPECTRAL_IMAGE(_COG)?\.TIFF?|METADATA(\.XML)+)$", re.IGNORECASE)
DLR_IMAGE = re.compile(r"(?P<product>.+)-SPECTRAL_IMAGE(_COG)?\.TIFF?", re.IGNORECASE)
"""File name of the image of an EnMAP or DESIS product."""
_ONE_FILE = {
    "PRISMA": (re.compile(r"PRS_L2D_STD_(?P<time>\d{14})\w*"), ".he5"),
    "EMIT": (re.compile(r"EMIT_L2A_RFL_\d{3}_(?P<time>\d{8}T\d{6})\w*"), ".nc"),
}
_HLS = re.compile(r"HLS\.(?P<part>[LS]30)\.T\w{5}\.\d{7}T\d{6}\.v\d+\.\d+")
"""Id of an HLS item of LP DAAC, which names no platform; its harmonised bands belong to no single instrument."""
_MOST_METADATA_BYTES = 2**20
"""Most bytes read of MTD_MSIL2A.xml or an MTL file, which have about 60 and 20 KiB."""


def delivered_item(path: Path) -> dict[str, Any] | None:
    """The STAC item for the product at path, with absolute hrefs; None if it is none of these products.

    DataError for a folder that is named like a product but has no images.
    """
    return next((item for tell in (_sentinel2, _landsat, _dlr, _one_file) if (item := tell(path)) is not None), None)


def platform_of(product: str) -> str | None:
    """The platform that a product's name implies; None for any other name."""
    found = _SENTINEL2.fullmatch(product)
    if found is not None:
        return f"sentinel-2{found['unit'].lower()}"
    found = _LANDSAT.fullmatch(product)
    if found is not None:
        return f"landsat-{found['unit']}"
    found = _HLS.fullmatch(product)
    if found is not None:
        return f"HLS {found['part']}"
    patterns = {**_DLR, **{platform: pattern for platform, (pattern, _) in _ONE_FILE.items()}}
    return next((platform for platform, pattern in patterns.items() if pattern.fullmatch(product)), None)


def product_around(path: Path) -> Path | None:
    """The folder of the product that a file lies in, by the folder's name; None where it lies in none of these."""
    return next((folder for folder in path.parents if platform_of(folder.name.removesuffix(".SAFE"))), None)


def _sentinel2(path: Path) -> dict[str, Any] | None:
    """A SAFE of level 1C or 2A: one file per band, in 2A also per resolution, of which the finest is used."""
    folder = path.parent if re.fullmatch(r"MTD_MSIL(1C|2A)\.xml", path.name) else path
    found = _SENTINEL2.fullmatch(folder.name.removesuffix(".SAFE"))
    if found is None or not folder.is_dir():
        return None
    images = _images(folder, "GRANULE/*/IMG_DATA/**/*.jp2", _SENTINEL2_BAND)
    granules = {image.relative_to(folder).parts[1] for image, _ in images}
    if len(granules) > 1:
        raise DataError(
            f"{folder} has {counted(len(granules), 'granule')}",
            "a scene is one tile of the grid",
            "give one granule's bands as a STAC item",
        )
    coarsest_first = sorted(images, key=lambda found: -int(found[1]["gsd"] or 0))
    offset = _sentinel2_offset(folder / f"MTD_MSI{found['level']}.xml")
    assets = {band["band"]: _asset(image, band["band"], band["gsd"]) | offset for image, band in coarsest_first}
    assets |= _masks(folder, "GRANULE/*/IMG_DATA/**/*_SCL_20m.jp2")
    properties = {
        "platform": platform_of(found[0]),
        "s2:processing_baseline": f"{found['major']}.{found['minor']}",
        **_at(found["time"]),
    }
    return _item(found[0], properties, assets)


def _sentinel2_offset(metadata: Path) -> dict[str, Any]:
    """The asset field with reflectance at DN 0 from the product's own metadata; empty without them.

    Products made by users (`_N9999_`) may or may not have the offset, depending on their processor's version.
    """
    text = read_start(metadata, _MOST_METADATA_BYTES).decode("utf-8", "replace") if metadata.is_file() else ""
    unit = _SENTINEL2_DN.search(text)
    if unit is None:
        return {}
    told = {int(row["dn"]) for row in _SENTINEL2_TOLD.finditer(text)} or {0}
    if len(told) > 1:
        raise DataError(
            f"{metadata} has the offsets {', '.join(map(str, sorted(told)))} DN",
            "a product has one for all of its bands",
            "fetch it again, or give its bands as a STAC item with raster:offset",
        )
    return {"raster:offset": told.pop() / int(unit["dn"])}


def _landsat(path: Path) -> dict[str, Any] | None:
    """A Landsat 8 or 9 surface reflectance product: one file per band."""
    folder = path if path.is_dir() else path.parent
    name = path.name if path.is_dir() else re.sub(r"_MTL\.(txt|json|xml)$", "", path.name)
    found = _LANDSAT.fullmatch(name)
    if found is None or (not path.is_dir() and name == path.name):
        return None
    assets = {f"SR_{band['band']}": _asset(image, band["band"]) for image, band in _images(folder, "*", _LANDSAT_BAND)}
    assets |= _masks(folder, "*_QA_PIXEL.TIF")
    properties = {"platform": platform_of(name), **_landsat_time(folder / f"{name}_MTL.txt", found["day"])}
    return _item(name, properties, assets)


def _dlr(path: Path) -> dict[str, Any] | None:
    """An EnMAP or DESIS product: one image, whose bands its METADATA.XML describes."""
    product = _DLR_FILE.sub("", path.name)
    platform, found = next(
        ((name, match) for name, pattern in _DLR.items() if (match := pattern.fullmatch(product))), (None, None)
    )
    if platform is None or found is None:
        return None
    image = path
    if not DLR_IMAGE.fullmatch(path.name):
        folder = path if path.is_dir() else path.parent
        images = [file for file, _ in _images(folder, "*", DLR_IMAGE) if file.name.startswith(product)]
        if len(images) != 1:
            names = ", ".join(file.name for file in images)
            raise DataError(
                f"{folder} has {counted(len(images), 'image')} of the product{f' ({names})' if names else ''}",
                "it is not clear which one is the scene",
                "give the image itself, ...-SPECTRAL_IMAGE.TIF",
            )
        image = images[0]
    assets = {"image": {"href": str(image.absolute()), "roles": ["data"]}}
    masks = _masks(image.parent, f"{product}-QL_QUALITY_CLOUD*")
    return _item(product, {"platform": platform, **_at(found["time"])}, assets | masks)


def _one_file(path: Path) -> dict[str, Any] | None:
    """A PRISMA or EMIT product: one self-describing file; EMIT's mask lies beside it."""
    for platform, (pattern, suffix) in _ONE_FILE.items():
        found = pattern.fullmatch(path.stem)
        if found is not None and path.suffix == suffix:
            assets = {"data": {"href": str(path.absolute()), "roles": ["data"]}}
            mask = path.name.replace("EMIT_L2A_RFL_", "EMIT_L2A_MASK_")
            masks = _masks(path.parent, mask) if platform == "EMIT" else {}
            return _item(path.stem, {"platform": platform, **_at(found["time"])}, assets | masks)
    return None


def _images(folder: Path, pattern: str, name: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
    """Files of a folder that match both pattern and name, sorted; DataError if there are none."""
    found = [(path, match) for path in sorted(folder.glob(pattern)) if (match := name.fullmatch(path.name))]
    if not found:
        raise DataError(
            f"{folder} is named like a product but has no {pattern} that is an image of it",
            "there are no pixels to read",
            "unpack the whole product",
        )
    return found


def _landsat_time(metadata: Path, day: str) -> dict[str, Any]:
    """Acquisition time of the scene's centre from the MTL file; without one, the day in the product's name."""
    if metadata.is_file():
        text = read_start(metadata, _MOST_METADATA_BYTES).decode("utf-8", "replace")
        found = _LANDSAT_TIME.search(text)
        if found:
            return {"datetime": f"{found['day']}T{found['time']}Z"}
    start, end = (_at(f"{day}T{clock}")["datetime"] for clock in ("000000", "235959"))
    return {"datetime": None, "start_datetime": start, "end_datetime": end}


def _at(digits: str) -> dict[str, Any]:
    """The datetime property for a time written without separators; DataError if it is not a time."""
    try:
        time = datetime.strptime(digits.replace("T", ""), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise DataError(
            f"{digits} in the product's name is not a time",
            "when the scene was acquired is not known",
            "give the product its delivered name back",
        ) from error
    return {"datetime": time.isoformat()}


def _asset(image: Path, band: str, gsd: str | None = None) -> dict[str, Any]:
    """An asset with one band."""
    row = {"name": band, **({"gsd": float(gsd)} if gsd else {})}
    return {"href": str(image.absolute()), "roles": ["data"], "bands": [row]}


def _masks(folder: Path, pattern: str) -> dict[str, Any]:
    """Assets for the cloud masks in a folder."""
    return {path.stem: {"href": str(path.absolute()), "roles": ["cloud"]} for path in sorted(folder.glob(pattern))}


def _item(product: str, properties: dict[str, Any], assets: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": product, "geometry": None,
        "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip
