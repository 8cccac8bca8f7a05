"""Cloud masks: the files of a scene that mark its clouds, for Sentinel-2, Landsat, HLS, EnMAP and EMIT."""

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
    """How one kind of mask is named; a match of either key or file is enough."""

    code: CloudCode
    """What the mask's values mean."""
    key: str = "(?!)"
    """Pattern for the whole asset key, ignoring case; by default it matches none."""
    file: str
    """Pattern for the whole file name, ignoring case."""
    media_type: str = "image"
    """First half of the media type, if the item gives one."""

    def names(self, key: str, asset: Mapping[str, Any]) -> bool:
        """True if the asset is a mask of this kind."""
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
    """The masks of an item read from href: the finest of each code; for EnMAP, both clouds and shadows.

    Also a note on each mask that the policy does not allow: the scene may still be wanted without it.
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
    """The mask as an Asset; DataError for an href that the policy does not allow."""
    size = asset.get("file:size")
    return Asset(
        key=key,
        href=policy.check(str(asset.get("href", "")), href),
        checksum=asset.get("file:checksum"),
        size_bytes=int(size) if isinstance(size, int) else None,
    )


def _gsd_in(text: str) -> float:
    """Metres at the end of a name (`SCL_20m`); infinity if it has none."""
    found = re.search(r"_(\d0)m\b", text)
    return float(found[1]) if found else float("inf")
