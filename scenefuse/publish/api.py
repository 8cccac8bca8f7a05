"""Publish products to a STAC API: first their items, then the collection that holds them.

The Transaction extension has no way to make publishers take turns at a document. Each item has a single publisher, but
all share the collection, and writing it may undo what another publisher has just written. So after writing it, each
publisher checks it against the items that are there by then; publishers write their items before they read the
collection. The last one to write the collection sees all items, so in the end it covers every one of them.

Other publishers' assets are expensive to read and seldom needed: each publisher waits at least _SETTLING_S between
writing the collection and checking it, so whoever reads and writes it within that time undoes nothing unseen. A
publisher that took longer reads the assets of all items.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from scenefuse.archive.access import AccessPolicy
from scenefuse.engine.loop import batched
from scenefuse.errors import DataError, SceneFuseError, TransientError
from scenefuse.place.place import Place
from scenefuse.product.catalog import new_collection, widen
from scenefuse.product.folder import product_folder
from scenefuse.product.stac_item import COLLECTION_ID, read_item
from scenefuse.product.succession import PREDECESSOR, as_replaced, item_name
from scenefuse.product.verify import verify
from scenefuse.publish.asset_root import AssetRoot
from scenefuse.publish.comparison import is_held, without_servers_links
from scenefuse.publish.destination import Failed, Outcome, Published
from scenefuse.publish.interruption import checked, in_order, interrupted
from scenefuse.publish.readable import readable_item
from scenefuse.publish.stac_api import PAGE, Document, StacApi

_ROUNDS = 12
"""Attempts at a document while others write it."""
_WEIGHED = ("id", "bbox", "properties")
"""Fields of other publishers' items that widen a collection; "assets", for `item_assets`, make a page of pgSTAC take
five times as long. Omitting the bands, which are most of them, takes as long again."""
_SETTLING_S = (0.2, 0.6)
"""Shortest and longest pause after writing the collection: whoever read it before has written it by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCatalogue:
    """A STAC API with the Transaction extension; implements Catalogue. The products' files lie under root."""

    url: str
    """Landing page of the API."""
    root: AssetRoot
    """Where readers find the products' folders."""
    policy: AccessPolicy = field(default_factory=AccessPolicy)
    """Which hosts may be contacted."""
    checks_assets: bool = False
    """Whether to check, before publishing an item, that each of its assets exists with the right size."""

    def publish(
        self, folders: Sequence[Place], *, trusted: Container[str] = (), failed: Failed | None = None
    ) -> list[Published]:
        """Publish the products in folders, see Catalogue."""
        with StacApi(self.url, self.policy) as api:
            stand = _standing(api, self._readable(api, [folder for folder in folders if folder.name in trusted]))
            found = checked(folders, lambda folder: _verified(product_folder(folder), stand), failed)
            documents = self._items(api, [read_item(folder) for folder in found])
            places = {document["id"]: folder for document, folder in zip(documents, found, strict=True)}

            def told(document: Document, error: Exception) -> None:
                if failed is not None:
                    failed(places[document["id"]], error)

            told_of = None if failed is None else told
            if self.checks_assets:
                documents = checked(documents, self._looked_at, told_of)
            if not documents:
                return []
            before = _collection(api, documents)
            stand = _standing(api, [document for document in documents if document["id"] in stand])
            done: list[Document] = []
            try:
                outcomes = in_order(documents, lambda document: (document, _put(api, document, done, stand)), told_of)
            except SceneFuseError:
                with suppress(SceneFuseError):  # the first failure is the one to report
                    _hold_all(api, done)
                raise
            try:
                _hold_all(api, done)
            except SceneFuseError as error:
                raise interrupted(error, len(done), len(documents)) from error
        return [
            Published(
                item_id=document["id"],
                outcome="replaced" if outcome == "unchanged" and not _holds(before, document) else outcome,
                href=api.address(COLLECTION_ID, document["id"]),
            )
            for document, outcome in outcomes
        ]

    def held(self, names: Iterable[str]) -> set[str]:
        """Those of the item ids that the collection has."""
        with StacApi(self.url, self.policy) as api:
            if api.read(COLLECTION_ID) is None:
                return set()
            return {str(item["id"]) for item in api.find(COLLECTION_ID, names, ("id",))}

    def _looked_at(self, document: Document) -> Document:
        """The item, after checking that all its assets are there."""
        self.root.check(document, self.policy)
        return document

    def _readable(self, api: StacApi, folders: Iterable[Place]) -> Iterator[Document]:
        """The item of each product that has one, as it would be written to the API."""
        for folder in folders:
            try:
                item = read_item(folder)
            except (OSError, ValueError):  # verification will report it
                continue
            yield from self._items(api, [item])

    def _items(self, api: StacApi, items: Sequence[Document]) -> list[Document]:
        """The items as they will be written to the API, linking only versions that it will then have."""
        ids = {item["id"] for item in items}

        def version_href(name: str) -> str | None:
            there = name in ids or api.read(COLLECTION_ID, name) is not None
            return api.address(COLLECTION_ID, name) if there else None

        def no_href(_href: str) -> None:
            """None: an API's readers cannot access files of this machine."""

        return [
            _linked(api, readable_item(item, root=self.root, version_href=version_href, source_href=no_href))
            for item in items
        ]


def _standing(api: StacApi, items: Iterable[Document]) -> set[str]:
    """Ids of the items that the API already has exactly so."""
    standing: set[str] = set()
    for some in batched(items, PAGE):
        ours = {item["id"]: item for item in some}
        standing |= {there["id"] for there in api.find(COLLECTION_ID, ours) if is_held(ours[there["id"]], there)}
    return standing


def _verified(folder: Place, trusted: Container[str]) -> Place:
    """The product's folder, after verifying it unless trusted."""
    if folder.name not in trusted:
        verify(folder).raise_if_bad()
    return folder


def _collection(api: StacApi, items: Sequence[Document]) -> Document:
    """The collection of the items, created from the first item if there is none yet."""
    for _ in range(2):
        there = api.read(COLLECTION_ID)
        if there is not None:
            return there
        if not api.takes_collections:
            raise DataError(
                f"{api.url} has no collection {COLLECTION_ID!r}, and its clients cannot create one",
                "the items would belong to no collection",
                f"ask its operator to create the collection {COLLECTION_ID!r}, or enable collection transactions",
            )
        new = new_collection(items[0])
        if api.create(_linked(api, new)):
            return new
    raise _contended(api, None)


def _put(api: StacApi, item: Document, done: list[Document], standing: Container[str]) -> Outcome:
    """Write the item, mark those it replaces, and add it to done; return what that took."""
    outcome: Outcome = "unchanged" if item["id"] in standing else _written(api, item)
    done.append(item)
    replaced = [item_name(link) for link in item["links"] if link["rel"] == PREDECESSOR]
    marked = [_mark(api, name, item["id"]) for name in replaced]
    return "replaced" if outcome == "unchanged" and any(marked) else outcome


def _written(api: StacApi, item: Document) -> Outcome:
    """Write the item until the API has it; return what that took."""
    outcome: Outcome | None = None
    for _ in range(_ROUNDS):
        there = api.read(COLLECTION_ID, item["id"])
        if there is not None and is_held(item, there):
            return outcome or "unchanged"
        if there is None:
            outcome = outcome or "added"
            written = api.create(item, collection=COLLECTION_ID)
        else:
            outcome = outcome or "replaced"
            written = api.replace(item, collection=COLLECTION_ID)
        if written:
            return outcome
    raise _contended(api, item["id"])


def _mark(api: StacApi, name: str, successor: str) -> bool:
    """Mark an item as replaced by its successor; False if it was marked already or is gone."""
    for turn in range(_ROUNDS):
        there = api.read(COLLECTION_ID, name)
        if there is None:
            return False
        marked = _linked(api, as_replaced(there, successor, api.address(COLLECTION_ID, successor)))
        if is_held(marked, there):
            return turn > 0
        api.replace(marked, collection=COLLECTION_ID)
    raise _contended(api, name)


def _hold_all(api: StacApi, done: Sequence[Document]) -> None:
    """Widen the collection to cover the published items, and those of others that concurrent writes lost."""
    if not done or not api.takes_collections:  # in the latter case, the API's operator maintains the collection
        return
    items = list(done)
    for _ in range(_ROUNDS):
        began = time.monotonic()
        there = api.read(COLLECTION_ID)
        if there is None:
            break
        wider = _widened(there, items)
        if is_held(wider, there):
            return
        api.replace(_linked(api, wider))
        was_quick = time.monotonic() - began < min(_SETTLING_S)
        time.sleep(random.uniform(*_SETTLING_S))  # noqa: S311 - spreads competing publishers, not a secret
        items = [*done, *api.items(COLLECTION_ID, _WEIGHED if was_quick else (*_WEIGHED, "assets"))]
    raise _contended(api, None)


def _holds(collection: Document, item: Document) -> bool:
    return is_held(_widened(collection, [item]), collection)


def _widened(collection: Document, items: Iterable[Document]) -> Document:
    """The collection widened to cover the items; items without a place or time are skipped."""
    wider = copy.deepcopy({key: value for key, value in collection.items() if value is not None})
    for item in items:
        with suppress(KeyError, TypeError, ValueError):
            widen(wider, item)
    return wider


def _linked(api: StacApi, document: Document) -> Document:
    """A collection or item with the navigation links that the API itself would give it."""
    whole, json = api.address(COLLECTION_ID), "application/json"
    is_item = document.get("type") == "Feature"
    own = {"root": (f"{api.url}/", json), "parent": (whole if is_item else f"{api.url}/", json)}
    if is_item:
        own["self"] = (api.address(COLLECTION_ID, document["id"]), "application/geo+json")
        own["collection"] = (whole, json)
    else:
        own["self"] = (whole, json)
    document = without_servers_links(document)
    links = [{"rel": rel, "href": href, "type": media_type} for rel, (href, media_type) in own.items()]
    return {**document, "links": [*document["links"], *links]}


def _contended(api: StacApi, item_id: str | None) -> TransientError:
    return TransientError(
        f"{api.address(COLLECTION_ID, item_id)} did not stay as written, {_ROUNDS} times",
        "others change it at the same time, or the API does not keep what it accepts",
        "Run the same command again; if that does not help, check what the API does with it",
    )
