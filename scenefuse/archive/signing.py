"""Addresses of files that an archive opens to everyone who asks it for a token: signed where they are read.

A token ends within the hour, so it is no part of a file's address: each process asks for its own, once a container,
and for the next one before the last ends. It is never shown or written down.
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
"""Time before its end from which a token is not used any more: a request under way must not outlive it."""


@dataclass(frozen=True, slots=True)
class _Token:
    """What opens the files of a container."""

    query: str
    """Appended to their addresses."""
    expires: float
    """When it ends, seconds since the epoch."""


_tokens: dict[str, _Token] = {}
_asking = threading.Lock()


def signed(url: str, get: Callable[[str], bytes]) -> str:
    """The URL with the token that its archive gives for it; as it is where no known archive has its host, or signed.

    get: fetches the reply of the token's address. DataError when that is no token.
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
    """Where the token for the container in which the URL's file lies is given."""
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
            raise ValueError("an empty token")  # noqa: TRY301 - told below as what it is
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{address} did not answer with a token ({type(error).__name__}: {error})",
            "the archive's files cannot be read",
            "try again later, or sign the hrefs of the items yourself",
        ) from error
    return _Token(query, (expires if expires.tzinfo else expires.replace(tzinfo=UTC)).timestamp())


@cache
def _sources() -> dict[str, TokenSource]:
    """Who gives tokens for the files of a host."""
    return {
        host: archive.tokens
        for archive in known_archives()
        if archive.tokens is not None
        for host in archive.tokens.hosts
    }


def _forget() -> None:
    """Begin anew in a forked child: another thread of the parent's may have held the lock, which nobody here opens."""
    global _asking  # noqa: PLW0603 - one per process
    _asking = threading.Lock()


os.register_at_fork(after_in_child=_forget)
