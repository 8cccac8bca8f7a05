"""Searching a source for scenes, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

from pystac import Link
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from scenefuse.archive.access import shown
from scenefuse.archive.bounds import BBox
from scenefuse.archive.document import document_kind, link_rel, read_document
from scenefuse.archive.fetch import Fetcher
from scenefuse.archive.items import corners_of, scene_from_item
from scenefuse.archive.json_values import number
from scenefuse.archive.scene import Scene
from scenefuse.archive.source import ArchiveSource, listed_items, place_in_list, self_href
from scenefuse.errors import DataError
from scenefuse.place.href import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedItem:
    """An item that could not be read; it does not stop a search."""

    href: str
    """Its path or URL, without credentials."""
    reason: str
    """Why it could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """All results of a search."""

    scenes: tuple[Scene, ...]
    """Scenes in the order of the source."""
    skipped: tuple[SkippedItem, ...]
    """Items that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The criteria of a search; None means any."""

    collections: tuple[str, ...] | None
    bbox: BBox | None
    since: datetime | None
    until: datetime | None


def search(
    source: ArchiveSource,
    *,
    collections: Sequence[str] | None = None,
    bbox: BBox | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
) -> Iterator[Scene | SkippedItem]:
    """Scenes of the collections that touch bbox and were acquired from since to until (inclusive; UTC if naive).

    An item that cannot be read comes as a SkippedItem and does not count against limit. A catalogue's link to a child
    that cannot be read raises DataError with the document and the link's position, because an unknown number of scenes
    would be missing.
    """
    wanted = _Wanted(
        collections=tuple(collections) if collections is not None else None,
        bbox=bbox,
        since=_utc(since),
        until=_utc(until),
    )
    found = _search_api(source, wanted) if source.kind == "api" else _search_documents(source, wanted)
    return found if limit is None else _limited(found, limit)


def collect(found: Iterable[Scene | SkippedItem]) -> SearchResult:
    """All scenes and all skipped items of one or several searches."""
    entries = list(found)
    return SearchResult(
        scenes=tuple(entry for entry in entries if isinstance(entry, Scene)),
        skipped=tuple(entry for entry in entries if isinstance(entry, SkippedItem)),
    )


def _limited(found: Iterator[Scene | SkippedItem], limit: int) -> Iterator[Scene | SkippedItem]:
    """The entries up to the limit-th scene."""
    count = 0
    while count < limit:
        entry = next(found, None)
        if entry is None:
            return
        count += isinstance(entry, Scene)
        yield entry


def _search_documents(source: ArchiveSource, wanted: _Wanted) -> Iterator[Scene | SkippedItem]:
    """Scenes of an item, a list or a table of items, or a static catalogue, depth first in the order of the links."""
    with Fetcher(source.policy) as fetcher:
        if source.kind == "item":
            yield from _scenes(source.document, source.href, source, wanted)
        elif source.kind in ("items", "table"):
            yield from _features(listed_items(source), source.href, source, wanted)
        else:
            yield from _walk(source, wanted, fetcher)


def _features(
    features: Iterable[Any], href: str, source: ArchiveSource, wanted: _Wanted
) -> Iterator[Scene | SkippedItem]:
    """Scenes of the items in a file; an item whose own address is missing or not allowed gets that of the file."""
    for feature in features:
        yield from _scenes(feature, place_in_list(feature, href, source.policy), source, wanted)


def _walk(source: ArchiveSource, wanted: _Wanted, fetcher: Fetcher) -> Iterator[Scene | SkippedItem]:
    """Scenes of a static catalogue; each document is visited once."""
    seen = {source.href}
    pending: list[tuple[str, dict[str, Any]]] = [(source.href, source.document)]
    while pending:
        href, document = pending.pop()
        _refuse_collection_of_api(document, href)
        children = []
        for position, link in enumerate(document["links"]):
            rel = link_rel(link)
            if rel not in ("child", "item"):
                continue
            try:
                target = source.policy.check(link["href"], href)
                if target in seen:
                    continue
                seen.add(target)
                linked = read_document(target, fetcher)
                kind = document_kind(linked, target)
            except DataError as error:
                if rel == "item":
                    yield SkippedItem(
                        href=shown(link["href"], href), reason=f"{redact(href)}, links[{position}]: {error}"
                    )
                    continue
                raise DataError(
                    f"{redact(href)}, links[{position}]: {error.value}", error.consequence, error.cure
                ) from error
            if kind == "item":
                yield from _scenes(linked, target, source, wanted)
            elif kind == "items":
                yield from _features(linked["features"], target, source, wanted)
            else:
                children.append((target, linked))
        pending += reversed(children)


def _refuse_collection_of_api(document: Mapping[str, Any], href: str) -> None:
    """Refuse a collection whose scenes only its API's search can find: walked, it would seem to be empty."""
    links = {link_rel(link): link for link in document["links"]}
    if "items" in links and not links.keys() & {"child", "item"}:
        root = f", {shown(links['root']['href'], href)}," if "root" in links else ""
        raise DataError(
            f"{redact(href)} is a collection of a STAC API, which finds its items only by search",
            "none of its scenes would be listed",
            f"Give the API's landing page{root} with --collection {document.get('id')} (search), or --hs-collection or "
            "--ms-collection (pair, batch)",
        )


def _search_api(source: ArchiveSource, wanted: _Wanted) -> Iterator[Scene | SkippedItem]:
    """Scenes that a STAC API finds, page by page."""
    with Fetcher(source.policy) as fetcher:
        try:
            client = Client.from_dict(source.document, href=source.href, preserve_dict=True)
            client._stac_io = _CheckedIO(fetcher, source.href)  # noqa: SLF001 - what Client.open(stac_io=) does, without a second read
            client.add_conforms_to("ITEM_SEARCH")  # implied by the search link, all that older landing pages have
            posts = any(link.extra_fields.get("method") == "POST" for link in client.get_links("search"))
            pages = client.search(
                method="POST" if posts else "GET",
                collections=list(wanted.collections) if wanted.collections is not None else None,
                bbox=list(wanted.bbox) if wanted.bbox is not None else None,
                datetime=_interval(wanted),
                limit=100,
                max_items=None,
            ).items_as_dicts()
            for item in pages:
                try:
                    href = source.policy.check(self_href(item) or source.href, source.href)
                except DataError as error:
                    yield SkippedItem(href=redact(source.href), reason=f"{item.get('id')}: {error}")
                    continue
                yield from _scenes(item, href, source, wanted)
        except (APIError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{redact(source.href)} gave an answer that is not a STAC API's ({type(error).__name__}: {error})",
                "its scenes cannot be listed",
                "check that the address is the landing page of a STAC API",
            ) from error


class _CheckedIO(StacApiIO):
    """pystac-client's requests, sent by a Fetcher with its policy, retries and limits.

    Its links are resolved against the page before, the first against the landing page: `next` may be relative.
    """

    def __init__(self, fetcher: Fetcher, landing: str) -> None:
        super().__init__()
        self.session.close()
        self._fetcher = fetcher
        self._page = landing

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """The text of a link or URL; never of a local file, which pystac-client would open."""
        return super().read_text(source) if isinstance(source, Link) else self.request(str(source), *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The body of the reply, decoded from UTF-8."""
        method = (method or "GET").upper()
        href = self._page = urljoin(self._page, href)
        if method == "GET":
            return self._fetcher.get(href, headers=headers, query=parameters).decode("utf-8")
        return self._fetcher.request(method, href, headers=headers, body=parameters).decode("utf-8")


def _scenes(item: Any, href: str, source: ArchiveSource, wanted: _Wanted) -> Iterator[Scene | SkippedItem]:
    """The item's scene if it matches, or a SkippedItem if it cannot be one; nothing for other items."""
    if not isinstance(item, dict):
        yield SkippedItem(href=redact(href), reason=f"a feature is a JSON {type(item).__name__}")
        return
    if wanted.collections is not None and item.get("collection") not in wanted.collections:
        return
    try:
        scene = scene_from_item(item, href=href, policy=source.policy)
        chosen = _is_wanted(scene, item.get("bbox"), wanted)
    except DataError as error:
        yield SkippedItem(href=redact(href), reason=f"{item.get('id')}: {error}")
        return
    if chosen:
        yield scene


def _is_wanted(scene: Scene, bbox: Any, wanted: _Wanted) -> bool:
    """True if the scene's time and place match; a scene without a requested time or place does not."""
    if wanted.since is not None and (scene.acquired is None or scene.acquired < wanted.since):
        return False
    if wanted.until is not None and (scene.acquired is None or scene.acquired > wanted.until):
        return False
    return wanted.bbox is None or _touches(scene, corners_of(bbox, redact(scene.href)), wanted.bbox)


def _touches(scene: Scene, corners: BBox | None, wanted: BBox) -> bool:
    """True if the wanted box meets the corners, else the footprint's bounds; either may cross the antimeridian."""
    if corners is not None:
        west, south, east, north = corners
    elif scene.footprint is not None:
        points = list(_points(scene.footprint.get("coordinates"), f"{redact(scene.href)}: geometry"))
        if not points:
            return False
        west, east = min(x for x, _ in points), max(x for x, _ in points)
        if west < 0 <= east and east - west > 180:  # the shorter way round crosses the antimeridian
            west, east = min(x for x, _ in points if x >= 0), max(x for x, _ in points if x < 0)
        south, north = min(y for _, y in points), max(y for _, y in points)
    else:
        return False
    if south > wanted[3] or north < wanted[1]:
        return False
    return any(
        a_west <= b_east and b_west <= a_east
        for a_west, a_east in _spans(west, east)
        for b_west, b_east in _spans(wanted[0], wanted[2])
    )


def _spans(west: float, east: float) -> list[tuple[float, float]]:
    """One span of longitudes, or two, one on each side of the antimeridian; the bounds may lie beyond it (181)."""
    if east - west >= 360:
        return [(-180.0, 180.0)]
    west, east = (x if -180 <= x <= 180 else (x + 180) % 360 - 180 for x in (west, east))
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def _points(coordinates: Any, where: str) -> Iterator[tuple[float, float]]:
    """All points of nested GeoJSON coordinates."""
    if isinstance(coordinates, list):
        if len(coordinates) >= 2 and all(isinstance(value, (int, float)) for value in coordinates[:2]):
            yield number(coordinates[0], where), number(coordinates[1], where)
        else:
            for part in coordinates:
                yield from _points(part, where)


def _interval(wanted: _Wanted) -> str | None:
    """The time range as STAC APIs expect it: `2024-06-01T00:00:00Z/..`."""
    if wanted.since is None and wanted.until is None:
        return None
    ends = (time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if time else ".." for time in (wanted.since, wanted.until))
    return "/".join(ends)


def _utc(time: datetime | None) -> datetime | None:
    """The time in UTC; a naive time is taken as UTC."""
    if time is None:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
