"""Which assets of an item hold the bands to be fused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from scenefuse.archive.json_values import texts
from scenefuse.sensors.band import Band

LONGEST_REFLECTED_NM = 3000.0
"""Beyond this wavelength a band measures emitted heat, not reflectance."""

_DATA_ROLES = {"data", "reflectance"}
_OTHER_ROLES = {
    "thumbnail", "overview", "visual", "metadata", "cloud", "cloud-shadow", "snow-ice", "water-mask", "saturation",
    "quality", "mask", "udm", "data-mask", "land-water", "angle", "sun-zenith", "sun-azimuth", "iso-19115",
    "uncertainty",
}  # fmt: skip
_OTHER_WORDS = {"rfluncert", "uncert", "uncertainty", "mask"}
"""Words in keys and file names that mark other data where bands and roles do not.

EMIT's items have EMIT_L2A_RFLUNCERT_*.nc and EMIT_L2A_MASK_*.nc beside EMIT_L2A_RFL_*.nc.
"""
_OTHER_KEYS = ("visual", "tci", "thumbnail", "overview", "preview", "rendered_preview", "quicklook", "browse")
_RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-hdf", "application/x-netcdf")
_RASTER_TYPES_MORE = ("application/netcdf", "application/vnd+zarr", "application/vnd.zarr", "application/octet-stream")
_RASTER_SUFFIXES = {
    ".tif", ".tiff", ".jp2", ".h5", ".he5", ".hdf5", ".nc", ".nc4", ".zarr",
    ".bsq", ".bil", ".bip", ".img", ".dat", ".mat",
}  # fmt: skip

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A raster asset and what is known about its bands."""

    key: str
    """Key in the item's assets."""
    bands: tuple[Band, ...]
    """Its bands; empty when only the file can tell."""
    common_names: tuple[str | None, ...]
    """`eo:common_name` of each band."""
    is_data: bool
    """True if a role is data or reflectance."""
    file_name: str = ""
    """Name of its file."""

    @property
    def is_named_otherwise(self) -> bool:
        """True if a word of its key or file name marks it as something else."""
        return not _OTHER_WORDS.isdisjoint(_WORD.findall(f"{self.key} {self.file_name}".lower()))


def is_zarr_group(folder: Path) -> bool:
    """True if the folder is a Zarr group (v2 or v3), whatever its name: groups within a store have no suffix."""
    return any((folder / mark).is_file() for mark in _ZARR_MARKS)


def is_raster(key: str, asset: Mapping[str, Any]) -> bool:
    """True if media type (or suffix, without one), roles and key allow the asset to hold measured bands."""
    if _roles(asset) & _OTHER_ROLES or key.lower().split("_")[0].split("-")[0] in _OTHER_KEYS:
        return False
    media_type = str(asset.get("type") or "").lower()
    if not media_type:
        return PurePosixPath(file_name(asset)).suffix.lower() in _RASTER_SUFFIXES
    return media_type.startswith((*_RASTER_TYPES, *_RASTER_TYPES_MORE))


def file_name(asset: Mapping[str, Any]) -> str:
    """Name of the asset's file."""
    return PurePosixPath(urlsplit(str(asset.get("href", ""))).path).name


def has_data_role(asset: Mapping[str, Any]) -> bool:
    """True if a role says that the asset holds data."""
    return bool(_roles(asset) & _DATA_ROLES)


def select(candidates: list[Candidate]) -> tuple[list[str], list[str]]:
    """Keys of the assets to read, in the item's order, and a note for each kind left out.

    If any asset describes bands with a wavelength or common name, only those count; else, if any has a data role, only
    those, minus any whose names mark other data if others remain. Panchromatic and thermal bands are left out, and of
    several files of the same band (by name and wavelength) the first with the finest GSD is kept.
    """
    described = [c for c in candidates if _is_described(c)]
    chosen = described or [c for c in candidates if c.is_data] or candidates
    notes = []
    other = [] if described else [c for c in chosen if c.is_named_otherwise]
    if 0 < len(other) < len(chosen):
        left = ", ".join(c.file_name or c.key for c in other)
        notes.append(f"by their names, these are no reflectance and are left out: {left}")
        chosen = [c for c in chosen if c not in other]
    reflected = [c for c in chosen if not _is_pan_or_thermal(c)]
    if len(reflected) < len(chosen) and reflected:
        left = ", ".join(c.key for c in chosen if c not in reflected)
        notes.append(f"panchromatic and thermal assets are left out: {left}")
        chosen = reflected
    best: dict[tuple[tuple[str, float | None], ...], Candidate] = {}
    for candidate in chosen:
        bands = tuple((band.name.lower(), band.wavelength_nm) for band in candidate.bands)
        is_told = candidate in described or len(bands) == 1  # unnamed bands are `band 1`, ... in every asset
        identity = bands if is_told else ((candidate.key, None),)
        if identity not in best or _gsd_m(candidate) < _gsd_m(best[identity]):
            best[identity] = candidate
    kept = [c.key for c in chosen if c in best.values()]
    if len(kept) < len(chosen):
        notes.append(
            f"other files of the same bands are left out: {', '.join(c.key for c in chosen if c.key not in kept)}"
        )
    return kept, notes


def _is_described(candidate: Candidate) -> bool:
    return any(band.wavelength_nm is not None for band in candidate.bands) or any(candidate.common_names)


def _is_pan_or_thermal(candidate: Candidate) -> bool:
    """True if every band of the asset is panchromatic or thermal."""
    return bool(candidate.bands) and all(
        common in ("pan", "lwir", "lwir11", "lwir12") or (band.wavelength_nm or 0.0) > LONGEST_REFLECTED_NM
        for band, common in zip(candidate.bands, candidate.common_names, strict=True)
    )


def _gsd_m(candidate: Candidate) -> float:
    return min((band.gsd_m for band in candidate.bands if band.gsd_m is not None), default=float("inf"))


def _roles(asset: Mapping[str, Any]) -> set[str]:
    """The asset's roles in lower case."""
    return {role.lower() for role in texts(asset.get("roles"))}
