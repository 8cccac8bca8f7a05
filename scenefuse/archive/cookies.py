"""Cookies of a login: kept, and sent to the very host that set them.

A cookie may ask to be sent to all hosts of a domain. None is: what one host is told is no other's matter.
"""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

import httpx


class HostCookies:
    """What hosts have set so far, by scheme, host and port."""

    def __init__(self) -> None:
        self._by_host: dict[tuple[str, str], httpx.Cookies] = {}

    def add_to(self, request: httpx.Request) -> None:
        """Add those that the request's host has set."""
        self._of(request).set_cookie_header(request)

    def keep_from(self, response: httpx.Response) -> None:
        """Keep what the response sets."""
        self._of(response.request).extract_cookies(response)

    def _of(self, request: httpx.Request) -> httpx.Cookies:
        parts = urlsplit(str(request.url))
        return self._by_host.setdefault((parts.scheme, parts.netloc), httpx.Cookies())


def no_cookies() -> CookieJar:
    """A jar that keeps nothing: in a client's place of its own, which knows domains."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))
