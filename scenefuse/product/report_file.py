"""The report beside a product and its asset in the item; both can be made again at any time.

A report is a view of a committed product. It is not reproducible from run to run, and no digest covers it but the one
in its own asset. The product verifies even if writing the report is interrupted between any two steps.
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
    """Write `report.html` to the folder of a finished product and add its asset, with size and digest, to the item.

    The item first drops the old report, then the file is replaced, then the item names it: readers may see a product
    without a report, but never one with a wrong digest. A collection that links the item gains the asset too.
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
    """True if the item of the product in folder names a report."""
    return "report" in read_item(folder)["assets"]


def _change(folder: Place, asset: Mapping[str, Any] | None) -> None:
    """Set or remove the report asset of the item, atomically among concurrent writers."""

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
    """Href of the report in the form of the item's other hrefs: relative, or below the URL that serves them."""
    return f"{href.removesuffix(PROVENANCE)}{REPORT}"
