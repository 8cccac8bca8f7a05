"""The URL under which readers find the folders of products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from scenefuse.archive.access import STORE_SCHEMES, AccessPolicy
from scenefuse.archive.fetch import Fetcher
from scenefuse.errors import DataError, UsageError
from scenefuse.place.href import redact, scheme_of
from scenefuse.place.store import StorePlace
from scenefuse.product.files import STORE

_METADATA = "zarr.json"
"""Present in every group of a Zarr store; checked in place of the store, which is a folder."""

_NO_HEAD = {405, 501}
"""Statuses of servers that do not support HEAD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRoot:
    """The URL below which readers find products: `<url>/<item id>/<file>`."""

    url: str
    """The URL; a trailing slash is ignored."""

    def __post_init__(self) -> None:
        if scheme_of(self.url) not in ("http", "https", *STORE_SCHEMES) or not urlsplit(self.url).netloc:
            raise UsageError(
                f"asset root {redact(self.url)}",
                "readers of the items could not follow it",
                "Give the URL that readers need, https://host/path or s3://bucket/prefix",
            )
        if redact(self.url).lower() != self.url.lower():
            raise UsageError(
                f"asset root {redact(self.url)} with a user name, a query or a fragment",
                "everyone who reads the items would see it",
                "Give the URL that readers need, https://host/path",
            )

    def href(self, item_id: str, name: str) -> str:
        """URL of a file of a product."""
        return f"{self.url.rstrip('/')}/{quote(item_id)}/{quote(name)}"

    def check(self, item: dict[str, Any], policy: AccessPolicy) -> None:
        """Raise DataError if an asset of the item, with hrefs under the root, is missing or has another size."""
        with Fetcher(policy) as fetcher:
            for asset in item["assets"].values():
                self._check_file(asset, fetcher)

    def _check_file(self, asset: dict[str, Any], fetcher: Fetcher) -> None:
        href, expected = asset["href"], asset.get("file:size")
        if href.rpartition("/")[2] == STORE:
            href = f"{href}/{_METADATA}"
        missing: str | None = None
        if scheme_of(href) == "s3":
            parts = urlsplit(href)
            found = StorePlace(bucket=parts.netloc, key=parts.path.strip("/")).stat()
            size, missing = (None, "does not exist") if found is None else (found[0], None)
        else:
            reply = fetcher.exchange("HEAD", href, headers={"Accept-Encoding": "identity"})
            size = reply.size_bytes
            if reply.status in _NO_HEAD:
                size = fetcher.get_range(href, 0, 1).total_bytes
            elif not 200 <= reply.status < 300:
                missing = f"answered {reply.status}"
        if missing is None and (expected is None or size is None or size == expected):
            return
        raise DataError(
            f"{href} {missing or f'has {size} bytes, not {expected}'}",
            "readers would not find what the item promises",
            "put the product's folder there, or correct --asset-root",
        )
