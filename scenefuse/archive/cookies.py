"""Cookies of a login, sent only to the host that set them.

A cookie's request to be sent to a whole domain is ignored, so that no host learns what another one set.
"""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

import httpx


class HostCookies:
    """The cookies set so far, by scheme, host and port."""

    def __init__(self) -> None:
        self._by_host: dict[tuple[str, str], httpx.Cookies] = {}

    def add_to(self, request: httpx.Request) -> None:
        """Add the cookies that the request's host has set."""
        self._of(request).set_cookie_header(request)

    def keep_from(self, response: httpx.Response) -> None:
        """Keep the cookies that the response sets."""
        self._of(response.request).extract_cookies(response)

    def _of(self, request: httpx.Request) -> httpx.Cookies:
        parts = urlsplit(str(request.url))
        return self._by_host.setdefault((parts.scheme, parts.netloc), httpx.Cookies())


def no_cookies() -> CookieJar:
    """A jar that keeps nothing, in place of the client's own, which shares cookies within domains."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))
