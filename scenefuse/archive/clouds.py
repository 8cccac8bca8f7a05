"""Which files of a scene tell where its clouds are: what Sentinel-2, Landsat, HLS, EnMAP and EMIT come with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.json_values import number_or_none
from scenefuse.archive.scene import Asset, CloudAsset, CloudCode
from scenefuse.archive.selection import file_name

_KINDS: tuple[tuple[CloudCode, re.Pattern[str], re.Pattern[str]], ...] = (
    ("scl", re.compile(r"scl(_\d0m)?"), re.compile(r"(.*_)?SCL(_\d0m)?\.(tif|jp2)")),
    ("qa-pixel", re.compile(r"qa[_-]pixel"), re.compile(r".*_QA_PIXEL\.tif")),
    ("fmask", re.compile(r"fmask"), re.compile(r".*\.Fmask\.tif")),
    ("emit", re.compile(r"(?!)"), re.compile(r"EMIT_L2A_MASK_.*\.nc")),
    ("flag", re.compile(r"(?!)"), re.compile(r".*-QL_QUALITY_CLOUD(SHADOW)?(_COG)?\.tiff?")),
)
"""Each with the asset's key and the file's name, in full and whatever their case; one of them is enough."""


def cloud_assets(assets: Mapping[str, Mapping[str, Any]], *, href: str, policy: AccessPolicy) -> tuple[CloudAsset, ...]:
    """The masks of an item that was read from href: the finest of each code, of EnMAP's both clouds and shadows.

    DataError for an href that the policy does not allow.
    """
    found: dict[str, CloudAsset] = {}
    finest: dict[str, float] = {}
    for key, asset in assets.items():
        name = file_name(asset)
        code = next((code for code, keys, names in _KINDS if _is_named(keys, key) or _is_named(names, name)), None)
        kind = str(asset.get("type") or "").partition("/")[0]
        if code is None or kind not in ({"", "image"} if code != "emit" else {"", "application"}):
            continue
        gsd_m = number_or_none(asset.get("gsd"), f"asset {key}: gsd") or _gsd_in(f"{key} {name}")
        place = name if code == "flag" else code
        if place not in found or gsd_m < finest[place]:
            size = asset.get("file:size")
            mask = Asset(
                key=key,
                href=policy.check(str(asset.get("href", "")), href),
                checksum=asset.get("file:checksum"),
                size_bytes=int(size) if isinstance(size, int) else None,
            )
            found[place], finest[place] = CloudAsset(asset=mask, code=code), gsd_m
    return tuple(found.values())


def _is_named(pattern: re.Pattern[str], text: str) -> bool:
    return re.fullmatch(pattern.pattern, text, re.IGNORECASE) is not None


def _gsd_in(text: str) -> float:
    """Metres that a name ends in (`SCL_20m`); infinity where it does not say."""
    found = re.search(r"_(\d0)m\b", text)
    return float(found[1]) if found else float("inf")
