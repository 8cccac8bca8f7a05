"""Publish products to a static catalogue on a disk or an object store."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from scenefuse.engine.lease import Lease, LeaseHeldError
from scenefuse.errors import DataError, ResourceError
from scenefuse.place.durable import json_bytes
from scenefuse.place.local import LocalPlace
from scenefuse.place.place import Place
from scenefuse.product.catalog import link_item
from scenefuse.product.files import LEASE
from scenefuse.product.folder import is_product, product_folder
from scenefuse.product.stac_item import read_item
from scenefuse.product.succession import pass_on
from scenefuse.product.verify import verify
from scenefuse.publish.asset_root import AssetRoot
from scenefuse.publish.destination import Failed, Outcome, Published
from scenefuse.publish.interruption import checked, in_order
from scenefuse.publish.readable import readable_item, source_path
from scenefuse.publish.transfer import alone_in, put_by_rename, put_in_place

_READERS = 16
"""Items looked up concurrently: each look-up waits for a disk or an object store."""
_PATIENCE_S = 90.0
"""Time to wait for another publisher of the same product; a dead publisher's lease ends within 60 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """A product that may be published."""

    folder: Place
    """Its folder."""
    stands: bool
    """The catalogue has its item exactly as it would be written, and is trusted to have the whole product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticCatalogue:
    """A static STAC catalogue in a folder; implements Catalogue."""

    root: Place
    """Folder with `catalog.json` and `collection.json`."""
    asset_root: AssetRoot | None = None
    """URL that serves root, for absolute asset hrefs; None keeps them relative."""

    def publish(
        self, folders: Sequence[Place], *, trusted: Container[str] = (), failed: Failed | None = None
    ) -> list[Published]:
        """Publish the products in folders, see Catalogue; DataError if the root lies in a product's folder."""
        self._refuse_root_in_product()
        found = checked(folders, lambda folder: self._checked(product_folder(folder), trusted), failed)

        def told(product: _Checked, error: Exception) -> None:
            if failed is not None:
                failed(product.folder, error)

        return in_order(found, self._publish, None if failed is None else told)

    def held(self, names: Iterable[str]) -> set[str]:
        """Those of the item ids that the catalogue has."""
        wanted = list(names)
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda name: (self.root / name / f"{name}.json").is_file(), wanted)
            return {name for name, stands in zip(wanted, found, strict=True) if stands}

    def _refuse_root_in_product(self) -> None:
        """Refuse a root in a product's folder: the catalogue's files there would damage that product."""
        place: Place = self.root.resolved()
        while True:
            if is_product(place):
                raise DataError(
                    f"{self.root} lies in the folder of a product, {place}",
                    "what is written there would damage that product",
                    "choose another destination",
                )
            if place == place.parent:
                return
            place = place.parent

    def _target(self, folder: Place) -> Place:
        return self.root.resolved() / folder.name

    def _checked(self, folder: Place, trusted: Container[str]) -> _Checked:
        """Verify a product; one that the catalogue has already may be trusted instead."""
        target = self._target(folder)
        if target == folder:
            raise DataError(
                f"{folder} is already in {self.root}", "a product cannot replace itself", "choose another destination"
            )
        stands = folder.name in trusted and _is_written(target, self._item(folder, target))
        if not stands:
            verify(folder).raise_if_bad()
        return _Checked(folder=folder, stands=stands)

    def _publish(self, product: _Checked) -> Published:
        """Publish one product: its files, then its item, then the links to it."""
        folder = product.folder
        target = self._target(folder)
        item = self._item(folder, target)
        outcome: Outcome = "unchanged" if product.stands else _outcome(target, item)
        if outcome != "unchanged":
            self._make_root()
            outcome = self._put(folder, target, item)
        linked = link_item(self.root, item)
        pass_on(target)
        if outcome == "unchanged" and linked:
            outcome = "replaced"
        return Published(item_id=item["id"], outcome=outcome, href=str(target / f"{folder.name}.json"))

    def _item(self, folder: Place, target: Place) -> dict[str, Any]:
        """The item as it will be written to target.

        A local source is linked if it exists and the catalogue is read from this disk, or if it lies below the
        catalogue's root: from a web server or an object store, the path would lead nowhere.
        """
        root = self.root.resolved()

        def version_href(name: str) -> str | None:
            return f"../{name}/{name}.json" if (target.parent / name).is_folder() else None

        def source_href(href: str) -> str | None:
            if not isinstance(root, LocalPlace):
                return None
            path = source_path(folder, href)
            if path is None or not (self.asset_root is None or path.is_relative_to(root.path)):
                return None
            return target.link_to(path)

        return readable_item(
            read_item(folder), root=self.asset_root, version_href=version_href, source_href=source_href
        )

    def _make_root(self) -> None:
        if not isinstance(self.root, LocalPlace):
            self.root.free_bytes()  # fails for a missing bucket before any file is sent
            return
        try:
            self.root.make()
        except OSError as error:
            raise ResourceError(
                f"{self.root} cannot be created as a folder ({error.strerror})",
                "no product can be published there",
                "choose another destination",
            ) from error

    def _put(self, folder: Place, target: Place, item: dict[str, Any]) -> Outcome:
        """Put the product into target so that no reader sees a partial one; return what that did in the end."""
        on_disk = isinstance(target, LocalPlace)
        with alone_in(target.parent.local_path()) if on_disk else _lease(target):
            now = _outcome(target, item)  # another publisher may have put it while this one waited
            if now == "unchanged":
                return now
            if isinstance(target, LocalPlace):
                put_by_rename(folder, target, item)
            else:
                put_in_place(folder, target, item)
            return now


def _outcome(target: Place, item: dict[str, Any]) -> Outcome:
    """What publishing has to do; a damaged target counts as different."""
    if not (target / f"{target.name}.json").is_file():
        return "added"
    return "unchanged" if _is_written(target, item) and verify(target).ok else "replaced"


def _is_written(target: Place, item: dict[str, Any]) -> bool:
    """True if target has the item exactly as it would be written."""
    place = target / f"{target.name}.json"
    return place.is_file() and place.read() == json_bytes(item)


def _lease(target: Place) -> Lease:
    """The lease on a product's folder in an object store, which has no rename: one publisher at a time."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return Lease(target / LEASE)
        except LeaseHeldError:
            if time.monotonic() > end:
                raise
            time.sleep(1)
