"""Find the catalogue that a person's destination refers to."""

from __future__ import annotations

from scenefuse.archive.access import AccessPolicy
from scenefuse.errors import UsageError
from scenefuse.place.href import redact, scheme_of
from scenefuse.place.location import place_at
from scenefuse.publish.api import ApiCatalogue
from scenefuse.publish.asset_root import AssetRoot
from scenefuse.publish.destination import Catalogue
from scenefuse.publish.static import StaticCatalogue


def catalogue_at(
    destination: str, *, asset_root: str | None = None, policy: AccessPolicy | None = None, checks_assets: bool = False
) -> Catalogue:
    """The catalogue at a path or s3:// URL, or behind a STAC API's landing page; nothing is read or written yet.

    asset_root: URL below which the products' folders are served, for an API where they already lie. checks_assets:
    look at each file there first. policy: which hosts of the two may be contacted.
    """
    root = None if asset_root is None else AssetRoot(url=asset_root)
    if scheme_of(destination) in ("http", "https"):
        if root is None:
            raise UsageError(
                f"publish to {redact(destination)} without an asset root",
                "a STAC API holds items only, and readers could not find the files",
                "Give the URL under which the products' folders are served: --asset-root https://host/path",
            )
        return ApiCatalogue(url=destination, root=root, policy=policy or AccessPolicy(), checks_assets=checks_assets)
    if checks_assets:
        raise UsageError(
            f"checking assets of a static catalogue, {redact(destination)}",
            "its files are copied there with the items",
            "Leave out --check-assets",
        )
    return StaticCatalogue(root=place_at(destination), asset_root=root)
