"""Client of a STAC API with the Transaction extension: reads and writes documents, and classifies refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.error_body import message_from
from scenefuse.archive.fetch import Fetcher, Reply
from scenefuse.config import stac_credentials
from scenefuse.engine.loop import batched
from scenefuse.errors import DataError, SceneFuseError, StorageError, TransientError, UsageError
from scenefuse.place.href import redact

Document = dict[str, Any]

_TRANSACTIONS = "/ogcapi-features/extensions/transaction"
"""End of the conformance class of an API that accepts items."""
_COLLECTIONS = "/collections/extensions/transaction"
"""End of the conformance class of an API that accepts collections."""
_SEARCH = "/item-search"
"""End of the conformance class of an API that finds items by id."""
_FIELDS = "#fields"
"""End of the conformance classes of an API that can omit fields of items, in a collection and in search results."""
PAGE = 250
"""Items per page; an item of 300 bands takes 0.1 MiB if the API omits nothing."""
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = re.compile(r"[\x20-\x7e]+")


class StacApi:
    """A writable STAC API. Use it in a with statement, as it holds connections.

    Credentials are sent to its own host only. TransientError if the API fails temporarily, StorageError if it denies
    write access, DataError if it rejects a document.
    """

    def __init__(self, url: str, policy: AccessPolicy) -> None:
        """Read the landing page; DataError if it is not one, or belongs to an API that cannot be written to."""
        _check_address(url, policy)
        self._headers = {"Accept": "application/json, application/geo+json", **_credentials()}
        self._fetcher = Fetcher(policy)
        try:
            landing = self._landing(url)
            conforms = [str(conformance) for conformance in landing["conformsTo"]]
            self._require_transactions(conforms)
        except SceneFuseError:
            self._fetcher.close()
            raise
        self.takes_collections = any(conformance.endswith(_COLLECTIONS) for conformance in conforms)
        self._leaves_out = any(conformance.endswith(_FIELDS) for conformance in conforms)
        self._finds = any(conformance.endswith(_SEARCH) for conformance in conforms) and any(
            link.get("rel") == "search" and str(link.get("method")).upper() == "POST"
            for link in _objects(landing["links"])
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fetcher.close()

    def address(self, collection: str, item: str | None = None) -> str:
        """URL of a collection, or of an item in it."""
        url = f"{self.url}/collections/{quote(collection, safe='')}"
        return url if item is None else f"{url}/items/{quote(item, safe='')}"

    def read(self, collection: str, item: str | None = None) -> Document | None:
        """The collection or item as the API has it; None if it has none."""
        url = self.address(collection, item)
        reply = self._ask("GET", url)
        return None if reply.status == 404 else self._document("GET", reply)

    def create(self, document: Document, *, collection: str | None = None) -> bool:
        """Create a collection, or an item in a collection; False if there is one with the same id already."""
        url = f"{self.url}/collections" if collection is None else f"{self.address(collection)}/items"
        reply = self._ask("POST", url, document)
        if reply.status == 409:
            return False
        self._taken("POST", reply)
        return True

    def replace(self, document: Document, *, collection: str | None = None) -> bool:
        """Replace the collection, or the item in a collection, with the same id; False if there is none."""
        url = self.address(document["id"]) if collection is None else self.address(collection, document["id"])
        reply = self._ask("PUT", url, document)
        if reply.status == 404:
            return False
        self._taken("PUT", reply)
        return True

    def items(self, collection: str, only: tuple[str, ...] = ()) -> Iterator[Document]:
        """All items of a collection, page by page; only the fields in `only` if the API can omit others.

        Only the query of a link to the next page is used, not its host: behind a proxy, APIs often get theirs wrong.
        """
        start = f"{self.address(collection)}/items"
        query: dict[str, str] = {"limit": str(PAGE)}
        if self._leaves_out and only:
            query["fields"] = ",".join(only)
        asked: set[str] = set()
        while True:
            url = f"{start}?{'&'.join(f'{quote(key)}={quote(value)}' for key, value in query.items())}"
            features, following = self._page("GET", self._ask("GET", url))
            yield from features
            if following is None or not features:
                return
            if following in asked:
                self._odd(url, "the same next page twice")
            asked.add(following)
            query |= dict(parse_qsl(urlsplit(following).query))

    def find(self, collection: str, ids: Iterable[str], only: tuple[str, ...] = ()) -> Iterator[Document]:
        """Items of a collection with any of the ids, requested PAGE at a time; `only` as in `items`.

        If the API cannot search by id, list all items when `only` is given, and otherwise read them one by one.
        """
        wanted = dict.fromkeys(ids)
        if not self._finds and only:
            yield from (item for item in self.items(collection, only) if item.get("id") in wanted)
            return
        if not self._finds:
            yield from (item for name in wanted if (item := self.read(collection, name)) is not None)
            return
        for some in batched(wanted, PAGE):
            waiting = some
            while waiting:
                body: Document = {"collections": [collection], "ids": waiting, "limit": len(waiting)}
                if self._leaves_out and only:
                    body["fields"] = {"include": list(only), "exclude": []}
                items, following = self._page("POST", self._ask("POST", f"{self.url}/search", body))
                found = {item["id"]: item for item in items if item.get("id") in waiting}
                yield from found.values()
                if not found or following is None:  # otherwise the API returns fewer at once than requested
                    break
                waiting = [name for name in waiting if name not in found]

    def _page(self, method: str, reply: Reply) -> tuple[list[Document], str | None]:
        """The items of a page, and the href of the next page, None after the last."""
        page = self._document(method, reply)
        features, links = page.get("features"), page.get("links")
        if not isinstance(features, list) or not isinstance(links, list):
            self._odd(reply.url, "a page of items without features and links")
        following = next((str(link.get("href")) for link in _objects(links) if link.get("rel") == "next"), None)
        return _objects(features), following

    def _landing(self, url: str) -> Document:
        """Read the landing page at url; the address it is served from becomes the API's own."""
        self.url = redact(url).rstrip("/")
        reply = self._ask("GET", url)
        self._check_host(reply)
        self.url = urlunsplit((*urlsplit(reply.url)[:3], "", "")).rstrip("/")
        document = self._document("GET", reply)
        if not isinstance(document.get("conformsTo"), list) or not isinstance(document.get("links"), list):
            self._odd(reply.url, f"a JSON object of type {document.get('type')!r} without conformsTo")
        return document

    def _require_transactions(self, conforms: Iterable[str]) -> None:
        if not any(conformance.endswith(_TRANSACTIONS) for conformance in conforms):
            raise DataError(
                f"{self.url} does not conform to the Transaction extension",
                "clients cannot write items to it",
                "enable it (stac-fastapi-pgstac: ENABLE_TRANSACTIONS_EXTENSIONS=true), or publish to another API",
            )

    def _ask(self, method: str, url: str, body: Document | None = None) -> Reply:
        """Send a request and return the reply; raise if access is denied."""
        try:
            reply = self._fetcher.exchange(method, url, headers=self._headers, body=body)
        except TransientError as error:
            raise TransientError(
                f"{method} {error.value}", "what was published before remains", "Run the same command again later"
            ) from error
        if reply.status in (401, 403):
            self._refused(method, reply)
        return reply

    def _taken(self, method: str, reply: Reply) -> None:
        """Refuse a reply that does not confirm that the API took the document: a sign-in page has status 200, too."""
        if reply.body or not 200 <= reply.status < 300:
            self._document(method, reply)
        self._check_host(reply)

    def _check_host(self, reply: Reply) -> None:
        named, found = urlsplit(self.url), urlsplit(reply.url)
        if found.netloc != named.netloc or found.scheme not in (named.scheme, "https"):
            raise DataError(
                f"{self.url} redirects to {redact(reply.url)}",
                "credentials are not sent to a host that was not named, nor without TLS if TLS was asked for",
                f"publish to {redact(reply.url)} if that is intended",
            )

    def _document(self, method: str, reply: Reply) -> Document:
        """The JSON object in a reply."""
        if not 200 <= reply.status < 300:
            self._refused(method, reply)
        try:
            document = json.loads(reply.body)
        except (ValueError, RecursionError):
            self._odd(reply.url, f"no JSON but {message_from(reply.body)[:80]!r}")
        if not isinstance(document, dict):
            self._odd(reply.url, f"a JSON {type(document).__name__}")
        return document

    def _odd(self, url: str, what: str) -> NoReturn:
        raise DataError(
            f"{redact(url)} answered {what}",
            "that is not a STAC API's answer, and nothing can be published there",
            "give the address of a STAC API's landing page, https://host/path",
        )

    def _refused(self, method: str, reply: Reply) -> NoReturn:
        """Raise the error for an API's refusal, quoting its message."""
        said = message_from(reply.body)
        what = f"{method} {redact(reply.url)} answered {reply.status}" + (f" ({said})" if said else "")
        if reply.status in (401, 403):
            raise StorageError(
                what,
                "the API does not allow this caller to do that",
                "Set SCENEFUSE_STAC_TOKEN, or SCENEFUSE_STAC_HEADER ('Name: value'), to what it requires",
            )
        if reply.status in (400, 413, 422):
            raise DataError(
                what, "the API does not accept the document", "correct what it says, on the API's side or here"
            )
        raise DataError(what, "the API does not do what was asked", "check its address and that it accepts writes")


def _check_address(url: str, policy: AccessPolicy) -> None:
    """Refuse a URL that cannot be a landing page's, or whose host the policy does not allow."""
    parts = urlsplit(url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(
            f"publish to {redact(url)} with a user name, a query or a fragment",
            "it is not the address of a STAC API's landing page",
            "Give https://host/path; credentials go into SCENEFUSE_STAC_TOKEN or SCENEFUSE_STAC_HEADER",
        )
    try:
        policy.check(url, url)
    except DataError as error:
        raise DataError(
            f"publish to {redact(url)}",
            re.split(r"[:;] (?:use|if) |, so it is not", error.consequence)[0],
            f"give its public https address; if the host is yours, --allow-host {parts.hostname}",
        ) from error


def _objects(values: list[Any]) -> list[Document]:
    """The objects in a JSON array."""
    return [value for value in values if isinstance(value, dict)]


def _credentials() -> dict[str, str]:
    """The header that authenticates this caller, from the environment; empty if none is set."""
    token, header = stac_credentials()
    if token is not None and header is not None:
        raise UsageError(
            "SCENEFUSE_STAC_TOKEN and SCENEFUSE_STAC_HEADER are both set",
            "it is not clear which one the API expects",
            "Unset one of the two",
        )
    if header is not None:
        name, colon, value = (part.strip() for part in header.partition(":"))
        if colon and _HEADER.fullmatch(name) and _VISIBLE.fullmatch(value):
            return {name: value}
        raise UsageError("SCENEFUSE_STAC_HEADER is not a header", "no API would accept it", "Write it as 'Name: value'")
    if token is not None and not _VISIBLE.fullmatch(token):
        raise UsageError(
            "SCENEFUSE_STAC_TOKEN has characters that a header cannot have",
            "no API would accept it",
            "Set the token alone",
        )
    return {} if token is None else {"Authorization": f"Bearer {token}"}
