"""The report beside a product: put, and named as an asset of its item, so that both can be made again at any time.

A report is a view of a committed product. It is no part of what is the same from run to run, and of no digest but its
own, which its asset carries. Whatever interrupts the three steps here, the product verifies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenefuse.errors import DataError
from scenefuse.place.durable import json_bytes, multihash
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.catalog import link_item
from scenefuse.product.files import COLLECTION, PROVENANCE, REPORT
from scenefuse.product.output import read_stac
from scenefuse.product.stac_item import read_item, report_asset


def put_report(folder: Path | Place, html: str) -> Place:
    """`report.html` in the folder of a finished product, and its asset with size and digest in the item.

    First the item forgets the old report, then the file is replaced, then the item names it: readers see a product
    without a report, never one with a wrong digest. The collection that links the item learns of the asset.
    """
    folder = place_at(folder)
    data = html.encode()
    place = folder / REPORT
    _change(folder, None)
    place.put(data)
    asset = report_asset()
    asset |= {"file:checksum": multihash(hashlib.sha256(data).hexdigest()), "file:size": len(data)}
    _change(folder, asset)
    item = read_item(folder)
    collection = read_stac(folder.parent / COLLECTION)
    own = f"./{folder.name}/{folder.name}.json"
    if collection is not None and any(link.get("href") == own for link in collection.get("links", ())):
        link_item(folder.parent, item)
    return place


def has_report(folder: Path | Place) -> bool:
    """True when the item of the product in folder names a report."""
    return "report" in read_item(folder)["assets"]


def _change(folder: Place, asset: Mapping[str, Any] | None) -> None:
    """Give the item this report, or none, as one step for all who change it."""

    def changed(old: bytes | None) -> bytes | None:
        if old is None:
            raise DataError(
                f"{folder} holds no finished product",
                "a report would describe what does not exist for readers",
                "Run the fusion again to finish it",
            )
        item = json.loads(old)
        before = dict(item["assets"])
        assets = {key: value for key, value in before.items() if key != "report"}
        if asset is not None:
            assets["report"] = {**asset, "href": _beside(assets["provenance"]["href"])}
        return None if assets == before else json_bytes({**item, "assets": assets})

    (folder / f"{folder.name}.json").update(changed)


def _beside(href: str) -> str:
    """The report's href, as the item writes those of the other files: relative, or below the URL that serves them."""
    return f"{href.removesuffix(PROVENANCE)}{REPORT}"
