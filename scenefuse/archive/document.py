"""STAC documents as JSON: reading them, and telling their kinds apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from scenefuse.archive.fetch import MAX_JSON_BYTES, Fetcher
from scenefuse.archive.remote import read_object
from scenefuse.errors import DataError
from scenefuse.place.href import is_url, redact

DocumentKind = Literal["item", "items", "catalog", "api", "table"]
"""An item; an ItemCollection; a catalogue or collection with links; a STAC API's landing page; stac-geoparquet."""


def read_document(href: str, fetcher: Fetcher) -> dict[str, Any]:
    """The JSON object at an absolute path or URL; DataError, which names it, if it is unreadable or not an object."""
    if href.startswith("s3://"):
        raw = read_object(href, most_bytes=MAX_JSON_BYTES)
    else:
        raw = fetcher.get(href) if is_url(href) else _read_file(Path(href))
    try:
        document = json.loads(raw)
    except json.JSONDecodeError as error:
        raise _unreadable(href, f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # bytes that are not text, or a number with thousands of digits
        raise _unreadable(href, str(error)) from error
    if not isinstance(document, dict):
        raise _unreadable(href, f"it holds a JSON {type(document).__name__}, not an object")
    return document


def document_kind(document: dict[str, Any], href: str) -> DocumentKind:
    """The document's kind, by its `type`, `conformsTo` and `stac_version`; DataError if it is not STAC.

    Before 1.0, STAC catalogues have no `type`: an id, a description and links identify one.
    """
    kind = document.get("type")
    if kind == "FeatureCollection":
        if not isinstance(document.get("features"), list):
            raise _not_stac(href, "a FeatureCollection without a list of features")
        return "items"
    if "stac_version" not in document:
        raise _not_stac(href, f"a JSON object of type {kind!r} without stac_version")
    if kind == "Feature":
        return "item"
    if not isinstance(document.get("links"), list):
        raise _not_stac(href, f"a JSON object of type {kind!r} without a list of links")
    if "conformsTo" in document and any(link_rel(link) == "search" for link in document["links"]):
        return "api"
    if kind in ("Catalog", "Collection") or (kind is None and {"id", "description"} <= set(document)):
        return "catalog"
    raise _not_stac(href, f"a JSON object of type {kind!r}")


def link_rel(link: Any) -> str | None:
    """The relation of a link; None if it is not a link with an href."""
    if isinstance(link, dict) and isinstance(link.get("href"), str) and isinstance(link.get("rel"), str):
        return str(link["rel"])
    return None


def read_start(path: Path, most_bytes: int) -> bytes:
    """The first bytes of a file, or all of a shorter one; DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most_bytes)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", "there is nothing to read", "check the path") from error
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}", "it cannot be read", "check the path and its permissions"
        ) from error


def _read_file(path: Path) -> bytes:
    raw = read_start(path, MAX_JSON_BYTES + 1)
    if len(raw) > MAX_JSON_BYTES:
        raise _unreadable(str(path), f"it is larger than {MAX_JSON_BYTES / 2**20:.0f} MiB")
    return raw


def _unreadable(href: str, why: str) -> DataError:
    return DataError(
        f"{redact(href)}, {why}", "it is not a JSON document that can be read", "correct or replace the file"
    )


def _not_stac(href: str, what: str) -> DataError:
    return DataError(
        f"{redact(href)} is {what}",
        "it is not a STAC item, ItemCollection, catalogue, collection or API",
        "give the address of one of those",
    )
