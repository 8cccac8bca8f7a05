"""Which files of a scene tell where its clouds are: what Sentinel-2, Landsat, HLS, EnMAP and EMIT come with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.json_values import number_or_none
from scenefuse.archive.scene import Asset, CloudAsset, CloudCode
from scenefuse.archive.selection import file_name
from scenefuse.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How the masks of an archive are named: key or file is enough."""

    code: CloudCode
    """What their values mean."""
    key: str = "(?!)"
    """Pattern of the asset's key, in full and whatever its case; by default of none."""
    file: str
    """Pattern of the file's name, in full and whatever its case."""
    media_type: str = "image"
    """First half of the media type, where the item tells one."""

    def names(self, key: str, asset: Mapping[str, Any]) -> bool:
        """True when an asset is such a mask."""
        told = str(asset.get("type") or self.media_type).partition("/")[0]
        named = re.fullmatch(self.key, key, re.IGNORECASE) or re.fullmatch(self.file, file_name(asset), re.IGNORECASE)
        return told == self.media_type and named is not None


_KINDS = (
    _Kind(code="scl", key=r"scl(_\d0m)?", file=r"(.*_)?SCL(_\d0m)?\.(tif|jp2)"),
    _Kind(code="qa-pixel", key=r"qa[_-]pixel", file=r".*_QA_PIXEL\.tif"),
    _Kind(code="fmask", key=r"fmask", file=r".*\.Fmask\.tif"),
    _Kind(code="emit", file=r"EMIT_L2A_MASK_.*\.nc", media_type="application"),
    _Kind(code="flag", file=r".*-QL_QUALITY_CLOUD(SHADOW)?(_COG)?\.tiff?"),
)


def cloud_assets(
    assets: Mapping[str, Mapping[str, Any]], *, href: str, policy: AccessPolicy
) -> tuple[tuple[CloudAsset, ...], list[str]]:
    """The masks of an item that was read from href: the finest of each code, of EnMAP's both clouds and shadows.

    And a note on each that the policy does not allow: the scene may be wanted without it.
    """
    notes: list[str] = []
    finest: dict[str, tuple[float, CloudAsset]] = {}
    for key, asset in assets.items():
        code = next((kind.code for kind in _KINDS if kind.names(key, asset)), None)
        if code is None:
            continue
        what = file_name(asset) if code == "flag" else code
        try:
            gsd_m = number_or_none(asset.get("gsd"), f"asset {key}: gsd") or _gsd_in(f"{key} {file_name(asset)}")
            if what in finest and finest[what][0] <= gsd_m:
                continue
            finest[what] = gsd_m, CloudAsset(asset=_mask(key, asset, href, policy), code=code)
        except DataError as error:
            notes.append(f"mask {key} is left out: {error.value}: {error.consequence}")
    return tuple(mask for _, mask in finest.values()), notes


def _mask(key: str, asset: Mapping[str, Any], href: str, policy: AccessPolicy) -> Asset:
    """The asset; DataError for an href that the policy does not allow."""
    size = asset.get("file:size")
    return Asset(
        key=key,
        href=policy.check(str(asset.get("href", "")), href),
        checksum=asset.get("file:checksum"),
        size_bytes=int(size) if isinstance(size, int) else None,
    )


def _gsd_in(text: str) -> float:
    """Metres that a name ends in (`SCL_20m`); infinity where it does not say."""
    found = re.search(r"_(\d0)m\b", text)
    return float(found[1]) if found else float("inf")
