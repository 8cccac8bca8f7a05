"""What an href is, a path or a URL, and what of it may be said."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_VIRTUAL = re.compile(r"/vsi\w*", re.IGNORECASE)
"""A file system of GDAL's; what follows may be a URL, written in several ways."""


def scheme_of(href: str) -> str:
    """The scheme in small letters, empty for a path."""
    found = _SCHEME.match(href)
    return found.group(1).lower() if found else ""


def is_url(href: str) -> bool:
    """True for a URL of any scheme but file, False for a path."""
    return scheme_of(href) not in ("", "file")


def redact(href: str) -> str:
    """The href as it is shown and recorded: of a URL no user, password, query or fragment, which may hold secrets.

    A path stays as it is. Where it cannot be told what is a secret, three dots stand in its place.

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
        _ = parts.port  # what is no number is a password with a slash in it
    except ValueError:
        return f"{scheme}://..."
    if scheme != "file" and not parts.netloc and "@" in parts.path:
        return f"{scheme}://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
