"""The item of a product as published: its hrefs are resolvable by readers elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scenefuse.place.href import scheme_of
from scenefuse.place.place import Place
from scenefuse.product.succession import PREDECESSOR, SUCCESSOR, item_name
from scenefuse.publish.asset_root import AssetRoot


def readable_item(
    item: dict[str, Any],
    *,
    root: AssetRoot | None,
    version_href: Callable[[str], str | None],
    source_href: Callable[[str], str | None],
) -> dict[str, Any]:
    """The product's item with assets under root (relative if it is None), and only links that readers can follow.

    version_href: href of another version by its item id, None if it is not in the catalogue. source_href: href of a
    source given as a local path or file:// URL, None if readers have none; the provenance still names every source.
    The method's item is published with the product.
    """
    here = {asset["href"] for asset in item["assets"].values()}
    moved = {href: href if root is None else root.href(item["id"], href.rpartition("/")[2]) for href in here}
    assets = {key: {**asset, "href": moved[asset["href"]]} for key, asset in item["assets"].items()}
    links = []
    for link in item["links"]:
        href: str | None = link["href"]
        if link["rel"] in {PREDECESSOR, SUCCESSOR}:
            href = version_href(item_name(link))
        elif link["rel"] == "derived_from":
            local = scheme_of(link["href"]) in ("", "file")
            href = moved.get(link["href"]) or (source_href(link["href"]) if local else link["href"])
        if href is not None:
            links.append({**link, "href": href})
    return {**item, "assets": assets, "links": links}


def source_path(folder: Place, href: str) -> Path | None:
    """Local path of a source that an item in folder gives as a path or file:// URL; None if it no longer exists."""
    path = Path(unquote(urlsplit(href).path)) if scheme_of(href) == "file" else folder.local_path() / href
    return path.resolve() if path.exists() else None
