"""Signed addresses, made at the time of reading, for archives that issue tokens to everyone.

A token expires within the hour, so it is no part of a file's address: each process requests one per container, and the
next before it expires. It is never shown or written down.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from urllib.parse import urlsplit

from scenefuse.archive.known import TokenSource, known_archives
from scenefuse.errors import DataError

RENEWED_BEFORE_S = 300.0
"""Seconds before its expiry from which a token is no longer used, as it must outlive a request under way."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A token for the files of a container."""

    query: str
    """Query string to append to their addresses."""
    expires: float
    """Expiry time, seconds since the epoch."""


_tokens: dict[str, _Token] = {}
_asking = threading.Lock()


def signed(url: str, get: Callable[[str], bytes]) -> str:
    """The URL with its archive's token; unchanged if it is signed already or no known archive has its host.

    get: fetches the reply from the token's address. DataError if that is not a token.
    """
    source = _sources().get(urlsplit(url).hostname or "")
    if source is None or urlsplit(url).query:
        return url
    address = _token_address(url, source)
    with _asking:
        token = _tokens.get(address)
        if token is None or token.expires - time.time() < RENEWED_BEFORE_S:
            token = _tokens[address] = _read(get(address), address)
    return f"{url}?{token.query}"


def _token_address(url: str, source: TokenSource) -> str:
    """Address that issues the token for the container of the URL's file."""
    parts = urlsplit(url)
    account, container = (parts.hostname or "").partition(".")[0], parts.path.lstrip("/").partition("/")[0]
    return source.url.format(account=account, container=container)


def _read(reply: bytes, address: str) -> _Token:
    """The token in a reply."""
    try:
        document = json.loads(reply)
        expires = datetime.fromisoformat(document["msft:expiry"])
        query = document["token"]
        if not isinstance(query, str) or not query:
            raise ValueError("an empty token")  # noqa: TRY301 - explained below
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{address} did not answer with a token ({type(error).__name__}: {error})",
            "the archive's files cannot be read",
            "try again later, or sign the hrefs of the items yourself",
        ) from error
    return _Token(query, (expires if expires.tzinfo else expires.replace(tzinfo=UTC)).timestamp())


@cache
def _sources() -> dict[str, TokenSource]:
    """The token source of each host."""
    return {
        host: archive.tokens
        for archive in known_archives()
        if archive.tokens is not None
        for host in archive.tokens.hosts
    }


def _forget() -> None:
    """Replace the lock in a forked child: a thread of the parent may have held it, and nothing here releases it."""
    global _asking  # noqa: PLW0603 - one per process
    _asking = threading.Lock()


os.register_at_fork(after_in_child=_forget)
