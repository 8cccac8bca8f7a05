"""Telling hrefs that are paths from URLs, and redacting them for display."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_VIRTUAL = re.compile(r"/vsi\w*", re.IGNORECASE)
"""A GDAL virtual file system; what follows may be a URL, in various forms."""


def scheme_of(href: str) -> str:
    """The scheme in lower case, empty for a path."""
    found = _SCHEME.match(href)
    return found.group(1).lower() if found else ""


def is_url(href: str) -> bool:
    """True for a URL of any scheme but file, False for a path."""
    return scheme_of(href) not in ("", "file")


def redact(href: str) -> str:
    """The href as shown and recorded: a URL without user, password, query and fragment, which may hold secrets.

    A path stays as it is. Where the secret part cannot be told apart, three dots replace it.

    >>> redact("https://user:key@host/a/b.tif?sig=secret")
    'https://host/a/b.tif'
    >>> redact("/data/b?.tif")
    '/data/b?.tif'
    >>> redact("https://user:se/cret@host/b.tif")
    'https://...'
    """
    virtual = _VIRTUAL.match(href)
    if virtual:
        return f"{virtual.group()}/..."
    scheme = scheme_of(href)
    if not scheme:
        path, holds_url, _ = href.partition("://")
        return f"{path}{holds_url}..." if holds_url else href
    try:
        parts = urlsplit(href)
        _ = parts.port  # a port that is not a number is a password with a slash in it
    except ValueError:
        return f"{scheme}://..."
    if scheme != "file" and not parts.netloc and "@" in parts.path:
        return f"{scheme}://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
